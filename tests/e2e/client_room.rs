//! The client in a pipe with a room: what it delivers, and that it fails when it does not.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::harness::{Member, Output, Process, Server, accept_in_time, client, feed, listener, run, server_name};
use crate::session_person::Person;

fn pipe_into(server: &Server, options: &[&str], input: &str) -> Output {
    feed(client(server.port, options), input.as_bytes())
}

/// Status 1 and one sentence with `reason` in it.
#[track_caller]
fn expect_failure(output: &Output, reason: &str) {
    assert_eq!((output.code, output.stderr.lines().count()), (Some(1), 1), "{}", output.stderr);
    assert!(output.stderr.contains(reason), "{}", output.stderr);
}

#[test]
fn a_full_room_is_a_failure() {
    let server = Server::start(&["--chat", "--max-connections", "1"]);
    let ann = Member::join(&server, "ann", "");
    for options in [&[][..], &["--name", "bot"]] {
        let output = pipe_into(&server, options, "build done\n");
        expect_failure(&output, "is full");
        assert_eq!(output.stdout, b"* server is full\n");
    }
    drop(ann);
    server.stop();
}

#[test]
fn a_check_of_a_room_says_that_it_is_one() {
    let long = "x".repeat(300_000);
    for (is_full, input) in [(false, ""), (false, "hi"), (false, &long), (true, "hi")] {
        let server = Server::start(&["--chat", "--max-connections", "1"]);
        let ann = is_full.then(|| Member::join(&server, "ann", ""));
        let output = pipe_into(&server, &["--check"], input);
        let expected = format!("echo-client: {} is a room, not an echo server\n", server_name(server.port));
        assert_eq!((output.code, &output.stdout[..], &output.stderr), (Some(1), &b""[..], &expected));
        drop(ann);
        server.stop();
    }

    let server = Server::start(&[]);
    for input in ["* welcome, user1; nobody else is here", "* server is full\n"] {
        assert_eq!(pipe_into(&server, &["--check"], input).code, Some(0), "an echo of {input:?}");
    }
    server.stop();
}

#[test]
fn an_echo_server_is_not_asked_for_a_name() {
    let server = Server::start(&[]);
    let message = "* welcome, user1; nobody else is here";
    let output = run(client(server.port, &["--name", "ann", message]), Stdio::null());
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    assert_eq!(output.stdout, format!("{message}\n").into_bytes());
    assert_eq!(server.stop_and_read(), [message]);
}

#[test]
fn a_session_does_not_ask_an_echo_server_for_a_name_either() {
    let server = Server::start(&[]);
    let mut ann = Person::connect(server.port, &["--name", "ann"]);
    ann.type_in("hello\r");
    ann.wait_for_lines(&["> hello", "hello", ">"]);
    ann.type_in("\x04");
    assert_eq!(ann.expect_end(), (Some(0), String::new()));
    assert_eq!(server.stop_and_read(), ["hello"]);
}

#[test]
fn an_echo_of_what_a_full_room_says_is_no_failure() {
    let server = Server::start(&[]);
    let output = pipe_into(&server, &[], "* server is full\n");
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    server.stop();
}

#[test]
fn a_short_reply_is_a_failure_with_a_name_too() {
    let (listener, port) = listener();
    std::thread::spawn(move || {
        let mut stream = accept_in_time(&listener);
        let mut line = String::new();
        BufReader::new(stream.try_clone().expect("a duplicate")).read_line(&mut line).expect("the message");
        stream.write_all(&line.as_bytes()[..3]).expect("sent");
    });
    expect_failure(&feed(client(port, &["--name", "ann"]), *b"hello\n"), "ended its reply after 3 of 6 bytes");
}

#[test]
fn a_name_is_taken_before_anything_is_said() {
    let server = Server::start(&["--chat"]);
    let mut ann = Member::join(&server, "ann", "");
    let output = pipe_into(&server, &["--name", "bot"], "build done\n");
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    ann.hears(&["* bot joined", "<bot> build done", "* bot left"]);
    drop(ann);
    server.stop();
}

#[test]
fn a_refused_name_is_a_failure_and_nothing_is_said() {
    let server = Server::start(&["--chat"]);
    let mut ann = Member::join(&server, "ann", "");
    expect_failure(&pipe_into(&server, &["--name", "ANN"], "build done\n"), "ANN is taken");
    // Nothing of it was heard: what comes next is what somebody else says.
    let bob = Member::join(&server, "bob", "ann");
    bob.say("hello\n");
    ann.hears(&["* bob joined", "<bob> hello"]);
    drop(bob);
    drop(ann);
    server.stop();
}

#[test]
fn a_room_that_does_not_confirm_a_name_is_given_up() {
    let (listener, port) = listener();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let mut stream = accept_in_time(&listener);
        stream.write_all(b"* welcome, user1; nobody else is here\n").expect("sent");
        let _ = wait.recv();
    });
    let output = run(client(port, &["--timeout", "200ms", "--name", "ann", "hello"]), Stdio::null());
    expect_failure(&output, "did not accept the name ann");
    drop(done);
}

#[test]
fn a_room_may_welcome_later() {
    let waiting = "* the room's other servers cannot be reached; new lines wait\n";
    let rest = "* the room's other servers can be reached again\n* welcome, user1; nobody else is here\n";
    let (listener, port) = listener();
    let served = std::thread::spawn(move || {
        let mut stream = accept_in_time(&listener);
        stream.write_all(waiting.as_bytes()).expect("sent");
        // Longer than an echo server may be silent.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        stream.write_all(rest.as_bytes()).expect("sent");
        let mut lines = BufReader::new(&stream).lines();
        assert_eq!(lines.next().expect("a line").expect("a line"), "/name ann");
        (&stream).write_all(b"* user1 is now ann\n").expect("sent");
        assert_eq!(lines.next().expect("a line").expect("a line"), "hello");
        assert!(lines.next().is_none());
    });
    let output = run(client(port, &["--name", "ann", "hello"]), Stdio::null());
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{waiting}{rest}* user1 is now ann\n"));
    served.join().expect("the room got what it expects");
}

#[test]
fn a_room_that_ends_after_quit_is_no_failure() {
    let server = Server::start(&["--chat"]);
    let mut command = client(server.port, &[] as &[&str]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let (mut stdin, mut stdout) = (process.take_stdin(), BufReader::new(process.take_stdout()));
    // The greeting tells that it is a room.
    stdout.read_line(&mut String::new()).expect("a line");
    stdin.write_all(b"hello\n/quit\n").expect("taken");
    let (status, stderr) = process.wait();
    assert_eq!((status.code(), &*stderr), (Some(0), ""));
    drop(stdin);
    server.stop();
}

#[test]
fn lines_after_quit_are_not_delivered_which_is_a_failure() {
    let server = Server::start(&["--chat"]);
    expect_failure(&pipe_into(&server, &[], "hello\n/quit\nand more\n"), "followed /quit");
    server.stop();
}

#[test]
fn a_line_that_is_too_long_for_a_room_is_a_failure() {
    let server = Server::start(&["--chat", "--max-line", "100"]);
    expect_failure(&pipe_into(&server, &[], &format!("{}\n", "x".repeat(101))), "too long");
    server.stop();
}

#[test]
fn a_room_that_ends_before_the_input_is_a_failure() {
    let server = Server::start(&["--chat"]);
    let mut command = client(server.port, &[] as &[&str]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let (stdin, mut stdout) = (process.take_stdin(), BufReader::new(process.take_stdout()));
    stdout.read_line(&mut String::new()).expect("a line");
    server.stop();
    let (status, stderr) = process.wait();
    assert_eq!(status.code(), Some(1), "{stderr}");
    drop(stdin);
}
