//! What the proofs measure, and how they are kept apart.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::harness::{DEADLINE, Server, memory, round_trip};

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;

/// How long nothing at all may happen before a proof has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// So many addresses a server of these proofs listens on: each has as many ports for clients as there are
/// (about 28,000 on Linux), and those of connections that are over stay taken for a while.
pub(crate) const ADDRESSES: u8 = 8;

/// Keeps the other proofs waiting while it is held.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The seed of a proof: printed, and taken from `PROOF_SEED` if that is set.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("PROOF_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    println!("PROOF_SEED={seed}");
    seed
}

/// How long a proof takes, in seconds, unless this variable says otherwise.
pub(crate) fn seconds(variable: &str, usual: u64) -> Duration {
    Duration::from_secs(std::env::var(variable).map_or(usual, |text| text.parse().expect("a number of seconds")))
}

/// A server on several addresses of the loopback interface, each with clients' ports of its own.
pub(crate) fn start(options: &[&str]) -> Server {
    let addresses: Vec<String> = (1..=ADDRESSES).map(|last| format!("--bind=127.0.0.{last}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    Server::start(&[&addresses, options].concat())
}

/// One of the addresses of a server that was [started](start) here and has this port.
pub(crate) fn address(port: u16, number: usize) -> SocketAddr {
    let last = 1 + (number % usize::from(ADDRESSES)) as u8;
    (Ipv4Addr::new(127, 0, 0, last), port).into()
}

/// What a server has of the system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    pub(crate) memory: usize,
    pub(crate) descriptors: usize,
}

impl Footprint {
    pub(crate) fn of(pid: Pid) -> Self {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
        Self { memory: memory(pid, "VmRSS"), descriptors: descriptors.expect("procfs").count() }
    }

    /// That of a server which has nothing to do, once it has no more descriptors than `least`.
    ///
    /// The memory is looked at when somebody who came after that was answered: the turn in which the last
    /// descriptor was closed, and in which memory is given back after that, is over then.
    pub(crate) fn settled(server: &Server, least: usize) -> Self {
        let begin = Instant::now();
        loop {
            let Self { descriptors, .. } = Self::of(server.process.pid());
            let mut visitor = server.connect();
            round_trip(&mut visitor, b"Is everybody gone?");
            if descriptors <= least {
                return Self { descriptors, memory: memory(server.process.pid(), "VmRSS") };
            }
            assert!(begin.elapsed() < DEADLINE, "{descriptors} descriptors are left, {least} are its own");
        }
    }

    /// That of a server which has done a little of everything.
    pub(crate) fn warm(server: &Server) -> Self {
        let least = Self::of(server.process.pid()).descriptors;
        for length in [1, 60_000, 300_000] {
            let stream = server.connect();
            let content = vec![b'x'; length];
            assert_eq!(crate::harness::exchange(stream, &content).len(), length);
        }
        Self::settled(server, least)
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB of memory and {} descriptors", self.memory / KIB, self.descriptors)
    }
}

/// How long round trips took.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "nothing was measured");
        times.sort_unstable();
        Self(times)
    }

    /// How long so many of a thousand took at most.
    pub(crate) fn per_mille(&self, share: usize) -> Duration {
        self.0[(self.0.len() * share / 1000).min(self.0.len() - 1)]
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, nearly_all, all] = [500, 990, 999, 1000].map(|share| self.per_mille(share));
        let count = self.0.len();
        write!(
            f,
            "{count} round trips, 50 % within {half:.1?}, 99 % {most:.1?}, 99.9 % {nearly_all:.1?}, all {all:.1?}"
        )
    }
}

/// What 99.9 % of round trips may take beside others where it was so `before`: on a machine of its own they take about
/// as long, but this is for one that others use too.
pub(crate) fn unnoticed(before: &Times) -> Duration {
    5 * before.per_mille(999) + Duration::from_millis(500)
}
