//! As many clients as there are descriptors for.

use std::fmt::Write as _;
use std::io::{BufRead, Read, Write};
use std::process::{ChildStdin, Stdio};
use std::time::Instant;

use rustix::process::{Resource, Signal, getrlimit};

use crate::engine::Engine;
use crate::harness::{Lines, Process, Server, clean_command, server_command_under};
use crate::honest::Honest;
use crate::measure::{ADDRESSES, Footprint, KIB, MIB, PATIENCE, address, alone, seed};

/// The most descriptors that the server gets here. The clients have as many again, in two processes.
const DESCRIPTORS: u64 = 20_000;
/// What the server keeps for itself when it listens on so many addresses.
const OWN: u64 = 12 + ADDRESSES as u64;
/// What an idle connection may cost of the server's own memory, in bytes.
const MOST_EACH: usize = 256;
/// How many clients connect at the same time: fewer than the backlog takes.
const STEP: usize = 500;

/// A process of its own for clients: each has the same limit of descriptors as the server.
struct Worker {
    lines: Lines,
    stdin: ChildStdin,
    process: Process,
}

impl Worker {
    fn start(port: u16, count: usize, seed: u64) -> Self {
        let mut command = clean_command(std::env::current_exe().expect("this program"));
        command.args(["load::worker", "--exact", "--ignored", "--nocapture"]);
        command.env("PROOF_WORKER", format!("{port} {count} {seed}")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(command);
        let lines = Lines::of(process.take_stdout());
        Self { lines, stdin: process.take_stdin(), process }
    }

    /// Waits until all clients of this worker are through with a round.
    fn wait_for_round(&self, round: usize) {
        let expected = format!("round {round} is over");
        self.lines.wait_until(|lines| lines.iter().any(|line| line.ends_with(&expected)).then_some(()));
    }

    fn next_round(&mut self) {
        self.stdin.write_all(b"\n").expect("it listens");
    }
}

/// What a [`Worker`] runs; a test only by name.
#[test]
#[ignore = "the other proofs start it"]
fn worker() {
    let Ok(task) = std::env::var("PROOF_WORKER") else { return };
    let mut numbers = task.split(' ').map(|number| number.parse::<u64>().expect("a number"));
    let mut next = || numbers.next().expect("port, count and seed");
    let (port, count, seed) = (next() as u16, next() as usize, next());
    let mut engine = Engine::new(seed);
    for number in 0..count {
        let lengths = [engine.stage.random.u32(1..=2000), engine.stage.random.u32(1..=16_000)];
        let actor = Honest::in_rounds(&mut engine.stage, &lengths);
        let address = (std::net::Ipv4Addr::new(127, 0, 0, 1 + (number % usize::from(ADDRESSES)) as u8), port);
        engine.connect(0, address.into(), Box::new(actor));
        if number % STEP == STEP - 1 || number + 1 == count {
            engine.run_to_end(PATIENCE);
        }
    }
    let mut stdin = std::io::stdin().lock();
    for round in 1..=2 {
        println!("\nround {round} is over");
        stdin.read_line(&mut String::new()).expect("the next round");
        engine.next_round();
        engine.run_to_end(PATIENCE);
    }
}

#[test]
#[ignore = "takes 20 s"]
fn every_descriptor_serves_a_client_and_costs_little() {
    let _alone = alone();
    let descriptors = getrlimit(Resource::Nofile).maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    let count = (descriptors - OWN) as usize;
    let limit = format!(r#"ulimit -n {descriptors}; exec "$0" "$@""#);
    let mut options = vec!["--quiet".to_owned(), "--port=0".to_owned()];
    options.extend((1..=ADDRESSES).map(|last| format!("--bind=127.0.0.{last}")));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let server = Server::launch(server_command_under(&["sh", "-c", &limit], &options));
    let seed = seed();

    let at_first = Footprint::warm(&server);
    let begin = Instant::now();
    let half = count / 2;
    let mut workers = [Worker::start(server.port, half, seed), Worker::start(server.port, count - half, seed ^ 1)];
    workers.iter().for_each(|worker| worker.wait_for_round(1));
    let connected = begin.elapsed();
    let idle = Footprint::of(server.process.pid());
    let each = idle.memory.saturating_sub(at_first.memory) / count;

    // There is not one descriptor more: who comes now waits.
    let mut next = crate::harness::connect(address(server.port, 0));
    next.write_all(b"x").expect("sent");
    next.set_nonblocking(true).expect("non-blocking");

    let begin = Instant::now();
    workers.iter_mut().for_each(Worker::next_round);
    workers.iter().for_each(|worker| worker.wait_for_round(2));
    let spoken = begin.elapsed();
    next.peek(&mut [0]).expect_err("it has to wait");
    let most = crate::harness::memory(server.process.pid(), "VmHWM");

    workers.iter_mut().for_each(Worker::next_round);
    for worker in workers {
        let (status, stderr) = worker.process.wait();
        assert!(status.success(), "a worker failed: {stderr}");
    }
    next.set_nonblocking(false).expect("blocking");
    next.read_exact(&mut [0]).expect("the echo, now that others have left");
    drop(next);
    let at_last = Footprint::settled(&server, at_first.descriptors);

    let mut report = format!("load: {count} connections with {descriptors} descriptors; ");
    _ = write!(report, "connected and answered in {connected:.1?}, all answered at once in {spoken:.1?}; ");
    _ = write!(report, "{each} bytes of memory each while idle; before: {at_first}; idle: {idle}; ");
    _ = write!(report, "at most {} KiB; after: {at_last}", most / KIB);
    println!("{report}");
    assert_eq!(idle.descriptors - at_first.descriptors, count);
    assert!(each <= MOST_EACH, "an idle connection costs {each} bytes");
    assert!(at_last.memory < at_first.memory + MIB, "{} KiB are left", (at_last.memory - at_first.memory) / KIB);
    server.stop_by(Signal::TERM);
}
