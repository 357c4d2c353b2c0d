//! What the hub asks of a service: the echo, or the room.

use std::time::Instant;

use super::peer::Id;
use super::peers::{Peers, Turn};
use crate::transport::Stream;

/// A peer that moves this many bytes in its turn, in both directions together, is in the middle of a transfer.
pub(crate) const BULK: u64 = 64 << 10;

/// What a peer that was served needs for its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: it can be served again at once.
    Turn,
    /// Memory that is held for others.
    Memory,
    /// The service, which will schedule it.
    Service,
    /// An event or a deadline of its own.
    Event,
}

/// What a service did for a peer in one turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) next: Next,
    /// Bytes that were moved for it.
    pub(crate) moved: u64,
    /// Whether the others go first in the next turn, because it moved a lot.
    pub(crate) is_bulky: bool,
}

impl Served {
    /// Nothing was done, and there is nothing to do until an event comes.
    pub(crate) const NOTHING: Self = Self { next: Next::Event, moved: 0, is_bulky: false };
}

/// Decides what becomes of what peers send. A hub has one service, chosen at the start.
///
/// A service does no more in one call than one read and what follows from it; a peer that can go on gets further turns.
/// It only ever sees peers that were admitted.
pub(crate) trait Service {
    /// A peer was admitted.
    fn join<S: Stream>(&mut self, _peers: &mut Peers<S>, _id: Id) {}

    /// A turn begins.
    fn before_turn<S: Stream>(&mut self, _peers: &mut Peers<S>, _turn: &mut Turn<'_>) {}

    /// Gives a peer its turn: writes what is queued for it, reads once, if the service lets it be read from, and sends
    /// or queues what follows.
    fn serve<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id, turn: &mut Turn<'_>) -> Served;

    /// A peer takes no more part: its input has ended, or its connection. Called exactly once for each peer.
    fn leave<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id, turn: &mut Turn<'_>);

    /// Whether this turn has brought enough, which is passed on before more is taken in.
    fn is_full<S: Stream>(&self, _peers: &Peers<S>) -> bool {
        false
    }

    /// The peers of this turn have been served.
    fn after_turn<S: Stream>(&mut self, _peers: &mut Peers<S>, _turn: &mut Turn<'_>) {}

    /// Whether a turn has something to do, though no peer has.
    fn has_work(&self) -> bool {
        false
    }

    /// When [`after_turn`](Self::after_turn) has to be called though no event comes.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Makes an event of each message even if the settings do not show them.
    fn report_messages(&mut self) {}

    /// The server is to stop: no peer is read from beyond what has arrived.
    fn stop<S: Stream>(&mut self, peers: &mut Peers<S>);

    /// Whether peers that have sent nothing before the stop are answered all the same.
    fn spares_new(&self) -> bool {
        false
    }

    /// A peer is given up, with all that is left for it, because the server ends.
    fn abandon<S: Stream>(&mut self, _peers: &mut Peers<S>, _id: Id, _turn: &mut Turn<'_>) {}
}
