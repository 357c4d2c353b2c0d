//! The metrics, as a program that collects them reads them.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Stdio;

use rustix::process::Signal;

use crate::harness::{
    Certificates, Member, Server, clean_command, client, connect, connect_from, expect_end, feed, has_if, needs_tcp,
    round_trip, run,
};

/// Reads metrics as Prometheus does, and prints each sample in a line: its name, its labels, its value.
const PARSER: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
for family in parse(sys.stdin.read()):
    for sample in family.samples:
        print(sample.name, *(f'{key}={value}' for key, value in sorted(sample.labels.items())), float(sample.value))
";

/// A server whose metrics are collected.
struct Collected {
    server: Server,
    admin: SocketAddr,
}

impl Collected {
    /// `None` where there is no parser.
    fn start(options: &[&str]) -> Option<Self> {
        if !has_if("prometheus_client of python3", "/usr/bin/python3 -c 'import prometheus_client'") {
            return None;
        }
        let server = Server::start(&[&["--admin", "0"], options].concat());
        let admin = server.admin();
        Some(Self { server, admin })
    }

    fn samples(&self) -> Samples {
        let mut stream = connect(self.admin);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let content_type = "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert!(head.lines().any(|line| line == content_type), "{head}");
        let mut parser = clean_command("/usr/bin/python3");
        parser.args(["-c", PARSER]);
        let output = feed(parser, body.as_bytes());
        assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{body}");
        Samples(String::from_utf8(output.stdout).expect("text"))
    }
}

struct Samples(String);

impl Samples {
    fn find(&self, sample: &str) -> Option<f64> {
        self.0.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
    }

    fn value(&self, sample: &str) -> f64 {
        self.find(sample).unwrap_or_else(|| panic!("no {sample} in {}", self.0))
    }
}

#[test]
fn what_an_echo_does_is_counted() {
    if needs_tcp() {
        return;
    }
    let Some(collected) = Collected::start(&["--deny", "127.0.0.3"]) else { return };
    let mut client = collected.server.connect();
    for _ in 0..3 {
        round_trip(&mut client, b"hello\n");
    }
    expect_end(&mut connect_from(3, collected.server.address(), None).expect("connected"));
    let samples = collected.samples();
    for (sample, value) in [
        ("echo_connections_open", 1.0),
        ("echo_connections_accepted_total", 1.0),
        ("echo_connections_refused_total reason=address", 1.0),
        ("echo_connections_refused_total reason=header", 0.0),
        ("echo_messages_total", 3.0),
        ("echo_received_bytes_total", 18.0),
        ("echo_sent_bytes_total", 18.0),
        ("echo_held_bytes", 0.0),
        ("echo_log_lines_dropped_total", 0.0),
    ] {
        assert_eq!(samples.value(sample), value, "{sample}");
    }
    assert!(samples.value("echo_turn_seconds_sum") > 0.0);
    // Every turn counts once in both, the present one not yet.
    let turns = samples.value("echo_turn_seconds_count");
    assert!(turns >= 5.0);
    assert_eq!(samples.value("echo_turn_events_count"), turns);
    assert_eq!(samples.value("echo_turn_seconds_bucket le=+Inf"), turns);
    assert!(samples.value("echo_turn_events_sum") >= 5.0);
    for absent in ["echo_room_members", "echo_redis_connected"] {
        assert_eq!(samples.find(absent), None);
    }
    let later = collected.samples();
    assert!(later.value("echo_turn_seconds_count") > turns);
    collected.server.stop_by(Signal::TERM);
}

#[test]
fn members_and_those_that_find_the_room_full_are_counted() {
    let Some(collected) = Collected::start(&["--chat", "--max-connections", "2"]) else { return };
    let _ann = Member::join(&collected.server, "ann", "");
    let _bob = Member::join(&collected.server, "bob", "ann");
    let mut third = collected.server.connect();
    let mut told = String::new();
    third.read_to_string(&mut told).expect("the end");
    assert_eq!(told, "* server is full\n");
    let samples = collected.samples();
    assert_eq!(samples.value("echo_room_members"), 2.0);
    assert_eq!(samples.value("echo_room_waiting_talkers"), 0.0);
    assert_eq!(samples.value("echo_connections_refused_total reason=full"), 1.0);
    collected.server.process.signal(Signal::USR1);
    collected.server.console.wait_until(|lines| lines.last().filter(|line| line.contains(" 1 refused;")).cloned());
    collected.server.stop_by(Signal::TERM);
}

#[test]
fn handshakes_are_counted() {
    let certificates = Certificates::shared();
    let Some(collected) = Collected::start(&certificates.server_options()) else { return };
    let hello = client(collected.server.port, &[&certificates.client_options()[..], &["hello"]].concat());
    assert_eq!(run(hello, Stdio::null()).code, Some(0));
    let mut plain = collected.server.connect();
    plain.write_all(b"hello\n").expect("sent");
    plain.read_to_end(&mut Vec::new()).expect("an alert and the end");
    let samples = collected.samples();
    assert_eq!(samples.value("echo_tls_handshakes_total"), 1.0);
    assert_eq!(samples.value("echo_tls_handshake_failures_total"), 1.0);
    collected.server.stop_by(Signal::TERM);
}

#[test]
fn talkers_that_wait_for_slow_members_are_counted() {
    let Some(collected) = Collected::start(&["--chat", "--quiet"]) else { return };
    let _slow = collected.server.connect();
    let (ann, _) = Member::enter(collected.server.connect(), "ann");
    let mut stream = ann.stream().try_clone().expect("a duplicate");
    let talking = std::thread::spawn(move || {
        let line = [&[b'x'; 999][..], b"\n"].concat();
        // Until the connection is closed.
        while stream.write_all(&line).is_ok() {}
    });
    while collected.samples().value("echo_room_waiting_talkers") < 1.0 {}
    ann.stream().shutdown(std::net::Shutdown::Both).expect("closed");
    talking.join().expect("it does not panic");
    drop(collected);
}
