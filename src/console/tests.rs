use std::fs::File;
use std::io::{PipeReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::thread;

use chrono::Timelike;
use rustix::fs::{OFlags, fcntl_setfl};
use serde_json::{Value, json};

use super::output::{MAX_HELD, RESERVED};
use super::*;
use crate::address::PeerAddress;
use crate::room::notice::Notice;

const PEER: PeerAddress = PeerAddress::Ip(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4711));

fn console(sink: Sink, log_format: LogFormat, log_max: usize) -> Console {
    Console { output: Output::new(sink), log: Log::Verbose, log_max, clock: Clock::new(log_format) }
}

/// A console on a pipe, and the end of the pipe that its reader has.
fn piped(log_format: LogFormat, log_max: usize) -> (Console, PipeReader) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let writer = OwnedFd::from(writer);
    fcntl_setfl(&writer, OFlags::NONBLOCK).expect("a pipe of our own");
    let mut console = console(Sink::Reopened(writer.into()), log_format, log_max);
    console.set_watched(true);
    (console, reader)
}

fn message(text: &[u8]) -> Event<'_> {
    Event::Message { peer: PEER, text, length: text.len() as u64 }
}

/// Logs messages that nobody reads until `count` lines have been dropped.
fn saturate(console: &mut Console, count: u64) {
    let end = console.dropped() + count;
    while console.dropped() < end {
        console.event(&message(&[b'x'; 10_000]));
    }
}

/// Reads what waits, up to the end of the console.
fn read_all(mut console: Console, mut reader: PipeReader) -> Vec<String> {
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    console.on_ready();
    console.finish(Instant::now() + Duration::from_secs(20));
    drop(console);
    let text = reading.join().expect("no panic").expect("UTF-8");
    assert!(text.ends_with('\n'));
    text.lines().map(str::to_owned).collect()
}

fn without_time(line: &str) -> &str {
    line.split_once("] ").expect("a time").1
}

#[test]
fn counters_and_the_stopping_line_find_room_in_a_saturated_log() {
    let (mut console, reader) = piped(LogFormat::Text, 1 << 20);
    saturate(&mut console, 100);
    console.counters(&Counters::default());
    saturate(&mut console, 7);
    console.stopped(8888, false);
    let lines = read_all(console, reader);
    let [.., message, dropped, counters, dropped_later, stopped] = &*lines else { panic!("{lines:?}") };
    assert!(without_time(message).starts_with("Echoed: 'xxx"));
    assert_eq!(without_time(dropped), "100 log lines dropped");
    assert!(without_time(counters).starts_with("Connections: 0 now"));
    assert_eq!(without_time(dropped_later), "7 log lines dropped");
    assert!(stopped.starts_with("--- Stopping server on port 8888 at "));
}

#[test]
fn counters_cannot_use_up_memory() {
    let (mut console, reader) = piped(LogFormat::Json, 1 << 20);
    saturate(&mut console, 1);
    for _ in 0..1000 {
        console.counters(&Counters::default());
        console.event(&message(b"in between"));
    }
    let memory = console.output.memory();
    assert!(memory <= MAX_HELD + 2 * RESERVED, "{memory} bytes");
    let dropped = console.dropped();
    let lines = read_all(console, reader);
    let counters = lines.iter().filter(|line| line.contains(r#""event":"counters""#)).count();
    assert!((100..500).contains(&counters), "{counters} lines of counters");
    let messages = lines.iter().filter(|line| line.contains("in between")).count();
    assert_eq!(dropped, 1 + 2 * 1000 - (counters + messages) as u64);
}

#[test]
fn the_reserve_is_there_again_when_the_log_has_been_read() {
    let (mut console, mut reader) = piped(LogFormat::Text, 1 << 20);
    for _ in 0..3 {
        saturate(&mut console, 1);
        for _ in 0..1000 {
            console.counters(&Counters::default());
        }
        assert!(!console.output.has_reserve());
        while !console.output.has_recovered() {
            console.flush(Instant::now(), true);
            let mut read = [0; 64 << 10];
            assert!(reader.read(&mut read).is_ok_and(|count| count > 0));
        }
        assert!(console.output.has_reserve());
    }
}

#[test]
fn a_turn_may_have_more_lines_than_memory_if_they_are_read() {
    let mut console = console(Sink::Direct(File::create("/dev/null").expect("it")), LogFormat::Text, 1 << 20);
    for _ in 0..2 * MAX_HELD / 10_000 {
        console.event(&message(&[b'x'; 10_000]));
        assert!(console.output.memory() <= 128 << 10);
    }
    assert_eq!(console.dropped(), 0);
}

#[test]
fn a_long_line_leaves_no_memory_behind() {
    let escapes = [0x1b; MAX_HELD / 8];
    let mut console = console(Sink::Direct(File::create("/dev/null").expect("it")), LogFormat::Text, 1 << 30);
    console.event(&message(&escapes));
    console.flush(Instant::now(), true);
    assert!(console.output.memory() <= 64 << 10, "{} bytes", console.output.memory());
    // This one is longer than expected and does not fit.
    let (mut console, reader) = piped(LogFormat::Text, 1 << 30);
    while console.output.memory() < MAX_HELD / 2 {
        console.event(&message(&[b'x'; 10_000]));
    }
    let before = console.output.memory();
    console.event(&message(&escapes));
    assert_eq!(console.dropped(), 1);
    assert!(console.output.memory() <= before + (64 << 10));
    let lines = read_all(console, reader);
    assert!(lines.iter().all(|line| without_time(line).starts_with("Echoed: 'xxx")));
}

#[test]
fn lines_of_a_room_are_cut_like_messages() {
    let notices = [
        Notice::Said { name: "ann", text: b"0123456789" },
        Notice::Said { name: "ann", text: b"01234567890" },
        Notice::Said { name: "ann", text: "ääääää".as_bytes() },
        Notice::Said { name: "ann", text: "1ääääää\t".as_bytes() },
        Notice::Said { name: "ann", text: &[0x1b; 1 << 20] },
        Notice::Renamed { from: "ann", to: "bob_who_has_a_long_name" },
    ];
    let (mut console, reader) = piped(LogFormat::Text, 10);
    notices.iter().for_each(|&notice| console.event(&Event::Room { peer: PEER, notice }));
    let lines = read_all(console, reader);
    assert_eq!(
        lines.iter().map(|line| without_time(line)).collect::<Vec<_>>(),
        [
            "<ann> 0123456789",
            "<ann> 0123456789… (10 of 11 bytes)",
            "<ann> äääää… (10 of 12 bytes)",
            "<ann> 1ääää… (9 of 14 bytes)",
            &format!("<ann> {}… (10 of 1048576 bytes)", r"\u{1b}".repeat(10)),
            "* ann is now bob_who_has_a_long_name",
        ]
    );
}

#[test]
fn the_entries_of_a_room_name_the_member() {
    let (mut console, reader) = piped(LogFormat::Json, 3);
    for notice in [
        Notice::Joined { name: "ann" },
        Notice::Renamed { from: "ann", to: "bob" },
        Notice::Said { name: "bob", text: b"\"\xff" },
        Notice::Said { name: "bob", text: b"hello" },
        Notice::Left { name: "bob", reason: Some("idle") },
    ] {
        console.event(&Event::Room { peer: PEER, notice });
    }
    let entries = read_all(console, reader).into_iter().map(|line| {
        let mut entry: Value = serde_json::from_str(&line).expect("JSON");
        entry.as_object_mut().expect("an object").remove("time").expect("a time");
        entry
    });
    let peer = "127.0.0.1:4711";
    assert_eq!(
        entries.collect::<Vec<_>>(),
        [
            json!({"event": "joined", "peer": peer, "name": "ann", "message": "* ann joined"}),
            json!({"event": "renamed", "peer": peer, "from": "ann", "to": "bob", "message": "* ann is now bob"}),
            json!({"event": "said", "peer": peer, "name": "bob", "bytes": 2, "cut": false, "message": "<bob> \"\\xff"}),
            json!({"event": "said", "peer": peer, "name": "bob", "bytes": 5, "cut": true, "message": "<bob> hel"}),
            json!({"event": "left", "peer": peer, "name": "bob", "message": "* bob left (idle)"}),
        ]
    );
}

#[test]
fn the_time_is_right_when_the_clock_is_set_back_and_forth() {
    let mut clock = Clock::new(LogFormat::Json);
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_517_229_790);
    let before_the_epoch = SystemTime::UNIX_EPOCH - Duration::from_secs(7);
    let hour = Duration::from_secs(3600);
    let ahead = start + 5 * hour;
    for now in [start, start, ahead, start, start - 7 * hour, ahead, before_the_epoch, before_the_epoch, start] {
        clock.set(now);
        let shown: SystemTime = DateTime::parse_from_rfc3339(&clock.text).expect("RFC 3339").into();
        assert_eq!(shown, now);
    }
}

#[test]
fn fractions_of_a_second_are_not_shown() {
    let mut clock = Clock::new(LogFormat::Json);
    let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_517_229_790);
    for fraction in [0, 1, 999, 1000] {
        clock.set(begin + Duration::from_millis(fraction));
        let shown = DateTime::parse_from_rfc3339(&clock.text).expect("RFC 3339");
        assert_eq!((shown.second(), shown.nanosecond()), (10 + u32::from(fraction == 1000), 0));
    }
}
