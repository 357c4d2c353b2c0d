//! The shared log over real redis-servers, which the tests start themselves. Where redis-server is missing, the tests
//! say so and do nothing, except where the variable `CI` is set: there they fail. `REDIS_SERVER` names another program to
//! start, such as that of another version, or of Valkey.

mod cable;
mod crowd;
mod damage;
mod faults;
#[path = "../e2e/harness/mod.rs"]
#[allow(dead_code, unused_imports)]
mod harness;
#[path = "../wire/namespace.rs"]
#[allow(dead_code)]
mod namespace;
mod node;
mod order;
mod proxy;
mod redis;
mod servers;
mod tls;

/// Whether redis-server is here.
fn has_redis() -> bool {
    harness::has(&redis::program())
}
