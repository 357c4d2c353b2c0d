//! Who is served behind a proxy: places, rules, and headers that do not come.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{expect_end, reset, round_trip, shown};
use crate::proxy::{LOCAL, LONG, PROXY, connections, expect_reset, raw_v2, send, start, v1, v2, wait_until_seen};

/// Expects a connection that is closed, with or without a reset.
fn expect_refused(mut stream: TcpStream) {
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        outcome => panic!("not closed: {outcome:?}"),
    }
}

#[test]
fn a_connection_that_ends_before_its_first_byte_leaves_no_trace() {
    let server = start(&["--verbose"]);
    for _ in 0..5 {
        drop(server.connect());
        reset(server.connect());
        let mut half_closed = server.connect();
        half_closed.shutdown(Shutdown::Write).expect("half-closed");
        expect_end(&mut half_closed);
    }
    assert_eq!(connections(&server), "0 now, 0 in total, 0 refused");
    assert_eq!(server.stop_by(Signal::TERM).len(), 1, "only the counters");
}

#[test]
fn a_header_that_does_not_come_in_time_is_missing() {
    let server = start(&["--proxy-timeout", "300ms", "--quiet"]);
    let begin = Instant::now();
    let silent = server.connect();
    let mut slow = send(&server, &[b"PROXY"]);
    let mut served = send(&server, &[&v1("203.0.113.7:4711")]);
    // What comes before the timeout, but not the end of the header, does not help.
    slow.write_all(b" TCP4").expect("sent");
    expect_reset(silent);
    expect_reset(slow);
    assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
    round_trip(&mut served, b"hello");
    assert_eq!(connections(&server), "1 now, 1 in total, 2 refused");
    server.stop_by(Signal::TERM);
}

/// The server stands still until the time is over; the header had come.
#[test]
fn a_header_that_came_in_time_is_not_missing() {
    let server = start(&["--proxy-timeout", "300ms", "--quiet"]);
    let mut streams: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
    wait_until_seen(&server);
    server.process.suspend();
    streams.iter_mut().for_each(|stream| stream.write_all(&v1("203.0.113.7:4711")).expect("sent"));
    std::thread::sleep(Duration::from_millis(400));
    server.process.signal(Signal::CONT);
    streams.iter_mut().for_each(|stream| round_trip(stream, b"hello"));
    server.stop_by(Signal::TERM);
}

#[test]
fn connections_without_a_header_take_half_of_the_places() {
    let server = start(&["--quiet", "--max-connections", "8", "--proxy-timeout", LONG]);
    let mut silent: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    let mut remaining = silent.split_off(36);
    silent.into_iter().for_each(expect_reset);
    assert_eq!(connections(&server), "0 now, 0 in total, 36 refused");
    // The other half is for those that have one. One of the silent leaves, because those whose header follows a moment later
    // count too.
    let mut left = remaining.remove(0);
    left.shutdown(Shutdown::Write).expect("half-closed");
    expect_end(&mut left);
    let served = |_| {
        let mut stream = send(&server, &[&v1("203.0.113.7:4711")]);
        round_trip(&mut stream, b"hello");
        stream
    };
    let mut served: Vec<TcpStream> = (0..5).map(served).collect();
    let mut waiting = send(&server, &[&v2("203.0.113.7:4711"), b"hello"]);
    for (mut stream, old) in remaining.into_iter().zip(&mut served) {
        stream.write_all(&v2("203.0.113.8:4711")).expect("sent");
        round_trip(&mut stream, b"hello");
        round_trip(old, b"hello");
        stream.shutdown(Shutdown::Write).expect("half-closed");
        expect_end(&mut stream);
    }
    waiting.read_exact(&mut [0; 5]).expect("it has got a place");
    server.stop_by(Signal::TERM);
}

#[test]
fn one_place_is_enough() {
    for places in ["1", "2"] {
        let server = start(&["--quiet", "--max-connections", places, "--proxy-timeout", "200ms"]);
        for _ in 0..3 {
            let silent = server.connect();
            let mut client = send(&server, &[&v1("203.0.113.7:4711"), b"hello"]);
            client.read_exact(&mut [0; 5]).expect("the echo, after the timeout of the other");
            drop(silent);
            client.shutdown(Shutdown::Write).expect("half-closed");
            expect_end(&mut client);
        }
        server.stop_by(Signal::TERM);
    }
}

#[test]
fn the_rules_are_about_the_announced_address() {
    let server = start(&["--quiet", "--allow", "203.0.113.0/24", "--deny", "203.0.113.8", "--max-per-ip", "2"]);
    let from = |source: &str| send(&server, &[&v2(source)]);
    let mut clients: Vec<TcpStream> =
        ["203.0.113.7:1", "203.0.113.7:2", "203.0.113.9:1"].iter().map(|source| from(source)).collect();
    clients.iter_mut().for_each(|stream| round_trip(stream, b"hello"));
    for refused in ["203.0.113.7:3", "203.0.113.8:1", "127.0.0.1:1", "[::1]:1"] {
        expect_refused(from(refused));
    }
    // None of the three is about the proxy itself, or about clients of a Unix socket.
    let exempt = [raw_v2(LOCAL, 0, b""), b"PROXY UNKNOWN\r\n".to_vec(), raw_v2(PROXY, 0x31, &[0; 216])];
    let mut exempt: Vec<TcpStream> = exempt.iter().cycle().take(9).map(|header| send(&server, &[header])).collect();
    exempt.iter_mut().for_each(|stream| round_trip(stream, b"hello"));
    // A client that leaves makes room for another one of its address, and for no more.
    for _ in 0..3 {
        let mut leaving = clients.remove(0);
        leaving.shutdown(Shutdown::Write).expect("half-closed");
        expect_end(&mut leaving);
        clients.insert(0, from("203.0.113.7:3"));
        round_trip(&mut clients[0], b"hello");
        expect_refused(from("203.0.113.7:4"));
    }
    assert_eq!(connections(&server), "12 now, 15 in total, 7 refused");
    server.stop_by(Signal::TERM);
}

#[test]
fn headers_are_reported_as_other_refusals_are() {
    let server = start(&["--verbose", "--deny", "203.0.113.0/24"]);
    let first = send(&server, &[b"hello"]);
    let address = first.local_addr().expect("an address");
    expect_reset(first);
    server.wait_for_lines(1);
    let denied = send(&server, &[&v1("203.0.113.7:4711")]);
    expect_refused(denied);
    server.wait_for_lines(2);
    let second = send(&server, &[b"hello"]);
    let third = send(&server, &[b"hello"]);
    expect_reset(second);
    let last = third.local_addr().expect("an address");
    expect_reset(third);
    let text = format!("2 connections without a valid PROXY header refused, the last: {last}");
    server.console.wait_until(|lines| lines.iter().any(|line| line.ends_with(&text)).then_some(()));
    let lines = server.stop_by(Signal::TERM);
    let text = format!("1 connection without a valid PROXY header refused: {address}");
    assert_eq!(shown(&lines)[..2], [&*text, "1 connection refused: 203.0.113.7:4711"]);
}
