//! The soak: everything at random, for long. Memory and descriptors stay what they are.
//!
//!     cargo test --release --test soak -- --include-ignored --nocapture
//!
//! takes two minutes, or as many seconds as `PROOF_SOAK_SECONDS` says; `PROOF_SEED` replays a run. The clients are
//! those of the proofs.

#![allow(dead_code, unused_imports, reason = "the clients are shared with tests that need all of them")]

#[path = "../proof/attackers.rs"]
mod attackers;
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

use crate::attackers::{Attacker, Kind};
use crate::engine::{Actor, Engine, Stage, StopOnDrop};
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

/// How many clients there are at a time, honest and hostile ones.
const CLIENTS: usize = 300;
/// How often it is looked what the server has.
const INTERVAL: Duration = Duration::from_millis(500);
/// How far the last third may be above the first, noise of the random load included.
const SLACK: usize = 8 * MIB;

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

fn load(port: u16, seed: u64, stop: &AtomicBool) -> (usize, usize, u64) {
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
    let server =
        start(&["--max-memory", "16MiB", "--max-pending", "4MiB", "--idle-timeout", "1h", "--stall-timeout", "3s"]);
    let at_first = Footprint::warm(&server);
    let (port, stop) = (server.port, AtomicBool::new(false));
    let mut random = Rng::with_seed(seed ^ 1);
    let mut samples = Vec::new();
    let (clients, messages, bytes) = thread::scope(|scope| {
        let load = scope.spawn(|| load(port, seed, &stop));
        let _stop = StopOnDrop(&stop);
        let begin = Instant::now();
        while begin.elapsed() < period && !load.is_finished() {
            thread::sleep(INTERVAL);
            samples.push(Footprint::of(server.process.pid()));
            match random.u8(..20) {
                0 => {
                    server.process.signal(Signal::STOP);
                    thread::sleep(Duration::from_millis(random.u64(1..300)));
                    server.process.signal(Signal::CONT);
                }
                1..3 => server.process.signal(Signal::USR1),
                _ => {}
            }
        }
        stop.store(true, Ordering::Relaxed);
        load.join().expect("no panic")
    });
    let at_last = Footprint::settled(&server, at_first.descriptors);
    let third = samples.len() / 3;
    let (first, last) = (&samples[..third], &samples[samples.len() - third..]);
    let memory = [first, last].map(|samples| median(samples, |sample| sample.memory));
    let descriptors = [first, last].map(|samples| median(samples, |sample| sample.descriptors));
    println!("soak: {clients} clients, {messages} messages, {} MiB checked in {period:?}", bytes >> 20);
    println!(
        "soak: memory {} KiB in the first third, {} KiB in the last; descriptors {} and {}; {at_first} before, {at_last} after",
        memory[0] >> 10,
        memory[1] >> 10,
        descriptors[0],
        descriptors[1],
    );
    assert!(memory[1] <= memory[0] + memory[0] / 4 + SLACK, "memory grows");
    assert!(descriptors[1] <= descriptors[0] + CLIENTS / 4, "descriptors grow");
    assert_eq!(at_last.descriptors, at_first.descriptors);
    server.stop_by(Signal::TERM);
}
