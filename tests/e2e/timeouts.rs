//! Connections that give no sign of life, and clients that take nothing, are closed in time; no others are.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    DEADLINE, Server, assert_same, cpu_time, expect_end, expect_loss, hesitant, memory, random_bytes, rng, round_trip,
    skipped_over_tls,
};

const TIMEOUT: Duration = Duration::from_secs(1);
/// How much later than it should something may come on a machine under load.
const LATE: Duration = Duration::from_secs(2);
const MIB: usize = 1 << 20;

/// Waits for the end of the connection; returns how long after `begin` it came.
fn time_to_end(stream: &mut TcpStream, begin: Instant) -> Duration {
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}"),
    }
    begin.elapsed()
}

fn expect_in_time(took: Duration) {
    println!("closed after {took:?}");
    assert!((TIMEOUT..TIMEOUT + LATE).contains(&took), "closed after {took:?}");
}

#[test]
fn an_idle_connection_is_closed_in_time_and_the_server_stays() {
    let server = Server::start(&["--idle-timeout", "1s", "--verbose"]);
    let begin = Instant::now();
    expect_in_time(time_to_end(&mut server.connect(), begin));
    let mut spoken = server.connect();
    let mut last = Instant::now();
    for _ in 0..6 {
        sleep(TIMEOUT / 2);
        last = Instant::now();
        round_trip(&mut spoken, b"x");
    }
    expect_in_time(time_to_end(&mut spoken, last));
    // Nobody was there for a while: a timeout is never the server's.
    sleep(TIMEOUT + TIMEOUT / 2);
    round_trip(&mut server.connect(), b"hello");
    server.console.wait_until(|lines| {
        let closed = lines.iter().filter(|line| line.ends_with(": idle timeout")).count();
        (closed == 2).then_some(())
    });
    server.stop_by(Signal::TERM);
}

/// A server that stood still for longer than the timeout first reads what has arrived meanwhile.
#[test]
fn what_arrived_while_the_server_stood_still_comes_before_the_timeout() {
    if skipped_over_tls("so many handshakes take too long") {
        return;
    }
    let expect_all_to_be_answered = |clients: usize| {
        let server = Server::start(&["--quiet", "--idle-timeout", "2s"]);
        let mut clients: Vec<TcpStream> = (0..clients).map(|_| server.connect()).collect();
        // Twice, because the first of many may be answered long before the last.
        for _ in 0..2 {
            clients.iter_mut().for_each(|stream| stream.write_all(b"x").expect("sent"));
            clients.iter_mut().for_each(|stream| stream.read_exact(&mut [0]).expect("the echo"));
        }
        server.process.suspend();
        clients.iter_mut().for_each(|stream| stream.write_all(b"x").expect("sent"));
        sleep(Duration::from_millis(2500));
        server.process.signal(Signal::CONT);
        let answered = clients.iter_mut().filter_map(|stream| stream.read_exact(&mut [0]).ok()).count();
        println!("{answered} of {} clients got their echo", clients.len());
        assert_eq!(answered, clients.len());
        server.process.signal(Signal::KILL);
    };
    thread::scope(|scope| {
        for clients in [1, 50, 3000] {
            scope.spawn(move || expect_all_to_be_answered(clients));
        }
    });
}

/// It says nothing for much longer than the timeout, but takes what it is owed. The system's buffers are
/// large, and an event tells of room in them late: that is no reason to take it for dead.
#[test]
fn bytes_that_go_out_are_life_too() {
    let content = random_bytes(&mut rng(), 10 * MIB);
    let read_slowly = |option| {
        let server = Server::start(&["--quiet", option, "1s"]);
        let mut stream = hesitant(server.address());
        stream.write_all(&content).expect("sent");
        let mut echo = vec![0; content.len()];
        let begin = Instant::now();
        let mut at = 0;
        while begin.elapsed() < 4 * TIMEOUT {
            sleep(TIMEOUT / 10);
            let end = at + (40 << 10);
            stream.read_exact(&mut echo[at..end]).unwrap_or_else(|error| panic!("{option}: {error} at {at}"));
            at = end;
        }
        stream.read_exact(&mut echo[at..]).expect("the rest");
        assert_same(&echo, &content);
        server.stop();
    };
    thread::scope(|scope| {
        for option in ["--idle-timeout", "--stall-timeout"] {
            scope.spawn(move || read_slowly(option));
        }
    });
}

#[test]
fn a_client_that_takes_nothing_is_closed_its_memory_freed_and_nobody_else_notices() {
    if skipped_over_tls("each connection with TLS keeps blocks on the heap") {
        return;
    }
    // Long enough that all is sent before the first one is closed.
    const STALL: Duration = Duration::from_secs(3);
    let server = Server::start(&["--quiet", "--stall-timeout", "3s"]);
    let pid = server.process.pid();
    let mut honest = server.connect();
    let mut quiet = server.connect();
    round_trip(&mut quiet, b"I will be quiet");
    round_trip(&mut honest, &[b'x'; 60_000]);
    let at_first = memory(pid, "VmRSS");

    let mut stuck: Vec<TcpStream> = (0..4).map(|_| hesitant(server.address())).collect();
    let content = random_bytes(&mut rng(), 16 * MIB);
    for stream in &mut stuck {
        stream.write_all(&content).expect("sent");
    }
    // One ends its side: that it is owed something counts no less.
    stuck[3].shutdown(Shutdown::Write).expect("half-closed");
    let begin = Instant::now();
    let most = memory(pid, "VmRSS") - at_first;
    assert!(most > 16 * MIB, "it never held much: {} MiB", most / MIB);
    let mut slowest = Duration::ZERO;
    while memory(pid, "VmRSS") > at_first + 6 * MIB {
        // A byte that a client's system took after the last write shows at the first deadline, and counts until the second.
        assert!(begin.elapsed() < 2 * STALL + LATE, "{} MiB are still held", memory(pid, "VmRSS") / MIB);
        let asked = Instant::now();
        round_trip(&mut honest, b"Is it gone?");
        slowest = slowest.max(asked.elapsed());
    }
    println!("{} MiB freed after {:?}, the slowest round trip took {slowest:?}", most / MIB, begin.elapsed());
    assert!(slowest < Duration::from_millis(400), "somebody else waited {slowest:?}");
    for mut stream in stuck {
        expect_loss(&mut stream, content.len());
    }
    // Who is owed nothing may be quiet for as long as it likes.
    round_trip(&mut quiet, b"still here");
    server.stop();
}

#[test]
fn who_takes_all_in_the_end_is_not_closed() {
    let server = Server::start(&["--quiet", "--stall-timeout", "1s"]);
    let content = random_bytes(&mut rng(), 12 * MIB);
    let mut stream = hesitant(server.address());
    for _ in 0..3 {
        stream.write_all(&content).expect("sent");
        sleep(TIMEOUT / 2);
        let mut echo = vec![0; content.len()];
        stream.read_exact(&mut echo).expect("the echo");
        assert_same(&echo, &content);
        sleep(TIMEOUT / 4);
    }
    stream.shutdown(Shutdown::Write).expect("half-closed");
    expect_end(&mut stream);
    server.stop();
}

/// The timers of a thousand idle clients cost nothing, and neither do those of clients that are gone.
#[test]
fn timers_cost_nothing_while_they_run() {
    if skipped_over_tls("so many handshakes take too long") {
        return;
    }
    let server = Server::start(&["--quiet", "--idle-timeout", "1h", "--stall-timeout", "1h"]);
    let mut clients: Vec<TcpStream> = (0..1000).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|stream| round_trip(stream, b"x"));
    let before = cpu_time(server.process.pid());
    sleep(TIMEOUT);
    let spent = cpu_time(server.process.pid()) - before;
    assert!(spent < Duration::from_millis(50), "a second took {spent:?} of processor time");

    drop(clients);
    let begin = Instant::now();
    let mut one = server.connect();
    round_trip(&mut one, b"x");
    let at_first = memory(server.process.pid(), "VmRSS");
    for _ in 0..30_000 {
        let mut stream = server.connect();
        stream.write_all(b"x").expect("sent");
        stream.read_exact(&mut [0]).expect("the echo");
        crate::harness::reset(stream);
        assert!(begin.elapsed() < 3 * DEADLINE, "a machine under too much load");
    }
    let more = memory(server.process.pid(), "VmRSS").saturating_sub(at_first);
    println!("30,000 clients came and went: {} KiB more", more >> 10);
    assert!(more < 512 << 10, "{} KiB more are held", more >> 10);
    server.stop();
}
