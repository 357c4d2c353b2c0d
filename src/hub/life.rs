//! Which peers have given no sign of life for too long.
//!
//! A timer of a peer is not moved with every byte: when it is due, it is looked whether it still stands, and
//! if not, it is set anew. So a busy connection costs a timer now and then, and an idle one nothing else.

use std::time::{Duration, Instant};

use super::peer::{Peer, Timer};
use crate::connection::{Close, Phase};
use crate::transport::Stream;

/// How long a peer may be without a sign of life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// Without a byte in either direction.
    pub(super) idle: Option<Duration>,
    /// Without taking anything of what it is owed.
    pub(super) stall: Option<Duration>,
}

impl Timeouts {
    pub(super) fn is_any(&self) -> bool {
        self.idle.is_some() || self.stall.is_some()
    }
}

/// The signs of life of one peer.
#[derive(Debug)]
pub(super) struct Life {
    /// When bytes last came or went, and how many in all by then.
    moved_at: Instant,
    moved: u64,
    /// When it last took something or was owed nothing, and how much it had taken by then.
    took_at: Instant,
    taken: u64,
    /// Whether it was owed something then.
    is_owed: bool,
    /// Whether it has a [`Timer::Stall`].
    is_watched: bool,
}

impl Life {
    pub(super) fn new(now: Instant) -> Self {
        Self { moved_at: now, moved: 0, took_at: now, taken: 0, is_owed: false, is_watched: false }
    }
}

impl<S: Stream> Peer<S> {
    /// Notes whether bytes have moved; costs nothing while no timeout is on.
    pub(super) fn note_life(&mut self, now: Instant) {
        let Some(life) = &mut self.life else { return };
        let moved = self.connection.received() + self.connection.sent();
        if moved != life.moved {
            (life.moved, life.moved_at) = (moved, now);
        }
        // While it is owed something, only taking counts: what it is owed grows with what it sends.
        if self.connection.sent() != life.taken || !life.is_owed {
            (life.taken, life.took_at) = (self.connection.sent(), now);
        }
        life.is_owed = self.connection.owed() > 0;
    }

    /// When a [`Timer::Stall`] has to be set, if this peer is owed something and has none.
    pub(super) fn stall_watch(&mut self, timeouts: &Timeouts) -> Option<Instant> {
        let life = self.life.as_mut()?;
        let timeout = timeouts.stall?;
        if life.is_watched || self.connection.owed() == 0 {
            return None;
        }
        life.is_watched = true;
        Some(life.took_at + timeout)
    }

    /// Ends the connection if `timer`, which is due, still stands. Returns when to look again if it does not.
    pub(super) fn end_lifeless(&mut self, timer: Timer, timeouts: &Timeouts, now: Instant) -> Option<Instant> {
        if let Phase::Closed(_) = self.connection.phase() {
            return None;
        }
        let has_input = self.has_input();
        let life = self.life.as_mut()?;
        // Who takes nothing of what it is owed is read from no more because of that.
        let is_kept_waiting = (self.is_starved || self.is_working) && has_input && self.connection.owed() == 0;
        let (due, close) = if timer == Timer::Idle && is_kept_waiting {
            // It is we who do not read.
            (now + timeouts.idle?, Close::Idle)
        } else if timer == Timer::Idle {
            (life.moved_at + timeouts.idle?, Close::Idle)
        } else if self.connection.owed() == 0 {
            life.is_watched = false;
            return None;
        } else {
            (life.took_at + timeouts.stall?, Close::TooSlow)
        };
        if due > now {
            return Some(due);
        }
        if self.connection.owed() > 0 {
            self.connection.abort(close);
        } else {
            self.connection.end(close);
        }
        None
    }
}
