//! What the hub knows of one peer.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Instant;

use super::activity::{Activity, Timeouts};
use super::memory::Memory;
use crate::config::RESERVE;
use crate::connection::{Close, Connection, Phase};
use crate::event::Event;
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
    pub(crate) address: SocketAddr,
    pub(crate) state: State,
    pub(super) serial: u64,
    pub(crate) activity: Option<Box<Activity>>,
    /// When its timer is due, if it has one. Entries of the heap that are not this one are ignored.
    pub(super) timer: Option<Due>,
    /// Bytes of memory that the books say are held for it.
    pub(super) counted: usize,
    pub(super) place: Place,
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
        let inactive = self.activity.as_ref().and_then(|activity| activity.deadline(timeouts));
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
    use mio::net::TcpStream;

    use super::*;

    #[test]
    fn an_idle_peer_is_small() {
        let size = size_of::<Peer<TcpStream>>();
        // In debug builds mio keeps more for each socket.
        let most = if cfg!(debug_assertions) { 144 } else { 136 };
        assert!(size <= most, "{size} bytes");
    }
}
