//! The proofs: what the daemon bears, under load, faults and hostile clients, as figures.
//!
//! Each prints its figures and asserts them: `cargo test --release --test proof -- --include-ignored --nocapture`.
//! They run one after another, whatever the number of test threads, because each wants to measure the server
//! alone on the machine. Randomness comes from a printed seed, and `PROOF_SEED` replays it. All traffic stays
//! on the loopback interface.

mod attackers;
mod chat;
mod churn;
mod engine;
#[path = "../e2e/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "it is shared with tests that need all of it")]
mod harness;
mod honest;
mod hostile;
mod load;
mod measure;
mod restarts;
mod room;
mod system;
mod tls;
