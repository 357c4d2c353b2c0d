//! Seeded simulation of the hub over scripted sockets.
//!
//! What real sockets do only now and then - a write cut short in the middle of a character, a reset between
//! two reads, a FIN that shares its event with the last bytes - happens here all the time, thousands of times
//! a second, and again in the same way when it went wrong:
//!
//!     SIM_SEED=123 cargo test --test sim
//!
//! plays one seed, and SIM_SEEDS=10000 plays more of them than usual, with SIM_SECONDS=60 no more of them than it
//! can play in about a minute.
//!
//! [`socket`] and [`world`] are the ground for any kind of client: streams with the readiness of an
//! edge-triggered poll, the clock, and the order of a turn. [`play`] is how a simulation goes, round after
//! round. [`script`], [`ledger`] and [`echo`] are the clients of the echo and what they were promised;
//! [`cuts`] tries every way to cut a short input. [`crowd`] are the members of a room, all kinds of them at
//! once, [`room`] those in situations that are rare, and [`room_cuts`] tries every way to cut a short script.
//! [`shared`] are rooms that span servers, over a log that is cut, loses data and is late.
//! [`turns`] is about who is served before whom. [`engine`] plays the engines that share a log, with Redis and the wires
//! between. [`tls`] is about the same promises under TLS.

mod crowd;
mod cuts;
mod echo;
mod engine;
mod ledger;
mod play;
mod room;
mod room_cuts;
mod script;
mod shared;
mod socket;
mod tls;
mod turns;
mod world;

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;

/// How many seeds are played unless `SIM_SEEDS` says otherwise: so many echoes, so many rooms, so many that span servers,
/// so many logs that servers share, and so many connections with TLS.
const SEEDS: (u64, u64, u64, u64, u64) = (300, 100, 100, 50, 100);

#[test]
fn every_client_is_served_as_promised() {
    play(SEEDS.0, echo::Plan::draw, echo::simulate);
}

#[test]
fn every_member_is_told_as_promised() {
    play(SEEDS.1, crowd::Plan::draw, crowd::simulate);
}

#[test]
fn every_client_is_served_as_promised_under_tls() {
    play(SEEDS.4, tls::Plan::draw, tls::simulate);
}

#[test]
fn every_server_tells_the_same() {
    play(SEEDS.2, shared::Plan::draw, shared::simulate);
}

#[test]
fn every_engine_keeps_to_the_log() {
    play(SEEDS.3, engine::Plan::draw, engine::simulate);
}

/// Plays one seed after the other, the usual number of them at least, and says which one failed.
fn play<P: Clone + Debug>(usual: u64, draw: fn(&mut Rng) -> P, simulate: fn(P, Rng)) {
    let number = |name| std::env::var(name).ok().map(|value| value.parse().expect("a number"));
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(usual),
    };
    let time = number("SIM_SECONDS").map_or(Duration::MAX, Duration::from_secs);
    let begin = Instant::now();
    let mut played = 0;
    for seed in seeds.clone() {
        if played >= usual && begin.elapsed() >= time {
            break;
        }
        played += 1;
        let mut random = Rng::with_seed(seed);
        let plan = draw(&mut random);
        let outcome = catch_unwind(AssertUnwindSafe(|| simulate(plan.clone(), random)));
        if let Err(panic) = outcome {
            eprintln!("{plan:#?}\nfailed; once more: SIM_SEED={seed} cargo test --test sim");
            resume_unwind(panic);
        }
    }
    println!("{played} of {} seeds in {:.1?}", seeds.end - seeds.start, begin.elapsed());
}
