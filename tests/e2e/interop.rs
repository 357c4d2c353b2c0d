//! The programs that users have: nc, ncat, socat, telnet and Python's socket module.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::{
    DEADLINE, Lines, Output, Process, Server, assert_same, clean_command, feed, has, random_bytes, rng,
    skipped_over_tls,
};

/// Why these tests do not go over TLS.
const PLAIN: &str = "these programs do not speak it";

pub(crate) fn tool(line: &[&str]) -> Command {
    let mut command = clean_command(line[0]);
    command.args(&line[1..]);
    command
}

/// The tool sends its standard input and prints what comes back; all sizes, text and bytes.
fn expect_streams_to_come_back(tool_of: impl Fn(&str) -> Command) {
    if skipped_over_tls(PLAIN) {
        return;
    }
    let server = Server::start(&[]);
    let port = server.port.to_string();
    let mut rng = rng();
    for message in [b"Hello, world!\n".to_vec(), random_bytes(&mut rng, 65_536), random_bytes(&mut rng, 5 << 20)] {
        let Output { code, stdout, .. } = feed(tool_of(&port), &*message);
        assert_eq!(code, Some(0));
        assert_same(&stdout, &message);
    }
    server.console.wait_until(|lines| lines.get(1).map(|line| assert!(line.ends_with(" Echoed: 'Hello, world!'"))));
}

#[test]
fn nc() {
    if has("nc") {
        // -N: half-close at the end of standard input, as others do by themselves.
        expect_streams_to_come_back(|port| tool(&["nc", "-N", "127.0.0.1", port]));
    }
}

#[test]
fn ncat() {
    if has("ncat") {
        expect_streams_to_come_back(|port| tool(&["ncat", "127.0.0.1", port]));
    }
}

#[test]
fn socat() {
    if has("socat") {
        let wait = DEADLINE.as_secs().to_string();
        expect_streams_to_come_back(|port| tool(&["socat", "-t", &wait, "-", &format!("TCP:127.0.0.1:{port}")]));
    }
}

#[test]
fn python() {
    const SCRIPT: &str = "
import socket, sys, threading
message = sys.stdin.buffer.read()
with socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=20) as connection:
    def send():
        connection.sendall(message)
        connection.shutdown(socket.SHUT_WR)
    threading.Thread(target=send).start()
    while part := connection.recv(65536):
        sys.stdout.buffer.write(part)
";
    if has("python3") {
        expect_streams_to_come_back(|port| tool(&["python3", "-c", SCRIPT, port]));
    }
}

/// telnet ends with its standard input: it is kept open until the echo is there.
#[test]
fn telnet() {
    if skipped_over_tls(PLAIN) || !has("telnet") {
        return;
    }
    let server = Server::start(&[]);
    let mut command = tool(&["telnet", "127.0.0.1", &server.port.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let mut stdin = process.take_stdin();
    let screen = Lines::of(process.take_stdout());
    let connected = |lines: &[String]| lines.iter().any(|line| line.starts_with("Connected")).then_some(());
    screen.wait_until(connected);
    for (count, text) in ["Hello, world!", "Grüße"].into_iter().enumerate() {
        writeln!(stdin, "{text}").expect("taken");
        screen.wait_until(|lines| lines.iter().any(|line| line == text).then_some(()));
        assert_eq!(server.first_messages(count + 1)[count], text);
    }
    drop(stdin);
    server.stop();
}

/// A prober that opens a connection and closes it, as load balancers do.
#[test]
fn a_scan_of_the_port_logs_nothing() {
    if skipped_over_tls(PLAIN) || !has("nc") {
        return;
    }
    let server = Server::start(&[]);
    let output = feed(tool(&["nc", "-z", "127.0.0.1", &server.port.to_string()]), &b""[..]);
    assert_eq!(output.code, Some(0));
    assert!(server.stop_and_read().is_empty());
}
