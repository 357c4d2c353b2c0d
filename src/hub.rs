//! The core: the table of peers, and what is done for each of them in a turn.
//!
//! Nothing here knows of sockets, clocks or logs: streams are anything that implements
//! [`Stream`], the time comes in as an argument, and what happened goes out as an [`Event`]. One turn serves
//! every peer that has something to do, once: what it is owed is sent, one read is taken in and echoed. What
//! is left over stays on the work list for the next turn, so that no peer waits for another's long transfer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::mem;
use std::net::SocketAddr;
use std::time::Instant;

use slab::Slab;

use crate::config::{Config, Log, RESERVE};
use crate::connection::{Close, Connection, Phase, Received, Stream};
use crate::message::{self, PAUSE, Unfinished};

/// The size of the one buffer that all reads share, in bytes. It bounds what one peer may move in a turn.
const READ_BUFFER: usize = 256 << 10;

/// What happened in a turn.
#[derive(Debug)]
pub enum Event<'a> {
    /// A client sent a message, and its bytes have been sent back or queued for it.
    Message {
        /// The client's address.
        peer: SocketAddr,
        /// The beginning of the message, as much as was kept: at least [`Config::log_max`] bytes and a line
        /// ending where the message has so many, less only while memory is short.
        text: &'a [u8],
        /// How many bytes the message has.
        length: u64,
    },
    /// A connection is over.
    Closed {
        /// The client's address.
        peer: SocketAddr,
        /// Why.
        close: Close,
        /// How many bytes came from the client.
        received: u64,
        /// How many bytes were handed to the client's socket.
        sent: u64,
    },
}

/// The peers of one server, and what is held for them.
#[derive(Debug)]
pub struct Hub<S> {
    peers: Slab<Peer<S>>,
    /// The number of the newest peer: they are counted, and no number is given twice.
    last_serial: u64,
    /// Keys of the peers that can make progress without a new event, each once.
    work: Vec<usize>,
    /// Keys of the peers that wait for [`Hub::reap`].
    settled: Vec<usize>,
    /// When to look whether a peer's message has ended in silence.
    pauses: BinaryHeap<Reverse<(Instant, Ticket)>>,
    /// Peers that could read on if others gave memory back, the longest waiting first.
    starved: VecDeque<Ticket>,
    /// What all reads go to.
    buffer: Box<[u8]>,
    /// How many bytes are held for all peers together.
    held: usize,
    limits: Limits,
}

/// Names a peer that may have left meanwhile: its key may be another's by then, its serial never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    key: usize,
    serial: u64,
}

#[derive(Debug)]
struct Limits {
    /// The most bytes held for all peers, what is within each one's [`RESERVE`] not counted.
    max_memory: usize,
    /// The most bytes held for one peer.
    max_pending: usize,
    /// The most bytes kept of the text of a message: what the log shows of it and its line ending.
    max_text: usize,
}

#[derive(Debug)]
struct Peer<S> {
    connection: Connection<S>,
    address: SocketAddr,
    serial: u64,
    unfinished: Option<Box<Unfinished>>,
    /// Whether it is in [`Hub::work`].
    is_working: bool,
    /// Whether it is in [`Hub::pauses`].
    is_timed: bool,
    /// Whether it is in [`Hub::starved`].
    is_starved: bool,
}

impl<S: Stream> Hub<S> {
    /// A hub without peers, with the limits of `config`.
    pub fn new(config: &Config) -> Self {
        let shows_messages = config.log >= Log::Messages;
        Self {
            peers: Slab::new(),
            last_serial: 0,
            work: Vec::new(),
            settled: Vec::new(),
            pauses: BinaryHeap::new(),
            starved: VecDeque::new(),
            buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            held: 0,
            limits: Limits {
                max_memory: config.max_memory,
                max_pending: config.max_pending.max(RESERVE),
                max_text: if shows_messages { config.log_max.saturating_add("\r\n".len()) } else { 0 },
            },
        }
    }

    /// The key that [`insert`](Self::insert) will give to the next peer.
    pub fn next_key(&self) -> usize {
        self.peers.vacant_key()
    }

    /// Takes in a peer and returns its key, by which events name it. Keys of peers that were dropped are
    /// given out again, so no event of an earlier peer may be left over.
    pub fn insert(&mut self, stream: S, address: SocketAddr) -> usize {
        self.last_serial += 1;
        self.peers.insert(Peer {
            connection: Connection::new(stream),
            address,
            serial: self.last_serial,
            unfinished: None,
            is_working: false,
            is_timed: false,
            is_starved: false,
        })
    }

    /// Notes that a peer's stream may be ready. Does no I/O; a key that is not in use is ignored.
    pub fn on_ready(&mut self, key: usize, readable: bool, writable: bool, read_closed: bool) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.connection.on_ready(readable, writable, read_closed);
        peer.schedule(key, &mut self.work);
    }

    /// Serves every peer that has something to do, once, and tells what happened.
    ///
    /// `now` is the time at which the turn began. Every turn is followed by a [`reap`](Self::reap).
    pub fn turn(&mut self, now: Instant, mut on_event: impl FnMut(Event<'_>)) {
        debug_assert!(self.settled.is_empty(), "a turn without a reap");
        let ready = self.work.len();
        for at in 0..ready {
            self.serve(self.work[at], now, &mut on_event);
        }
        self.work.drain(..ready);
        self.end_pauses(now, &mut on_event);
        self.feed_starved();
    }

    /// Whether another [`turn`](Self::turn) can make progress without an event.
    pub fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    /// When [`turn`](Self::turn) has to be called again, though no event comes.
    pub fn deadline(&self) -> Option<Instant> {
        self.pauses.peek().map(|Reverse((at, _))| *at)
    }

    /// Drops the connections that are over, and half-closes those that are owed nothing more but wait for
    /// their peer. Comes after the log lines of the turn have been written: a client that sees the end of
    /// its connection finds its line in the log. Returns whether a stream was dropped.
    pub fn reap(&mut self) -> bool {
        let mut has_dropped = false;
        for key in self.settled.drain(..) {
            let peer = &mut self.peers[key];
            if peer.connection.depart() {
                self.held -= peer.held();
                self.peers.remove(key);
                has_dropped = true;
            } else {
                peer.schedule(key, &mut self.work);
            }
        }
        has_dropped
    }

    /// Winds up: every peer is answered what had arrived by now and sent what it is owed, then half-closed
    /// and waited for; one that is owed nothing is closed at once. [`turn`](Self::turn) and
    /// [`reap`](Self::reap) do the work, and [`is_empty`](Self::is_empty) tells when it is done.
    pub fn drain(&mut self) {
        for (key, peer) in &mut self.peers {
            peer.connection.stop();
            peer.schedule(key, &mut self.work);
        }
    }

    /// Gives up the peers that are still there.
    pub fn abandon(&mut self, mut on_event: impl FnMut(Event<'_>)) {
        for mut peer in self.peers.drain() {
            peer.end_message(&mut on_event);
            peer.tell_closed(Close::Stopping, &mut on_event);
        }
        self.held = 0;
    }

    /// Whether no peer is left.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// How many bytes are held for all peers together: what they are owed, and the texts of unfinished
    /// messages. At most [`Config::max_memory`] plus [`RESERVE`] for each peer.
    pub fn held(&self) -> usize {
        self.held
    }

    fn serve(&mut self, key: usize, now: Instant, on_event: &mut impl FnMut(Event<'_>)) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.is_working = false;
        let held_by_others = self.held - peer.held();

        peer.connection.flush(self.buffer.len());
        if peer.connection.can_receive() {
            peer.receive(&mut self.buffer, &self.limits, held_by_others, now, on_event);
        }
        let has_settled = peer.connection.settle();
        if !peer.connection.takes_input() {
            peer.end_message(on_event);
        }
        self.held = held_by_others + peer.held();

        if has_settled {
            if let Phase::Closed(close) = peer.connection.phase() {
                peer.tell_closed(close, on_event);
            }
            self.settled.push(key);
            return;
        }
        let ticket = Ticket { key, serial: peer.serial };
        if peer.unfinished.is_some() && !mem::replace(&mut peer.is_timed, true) {
            self.pauses.push(Reverse((now + PAUSE, ticket)));
        }
        match peer.outlook(&self.limits, held_by_others) {
            Outlook::Busy => peer.schedule(key, &mut self.work),
            Outlook::Starved if !mem::replace(&mut peer.is_starved, true) => self.starved.push_back(ticket),
            Outlook::Starved | Outlook::Waiting => {}
        }
    }

    /// Ends the messages after which nothing came for [`PAUSE`]. A peer that is not read from, though
    /// something may have come, is looked at again later.
    fn end_pauses(&mut self, now: Instant, on_event: &mut impl FnMut(Event<'_>)) {
        while let Some(&Reverse((at, ticket))) = self.pauses.peek()
            && at <= now
        {
            self.pauses.pop();
            let Some(peer) = find(&mut self.peers, ticket) else { continue };
            peer.is_timed = false;
            let Some(unfinished) = &peer.unfinished else { continue };
            let due = if peer.connection.can_receive() { now + PAUSE } else { unfinished.last_arrival() + PAUSE };
            if due > now {
                peer.is_timed = true;
                self.pauses.push(Reverse((due, ticket)));
            } else {
                self.held -= unfinished.text().len();
                peer.end_message(on_event);
            }
        }
    }

    /// Lets starved peers read on, as many as there is memory for.
    fn feed_starved(&mut self) {
        let mut free = self.limits.max_memory.saturating_sub(self.held);
        while free >= RESERVE
            && let Some(ticket) = self.starved.pop_front()
        {
            let Some(peer) = find(&mut self.peers, ticket) else { continue };
            peer.is_starved = false;
            if peer.connection.can_receive() {
                peer.schedule(ticket.key, &mut self.work);
                free -= RESERVE;
            }
        }
    }
}

fn find<S>(peers: &mut Slab<Peer<S>>, ticket: Ticket) -> Option<&mut Peer<S>> {
    peers.get_mut(ticket.key).filter(|peer| peer.serial == ticket.serial)
}

impl Limits {
    /// How many bytes more may be held for a peer for which `own` are held, with `others` for all others.
    fn room(&self, own: usize, others: usize) -> usize {
        let shared = self.max_memory.saturating_sub(others + own).min(self.max_pending.saturating_sub(own));
        shared.max(RESERVE.saturating_sub(own))
    }
}

/// What a peer's further progress depends on.
enum Outlook {
    /// On nothing: it can be served again at once.
    Busy,
    /// On memory that others hold.
    Starved,
    /// On its stream.
    Waiting,
}

impl<S: Stream> Peer<S> {
    /// How many bytes are held for it.
    fn held(&self) -> usize {
        self.connection.owed() + self.unfinished.as_ref().map_or(0, |unfinished| unfinished.text().len())
    }

    fn schedule(&mut self, key: usize, work: &mut Vec<usize>) {
        if !mem::replace(&mut self.is_working, true) {
            work.push(key);
        }
    }

    fn outlook(&self, limits: &Limits, held_by_others: usize) -> Outlook {
        let held = self.held();
        if self.connection.can_flush() {
            return Outlook::Busy;
        }
        if !self.connection.can_receive() {
            return Outlook::Waiting;
        }
        match limits.room(held, held_by_others) {
            // Nothing but the text of its message is in the way, which is shortened then.
            0 if self.connection.owed() == 0 => Outlook::Busy,
            0 if held < limits.max_pending => Outlook::Starved,
            0 => Outlook::Waiting,
            _ => Outlook::Busy,
        }
    }

    /// Takes in what one read brings, no more than may be held, and sends it back.
    fn receive(
        &mut self,
        buffer: &mut [u8],
        limits: &Limits,
        held_by_others: usize,
        now: Instant,
        on_event: &mut impl FnMut(Event<'_>),
    ) {
        let mut room = limits.room(self.held(), held_by_others);
        if let Some(unfinished) = &mut self.unfinished
            && room < RESERVE / 2
            && self.connection.owed() == 0
        {
            // A text that is kept for the log must not stand in the way of the echo.
            unfinished.shorten(RESERVE / 2);
            room = limits.room(self.held(), held_by_others);
        }
        if room == 0 {
            return;
        }
        let limit = room.min(buffer.len());
        match self.connection.receive(&mut buffer[..limit]) {
            Received::Bytes(count) if self.connection.takes_input() => {
                let bytes = &buffer[..count];
                self.connection.send(bytes);
                let room = limits.room(self.held(), held_by_others);
                self.note_message(bytes, limits.max_text, room, now, on_event);
            }
            Received::Nothing if !self.connection.can_receive() => {
                if self.unfinished.as_ref().is_some_and(|unfinished| unfinished.looks_whole()) {
                    self.end_message(on_event);
                }
            }
            Received::Bytes(_) | Received::Nothing | Received::End => {}
        }
    }

    /// Finds out whether `bytes`, just read, complete a message. The common one that comes whole in one read
    /// is told straight from the read buffer.
    fn note_message(
        &mut self,
        bytes: &[u8],
        max_text: usize,
        room: usize,
        now: Instant,
        on_event: &mut impl FnMut(Event<'_>),
    ) {
        let is_drained = !self.connection.can_receive();
        if self.unfinished.is_none() && is_drained && message::looks_whole(bytes.len() as u64, bytes) {
            on_event(Event::Message { peer: self.address, text: bytes, length: bytes.len() as u64 });
            return;
        }
        let unfinished = self.unfinished.get_or_insert_with(|| Box::new(Unfinished::new(now)));
        let room = room.min(max_text.saturating_sub(unfinished.text().len()));
        unfinished.push(bytes, room, now);
        if is_drained && unfinished.looks_whole() {
            self.end_message(on_event);
        }
    }

    fn end_message(&mut self, on_event: &mut impl FnMut(Event<'_>)) {
        if let Some(message) = self.unfinished.take() {
            on_event(Event::Message { peer: self.address, text: message.text(), length: message.length() });
        }
    }

    fn tell_closed(&self, close: Close, on_event: &mut impl FnMut(Event<'_>)) {
        let (received, sent) = (self.connection.received(), self.connection.sent());
        on_event(Event::Closed { peer: self.address, close, received, sent });
    }
}
