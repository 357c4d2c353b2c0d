//! What the hub knows of one peer.

use std::num::NonZeroU64;
use std::time::Instant;

use super::activity::{Activity, Timeouts};
use super::memory::Memory;
use crate::address::PeerAddress;
use crate::config::RESERVE;
use crate::connection::{Close, Connection, Phase};
use crate::event::Event;
use crate::feed::Feed;
use crate::message::{Message, PAUSE};
use crate::outbox::SLACK;
use crate::room::member::Member;
use crate::transport::Stream;

/// Names a peer, also one that may have left meanwhile: its key may be another peer's by then, its serial never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(super) serial: u64,
    pub(super) key: usize,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Peer<S> {
    pub(crate) connection: Connection<S>,
    pub(crate) address: PeerAddress,
    pub(crate) state: State,
    pub(super) serial: u64,
    pub(super) activity: Option<Box<Activity>>,
    /// When its timer is due, if it has one. Entries of the heap that are not this one are ignored.
    pub(super) timer: Option<Due>,
    /// Bytes of memory that are counted as held for it.
    pub(super) counted: usize,
    pub(super) place: Place,
    /// Whether it has an entry among the starved peers, though it may have left that place.
    pub(super) has_starved: bool,
    /// Whether the others go first, because it moved a lot in its last turn.
    pub(crate) is_bulky: bool,
}

/// What is known of a peer beyond its connection.
#[derive(Debug)]
pub(crate) enum State {
    /// It is echoed, and may be in the middle of a message.
    Echo(Message),
    /// It is a member of the room.
    Member(Box<Member>),
    /// Its service has nothing to do with it any more.
    Ended {
        /// Whether it was only accepted to be told that the server is full.
        is_refused: bool,
    },
}

/// Where a peer is in the queues: in exactly one of them, or in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// In no queue: it waits for an event or a deadline.
    #[default]
    Idle,
    /// In no queue: it has its turn right now.
    Served,
    /// Its turn comes soon: it moved little in its last turn.
    Swift,
    /// Its turn comes after those of all swift peers: it moved a lot in its last turn.
    Bulky,
    /// It could be read from if others gave memory back.
    Starved,
    /// Its connection ends with the next reap; it gets no more turns before.
    Settled,
}

/// A time at which a timer is due, in nanoseconds since the table was made: half as large as an [`Instant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due(pub(super) NonZeroU64);

impl Id {
    /// The number of the peer: they are counted, and no number is given twice.
    pub(crate) fn serial(self) -> u64 {
        self.serial
    }

    /// Where the peer is in the table, if it is still there.
    pub(crate) fn key(self) -> usize {
        self.key
    }
}

impl<S: Stream> Peer<S> {
    pub(super) fn id(&self, key: usize) -> Id {
        Id { serial: self.serial, key }
    }

    /// Bytes of memory that are held for it alone.
    pub(crate) fn held(&self) -> usize {
        let state = match &self.state {
            State::Echo(message) => message.held(),
            State::Member(member) => member.held(),
            State::Ended { .. } => 0,
        };
        self.connection.held() + state
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self.state, State::Ended { is_refused: true })
    }

    /// Notes what has moved. It `is_held_back` if it has sent something that the server does not read because a limit
    /// shared with other peers is reached.
    pub(crate) fn note_activity(&mut self, is_held_back: bool, now: Instant) {
        if let Some(activity) = &mut self.activity {
            activity.note(&self.connection, is_held_back, now);
        }
    }

    /// Writes up to `budget` bytes of what is pending although no event said that there is room, because the progress of a
    /// slow reader shows only when a write is tried. Returns whether something was written.
    pub(crate) fn try_write(&mut self, feed: &mut Feed, budget: usize, now: Instant) -> bool {
        let before = self.connection.sent();
        self.connection.assume_writable();
        self.connection.flush(feed, budget);
        self.note_activity(false, now);
        self.connection.sent() > before
    }

    /// Since when it has made no progress in taking what is pending for it, where that is noted.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.activity.as_ref().map(|activity| activity.stalled_since())
    }

    /// When it will have been inactive for too long, and why its connection ends then.
    pub(super) fn inactive_at(&self, timeouts: Timeouts) -> Option<(Instant, Close)> {
        self.activity.as_ref().and_then(|activity| activity.deadline(timeouts))
    }

    /// How much more may be queued for it, if at most `limit` may be held for it alone. Every peer may hold its
    /// [`RESERVE`], whatever the others hold.
    pub(crate) fn room(&self, memory: &Memory, limit: usize) -> usize {
        let own = self.held();
        let free = memory.free(self.counted, own);
        free.min(limit.saturating_sub(own)).max(RESERVE.saturating_sub(own)).saturating_sub(SLACK)
    }

    /// When it has to be served, though no event comes.
    pub(super) fn deadline(&self, timeouts: Timeouts) -> Option<Instant> {
        let service = match &self.state {
            // While there is something to be read, its next turn will tell.
            State::Echo(message) if !self.connection.can_receive() => message.last_arrival().map(|at| at + PAUSE),
            State::Echo(_) => None,
            State::Member(member) => member.deadline(),
            State::Ended { .. } => None,
        };
        let inactive = self.inactive_at(timeouts);
        // A connection that is over only waits to be dropped, and while it lingers it has a deadline of its own.
        let inactive = inactive.filter(|_| !matches!(self.connection.phase(), Phase::Closed(_) | Phase::Lingering(_)));
        service.into_iter().chain(inactive.map(|(at, _)| at)).min()
    }

    pub(super) fn closed(&self, close: Close) -> Event<'static> {
        let (received, sent) = (self.connection.received(), self.connection.sent());
        Event::Closed { peer: self.address, close, received, sent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Socket;

    #[test]
    fn an_idle_peer_is_small() {
        let size = size_of::<Peer<Socket>>();
        // In debug builds mio keeps more for each socket.
        let most = if cfg!(debug_assertions) { 152 } else { 144 };
        assert!(size <= most, "{size} bytes");
    }
}
