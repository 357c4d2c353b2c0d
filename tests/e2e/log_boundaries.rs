//! Where a message ends: when the connection closes, after a short message or a line, or after 50 ms of silence.
//!
//! A busy machine may stop for 50 ms itself. So tests in which there must be no silence measure the time between two
//! pieces, and try again if it was too long.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Stdio;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::harness::{
    Server, accept_in_time, assert_same, client, connect, exchange, listener, reset, round_trip, run, skipped_over_tls,
};

/// The silence that ends a message.
const SILENCE: Duration = Duration::from_millis(50);
/// How often a test is tried on a busy machine.
const TRIALS: usize = 40;

/// Sends each piece after the echo of the one before, so that the server reads each on its own. Returns the longest time
/// that may have passed between two of them.
fn send_in_pieces<'a>(stream: &mut TcpStream, pieces: impl IntoIterator<Item = &'a [u8]>) -> Duration {
    let mut longest = Duration::ZERO;
    let mut previous: Option<Instant> = None;
    for piece in pieces {
        let begin = Instant::now();
        round_trip(stream, piece);
        longest = longest.max(previous.map_or(Duration::ZERO, |previous| previous.elapsed()));
        previous = Some(begin);
    }
    longest
}

/// The messages in the log after a client has sent these pieces without a silence, and closed.
fn logged_without_silence(pieces: &[&[u8]]) -> Vec<String> {
    for _ in 0..TRIALS {
        let server = Server::start(&[]);
        let mut stream = server.connect();
        let pause = send_in_pieces(&mut stream, pieces.iter().copied());
        drop(stream);
        let texts = server.stop_and_read();
        if pause < SILENCE {
            return texts;
        }
    }
    panic!("this machine is too busy to keep 50 ms");
}

#[test]
fn short_messages_end_when_everything_has_been_read() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    for (count, text) in ["one", "two", "three"].into_iter().enumerate() {
        round_trip(&mut stream, text.as_bytes());
        assert_eq!(server.first_messages(count + 1)[count], text);
    }
    assert_eq!(server.stop_and_read(), ["one", "two", "three"]);
}

#[test]
fn short_messages_do_not_wait_for_silence() {
    assert_eq!(logged_without_silence(&[b"one", b"two", b"three\n"]), ["one", "two", "three"]);
    let longest = [b'x'; 1_023];
    assert_eq!(logged_without_silence(&[&longest, b"next"]), [&"x".repeat(1_023), "next"]);
}

#[test]
fn lines_that_arrive_together_are_one_message() {
    let server = Server::start(&[]);
    round_trip(&mut server.connect(), b"one\ntwo\r\nthree\n");
    assert_eq!(server.first_messages(1), [r"one\ntwo\r\nthree"]);
    server.stop();
}

#[test]
fn long_messages_end_with_a_line() {
    let line = |letter: &str| letter.repeat(2_000) + "\n";
    let (first, second) = (line("a"), line("b"));
    let texts = logged_without_silence(&[first.as_bytes(), second.as_bytes()]);
    assert_eq!(texts, [first.trim_end(), second.trim_end()]);
}

#[test]
fn long_messages_go_on_until_there_is_silence() {
    let (first, second) = ("a".repeat(1_024), "b");
    let texts = logged_without_silence(&[first.as_bytes(), second.as_bytes(), second.as_bytes()]);
    assert_eq!(texts, [first + "bb"]);
}

#[test]
fn silence_ends_a_message_while_the_client_stays() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    let text = "x".repeat(2_000);
    let begin = Instant::now();
    round_trip(&mut stream, text.as_bytes());
    assert_eq!(server.first_messages(1), [&*text]);
    assert!(begin.elapsed() >= SILENCE, "it was logged before the silence was over");
    round_trip(&mut stream, b"next");
    assert_eq!(server.first_messages(2)[1], "next");
    assert_eq!(server.stop_and_read(), [&text, "next"]);
}

/// The shortest time of many contains little but the wait of the server.
#[test]
fn a_message_is_logged_soon_after_the_silence() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    let shortest = (1..=10).map(|count| {
        let begin = Instant::now();
        round_trip(&mut stream, &[b'x'; 2_000]);
        server.first_messages(count);
        begin.elapsed()
    });
    let shortest = shortest.min().expect("ten of them");
    assert!(shortest < 3 * SILENCE, "{shortest:?}");
    server.stop();
}

#[test]
fn closing_ends_a_message() {
    let long = "x".repeat(3_000);
    let server = Server::start(&[]);
    assert_same(&exchange(server.connect(), long.as_bytes()), long.as_bytes());
    assert_eq!(server.first_messages(1), [&*long]);
    let mut gone = server.connect();
    round_trip(&mut gone, long.as_bytes());
    reset(gone);
    assert_eq!(server.first_messages(2), [&*long, &*long]);
    assert_eq!(server.stop_and_read().len(), 2);
}

#[test]
fn stopping_ends_a_message() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    round_trip(&mut stream, &[b'x'; 2_000]);
    assert_eq!(server.stop_and_read(), ["x".repeat(2_000)]);
}

#[test]
fn a_character_cut_between_two_reads_stays_whole() {
    let text = "aé€👍";
    for cut in 1..text.len() {
        let (first, second) = text.as_bytes().split_at(cut);
        let texts = logged_without_silence(&[first, second]);
        if text.is_char_boundary(cut) {
            assert_eq!(texts, [&text[..cut], &text[cut..]]);
        } else {
            assert_eq!(texts, [text], "cut at {cut}");
        }
    }
}

#[test]
fn a_character_may_arrive_byte_by_byte() {
    let pieces: Vec<&[u8]> = "👍".as_bytes().chunks(1).collect();
    assert_eq!(logged_without_silence(&pieces), ["👍"]);
}

#[test]
fn a_cut_character_of_a_long_message_stays_whole() {
    let text = "é".repeat(2_000) + "€";
    for cut in [1, 1_025, 3_999, 4_001, 4_002] {
        let (first, second) = text.as_bytes().split_at(cut);
        assert_eq!(logged_without_silence(&[first, second]), [&*text], "cut at {cut}");
    }
}

#[test]
fn an_incomplete_character_is_logged_as_bytes() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    round_trip(&mut stream, b"caf\xc3");
    assert_eq!(server.first_messages(1), [r"caf\xc3"]);
    round_trip(&mut stream, b"\xa9");
    assert_eq!(server.first_messages(2), [r"caf\xc3", r"\xa9"]);
    server.stop();
    assert_eq!(logged_without_silence(&[b"\xe2\x82", b"x"]), [r"\xe2\x82x"]);
}

#[test]
fn messages_of_different_clients_are_not_mixed() {
    let server = Server::start(&[]);
    let (mut one, mut other) = (server.connect(), server.connect());
    round_trip(&mut one, b"\xf0\x9f");
    round_trip(&mut other, b"\x91\x8d");
    drop((one, other));
    let mut texts = server.stop_and_read();
    texts.sort();
    assert_eq!(texts, [r"\x91\x8d", r"\xf0\x9f"]);
}

/// A proxy that passes on a small piece at a time, each after the echo of the one before. The thread returns the longest
/// time between two pieces, as [`send_in_pieces`] does.
fn slow_link(server: SocketAddr) -> (u16, JoinHandle<Duration>) {
    const PIECE: u64 = 1_400;
    let (listener, port) = listener();
    let relay = thread::spawn(move || {
        let mut near = accept_in_time(&listener);
        let mut far = connect(server);
        let mut longest = Duration::ZERO;
        let mut previous: Option<Instant> = None;
        loop {
            let mut piece = Vec::new();
            (&near).take(PIECE).read_to_end(&mut piece).expect("a piece");
            if piece.is_empty() {
                break;
            }
            let begin = Instant::now();
            round_trip(&mut far, &piece);
            longest = longest.max(previous.map_or(Duration::ZERO, |previous| previous.elapsed()));
            previous = Some(begin);
            near.write_all(&piece).expect("passed back");
        }
        far.shutdown(Shutdown::Write).expect("half-closed");
        longest
    });
    (port, relay)
}

#[test]
fn a_message_over_a_slow_link_is_one_line() {
    if skipped_over_tls("no handshake gets through the slow link in time") {
        return;
    }
    let text = "Wörter, 言葉, كلمات ".repeat(1_500);
    for _ in 0..TRIALS {
        let server = Server::start(&[]);
        let (port, relay) = slow_link(server.address());
        let output = run(client(port, &[&text]), Stdio::null());
        assert_eq!((output.code, &*output.stderr), (Some(0), ""));
        assert_same(&output.stdout, format!("{text}\n").as_bytes());
        let pause = relay.join().expect("no panic");
        let texts = server.stop_and_read();
        if pause < SILENCE {
            assert_eq!(texts.len(), 1, "{texts:?}");
            assert_same(texts[0].as_bytes(), text.as_bytes());
            return;
        }
    }
    panic!("this machine is too busy to keep 50 ms");
}
