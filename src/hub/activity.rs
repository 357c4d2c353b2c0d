//! Which peers have been inactive for too long.

use std::time::{Duration, Instant};

use crate::config::{Config, FOREVER};
use crate::connection::{Close, Connection};
use crate::transport::Stream;

/// What counts as progress of a member of a room, in bytes: half of what is promised to be enough, because a reader's
/// kernel reports that it has made room in steps, and a step may be a little smaller than 64 KiB, such as the 65,483 bytes
/// of a segment on loopback.
const STEP: u64 = 32 << 10;

/// How long a peer may be inactive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// Without a byte in either direction.
    idle: Option<Duration>,
    /// Without progress in taking what is queued for it.
    stall: Option<Duration>,
    /// What progress is, in bytes, unless it is everything that is queued.
    step: u64,
    /// Whether the service looks for peers that make no progress.
    is_room: bool,
}

/// When a peer was last active.
#[derive(Debug)]
pub(crate) struct Activity {
    /// When bytes last came or went, and how many in all by then.
    moved_at: Instant,
    moved: u64,
    /// When it last made progress or nothing was queued for it, and how much it had taken by then.
    took_at: Instant,
    taken: u64,
    is_pending: bool,
    /// What progress is, in bytes, unless it is everything that is pending.
    step: u64,
}

impl Timeouts {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            idle: config.idle_timeout.map(|timeout| timeout.min(FOREVER)),
            // In a room a member may take its time as long as nobody waits for it.
            stall: config.stall_timeout.filter(|_| !config.chat).map(|timeout| timeout.min(FOREVER)),
            step: if config.chat { STEP } else { 1 },
            is_room: config.chat,
        }
    }

    /// What a new peer needs; nothing while no timeout is set.
    pub(super) fn watch(&self, now: Instant) -> Option<Box<Activity>> {
        let is_set = self.is_room || self.idle.is_some() || self.stall.is_some();
        let step = self.step;
        is_set.then(|| Box::new(Activity { moved_at: now, moved: 0, took_at: now, taken: 0, is_pending: false, step }))
    }
}

impl Activity {
    /// Notes what has moved. A peer `is_held_back` if it has sent something that the server does not read
    /// because a limit shared with other peers is reached.
    pub(super) fn note<S: Stream>(&mut self, connection: &Connection<S>, is_held_back: bool, now: Instant) {
        let moved = connection.received() + connection.sent();
        let is_pending = connection.pending() > 0;
        // A peer that takes nothing of what is queued for it is not read from because of that.
        if moved != self.moved || (is_held_back && !is_pending) {
            (self.moved, self.moved_at) = (moved, now);
        }
        // While something is queued, only taking counts: what is queued grows with what the peer sends.
        if connection.sent() - self.taken >= self.step || !is_pending || !self.is_pending {
            (self.taken, self.took_at) = (connection.sent(), now);
        }
        self.is_pending = is_pending;
    }

    /// Since when it has made no progress in taking what is queued for it.
    pub(crate) fn stalled_since(&self) -> Instant {
        self.took_at
    }

    /// When the connection has to end unless something moves, and why.
    pub(super) fn deadline(&self, timeouts: Timeouts) -> Option<(Instant, Close)> {
        let idle = timeouts.idle.map(|timeout| (self.moved_at + timeout, Close::Idle));
        let stall = timeouts.stall.filter(|_| self.is_pending).map(|timeout| (self.took_at + timeout, Close::TooSlow));
        idle.into_iter().chain(stall).min_by_key(|(at, _)| *at)
    }
}
