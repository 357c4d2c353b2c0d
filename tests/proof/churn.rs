//! Clients that come and go.

use std::time::{Duration, Instant};

use crate::engine::{Actor, Engine, Stage};
use crate::harness::Server;
use crate::honest::{Farewell, Honest};
use crate::measure::{Footprint, KIB, PATIENCE, address, alone, seed, start};

/// What clients that are gone may leave behind: what the allocator keeps, which does not grow with them.
const SLACK: usize = 512 * KIB;

/// The least number of clients that tells a leak: an allocation takes 32 bytes at least, so one lost for each of them
/// is twice the slack.
const LEAST: usize = 2 * SLACK / 32;

/// After this time no more clients come, unless they are fewer than the least number.
const LONGEST: Duration = Duration::from_secs(60);

/// Has up to `total` clients come, so many at a time, and returns how many came. Each sends a message of its own and
/// checks what comes back; they leave in all the ways there are.
fn come_and_go(server: &Server, engine: &mut Engine, total: usize, at_a_time: usize) -> usize {
    let begin = Instant::now();
    let mut number = 0;
    let mut next = |_: usize, stage: &mut Stage| {
        if number == total || number >= LEAST && begin.elapsed() > LONGEST {
            return None;
        }
        number += 1;
        let farewell = [Farewell::HalfClose, Farewell::Close, Farewell::Reset][number % 3];
        let actor: Box<dyn Actor> = Box::new(Honest::new(stage, 1, 600, farewell));
        Some((address(server.port, number), actor))
    };
    for _ in 0..at_a_time {
        if let Some((address, actor)) = next(0, &mut engine.stage) {
            engine.connect(0, address, actor);
        }
    }
    engine.run(begin + 5 * LONGEST, PATIENCE, &mut next);
    assert_eq!(engine.len(), 0, "not all came to an end in time");
    number
}

/// Expects that clients which come and go leave nothing behind.
fn expect_no_leak(options: &[&str], total: usize, at_a_time: usize) {
    let server = start(options);
    let own = Footprint::of(server.process.pid()).descriptors;
    let mut engine = Engine::new(seed());
    come_and_go(&server, &mut engine, total / 20, at_a_time);
    let at_first = Footprint::settled(&server, own);
    engine.stage.times.clear();
    let begin = Instant::now();
    let count = come_and_go(&server, &mut engine, total, at_a_time);
    let took = begin.elapsed();
    let at_last = Footprint::settled(&server, own);
    println!(
        "churn: {count} connections, {at_a_time} at a time, {options:?}: {:.0} a second; {at_first} before, {at_last} after",
        count as f64 / took.as_secs_f64(),
    );
    assert_eq!(engine.stage.times.len(), count, "not all got their message back");
    assert!(at_last.memory < at_first.memory + SLACK, "{} KiB more", (at_last.memory - at_first.memory) / KIB);
    server.stop_by(rustix::process::Signal::TERM);
}

#[test]
#[ignore = "takes 30 s"]
fn clients_that_come_one_after_another_leave_nothing_behind() {
    let _alone = alone();
    expect_no_leak(&["--quiet"], 100_000, 1);
}

#[test]
#[ignore = "takes 20 s"]
fn clients_that_come_a_hundred_at_a_time_leave_nothing_behind() {
    let _alone = alone();
    expect_no_leak(&["--quiet"], 200_000, 100);
}

/// The timers of those that are gone are forgotten long before they are due, and so is their address.
#[test]
#[ignore = "takes 20 s"]
fn clients_that_come_and_go_leave_no_timers_behind() {
    let _alone = alone();
    let options = ["--quiet", "--idle-timeout", "1h", "--stall-timeout", "1h", "--max-per-ip", "1000"];
    expect_no_leak(&options, 100_000, 100);
}
