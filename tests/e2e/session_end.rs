//! How a session ends: with which status, with which words, and with the terminal as it was.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::harness::{
    Process, Pty, Server, accept_in_time, client, feed, listener, reset, server_name, wait_for_input,
};
use crate::session_person::{Person, spawn_on};

#[test]
fn ctrl_d_ends_it_after_the_last_answers() {
    let (listener, port) = listener();
    let mut ann = Person::connect(port, &[]);
    let mut peer = accept_in_time(&listener);
    ann.type_in("last\r\x04");
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).expect("the half-close");
    assert_eq!(heard, b"last\n");
    peer.write_all(b"answer\nand more").expect("sent");
    ann.wait_for_lines(&["> last", "answer", "and more"]);
    peer.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(ann.expect_end(), (Some(0), String::new()));
}

#[test]
fn ctrl_c_clears_the_input_and_ends_only_without_one() {
    let server = Server::start(&[]);
    let mut ann = Person::connect(server.port, &[]);
    ann.type_in("half a line");
    ann.wait_for("> half a line");
    ann.type_in("\x03");
    ann.wait_for_input(">", 2);
    ann.type_in("\x03");
    assert_eq!(ann.expect_end(), (Some(130), String::new()));
    server.stop();
}

#[test]
fn a_signal_ends_it_at_once_also_in_the_middle_of_a_line() {
    let server = Server::start(&[]);
    let mut ann = Person::connect(server.port, &[]);
    ann.type_in("half a line");
    ann.wait_for("> half a line");
    ann.process().signal(Signal::INT);
    assert_eq!(ann.expect_end(), (Some(130), String::new()));

    let ann = Person::connect(server.port, &[]);
    ann.process().signal(Signal::TERM);
    // The signal itself ends it, which is no status.
    assert_eq!(ann.expect_end(), (None, String::new()));
    server.stop();
}

#[test]
fn ctrl_c_also_ends_the_wait_for_the_last_answers() {
    let (listener, port) = listener();
    let mut ann = Person::connect(port, &[]);
    let mut peer = accept_in_time(&listener);
    ann.type_in("\x04");
    peer.read_to_end(&mut Vec::new()).expect("the half-close");
    ann.type_in("\x03");
    assert_eq!(ann.expect_end(), (Some(130), String::new()));
}

#[test]
fn it_says_so_when_the_server_goes() {
    let server = Server::start(&["--chat"]);
    let name = server_name(server.port);
    let mut ann = Person::join(&server, "ann");
    ann.type_in("half a line");
    ann.wait_for("> half a line");
    server.stop();
    ann.wait_for("* server is stopping\n<ann> half a line");
    let sentence = format!("echo-client: {name} has ended the session\n");
    assert_eq!(ann.expect_end(), (Some(1), sentence));
}

/// Reads one line, byte by byte so that nothing after it is lost.
fn read_line(peer: &mut TcpStream) -> String {
    let bytes = std::iter::from_fn(|| {
        let mut byte = [0];
        peer.read_exact(&mut byte).expect("a byte");
        (byte != *b"\n").then_some(byte[0])
    });
    String::from_utf8(bytes.collect()).expect("text")
}

#[test]
fn it_goes_on_over_a_restart_of_the_server_if_wanted() {
    let (listener, port) = listener();
    let mut ann = Person::connect(port, &["--name", "ann", "--reconnect"]);
    let mut peer = accept_in_time(&listener);
    peer.write_all(b"* welcome, user1; nobody else is here\n").expect("sent");
    assert_eq!(read_line(&mut peer), "/name ann");
    peer.write_all(b"* user1 is now ann\n").expect("sent");
    ann.type_in("/name anna\r");
    assert_eq!(read_line(&mut peer), "/name anna");
    peer.write_all(b"* ann is now anna\n").expect("sent");
    ann.type_in("last words\rhalf a line");
    assert_eq!(read_line(&mut peer), "last words");
    ann.wait_for("<anna> half a line");
    drop(peer);
    ann.wait_for("* the connection is gone (the server closed it), connecting again\n");
    ann.wait_for("* may not have arrived: last words\n");

    let mut peer = accept_in_time(&listener);
    peer.write_all(b"* welcome, user7; nobody else is here\n").expect("sent");
    assert_eq!(read_line(&mut peer), "/name anna");
    peer.write_all(b"* user7 is now anna\n").expect("sent");
    ann.wait_for("* user7 is now anna\n<anna> half a line");
    ann.type_in(" is sent\r/quit\r");
    assert_eq!([read_line(&mut peer), read_line(&mut peer)], ["half a line is sent", "/quit"]);
    drop(peer);
    assert_eq!(ann.expect_end(), (Some(0), String::new()));
}

#[test]
fn nothing_is_taken_for_sent_while_there_is_no_connection() {
    let bound = |port: u16| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_port(true).expect("set");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).expect("bound");
        socket
    };
    let listening = bound(0);
    listening.listen(1).expect("listening");
    let listener = TcpListener::from(listening);
    let port = listener.local_addr().expect("an address").port();
    // Nobody else gets the port meanwhile.
    let _reserved = bound(port);
    let mut ann = Person::connect(port, &["--reconnect"]);
    drop((accept_in_time(&listener), listener));
    ann.wait_for("connecting again\n");
    ann.type_in("hello\r");
    ann.wait_for("* not sent: there is no connection\n> hello");
    ann.type_in("\x03\x04");
    assert_eq!(ann.expect_end().0, Some(1));
}

#[test]
fn it_says_so_when_the_connection_breaks() {
    let (listener, port) = listener();
    let mut ann = Person::connect(port, &[]);
    let peer = accept_in_time(&listener);
    ann.type_in("half a line");
    ann.wait_for("> half a line");
    reset(peer);
    let sentence = format!("echo-client: the connection to 127.0.0.1 port {port} broke: Connection reset by peer\n");
    assert_eq!(ann.expect_end(), (Some(1), sentence));
}

#[test]
fn a_peer_that_takes_nothing_stops_neither_the_keys_nor_the_end() {
    let (listener, port) = listener();
    let mut ann = Person::connect(port, &["--timeout", "1s"]);
    let peer = accept_in_time(&listener);
    ann.type_in("hello\r\x04");
    let (status, stderr) = ann.expect_end();
    assert_eq!(status, Some(1));
    assert!(stderr.ends_with("broke: nothing came for 1s\n"), "{stderr:?}");
    drop(peer);
}

#[test]
fn leaving_the_room_is_a_good_end() {
    let server = Server::start(&["--chat"]);
    let mut ann = Person::join(&server, "ann");
    let mut bob = Person::join(&server, "bob");
    ann.type_in("/quit\r");
    assert_eq!(ann.expect_end(), (Some(0), String::new()));
    bob.wait_for("* ann left");
    // What is owed is delivered before the end.
    bob.type_in("/who\r\x04");
    bob.wait_for("* here: bob");
    assert_eq!(bob.expect_end(), (Some(0), String::new()));
    server.stop();
}

#[test]
fn the_end_may_be_the_last_of_several_lines() {
    let server = Server::start(&["--chat"]);
    let bob = Person::join(&server, "bob");
    let mut ann = Person::join(&server, "ann");
    ann.type_in("\x1b[200~hello\n/quit\x1b[201~\r");
    assert_eq!(ann.expect_end(), (Some(0), String::new()));
    bob.wait_for("<ann> hello\n* ann left");
    server.stop();
}

#[test]
fn what_only_looks_like_leaving_is_said() {
    let server = Server::start(&["--chat"]);
    let bob = Person::join(&server, "bob");
    let mut ann = Person::join(&server, "ann");
    ann.type_in(" /quit\r");
    bob.wait_for("<ann>  /quit");
    server.stop();
    assert_eq!(ann.expect_end().0, Some(1));
}

/// A session whose terminal shows nothing, in the middle of a flood.
fn stalled() -> (Pty, Process, TcpStream) {
    let (listener, port) = listener();
    let terminal = Pty::open();
    let process = spawn_on(&terminal, &client(port, &[""; 0]));
    let peer = accept_in_time(&listener);
    // What a session shows first: from now on it handles signals.
    wait_for_input(&terminal.screen());
    let mut flood = peer.try_clone().expect("a duplicate");
    let line = "a line\n".repeat(1000);
    thread::spawn(move || while flood.write_all(line.as_bytes()).is_ok() {});
    terminal.fill();
    (terminal, process, peer)
}

#[test]
fn signals_end_it_although_the_terminal_is_stalled() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let (terminal, process, _peer) = stalled();
        let begin = Instant::now();
        process.signal(signal);
        let (status, stderr) = process.wait();
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        let expected = if signal == Signal::INT { (Some(130), None) } else { (None, Some(signal.as_raw())) };
        assert_eq!((status.code(), status.signal()), expected, "{stderr}");
        drop(terminal);
    }
}

#[test]
fn ctrl_c_ends_it_although_the_terminal_is_stalled() {
    let (mut terminal, process, _peer) = stalled();
    terminal.type_in(b"half\x03\x03");
    assert_eq!(process.wait().0.code(), Some(130));
}

#[test]
fn closing_the_terminal_ends_it_as_a_hangup_does() {
    let (terminal, process, _peer) = stalled();
    drop(terminal);
    let (status, stderr) = process.wait();
    assert_eq!((status.signal(), &*stderr), (Some(Signal::HUP.as_raw()), ""));

    let (listener, port) = listener();
    let terminal = Pty::open();
    let process = spawn_on(&terminal, &client(port, &[""; 0]));
    let _peer = accept_in_time(&listener);
    // What a session shows first: from now on it handles signals.
    wait_for_input(&terminal.screen());
    drop(terminal);
    let (status, stderr) = process.wait();
    assert_eq!((status.signal(), &*stderr), (Some(Signal::HUP.as_raw()), ""));
}

#[test]
fn a_flood_to_a_terminal_that_others_made_nonblocking_is_shown_whole() {
    let (listener, port) = listener();
    let mut ann = Person::connect(port, &[]);
    let mut peer = accept_in_time(&listener);
    ann.wait_for(">");
    let programs = &ann.terminal().programs;
    fcntl_setfl(programs, fcntl_getfl(programs).expect("flags") | OFlags::NONBLOCK).expect("set");
    for number in 0..20_000 {
        writeln!(peer, "a line that makes the terminal full {number}").expect("sent");
    }
    ann.wait_for("the terminal full 19999");
    ann.type_in("\x04");
    peer.read_to_end(&mut Vec::new()).expect("the half-close");
    drop(peer);
    assert_eq!(ann.expect_end(), (Some(0), String::new()));
}

#[test]
fn a_dead_server_is_noticed_by_keepalive() {
    let (listener, port) = listener();
    let _ann = Person::connect(port, &[]);
    let peer = accept_in_time(&listener);
    let local = peer.peer_addr().expect("the client's address").port();
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the sockets");
    let of_client = format!("0100007F:{local:04X} 0100007F:{port:04X} 01 ");
    let line = table.lines().find(|line| line.contains(&of_client)).expect("the client's socket");
    // The kind of the timer that runs, and when it ends, in hundredths of a second.
    let (kind, rest) = line
        .split(' ')
        .filter(|field| !field.is_empty())
        .nth(5)
        .and_then(|field| field.split_once(':'))
        .expect("a timer");
    let due = u64::from_str_radix(rest, 16).expect("a time");
    assert!(kind == "02" && due <= 6000, "{line}");
}

#[test]
fn a_dumb_terminal_and_a_dash_get_the_filter() {
    let server = Server::start(&[]);
    let mut dumb = client(server.port, &[""; 0]);
    dumb.env("TERM", "dumb");
    for command in [dumb, client(server.port, &["-"])] {
        let mut person = Person::start(command, 24);
        person.type_in("hello\n");
        // The terminal shows what is typed, the filter what comes back.
        person.wait_for_lines(&["hello", "hello"]);
        person.type_in("\x04");
        assert_eq!(person.expect_end(), (Some(0), String::new()));
    }
    server.stop();
}

#[test]
fn a_peer_that_is_no_room_still_has_to_send_all_back() {
    let (listener, port) = listener();
    // What the peer answers, what the client sends, and its status.
    let cases: [(&[u8], &[u8], i32); 3] = [
        (b"* welcome, x\n", b"a message that is longer", 0),
        (b"* welco", b"a message", 1),
        (b"* welcome, x\n", b"* welcome, x\nand more", 1),
    ];
    for (answer, message, status) in cases {
        let peer = thread::spawn({
            let listener = listener.try_clone().expect("a duplicate");
            move || {
                let mut peer = accept_in_time(&listener);
                peer.read_to_end(&mut Vec::new()).expect("the message");
                peer.write_all(answer).expect("sent");
            }
        });
        let output = feed(client(port, &[""; 0]), message);
        assert_eq!((output.code, &*output.stdout), (Some(status), answer));
        peer.join().expect("the peer");
    }
}
