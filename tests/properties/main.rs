//! What holds for every input, tried with inputs that chance makes up and, where one fails, makes as small as
//! it can.
//!
//! A failure prints the input and a seed; `PROPTEST_RNG_SEED` draws the same inputs again, and `PROPTEST_CASES`
//! more of them than usual. What was found once stays as a test of its own beside the code.

mod any;
mod boundaries;
mod chat;
mod escape;
#[path = "../fuzz/handshake.rs"]
mod handshake;
mod hub;
mod lines;
mod names;
mod outbox;
#[path = "../fuzz/play.rs"]
mod play;
mod proxy;
#[path = "../sim/socket.rs"]
#[allow(dead_code)]
mod socket;
mod tls;
#[path = "../sim/world.rs"]
#[allow(dead_code)]
mod world;

use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseResult, TestRunner};

/// How many inputs are tried unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 300;

/// Tries `test` on inputs drawn from `inputs`.
#[track_caller]
fn for_all<T: Debug>(inputs: impl Strategy<Value = T>, test: impl Fn(T) -> TestCaseResult) {
    let drawn = std::env::var("PROPTEST_RNG_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = drawn.unwrap_or_else(|| fastrand::u64(..));
    let cases = std::env::var("PROPTEST_CASES").map_or(CASES, |cases| cases.parse().expect("a number"));
    let config = Config { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..Config::default() };
    if let Err(error) = TestRunner::new(config).run(&inputs, test) {
        panic!("{error}\nonce more: PROPTEST_RNG_SEED={seed} cargo test --test properties");
    }
}
