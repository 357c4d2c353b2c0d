//! Every byte comes back, unchanged and in order, whatever the client does.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    Server, assert_same, client, exchange, expect_end, feed, hesitant, random_bytes, reset, rng, round_trip,
};

/// 1, 2 and every length within 2 of each multiple of `step` up to 256 KiB.
fn lengths_around(step: usize) -> BTreeSet<usize> {
    let around = (step..=256 << 10).step_by(step).flat_map(|multiple| multiple - 2..=multiple + 2);
    around.chain([1, 2]).collect()
}

#[test]
fn every_length_around_the_size_of_a_buffer_comes_back() {
    let server = Server::start(&["--quiet"]);
    let content = random_bytes(&mut rng(), (256 << 10) + 2);
    let mut kept_open = server.connect();
    for length in lengths_around(1_024) {
        let message = &content[..length];
        assert_same(&exchange(server.connect(), message), message);
        round_trip(&mut kept_open, message);
    }
    for step in [4_096, 8_192, 65_536] {
        assert!(lengths_around(step).is_subset(&lengths_around(1_024)), "{step}");
    }
    server.stop();
}

#[test]
fn the_client_program_takes_every_length_around_the_size_of_a_buffer() {
    let server = Server::start(&[]);
    let content = random_bytes(&mut rng(), (256 << 10) + 2);
    for length in lengths_around(65_536).into_iter().chain(lengths_around(8_192).into_iter().step_by(3)) {
        let output = feed(client(server.port, &["-"]), &content[..length]);
        assert_eq!((output.code, &*output.stderr), (Some(0), ""));
        assert_same(&output.stdout, &content[..length]);
    }
    server.stop();
}

#[test]
fn bytes_of_any_value_at_any_pace_come_back() {
    let server = Server::start(&[]);
    let mut rng = rng();
    let mut stream = server.connect();
    for _ in 0..300 {
        let length = 1 << rng.u32(0..17);
        let message = random_bytes(&mut rng, length);
        for piece in message.chunks(rng.usize(length / 10 + 1..=length)) {
            stream.write_all(piece).expect("sent");
        }
        let mut echo = vec![0; length];
        stream.read_exact(&mut echo).expect("the whole echo");
        assert_same(&echo, &message);
    }
    stream.shutdown(Shutdown::Write).expect("half-closed");
    expect_end(&mut stream);
    server.stop();
}

#[test]
fn all_is_sent_back_after_a_half_close_and_then_the_server_closes() {
    let server = Server::start(&["--quiet"]);
    let message = random_bytes(&mut rng(), 3 << 20);
    let mut stream = hesitant(server.address());
    stream.write_all(&message).expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    let mut echo = vec![0; message.len()];
    stream.read_exact(&mut echo).expect("the whole echo");
    assert_same(&echo, &message);
    expect_end(&mut stream);
    server.stop();
}

#[test]
fn nothing_is_added_for_a_client_that_sends_nothing() {
    let server = Server::start(&[]);
    assert_same(&exchange(server.connect(), b""), b"");
    server.stop();
}

#[test]
fn a_client_may_write_48_mib_before_it_reads() {
    let server = Server::start(&["--quiet"]);
    let message = random_bytes(&mut rng(), 48 << 20);
    assert_same(&exchange(hesitant(server.address()), &message), &message);
    server.stop();
}

#[test]
fn a_thousand_connections_at_once_get_each_their_own() {
    let server = Server::start(&[]);
    let mut rng = rng();
    let mut clients: Vec<(TcpStream, Vec<u8>)> = (0..1_000)
        .map(|number| {
            let length = rng.usize(1..5_000);
            let mut message = format!("client {number}: ").into_bytes();
            message.extend(random_bytes(&mut rng, length));
            (server.connect(), message)
        })
        .collect();
    for (stream, message) in &mut clients {
        stream.write_all(message).expect("sent");
    }
    for (mut stream, message) in clients {
        let mut echo = vec![0; message.len()];
        stream.read_exact(&mut echo).expect("the whole echo");
        assert_same(&echo, &message);
        stream.shutdown(Shutdown::Write).expect("half-closed");
        expect_end(&mut stream);
    }
    server.stop();
}

#[test]
fn resets_at_any_moment_disturb_nobody() {
    let server = Server::start(&[]);
    let mut rng = rng();
    let mut honest = server.connect();
    let noise = random_bytes(&mut rng, 1 << 20);
    for round in 0..300 {
        let mut stream = server.connect();
        let sent = [0, 1, 1_000, 100_000, 1 << 20][rng.usize(0..5)];
        stream.write_all(&noise[..sent]).expect("sent");
        if rng.bool() {
            let mut some = vec![0; rng.usize(0..=sent)];
            stream.read_exact(&mut some).expect("some of the echo");
        }
        if rng.bool() {
            stream.shutdown(Shutdown::Write).expect("half-closed");
        }
        if rng.bool() {
            reset(stream);
        } else {
            drop(stream);
        }
        round_trip(&mut honest, format!("round {round}").as_bytes());
    }
    server.stop();
}

#[test]
fn connections_that_vanish_before_they_are_accepted_disturb_nobody() {
    let server = Server::start(&[]);
    let mut before = server.connect();
    round_trip(&mut before, b"before");
    server.process.signal(Signal::STOP);
    let mut patient = Vec::new();
    for number in 0..200 {
        let mut stream = server.connect();
        stream.write_all(b"from one that is gone").expect("sent");
        match number % 4 {
            0 => patient.push(stream),
            1 => drop(stream),
            _ => reset(stream),
        }
    }
    server.process.signal(Signal::CONT);
    for mut stream in patient {
        let mut echo = [0; 21];
        stream.read_exact(&mut echo).expect("the echo");
        assert_same(&echo, b"from one that is gone");
    }
    round_trip(&mut before, b"after");
    server.stop();
}

#[test]
fn a_client_that_never_reads_holds_up_nobody() {
    let server = Server::start(&["--quiet"]);
    let mut stuck = hesitant(server.address());
    stuck.write_all(&vec![b'x'; 16 << 20]).expect("sent");
    let mut honest = server.connect();
    let message = random_bytes(&mut rng(), 100_000);
    for _ in 0..100 {
        round_trip(&mut honest, &message);
    }
    server.stop();
}

#[test]
fn many_small_clients_get_their_turns_beside_a_fast_sender() {
    let server = Server::start(&["--quiet"]);
    let is_over = AtomicBool::new(false);
    let mut waits = Vec::new();
    thread::scope(|scope| {
        let fast = server.connect();
        let (is_over, block) = (&is_over, vec![b'x'; 1 << 20]);
        let writer = scope.spawn({
            let mut stream = fast.try_clone().expect("a duplicate");
            move || {
                let mut sent = 0;
                while !is_over.load(Ordering::Relaxed) {
                    stream.write_all(&block).expect("sent");
                    sent += block.len();
                }
                stream.shutdown(Shutdown::Write).expect("half-closed");
                sent
            }
        });
        let reader = scope.spawn(move || std::io::copy(&mut &fast, &mut std::io::sink()).expect("the echo"));
        let mut small: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
        for round in 0..20 {
            for stream in &mut small {
                let begin = Instant::now();
                round_trip(stream, format!("round {round}").as_bytes());
                waits.push(begin.elapsed());
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let sent = writer.join().expect("no panic");
        assert_eq!(reader.join().expect("no panic"), sent as u64);
        assert!(sent > 16 << 20, "it was no fast sender: {sent} bytes");
    });
    // On a machine under load a few may wait for a processor; most wait for the server alone.
    waits.sort();
    let usual = waits[waits.len() / 2];
    assert!(usual < Duration::from_millis(100), "half of them waited {usual:?} or longer");
    server.stop();
}
