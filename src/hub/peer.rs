//! What the hub knows of one peer.

use std::net::SocketAddr;
use std::time::Instant;

use super::activity::{Activity, Timeouts};
use super::peers::Due;
use super::queues::Place;
use crate::connection::{Connection, Phase};
use crate::event::Event;
use crate::message::{Message, PAUSE};
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

    pub(super) fn closed(&self, close: crate::connection::Close) -> Event<'static> {
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
