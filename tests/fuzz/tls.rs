//! A coverage-guided fuzzer of the TLS handshake; see [`handshake`].
#![no_main]

mod handshake;
#[path = "../sim/socket.rs"]
#[allow(dead_code)]
mod socket;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| handshake::play(bytes));
