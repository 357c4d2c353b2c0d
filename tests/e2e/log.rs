//! The log line of a message: its form, its escapes, its length, and when it is written.

use std::fs::File;
use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use rustix::process::Signal;

use crate::harness::{
    Output, Server, assert_same, client, client_name, exchange, expect_end, feed, message, needs_tcp, parse_time,
    random_bytes, reset, rng, round_trip, run, scratch_file, server_command, unescape,
};

/// The messages in the log of a new server with these options after one client has sent `sent`.
fn logged(options: &[&str], sent: &[u8]) -> Vec<String> {
    let server = Server::start(options);
    assert_same(&exchange(server.connect(), sent), sent);
    server.stop_and_read()
}

#[test]
fn an_ordinary_message_is_logged_as_it_is() {
    assert_eq!(logged(&[], b"Hello, world!"), ["Hello, world!"]);
    assert_eq!(logged(&[], b"it's 'quoted'"), ["it's 'quoted'"]);
}

#[test]
fn text_of_all_scripts_stays_readable() {
    for text in ["Grüße", "नमस्ते", "สวัสดี", "e\u{301}", "👨‍👩‍👧‍👦", "می‌خواهم", "日本語", "שלום"]
    {
        assert_eq!(logged(&[], text.as_bytes()), [text]);
    }
}

#[test]
fn a_final_line_ending_is_not_part_of_the_text() {
    for (sent, text) in [
        ("one\n", "one"),
        ("one\r\n", "one"),
        ("one\n\n", r"one\n"),
        ("one\r\n\r\n", r"one\r\n"),
        ("one\n\r\n", r"one\n"),
        ("one\r", r"one\r"),
        ("one\n two\n", r"one\n two"),
        ("\n", ""),
    ] {
        assert_eq!(logged(&[], sent.as_bytes()), [text], "{sent:?}");
    }
}

#[test]
fn characters_that_could_deceive_a_reader_are_escaped() {
    for (sent, text) in [
        (&b"\x1b[31mred\x07"[..], r"\u{1b}[31mred\u{7}"),
        (b"a\tb\\n\x00\x7f", r"a\tb\\n\u{0}\u{7f}"),
        ("\u{9b}31m\u{85}".as_bytes(), r"\u{9b}31m\u{85}"),
        ("\u{202e}gnp.exe\u{2069}\u{61c}\u{200f}".as_bytes(), r"\u{202e}gnp.exe\u{2069}\u{61c}\u{200f}"),
        ("a\u{2028}b\u{2029}c\u{feff}".as_bytes(), r"a\u{2028}b\u{2029}c\u{feff}"),
        (b"caf\xe9 \xff\xfe \xe2\x82", r"caf\xe9 \xff\xfe \xe2\x82"),
        (b"\xed\xa0\x80 \xc0\xaf \xf4\x90\x80\x80", r"\xed\xa0\x80 \xc0\xaf \xf4\x90\x80\x80"),
    ] {
        assert_eq!(logged(&[], sent), [text]);
    }
}

#[test]
fn no_message_can_forge_a_line() {
    let forged = "x'\r\n[12:43:10 29/01/2018] Echoed: 'I was never sent'\n--- Stopping server on port 1 at";
    let text = r"x'\r\n[12:43:10 29/01/2018] Echoed: 'I was never sent'\n--- Stopping server on port 1 at";
    assert_eq!(logged(&[], forged.as_bytes()), [text]);
}

#[test]
fn random_bytes_can_be_read_back_from_their_lines() {
    let server = Server::start(&[]);
    let mut rng = rng();
    let sent: Vec<Vec<u8>> = (0..100).map(|length| [random_bytes(&mut rng, length), b"!".into()].concat()).collect();
    for bytes in &sent {
        assert_same(&exchange(server.connect(), bytes), bytes);
    }
    let read_back: Vec<Vec<u8>> = server.stop_and_read().iter().map(|text| unescape(text)).collect();
    assert_eq!(read_back, sent);
}

#[test]
fn all_of_unicode_goes_through_the_client_and_into_the_log() {
    let server = Server::start(&["--log-max", "1MiB"]);
    let planes: Vec<String> = (0..=16u32)
        .map(|plane| (plane << 16..(plane + 1) << 16).filter_map(char::from_u32).collect::<String>())
        .collect();
    assert_eq!(planes.iter().map(|plane| plane.chars().count()).sum::<usize>(), 1_112_064);
    for plane in &planes {
        let Output { code, stdout, stderr } = feed(client(server.port, &["-"]), plane.as_bytes());
        assert_eq!((code, &*stderr), (Some(0), ""));
        assert_same(&stdout, plane.as_bytes());
    }
    // If the machine stops for 50 ms, a plane becomes two messages.
    let log = server.stop_and_read().concat();
    assert_same(&unescape(&log), planes.concat().as_bytes());
    assert_eq!(log.find(char::is_control), None);
}

/// The line is longer than all that is held for a stalled reader, but this reader reads. Short lines come all the time.
#[test]
fn a_line_of_any_length_finds_room_beside_others() {
    let server = Server::start(&["--log-max", "64MiB"]);
    let long = vec![b'x'; 6 << 20];
    let (mut stream, begin) = (server.connect(), Instant::now());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) && begin.elapsed() < Duration::from_secs(30) {
                round_trip(&mut stream, b"short");
            }
        });
        for sent in 1..=3 {
            assert_same(&exchange(server.connect(), &long), &long);
            // If the machine stops for 50 ms, one becomes two. (The next must wait until this one is written.)
            let long_ones = |lines: &[String]| {
                lines.iter().filter(|line| line.len() > 200).map(|line| message(line).len()).sum::<usize>()
            };
            server.console.wait_until(|lines| (long_ones(lines) == sent * long.len()).then_some(()));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    server.stop();
}

#[test]
fn a_longer_message_is_cut_and_its_length_shown() {
    let server = Server::start(&["--log-max", "10"]);
    let texts = [
        "0123456789",
        "0123456789a",
        "ααααααα",
        "1ααααααα",
        "👍👍👍👍",
        "\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e",
    ];
    for text in texts {
        exchange(server.connect(), text.as_bytes());
    }
    let lines = server.stop_by(Signal::TERM);
    let bodies: Vec<&str> = lines.iter().map(|line| line.split_once("] ").expect("a time").1).collect();
    assert_eq!(
        bodies,
        [
            "Echoed: '0123456789'",
            "Echoed: '0123456789…' (10 of 11 bytes)",
            "Echoed: 'ααααα…' (10 of 14 bytes)",
            "Echoed: '1αααα…' (9 of 15 bytes)",
            "Echoed: '👍👍…' (8 of 16 bytes)",
            r"Echoed: '\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\u{b}\u{c}…' (10 of 11 bytes)",
        ]
    );
}

/// What one member says, with far more escapes than the log shows.
#[test]
fn a_long_line_of_a_room_is_cut_too() {
    let server = Server::start(&["--chat", "--max-line", "1MiB"]);
    let mut line = vec![0x1b; 1 << 20];
    line.push(b'\n');
    let mut stream = server.connect();
    stream.write_all(&line).expect("sent");
    let said = server.console.wait_until(|lines| lines.iter().find(|line| line.contains("] <user1> ")).cloned());
    let cut = format!("<user1> {}… (131072 of 1048576 bytes)", r"\u{1b}".repeat(128 << 10));
    assert_same(said.split_once("] ").expect("a time").1.as_bytes(), cut.as_bytes());
    server.stop_by(Signal::TERM);
}

#[test]
fn by_default_128_kib_are_shown() {
    let server = Server::start(&[]);
    let whole = "a".repeat(128 << 10);
    exchange(server.connect(), whole.as_bytes());
    exchange(server.connect(), &vec![b'a'; 256 << 10]);
    let lines = server.stop_by(Signal::TERM);
    assert_eq!(lines.len(), 2);
    assert_same(message(&lines[0]).as_bytes(), whole.as_bytes());
    let cut = format!("Echoed: '{whole}…' (131072 of 262144 bytes)");
    assert_same(lines[1].split_once("] ").expect("a time").1.as_bytes(), cut.as_bytes());
}

#[test]
fn the_longest_command_line_argument_is_shown_whole() {
    let server = Server::start(&[]);
    let longest = "é".repeat(131_071 / 2);
    let output = run(client(server.port, &[&longest]), std::process::Stdio::null());
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    let texts = server.stop_and_read();
    assert_eq!(texts.len(), 1);
    assert_same(texts[0].as_bytes(), longest.as_bytes());
}

#[test]
fn a_connection_that_sends_nothing_is_not_logged() {
    let server = Server::start(&[]);
    drop(server.connect());
    reset(server.connect());
    let mut half_closed = server.connect();
    half_closed.shutdown(Shutdown::Write).expect("half-closed");
    expect_end(&mut half_closed);
    exchange(server.connect(), b"one that does");
    assert_eq!(server.stop_and_read(), ["one that does"]);
}

#[test]
fn the_line_is_written_before_the_client_returns() {
    let path = scratch_file("the-line-is-written.log");
    let server = Server::start_blind(&[], File::create(&path).expect("a file"));
    let is_logged = |text: &str| {
        let log = std::fs::read_to_string(&path).expect("the log");
        log.lines().next_back().is_some_and(|line| message(line) == text)
    };
    for number in 0..200 {
        let text = format!("raw {number}");
        exchange(server.connect(), text.as_bytes());
        assert!(is_logged(&text), "{text}");
    }
    for number in 0..20 {
        let text = format!("from the program {number}");
        run(client(server.port, &[&text]), std::process::Stdio::null());
        assert!(is_logged(&text), "{text}");
    }
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait().0.code(), Some(0));
    std::fs::remove_file(&path).expect("the file is ours");
}

#[test]
fn a_quiet_server_prints_its_start_and_its_stop() {
    for option in ["-q", "--quiet"] {
        let nothing: [&str; 0] = [];
        assert_eq!(logged(&[option], b"Hello, world!"), nothing);
    }
}

#[test]
fn a_verbose_server_logs_connections_too() {
    if needs_tcp() {
        return;
    }
    let server = Server::start(&["--verbose"]);
    let mut stream = server.connect();
    let peer = client_name(&stream);
    round_trip(&mut stream, &[b'x'; 777]);
    stream.write_all(b"bye").expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    let mut echo = [0; 3];
    std::io::Read::read_exact(&mut stream, &mut echo).expect("the echo");
    expect_end(&mut stream);
    let mut gone = server.connect();
    let gone_peer = client_name(&gone);
    round_trip(&mut gone, b"hello");
    reset(gone);
    let lines = server.console.wait_until(|lines| {
        (lines.iter().filter(|line| line.contains(&gone_peer)).count() == 2).then(|| lines.to_vec())
    });
    server.stop_by(Signal::TERM);
    for line in &lines[1..] {
        let time = line.strip_prefix('[').and_then(|line| line.split_once("] ")).expect("a time").0;
        parse_time(time).expect("the usual form");
    }
    let of_peer: Vec<&String> = lines.iter().filter(|line| line.contains(&peer)).collect();
    assert_eq!(of_peer.len(), 2, "one line when it opens and one when it closes: {lines:#?}");
    assert!(of_peer[1].contains("780"), "the bytes: {}", of_peer[1]);
    assert_eq!(lines.iter().filter(|line| line.contains("Echoed: '")).count(), 3);
    let opened = lines.iter().position(|line| line == of_peer[0]);
    let echoed = lines.iter().position(|line| line.ends_with(&format!("Echoed: '{}'", "x".repeat(777))));
    let closed = lines.iter().position(|line| line == of_peer[1]);
    assert!(echoed.is_some() && opened < echoed && echoed < closed, "{lines:#?}");
}

#[test]
fn times_are_local() {
    // Zones in the POSIX form, whose sign is reversed, need no database.
    for (zone, minutes) in [("UTC", 0), ("IST-5:30", 330), ("PST8", -480)] {
        let mut command = server_command(&["--port", "0"]);
        command.env("TZ", zone);
        let server = Server::launch(command);
        exchange(server.connect(), b"What time is it?");
        let lines = server.stop_by(Signal::TERM);
        let shown = lines[0].strip_prefix('[').and_then(|line| line.split_once("] ")).expect("a time").0;
        let expected = Utc::now().naive_utc() + TimeDelta::minutes(minutes);
        let age = expected - parse_time(shown).expect("the usual form");
        assert!(age >= TimeDelta::zero() && age < TimeDelta::minutes(2), "{zone}: {shown} is not {expected}");
    }
}
