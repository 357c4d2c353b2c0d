//! The log for programs, and the counters.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    Lines, Process, Server, client_name, connect, exchange, expect_end, hesitant, is_unix, needs_tcp, random_bytes,
    reset, rng, round_trip, server_command, skipped_over_tls,
};

/// A server with a log for programs.
struct JsonServer {
    process: Process,
    address: SocketAddr,
    console: Lines,
}

impl JsonServer {
    fn start(options: &[&str]) -> Self {
        let mut command = server_command(&[&["--port", "0", "--log-format", "json"], options].concat());
        command.stdout(Stdio::piped());
        let mut process = Process::spawn(command);
        let console = Lines::of(process.take_stdout());
        let started = console.wait_until(|lines| lines.first().map(|line| parse(line)));
        assert_eq!(started["event"], "started");
        let port = u16::try_from(started["port"].as_u64().expect("a port")).expect("16 bits");
        Self { process, address: (Ipv4Addr::LOCALHOST, port).into(), console }
    }

    fn wait_for(&self, event: &str, count: usize) -> Vec<Value> {
        self.console.wait_until(|lines| {
            let found: Vec<Value> =
                lines.iter().map(|line| parse(line)).filter(|line| line["event"] == event).collect();
            (found.len() >= count).then_some(found)
        })
    }

    fn counters(&self, nth: usize) -> Value {
        self.process.signal(Signal::USR1);
        self.wait_for("counters", nth).swap_remove(nth - 1)
    }

    /// Stops the server, checks the first and the last line, and returns all lines.
    fn stop(self) -> Vec<Value> {
        self.process.signal(Signal::TERM);
        let (status, stderr) = self.process.wait();
        assert_eq!((status.code(), &*stderr), (Some(0), ""));
        let lines: Vec<Value> = self.console.all().iter().map(|line| parse(line)).collect();
        assert_eq!(lines[0]["event"], "started");
        assert_eq!(lines[lines.len() - 1]["event"], "stopped");
        assert_eq!(lines[lines.len() - 1]["port"], self.address.port());
        lines
    }
}

/// Parses a line, which must be an object with an event and a time in the form of RFC 3339.
fn parse(line: &str) -> Value {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:.200}"));
    let time = value["time"].as_str().unwrap_or_else(|| panic!("no time: {line:.200}"));
    assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{time}");
    assert!(value["event"].is_string(), "no event: {line:.200}");
    value
}

fn of_event<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

#[test]
fn every_line_is_json_whatever_was_sent() {
    let server = JsonServer::start(&[]);
    let mut random = rng();
    let mut messages: Vec<Vec<u8>> = vec![
        b"Hello, world!".to_vec(),
        (0..=255).collect(),
        "Grüße 👩‍👩‍👧 नमस्ते \u{202e}evil\u{2028}\u{0}\u{1b}[31m".as_bytes().to_vec(),
        br#"","event":"stopped","port":1}"#.to_vec(),
        b"two\nlines\n{\"event\":\"stopped\"}\nend".to_vec(),
        b"\xf0\x9f\x92".to_vec(),
        b"\\u0000\\\"".to_vec(),
        "\u{10ffff}\u{d7ff}\u{e000}".as_bytes().to_vec(),
    ];
    messages.extend((0..200).map(|length| random_bytes(&mut random, length + 1)));
    for message in &messages {
        assert_eq!(&exchange(connect(server.address), message), message);
    }
    let lines = server.stop();
    let echoed = of_event(&lines, "echoed");
    assert_eq!(echoed.len(), messages.len());
    for (line, message) in echoed.iter().zip(&messages) {
        let text = message.strip_suffix(b"\n").unwrap_or(message);
        let text = if text.len() < message.len() { text.strip_suffix(b"\r").unwrap_or(text) } else { text };
        assert_eq!(line["message"], *String::from_utf8_lossy(text));
        assert_eq!(line["invalid_utf8"], str::from_utf8(text).is_err());
        assert_eq!(line["bytes"], message.len());
        assert_eq!(line["cut"], false);
        let peer = line["peer"].as_str().expect("an address");
        assert!(peer.starts_with(if is_unix() { "unix:pid=" } else { "127.0.0.1:" }), "{peer}");
    }
    assert_eq!(lines.len(), messages.len() + 2);
}

#[test]
fn a_long_message_is_cut_between_two_characters() {
    let server = JsonServer::start(&["--log-max", "10"]);
    let cases: [(&[u8], &str, bool); 4] = [
        ("äääääääää".as_bytes(), "äääää", false),
        ("1ääääääää".as_bytes(), "1ääää", false),
        (b"\xffaaaaaaaaaaaaaaaa", "\u{fffd}aaaaaaaaa", true),
        (b"aaaaaaaaaaaa\xff", "aaaaaaaaaa", false),
    ];
    for (at, (message, shown, is_invalid)) in cases.into_iter().enumerate() {
        let mut stream = connect(server.address);
        round_trip(&mut stream, message);
        stream.shutdown(Shutdown::Write).expect("half-closed");
        expect_end(&mut stream);
        let line = server.wait_for("echoed", at + 1).swap_remove(at);
        assert_eq!(line["message"], shown);
        assert_eq!((&line["cut"], &line["invalid_utf8"]), (&true.into(), &is_invalid.into()));
        assert_eq!(line["bytes"], message.len());
    }
    server.stop();
}

#[test]
fn connections_and_refusals_are_events() {
    if needs_tcp() || skipped_over_tls("a refused client is told nothing before the handshake") {
        return;
    }
    let server = JsonServer::start(&["--verbose", "--max-per-ip", "1"]);
    let mut first = connect(server.address);
    round_trip(&mut first, b"hello");
    let mut second = connect(server.address);
    assert!(second.read(&mut [0]).is_ok_and(|count| count == 0));
    server.wait_for("refused", 1);
    let peer = first.local_addr().expect("an address").to_string();
    reset(first);
    server.wait_for("closed", 1);
    let lines = server.stop();
    let opened = of_event(&lines, "opened");
    assert_eq!((opened.len(), &opened[0]["peer"]), (1, &peer.as_str().into()));
    let closed = of_event(&lines, "closed")[0];
    assert_eq!(
        (&closed["peer"], &closed["bytes_in"], &closed["bytes_out"]),
        (&peer.as_str().into(), &5.into(), &5.into())
    );
    assert!(closed["reason"].as_str().is_some_and(|reason| reason.starts_with("the connection broke")), "{closed}");
    let refused = of_event(&lines, "refused")[0];
    assert_eq!(refused["reason"], "address");
    assert_eq!(refused["connections"], 1);
    assert_eq!(refused["peer"], second.local_addr().expect("an address").to_string());
}

#[test]
fn rooms_are_logged_too() {
    let server = JsonServer::start(&["--chat"]);
    let mut ann = connect(server.address);
    ann.write_all(b"/name bob\n/name ann\n\"},{\"event\":\"stopped\"\n\xff\x00\x1b\n/quit\n").expect("sent");
    let entry = |event: &str| {
        let line = server.wait_for(event, 1).remove(0);
        assert_eq!(line["peer"], client_name(&ann));
        line
    };
    let (left, joined, renamed) = (entry("left"), entry("joined"), entry("renamed"));
    assert_eq!((&left["message"], &left["name"]), (&"* ann left".into(), &"ann".into()));
    assert_eq!((&joined["message"], &joined["name"]), (&"* bob joined".into(), &"bob".into()));
    assert_eq!(renamed["message"], "* bob is now ann");
    assert_eq!((&renamed["from"], &renamed["to"]), (&"bob".into(), &"ann".into()));
    let said = server.wait_for("said", 2);
    assert_eq!(said[0]["message"], "<ann> \"},{\"event\":\"stopped\"");
    assert_eq!(said[1]["message"], "<ann> \\xff\\u{0}\\u{1b}");
    assert_eq!((&said[1]["name"], &said[1]["bytes"], &said[1]["cut"]), (&"ann".into(), &3.into(), &false.into()));
    server.stop();
}

/// Dropped lines are reported in JSON as well, and the numbers add up.
#[test]
fn dropped_lines_are_counted() {
    const MESSAGES: usize = 400;
    let mut command = server_command(&["--port", "0", "--log-format", "json"]);
    command.stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let mut stdout = process.take_stdout();
    let started = parse(&first_json_line(&mut stdout));
    let address = (Ipv4Addr::LOCALHOST, u16::try_from(started["port"].as_u64().expect("a port")).expect("16 bits"));
    // 40,000 KiB of lines for a console with 4 MiB of memory.
    let mut stream = connect(address.into());
    for _ in 0..MESSAGES {
        let mut message = vec![b'"'; 100 << 10];
        message.push(b'\n');
        round_trip(&mut stream, &message);
    }
    stream.shutdown(Shutdown::Write).expect("half-closed");
    expect_end(&mut stream);
    let console = Lines::of(stdout);
    // No message contains this text, and parsing all lines each time would take long.
    let wait_for = |event: &str| {
        let event = format!(r#""event":"{event}""#);
        console.wait_until(|lines| lines.iter().find(|line| line.contains(&event)).map(|line| parse(line)))
    };
    let dropped = wait_for("dropped");
    process.signal(Signal::USR1);
    let counters = wait_for("counters");
    process.signal(Signal::TERM);
    let (status, _) = process.wait();
    assert_eq!(status.code(), Some(0));
    let lines: Vec<Value> = console.all().iter().map(|line| parse(line)).collect();
    let dropped_lines = dropped["lines"].as_u64().expect("a number");
    println!("{dropped_lines} of {MESSAGES} lines were dropped");
    assert_eq!(of_event(&lines, "dropped").len(), 1);
    // A silence of a busy machine ends a message too: there may be more of them.
    let messages = counters["messages"].as_u64().expect("a number");
    assert!(messages >= MESSAGES as u64);
    assert_eq!(of_event(&lines, "echoed").len() as u64 + dropped_lines, messages);
    assert_eq!(counters["lines_dropped"], dropped_lines);
}

fn first_json_line(input: &mut impl Read) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        input.read_exact(&mut byte).expect("a whole line");
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("UTF-8")
}

#[test]
fn the_counters_are_exact() {
    if needs_tcp() || skipped_over_tls("a refused client is told nothing before the handshake") {
        return;
    }
    let server = JsonServer::start(&["--max-per-ip", "3"]);
    let at_first = server.counters(1);
    for name in ["connections", "connections_total", "connections_refused", "messages", "bytes_in", "bytes_out"] {
        assert_eq!(at_first[name], 0, "{name}");
    }
    for number in 0..5 {
        assert_eq!(exchange(connect(server.address), &vec![b'x'; 100 + number]).len(), 100 + number);
    }
    let mut open: Vec<TcpStream> = (0..2).map(|_| connect(server.address)).collect();
    for stream in &mut open {
        round_trip(stream, b"hello\n");
        round_trip(stream, b"again\n");
    }
    let mut stuck = hesitant(server.address);
    stuck.write_all(&vec![b'y'; 12 << 20]).expect("sent");
    for _ in 0..4 {
        assert!(connect(server.address).read(&mut [0]).is_ok_and(|count| count == 0), "not refused");
    }
    let expected_in = (100 + 101 + 102 + 103 + 104) + 2 * 12 + (12 << 20);
    // If its sender has to wait for a while, the long message becomes several.
    let messages = server.console.wait_until(|lines| {
        let lines: Vec<Value> = lines.iter().map(|line| parse(line)).collect();
        let echoed = of_event(&lines, "echoed");
        let bytes: u64 = echoed.iter().filter_map(|line| line["bytes"].as_u64()).sum();
        (bytes == expected_in).then_some(echoed.len())
    });
    let now = server.counters(2);
    for (name, value) in [
        ("connections", 3),
        ("connections_total", 8),
        ("connections_refused", 4),
        ("messages", messages as u64),
        ("bytes_in", expected_in),
        ("lines_dropped", 0),
    ] {
        assert_eq!(now[name], value, "{name}");
    }
    let number = |name: &str| now[name].as_u64().unwrap_or_else(|| panic!("{name}: {now}"));
    assert!(number("bytes_held") > 1 << 20);
    // Memory counts whole pieces, also where a part of one is sent.
    let pending = number("bytes_in") - number("bytes_out");
    assert!((pending..pending + (160 << 10)).contains(&number("bytes_held")), "{pending} bytes are pending: {now}");
    let mut echo = vec![0; 12 << 20];
    stuck.read_exact(&mut echo).expect("the whole echo");
    let now = server.counters(3);
    assert_eq!((&now["bytes_held"], &now["bytes_out"]), (&0.into(), &expected_in.into()));
    server.stop();
}

#[test]
fn counters_are_one_line_of_text_and_the_server_goes_on() {
    let server = Server::start(&["--quiet"]);
    round_trip(&mut server.connect(), b"hello");
    std::thread::sleep(Duration::from_millis(1100));
    for count in 1..=3 {
        server.process.signal(Signal::USR1);
        server.wait_for_lines(count);
    }
    round_trip(&mut server.connect(), b"hello");
    let lines = server.stop_by(Signal::TERM);
    assert_eq!(lines.len(), 3);
    for line in lines {
        let (_, counters) = line.split_once("] Connections: ").unwrap_or_else(|| panic!("{line}"));
        let (counters, uptime) = counters.split_once("; uptime: ").unwrap_or_else(|| panic!("{line}"));
        assert!(
            counters == "0 now, 1 in total, 0 refused; messages: 1; bytes: 5 in, 5 out, 0 held; log lines dropped: 0"
                || counters.starts_with("1 now, 1 in total"),
            "{line}"
        );
        assert!(uptime.ends_with('s') && uptime != "0s", "{line}");
    }
}
