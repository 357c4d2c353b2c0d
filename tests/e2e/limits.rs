//! What is held for clients that do not read is bounded, and no byte of it is lost.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    DEADLINE, Server, assert_same, client, expect_end, feed, hesitant, memory, random_bytes, reset, rng, round_trip,
    server_command_under, skipped_over_tls,
};

const MIB: usize = 1 << 20;
/// What a program may need for itself besides what it holds for clients.
const SLACK: usize = 6 * MIB;
/// More than limit and buffers of the system can hold together: no client here gets rid of all of it.
const TOO_MUCH: usize = 128 * MIB;

/// Writes until the server takes no more for half a second; returns how much it took.
fn fill(stream: &mut TcpStream, content: &[u8]) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let mut sent = 0;
    while sent < content.len() {
        match stream.write(&content[sent..]) {
            Ok(more) => sent += more,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return sent,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("all of {sent} bytes were taken: there is no limit");
}

/// Half-closes and expects the echo of `content`, then the end.
fn drain(mut stream: TcpStream, content: &[u8]) {
    stream.shutdown(Shutdown::Write).expect("half-closed");
    let mut echo = vec![0; content.len()];
    stream.read_exact(&mut echo).expect("the whole echo");
    assert_same(&echo, content);
    expect_end(&mut stream);
}

/// The memory of a server that has done a little work.
fn memory_at_first(server: &Server) -> usize {
    round_trip(&mut server.connect(), &[b'x'; 60_000]);
    memory(server.process.pid(), "VmRSS")
}

/// Waits, by the pace of an honest client, until the server's memory is no more than this.
fn expect_memory_to_fall_to(server: &Server, most: usize) {
    let begin = Instant::now();
    let mut honest = server.connect();
    while memory(server.process.pid(), "VmRSS") > most {
        let now = memory(server.process.pid(), "VmRSS") / MIB;
        assert!(begin.elapsed() < DEADLINE / 4, "{now} MiB are still held");
        round_trip(&mut honest, b"Is it gone?");
    }
}

#[test]
fn a_client_that_does_not_read_is_held_back_at_its_limit_and_loses_nothing() {
    let server = Server::start(&["--quiet", "--max-pending", "4MiB"]);
    let at_first = memory_at_first(&server);
    let content = random_bytes(&mut rng(), TOO_MUCH);
    let mut stream = hesitant(server.address());
    let sent = fill(&mut stream, &content);
    assert!(sent >= 4 * MIB, "only {sent} bytes were taken");
    let most = memory(server.process.pid(), "VmHWM") - at_first;
    assert!(most < 4 * MIB + SLACK, "{} MiB were held", most / MIB);
    drain(stream, &content[..sent]);
    server.stop();
}

#[test]
fn a_client_held_back_goes_on_when_it_reads() {
    let server = Server::start(&["--quiet", "--max-pending", "1MiB"]);
    let content = random_bytes(&mut rng(), 64 * MIB);
    let mut stream = hesitant(server.address());
    let mut sent = 0;
    let mut read = 0;
    // By turns: all it can write, then a part of what it is owed.
    for _ in 0..3 {
        sent += fill(&mut stream, &content[sent..]);
        let mut echo = vec![0; (sent - read) / 2];
        stream.read_exact(&mut echo).expect("half of the echo");
        assert_same(&echo, &content[read..read + echo.len()]);
        read += echo.len();
    }
    drain(stream, &content[read..sent]);
    server.stop();
}

#[test]
fn memory_is_bounded_for_all_together_and_honest_clients_go_on() {
    let server = Server::start(&["--quiet", "--max-memory", "8MiB"]);
    let at_first = memory_at_first(&server);
    let content = random_bytes(&mut rng(), TOO_MUCH);
    let mut greedy: Vec<TcpStream> = (0..4).map(|_| hesitant(server.address())).collect();
    let sent: Vec<usize> = thread::scope(|scope| {
        let fills: Vec<_> = greedy.iter_mut().map(|stream| scope.spawn(|| fill(stream, &content))).collect();
        fills.into_iter().map(|fill| fill.join().expect("no panic")).collect()
    });
    assert!(sent.iter().sum::<usize>() >= 8 * MIB);

    let mut honest = server.connect();
    for _ in 0..20 {
        round_trip(&mut honest, &content[..60_000]);
    }
    let output = feed(client(server.port, &["-"]), &content[..5 * MIB]);
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    assert_same(&output.stdout, &content[..5 * MIB]);

    let most = memory(server.process.pid(), "VmHWM") - at_first;
    assert!(most < 8 * MIB + SLACK, "{} MiB were held", most / MIB);
    for (stream, sent) in greedy.into_iter().zip(sent) {
        drain(stream, &content[..sent]);
    }
    server.stop();
}

/// Without options the server fits the place it runs in, here an address space of 60,000 KiB.
#[test]
fn the_default_of_max_memory_fits_the_address_space() {
    let wrapper = ["sh", "-c", r#"ulimit -v 60000; exec "$0" "$@""#];
    let server = Server::launch(server_command_under(&wrapper, &["--quiet", "--port", "0"]));
    let at_first = memory_at_first(&server);
    let content = random_bytes(&mut rng(), 32 * MIB);
    let mut greedy: Vec<TcpStream> = (0..8).map(|_| hesitant(server.address())).collect();
    let sent: Vec<usize> = thread::scope(|scope| {
        let fills: Vec<_> = greedy.iter_mut().map(|stream| scope.spawn(|| fill(stream, &content))).collect();
        fills.into_iter().map(|fill| fill.join().expect("no panic")).collect()
    });
    assert!(sent.iter().sum::<usize>() >= 60_000 << 9, "half of it is not used: {sent:?}");
    let most = memory(server.process.pid(), "VmHWM") - at_first;
    assert!(most < (60_000 << 9) + SLACK, "{} MiB were held", most / MIB);

    let mut honest = server.connect();
    for _ in 0..20 {
        round_trip(&mut honest, &content[..60_000]);
    }
    for (stream, sent) in greedy.into_iter().zip(sent) {
        drain(stream, &content[..sent]);
    }
    server.stop();
}

/// One that is held back because of others may be writing all before it reads: nothing that it does will
/// give memory back.
#[test]
fn a_client_held_back_by_others_goes_on_when_they_need_less() {
    let content = random_bytes(&mut rng(), TOO_MUCH);
    let go_on_when_one_leaves = |leave: fn(TcpStream, &[u8])| {
        let server = Server::start(&["--quiet", "--max-memory", "8MiB"]);
        let (mut first, mut second) = (hesitant(server.address()), hesitant(server.address()));
        let taken = fill(&mut first, &content);
        let sent = fill(&mut second, &content);
        leave(first, &content[..taken]);
        let more = fill(&mut second, &content[sent..]);
        assert!(more > 4 * MIB, "of 8 MiB given back it got {} KiB", more >> 10);
        drain(second, &content[..sent + more]);
        server.stop();
    };
    thread::scope(|scope| {
        scope.spawn(|| go_on_when_one_leaves(drain));
        scope.spawn(|| go_on_when_one_leaves(|stream, _| reset(stream)));
    });
}

#[test]
fn without_any_common_memory_everyone_still_has_64_kib() {
    let server = Server::start(&["--quiet", "--max-memory", "0", "--max-pending", "0"]);
    let content = random_bytes(&mut rng(), 2 * MIB);
    let mut open: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    for stream in &mut open {
        round_trip(stream, &content[..64 << 10]);
    }
    let output = feed(client(server.port, &["-"]), &*content);
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    assert_same(&output.stdout, &content);
    server.stop();
}

/// The default of `--max-memory` fits into what the system allows; a larger one does not, and a client for which the
/// system has no memory is read from when it has.
#[test]
fn a_server_that_the_system_gives_little_memory_survives() {
    const LIMITED: &[&str] = &["sh", "-c", r#"ulimit -v 60000; exec "$0" "$@""#];
    let survive = |options: &[&str]| {
        let content = random_bytes(&mut rng(), TOO_MUCH);
        let command = server_command_under(LIMITED, &[&["--port", "0", "--quiet"], options].concat());
        let server = Server::launch(command);
        let mut greedy: Vec<TcpStream> = (0..8).map(|_| hesitant(server.address())).collect();
        let sent: Vec<usize> = thread::scope(|scope| {
            let fills: Vec<_> = greedy.iter_mut().map(|stream| scope.spawn(|| fill(stream, &content))).collect();
            fills.into_iter().map(|fill| fill.join().expect("no panic")).collect()
        });
        let mut honest = server.connect();
        for _ in 0..20 {
            round_trip(&mut honest, &content[..60_000]);
        }
        let most = memory(server.process.pid(), "VmHWM");
        println!("{options:?}: {} MiB sent, at most {} MiB in memory", sent.iter().sum::<usize>() / MIB, most / MIB);
        for (stream, sent) in greedy.into_iter().zip(sent) {
            drain(stream, &content[..sent]);
        }
        server.stop();
    };
    thread::scope(|scope| {
        scope.spawn(|| survive(&[]));
        scope.spawn(|| survive(&["--max-memory", "1GiB", "--max-pending", "1GiB"]));
    });
}

#[test]
fn memory_goes_back_when_a_queue_has_drained() {
    if skipped_over_tls("each connection with TLS keeps blocks on the heap") {
        return;
    }
    let server = Server::start(&["--quiet"]);
    let at_first = memory_at_first(&server);
    let content = random_bytes(&mut rng(), 48 * MIB);
    let mut stream = hesitant(server.address());
    stream.write_all(&content).expect("sent");
    let mut echo = vec![0; content.len()];
    stream.read_exact(&mut echo).expect("the whole echo");
    assert_same(&echo, &content);
    let most = memory(server.process.pid(), "VmHWM") - at_first;
    assert!(most > 16 * MIB, "it never held much: {} MiB", most / MIB);
    // The connection stays open: it is its queue that is given back.
    expect_memory_to_fall_to(&server, at_first + SLACK);
    drain(stream, b"");
    server.stop();
}

#[test]
fn memory_goes_back_when_its_client_is_gone() {
    if skipped_over_tls("each connection with TLS keeps blocks on the heap") {
        return;
    }
    let server = Server::start(&["--quiet"]);
    let at_first = memory_at_first(&server);
    let content = vec![b'x'; 20 * MIB];
    let mut streams: Vec<TcpStream> = (0..3).map(|_| hesitant(server.address())).collect();
    for stream in &mut streams {
        stream.write_all(&content).expect("sent");
    }
    streams.into_iter().for_each(reset);
    expect_memory_to_fall_to(&server, at_first + SLACK);
    server.stop();
}

/// What is kept for the lines of unfinished messages is no way round the limit.
#[test]
fn long_log_texts_count_as_memory_too() {
    let server = Server::start(&["--log-max", "64MiB", "--max-memory", "8MiB"]);
    let at_first = memory_at_first(&server);
    let content = vec![b'x'; 12 * MIB];
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let output = feed(client(server.port, &["-"]), &*content);
                assert_eq!((output.code, &*output.stderr), (Some(0), ""));
                assert_same(&output.stdout, &content);
            });
        }
    });
    // Besides the texts there is the console's buffer, and a line while it is made.
    let most = memory(server.process.pid(), "VmHWM") - at_first;
    assert!(most < (8 + 4 + 8) * MIB + SLACK, "{} MiB were held", most / MIB);
    server.stop();
}
