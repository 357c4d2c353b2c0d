//! What the hub knows of one peer.

use std::mem;
use std::net::SocketAddr;

use slab::Slab;

use super::life::Life;
use super::relay::Hearing;
use super::work::Work;
use crate::config::RESERVE;
use crate::connection::{Close, Connection};
use crate::event::Event;
use crate::message::Unfinished;
use crate::transport::Stream;

/// One client, by the hub's books.
#[derive(Debug)]
pub(super) struct Peer<S> {
    pub(super) connection: Connection<S>,
    pub(super) address: SocketAddr,
    pub(super) serial: u64,
    /// The message that it is in the middle of, if it is echoed.
    pub(super) unfinished: Option<Box<Unfinished>>,
    /// What it is about to say, if it is relayed.
    pub(super) hearing: Option<Box<Hearing>>,
    /// When it last gave a sign of life, if some timeout asks for it.
    pub(super) life: Option<Box<Life>>,
    /// Whether it counts in `Hub::turned_away`.
    pub(super) is_turned_away: bool,
    /// Whether it is in `Hub::work`.
    pub(super) is_working: bool,
    /// Whether it is in `Hub::settled`: then it may not get any more work.
    pub(super) is_settled: bool,
    /// Whether it has a [`Timer::Pause`] in `Hub::timers`.
    pub(super) is_timed: bool,
    /// Whether it is in `Hub::starved`.
    pub(super) is_starved: bool,
    /// Whether it holds the room up.
    pub(super) is_slow: bool,
    /// Whether it moved much when it last had its turn.
    pub(super) is_bulky: bool,
}

/// Names a peer that may have left meanwhile: its key may be another's by then, its serial never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    pub(super) serial: u64,
    pub(super) key: usize,
}

/// What to look for at a peer when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Its message may have ended in silence.
    Pause,
    /// It has not ended its side of a connection that we ended.
    Linger,
    /// Nothing may have come or gone for too long.
    Idle,
    /// It may not have taken anything for too long.
    Stall,
}

/// What may be held for peers, in bytes.
#[derive(Debug)]
pub(super) struct Limits {
    /// The most bytes held for all peers, what is within each one's [`RESERVE`] not counted.
    pub(super) max_memory: usize,
    /// The most bytes held for one peer.
    pub(super) max_pending: usize,
    /// The most bytes kept of the text of a message: what the log shows of it and its line ending.
    pub(super) max_text: usize,
}

impl Ticket {
    /// Whether its peer is still there.
    pub(super) fn is_held<S>(&self, peers: &Slab<Peer<S>>) -> bool {
        peers.get(self.key).is_some_and(|peer| peer.serial == self.serial)
    }
}

/// The peer of a ticket, if it is still there.
pub(super) fn find<S>(peers: &mut Slab<Peer<S>>, ticket: Ticket) -> Option<&mut Peer<S>> {
    peers.get_mut(ticket.key).filter(|peer| peer.serial == ticket.serial)
}

impl Limits {
    /// How many bytes more may be held for a peer for which `own` are held, with `others` for all others.
    pub(super) fn room(&self, own: usize, others: usize) -> usize {
        let shared = self.max_memory.saturating_sub(others + own).min(self.max_pending.saturating_sub(own));
        shared.max(RESERVE.saturating_sub(own))
    }
}

/// What reading more from a peer depends on.
pub(super) enum Outlook {
    /// On nothing: it can be served again at once.
    Busy,
    /// On memory that others hold.
    Starved,
    /// On its stream.
    Waiting,
}

impl<S: Stream> Peer<S> {
    /// How many bytes are held for it alone.
    pub(super) fn held(&self) -> usize {
        let text = self.unfinished.as_ref().map_or(0, |unfinished| unfinished.text().len());
        let said = self.hearing.as_ref().map_or(0, |hearing| hearing.held());
        self.connection.held() + text + said
    }

    pub(super) fn schedule(&mut self, key: usize, work: &mut Work) {
        if !self.is_settled && !mem::replace(&mut self.is_working, true) {
            work.push(key, self.is_bulky);
        }
    }

    pub(super) fn tell_closed(&self, close: Close, on_event: &mut impl FnMut(Event<'_>)) {
        let (received, sent) = (self.connection.received(), self.connection.sent());
        on_event(Event::Closed { peer: self.address, close, received, sent });
    }
}
