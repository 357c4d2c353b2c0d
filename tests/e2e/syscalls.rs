//! What an echo costs the kernel, counted by strace.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Instant;

use rustix::process::Signal;

use crate::harness::{Server, assert_same, has, round_trip, scratch_file, server_command_under, skipped_over_tls};

const CLIENTS: usize = 50;
const ROUNDS: usize = 400;

/// A server under strace, which writes its summary to a file when the server has ended.
struct Counted {
    server: Server,
    summary: PathBuf,
}

impl Counted {
    /// `None` where there is no strace.
    fn start(options: &[&str]) -> Option<Self> {
        if !has("strace") {
            return None;
        }
        let summary = scratch_file("strace");
        // -D: the server stays our child, and strace beside it holds stderr open until its summary is written.
        let strace = ["strace", "-D", "-f", "-c", "-o", summary.to_str().expect("a path of ours")];
        let server = Server::launch(server_command_under(&strace, options));
        Some(Self { server, summary })
    }

    /// Stops the server. Returns how often it called `name`, or all together as `total`, and the whole summary.
    fn stop(self, name: &str) -> (usize, String) {
        self.server.stop_by(Signal::TERM);
        let summary = std::fs::read_to_string(self.summary).expect("a summary");
        let row = summary.lines().find(|line| line.ends_with(&format!(" {name}"))).expect("a line of that name");
        let calls = row.split_whitespace().nth(3).and_then(|calls| calls.parse().ok()).expect("a number of calls");
        (calls, summary)
    }
}

/// A read and a write for each message, and a share of one wait; starting and stopping are counted too.
#[test]
fn a_small_message_costs_two_system_calls_and_a_share_of_one() {
    if skipped_over_tls("handshakes cost system calls of their own") {
        return;
    }
    let Some(counted) = Counted::start(&["--port", "0", "--quiet"]) else { return };
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| counted.server.connect()).collect();
    for round in 0..ROUNDS {
        let message = [round as u8; 64];
        for client in &mut clients {
            client.write_all(&message).expect("sent");
        }
        for client in &mut clients {
            let mut echo = [0; 64];
            client.read_exact(&mut echo).expect("the echo");
            assert_same(&echo, &message);
        }
    }

    let (calls, summary) = counted.stop("total");
    let per_message = calls as f64 / (CLIENTS * ROUNDS) as f64;
    println!("{per_message:.3} system calls a message");
    assert!(per_message <= 2.1, "{per_message:.3} system calls a message:\n{summary}");
}

/// Lines that follow each other closely are written together, however few there are in a turn, and none is forgotten.
#[test]
fn lines_are_written_at_most_once_in_five_milliseconds() {
    let begin = Instant::now();
    let Some(counted) = Counted::start(&["--port", "0"]) else { return };
    let mut client = counted.server.connect();
    for _ in 0..ROUNDS {
        round_trip(&mut client, b"hello");
    }
    counted.server.wait_for_lines(ROUNDS);

    let (writes, summary) = counted.stop("write");
    // The line of the start, that of the stop, and what a start takes beside that.
    let most = begin.elapsed().as_millis() as usize / 5 + 10;
    println!("{writes} writes for {ROUNDS} lines, {most} at most");
    assert!(writes <= most, "{writes} writes, {most} at most:\n{summary}");
}
