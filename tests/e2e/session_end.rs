//! How a session ends: with which status, with which words, and with the terminal as it was.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use rustix::process::Signal;

use crate::harness::{Server, accept_in_time, client, feed, listener, reset};
use crate::session_person::Person;

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
fn ctrl_c_ends_it_at_once_also_in_the_middle_of_a_line() {
    let server = Server::start(&[]);
    let mut ann = Person::connect(server.port, &[]);
    ann.type_in("half a line");
    ann.wait_for("> half a line");
    ann.type_in("\x03");
    assert_eq!(ann.expect_end(), (Some(130), String::new()));

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
    let port = server.port;
    let mut ann = Person::join(&server, "ann");
    ann.type_in("half a line");
    ann.wait_for("> half a line");
    server.stop();
    ann.wait_for("* server is stopping\n> half a line");
    let sentence = format!("echo-client: 127.0.0.1 port {port} has ended the session\n");
    assert_eq!(ann.expect_end(), (Some(1), sentence));
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
