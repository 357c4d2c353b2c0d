//! A coverage-guided fuzzer that writes plays for the hub; see [`play`].
#![no_main]

mod play;
#[path = "../sim/socket.rs"]
#[allow(dead_code)]
mod socket;
#[path = "../sim/world.rs"]
#[allow(dead_code)]
mod world;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| play::play(bytes));
