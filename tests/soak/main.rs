//! The soak: everything at random, for long. Memory and descriptors stay what they are.
//!
//!     cargo test --release --test soak -- --include-ignored --nocapture
//!
//! takes two minutes, or as many seconds as `PROOF_SOAK_SECONDS` says; `PROOF_SEED` replays a run. The clients are
//! those of the proofs.

#![allow(dead_code, unused_imports, reason = "the clients are shared with tests that need all of them")]

#[path = "../proof/attackers.rs"]
mod attackers;
#[path = "../proof/chat.rs"]
mod chat;
#[path = "../proof/engine.rs"]
mod engine;
#[path = "../e2e/harness/mod.rs"]
mod harness;
#[path = "../proof/honest.rs"]
mod honest;
#[path = "../proof/measure.rs"]
mod measure;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;

use crate::attackers::{Attacker, Kind, OF_A_ROOM, attack};
use crate::chat::Member;
use crate::engine::{Actor, Engine, Stage, StopOnDrop};
use crate::harness::{DEADLINE, Server};
use crate::honest::{Farewell, Honest};
use crate::measure::{Footprint, MIB, PATIENCE, address, seconds, seed, start};

const KINDS: &[Kind] = &[
    Kind::NeverReads,
    Kind::SlowReader,
    Kind::SlowWriter,
    Kind::Resetter,
    Kind::HalfOpen,
    Kind::ConnectAndClose,
    Kind::Idle,
    Kind::EndlessLine,
    Kind::Urgent,
    Kind::Forger,
];

/// How many clients of the echo there are at a time, honest and hostile ones: more than it serves at once.
const CLIENTS: usize = 300;
/// How many people talk in the room.
const MEMBERS: usize = 10;
/// How long they think between two lines.
const PAUSE: Duration = Duration::from_millis(20);
/// How often it is looked what the servers have.
const INTERVAL: Duration = Duration::from_millis(500);
/// How far the last third may be above the first, noise of the random load included, in echo and room.
const SLACK: [usize; 2] = [8 * MIB, 2 * MIB];

/// A client that is honest or not, and stays for a while.
fn somebody(stage: &mut Stage) -> Box<dyn Actor> {
    let messages = stage.random.usize(1..200);
    match stage.random.u8(..4) {
        0 => Box::new(Honest::new(stage, messages, 2_000, Farewell::HalfClose)),
        1 => Box::new(Honest::new(stage, messages / 10 + 1, 200_000, Farewell::Close)),
        2 => Box::new(Honest::new(stage, messages / 4 + 1, 20_000, Farewell::Reset)),
        _ => {
            let kind = KINDS[stage.random.usize(..KINDS.len())];
            let mut attacker = Attacker::new(kind, stage);
            attacker.until = stage.now + Duration::from_millis(stage.random.u64(1..4000));
            Box::new(attacker)
        }
    }
}

/// Plays the clients of the echo. Returns how many there were, and how many messages and bytes came back to them.
fn echo(port: u16, seed: u64, stop: &AtomicBool) -> (usize, usize, u64) {
    let mut engine = Engine::new(seed);
    let mut number = 0;
    for _ in 0..CLIENTS {
        number += 1;
        let actor = somebody(&mut engine.stage);
        engine.connect(0, address(port, number), actor);
    }
    while !stop.load(Ordering::Relaxed) {
        engine.run(Instant::now() + Duration::from_millis(50), PATIENCE, &mut |_, stage| {
            number += 1;
            Some((address(port, number), somebody(stage)))
        });
    }
    engine.stage.is_over = true;
    engine.run_to_end(PATIENCE);
    (number, engine.stage.times.len(), engine.stage.checked)
}

/// Plays the people in the room. Returns how many lines they heard.
fn talk(port: u16, seed: u64, stop: &AtomicBool) -> u64 {
    let mut engine = Engine::new(seed);
    for number in 0..MEMBERS {
        engine.connect(0, address(port, number), Box::new(Member::new(number, MEMBERS, PAUSE)));
    }
    engine.run_to_end(PATIENCE);
    engine.next_round();
    while !stop.load(Ordering::Relaxed) {
        engine.run(Instant::now() + Duration::from_millis(50), PATIENCE, &mut |_, _| None);
        assert_eq!(engine.len(), MEMBERS, "somebody left early");
    }
    engine.stage.is_over = true;
    engine.run_to_end(PATIENCE);
    engine.stage.checked
}

/// A server, and what it had of the system over time.
struct Watched {
    name: &'static str,
    server: Server,
    slack: usize,
    at_first: Footprint,
    samples: Vec<Footprint>,
}

impl Watched {
    fn start(name: &'static str, slack: usize, options: &[&str]) -> Self {
        let server = start(options);
        let at_first = Footprint::of(server.process.pid());
        Self { name, server, slack, at_first, samples: vec![at_first] }
    }

    fn look(&mut self) {
        self.samples.push(Footprint::of(self.server.process.pid()));
    }

    /// Does to the server what an operator may do at any time.
    fn disturb(&self, random: &mut Rng) {
        match random.u8(..20) {
            0 => {
                self.server.process.signal(Signal::STOP);
                thread::sleep(Duration::from_millis(random.u64(1..300)));
                self.server.process.signal(Signal::CONT);
            }
            1..3 => self.server.process.signal(Signal::USR1),
            _ => {}
        }
    }

    /// Expects that it had no more in the last third of the time than in the first, and has no descriptor of anybody
    /// now that all have left.
    fn expect_flat(self) {
        let begin = Instant::now();
        let mut at_last = Footprint::of(self.server.process.pid());
        while at_last.descriptors > self.at_first.descriptors {
            assert!(begin.elapsed() < DEADLINE, "{}: {at_last} are left", self.name);
            thread::sleep(Duration::from_millis(10));
            at_last = Footprint::of(self.server.process.pid());
        }
        let third = self.samples.len().div_ceil(3);
        let thirds = [&self.samples[..third], &self.samples[self.samples.len() - third..]];
        let memory = thirds.map(|samples| median(samples, |sample| sample.memory));
        let descriptors = thirds.map(|samples| median(samples, |sample| sample.descriptors));
        println!(
            "soak: {}: {} KiB in the first third, {} KiB in the last; {} and {} descriptors; {} before, {at_last} after",
            self.name,
            memory[0] >> 10,
            memory[1] >> 10,
            descriptors[0],
            descriptors[1],
            self.at_first
        );
        assert!(memory[1] <= memory[0] + self.slack, "{}: memory grows", self.name);
        assert!(descriptors[1] <= descriptors[0] + CLIENTS / 4, "{}: descriptors grow", self.name);
        self.server.stop_by(Signal::TERM);
    }
}

/// The median of what was measured.
fn median(of: &[Footprint], measure: impl Fn(&Footprint) -> usize) -> usize {
    let mut values: Vec<usize> = of.iter().map(measure).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

#[test]
#[ignore = "takes 120 s"]
fn memory_and_descriptors_stay_flat() {
    let (seed, period) = (seed(), seconds("PROOF_SOAK_SECONDS", 120));
    let limits = ["--max-memory", "16MiB", "--max-pending", "4MiB", "--max-connections", "280"];
    let timeouts = ["--idle-timeout", "1h", "--stall-timeout", "3s"];
    let mut servers = [
        Watched::start("echo", SLACK[0], &[&limits[..], &timeouts].concat()),
        Watched::start("room", SLACK[1], &["--chat", "--verbose"]),
    ];
    let [port, room] = [servers[0].server.port, servers[1].server.port];
    let (stop, must_leave) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut random = Rng::with_seed(seed ^ 1);
    let ((clients, messages, bytes), lines, attackers) = thread::scope(|scope| {
        let echo = scope.spawn(|| echo(port, seed, &stop));
        let talk = scope.spawn(|| talk(room, seed ^ 2, &stop));
        let attack = scope.spawn(|| attack(room, OF_A_ROOM, seed ^ 3, &must_leave));
        let _stop = [StopOnDrop(&stop), StopOnDrop(&must_leave)];
        let begin = Instant::now();
        while begin.elapsed() < period && !echo.is_finished() && !talk.is_finished() && !attack.is_finished() {
            thread::sleep(INTERVAL);
            for watched in &mut servers {
                watched.look();
                watched.disturb(&mut random);
            }
        }
        stop.store(true, Ordering::Relaxed);
        let (echo, lines) = (echo.join().expect("no panic"), talk.join().expect("no panic"));
        must_leave.store(true, Ordering::Relaxed);
        (echo, lines, attack.join().expect("no panic"))
    });
    println!("soak: {clients} clients, {messages} messages, {} MiB checked in {period:?}", bytes >> 20);
    println!("soak: {lines} lines arrived in the room, beside {attackers} hostile clients");
    servers.into_iter().for_each(Watched::expect_flat);
}
