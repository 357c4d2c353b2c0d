//! What the server says of its health by HTTP, and the draining before it stops.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    DEADLINE, Lines, Member, Process, Server, connect, expect_end, free_port, hesitant, listener, random_bytes, rng,
    round_trip, run, scratch_file, server_command, shown,
};

/// A time that no test waits for.
const LONG: &str = "20s";
/// What is surely shorter, also on a machine under load.
const SOON: Duration = Duration::from_secs(8);

const LIVE: &[u8] = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
const READY: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A server that answers health checks, and where.
fn start(options: &[&str]) -> (Server, SocketAddr) {
    let server = Server::start(&[&["--admin", "0"], options].concat());
    let admin = server.admin();
    (server, admin)
}

/// The status and the body of the answer to a request.
fn ask(admin: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut stream = connect(admin);
    stream.write_all(request).expect("sent");
    read_answer(stream)
}

fn read_answer(mut stream: TcpStream) -> (u16, String) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer and an orderly end");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not HTTP: {answer:?}"));
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).expect("a status line");
    (status.parse().expect("a status"), body.to_owned())
}

fn is_ready(admin: SocketAddr) -> bool {
    match ask(admin, READY) {
        (200, _) => true,
        (404, body) => {
            assert_eq!(body, "draining\n");
            false
        }
        answer => panic!("{answer:?}"),
    }
}

fn wait_until_draining(server: &Server) {
    server.console.wait_until(|lines| lines.iter().any(|line| line.contains("] Draining for ")).then_some(()));
}

#[test]
fn each_request_gets_its_answer() {
    let (server, admin) = start(&[]);
    let many_headers = [b"GET /livez HTTP/1.1\r\n".to_vec(), b"A: b\r\n".repeat(100), b"\r\n".to_vec()].concat();
    let long = [b"GET /livez HTTP/1.1\r\nA: ".to_vec(), vec![b'x'; 9000], b"\r\n\r\n".to_vec()].concat();
    let nearly_too_long =
        [b"GET /livez HTTP/1.1\r\nA: ".to_vec(), vec![b'x'; 8192 - 28], b"\r\n\r\n".to_vec()].concat();
    assert_eq!(nearly_too_long.len(), 8192);
    for (request, status, body) in [
        (LIVE, 200, "ok\n"),
        (READY, 200, "ok\n"),
        (b"GET /readyz?verbose HTTP/1.0\r\n\r\n", 200, "ok\n"),
        (b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""),
        (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 404, ""),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not found\n"),
        (b"GET /livez/ HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not found\n"),
        (b"OPTIONS / HTTP/1.0\r\n\r\n", 405, "method not allowed\n"),
        (b"POST /livez HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody", 405, "method not allowed\n"),
        (b"GET /livez\r\n\r\n", 400, "bad request\n"),
        (b"\x16\x03\x01\x02\x00\x01", 400, "bad request\n"),
        (&nearly_too_long, 200, "ok\n"),
        (&long, 431, "request too large\n"),
        (&many_headers, 431, "request too large\n"),
    ] {
        let answer = ask(admin, request);
        assert_eq!(answer, (status, body.to_owned()), "{}", request[..request.len().min(80)].escape_ascii());
    }
    assert_eq!(server.stop_by(Signal::TERM).len(), 1, "requests leave no lines");
}

#[test]
fn a_request_may_come_in_pieces_and_be_followed_by_others() {
    let (server, admin) = start(&[]);
    for at in 0..LIVE.len() {
        let mut stream = connect(admin);
        stream.write_all(&LIVE[..at]).expect("sent");
        // The server has read the first piece when it has answered a later connection.
        assert!(is_ready(admin));
        stream.write_all(&LIVE[at..]).expect("sent");
        stream.shutdown(Shutdown::Write).expect("half-closed");
        assert_eq!(read_answer(stream).0, 200, "split at {at}");
    }
    let pipelined = LIVE.repeat(20_000);
    let mut stream = connect(admin);
    let mut writer = stream.try_clone().expect("a duplicate");
    let sending = std::thread::spawn(move || writer.write_all(&pipelined));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("unread input does not destroy the answer");
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"\r\n\r\nok\n"));
    stream.shutdown(Shutdown::Both).expect("closed");
    _ = sending.join().expect("it does not panic");
    server.stop_by(Signal::TERM);
}

#[test]
fn the_oldest_of_eight_connections_makes_room_for_a_ninth() {
    let (server, admin) = start(&[]);
    let mut silent: Vec<TcpStream> = (0..8).map(|_| connect(admin)).collect();
    for round in 0..3 {
        assert!(is_ready(admin));
        expect_end(&mut silent.remove(0));
        // The place of the one that asked is free again.
        silent.push(connect(admin));
        silent[6].set_nonblocking(true).expect("non-blocking");
        let error = silent[6].read(&mut [0]).expect_err("still there");
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "round {round}");
        silent[6].set_nonblocking(false).expect("blocking");
    }
    round_trip(&mut server.connect(), b"beside them");
    server.stop_by(Signal::TERM);
}

#[test]
fn a_flood_of_checks_is_answered() {
    let (server, admin) = start(&["--quiet"]);
    let mut client = server.connect();
    let asking: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(move || (0..100).filter(|_| ask(admin, LIVE) == (200, "ok\n".to_owned())).count()))
        .collect();
    while !asking.iter().all(|thread| thread.is_finished()) {
        round_trip(&mut client, b"beside them");
    }
    assert_eq!(asking.into_iter().map(|thread| thread.join().expect("answered")).sum::<usize>(), 400);
    server.stop_by(Signal::TERM);
}

#[test]
#[ignore = "takes five seconds"]
fn a_connection_ends_after_five_seconds_whatever_it_does() {
    let (server, admin) = start(&[]);
    let begin = Instant::now();
    let mut silent = connect(admin);
    let mut slow = connect(admin);
    // Answered, but it does not close.
    let mut idle = connect(admin);
    idle.write_all(LIVE).expect("sent");
    slow.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    loop {
        let outcome = slow.write(b"G").and_then(|_| slow.read(&mut [0]));
        match outcome {
            Err(error) if error.kind() == ErrorKind::WouldBlock => assert!(begin.elapsed() < DEADLINE),
            _ => break,
        }
    }
    expect_end(&mut silent);
    assert!(begin.elapsed() >= Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    idle.read_to_end(&mut Vec::new()).expect("the answer");
    server.stop_by(Signal::TERM);
}

#[test]
fn an_address_that_cannot_be_had_is_an_error() {
    let (_taken, port) = listener();
    let output = run(server_command(&["--port", "0", "--admin", &port.to_string()]), Stdio::null());
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    let sentence = format!("echo-server: cannot answer health checks on 127.0.0.1:{port}: Address already in use\n");
    assert_eq!(output.stderr, sentence);
    assert_eq!(output.stdout, b"");
    let output = run(server_command(&["--port", "0", "--admin", "localhost"]), Stdio::null());
    assert_eq!(output.code, Some(2), "{}", output.stderr);
}

#[test]
fn the_admin_address_may_be_given() {
    let port = free_port();
    let address = format!("127.0.0.2:{port}");
    let server = Server::start(&["--quiet", "--admin", &address]);
    assert_eq!(server.admin(), address.parse().expect("an address"));
    assert!(is_ready(server.admin()));
    server.stop_by(Signal::TERM);
}

#[test]
fn while_it_drains_it_serves_but_is_not_ready() {
    let (server, admin) = start(&["--drain", LONG, "--quiet"]);
    let mut old = server.connect();
    round_trip(&mut old, b"before");
    assert!(is_ready(admin));
    server.process.signal(Signal::TERM);
    wait_until_draining(&server);
    assert!(!is_ready(admin));
    assert_eq!(ask(admin, LIVE).0, 200);
    let mut new = server.connect();
    round_trip(&mut new, b"new");
    round_trip(&mut old, b"old");
    let begin = Instant::now();
    let lines = server.stop_by(Signal::TERM);
    assert!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());
    assert_eq!(shown(&lines)[1..], ["Draining for 20s"]);
    expect_end(&mut old);
    expect_end(&mut new);
}

#[test]
fn the_draining_ends_by_itself() {
    let (server, _) = start(&["--drain", "400ms"]);
    let mut client = server.connect();
    round_trip(&mut client, b"hello");
    let begin = Instant::now();
    server.process.signal(Signal::TERM);
    expect_end(&mut client);
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(400) && took < SOON, "it took {took:?}");
    let lines = server.expect_stopped();
    assert_eq!(shown(&lines)[2], "Draining for 400ms");
}

/// SIGINT and SIGHUP come from a person or a terminal that is gone: no balancer waits for them.
#[test]
fn only_sigterm_starts_the_draining_and_each_signal_ends_it() {
    for signals in [&[Signal::INT][..], &[Signal::HUP], &[Signal::TERM, Signal::INT], &[Signal::TERM, Signal::HUP]] {
        let (server, _) = start(&["--drain", LONG]);
        let mut client = server.connect();
        round_trip(&mut client, b"hello");
        let begin = Instant::now();
        let (last, first) = signals.split_last().expect("a signal");
        for signal in first {
            server.process.signal(*signal);
            wait_until_draining(&server);
        }
        let lines = server.stop_by(*last);
        assert!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());
        assert_eq!(lines.iter().any(|line| line.contains("Draining")), !first.is_empty());
        expect_end(&mut client);
    }
}

#[test]
fn an_interrupt_after_the_draining_has_ended_gives_up() {
    let (server, admin) = start(&["--drain", LONG, "--grace", LONG]);
    let mut stuck = hesitant(server.address());
    stuck.write_all(&random_bytes(&mut rng(), 12 << 20)).expect("sent");
    server.process.signal(Signal::TERM);
    wait_until_draining(&server);
    server.process.signal(Signal::INT);
    server.wait_until_it_refuses();
    // It stops, and says so as long as it is there.
    assert!(!is_ready(admin));
    assert_eq!(ask(admin, LIVE).0, 200);
    server.process.signal(Signal::INT);
    let (status, stderr) = server.process.wait();
    assert_eq!((status.code(), &*stderr), (Some(130), ""));
}

#[test]
fn a_room_goes_on_while_it_drains() {
    let (server, _) = start(&["--drain", LONG, "--chat"]);
    let mut ann = Member::join(&server, "ann", "");
    server.process.signal(Signal::TERM);
    wait_until_draining(&server);
    let bob = Member::join(&server, "bob", "ann");
    bob.say("hello\n");
    while ann.line() != "<bob> hello" {}
    server.stop_by(Signal::TERM);
}

/// The service manager is told when the draining begins, and not once more when it ends.
#[test]
fn the_service_manager_is_told_of_the_draining() {
    let path = scratch_file("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("bound");
    manager.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let told = || {
        let mut buffer = [0; 100];
        let length = manager.recv(&mut buffer).expect("told in time");
        String::from_utf8(buffer[..length].to_vec()).expect("text").trim().to_owned()
    };
    let mut command = server_command(&["--port", "0", "--drain", LONG]);
    command.env("NOTIFY_SOCKET", &path);
    let server = Server::launch(command);
    assert_eq!(told(), "READY=1");
    server.process.signal(Signal::TERM);
    assert_eq!(told(), "STOPPING=1");
    round_trip(&mut server.connect(), b"still served");
    server.stop_by(Signal::TERM);
    manager.set_nonblocking(true).expect("non-blocking");
    assert!(manager.recv(&mut [0]).is_err(), "told twice");
    fs::remove_file(&path).expect("removed");
}

#[test]
fn programs_read_it_too() {
    let mut command = server_command(&["--port", "0", "--admin", "0", "--drain", "1ms", "--log-format", "json"]);
    command.stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let console = Lines::of(process.take_stdout());
    console.wait_until(|lines| (lines.len() > 1).then_some(()));
    process.signal(Signal::TERM);
    let (status, _) = process.wait();
    assert_eq!(status.code(), Some(0));
    let lines: Vec<Value> = console.all().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().expect("an event")).collect();
    assert_eq!(events, ["started", "admin", "draining", "stopped"]);
    lines[1]["address"].as_str().and_then(|text| text.parse::<SocketAddr>().ok()).expect("an address");
    assert_eq!(lines[2]["seconds"], 0.001);
}
