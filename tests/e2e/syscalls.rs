//! What an echo costs the kernel, counted by strace.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use crate::harness::{Server, assert_same, has, scratch_file, server_command_under};

const CLIENTS: usize = 50;
const ROUNDS: usize = 400;

/// A read and a write for each message, and a share of one wait; starting and stopping are counted too.
#[test]
fn a_small_message_costs_two_system_calls_and_a_share_of_one() {
    if !has("strace") {
        return;
    }
    let summary = scratch_file("strace");
    // -D: the server stays our child, and strace beside it holds stderr open until its summary is written.
    let strace = ["strace", "-D", "-f", "-c", "-o", summary.to_str().expect("a path of ours")];
    let server = Server::launch(server_command_under(&strace, &["--port", "0", "--quiet"]));
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
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
    server.stop_by(Signal::TERM);

    let summary = std::fs::read_to_string(summary).expect("a summary");
    let total = summary.lines().find(|line| line.ends_with("total")).expect("a line of totals");
    let calls: usize = total.split_whitespace().nth(3).and_then(|calls| calls.parse().ok()).expect("a number of calls");
    let per_message = calls as f64 / (CLIENTS * ROUNDS) as f64;
    println!("{per_message:.3} system calls a message");
    assert!(per_message <= 2.1, "{per_message:.3} system calls a message:\n{summary}");
}
