//! The core: the table of peers, and what is done for each of them in a turn.
//!
//! Nothing here knows of sockets, clocks or logs: streams are anything that implements
//! [`Stream`], the time comes in as an argument, and what happened goes out as an [`Event`]. A turn serves
//! the peers that have something to do, each once: what is queued for a peer is sent, and its service,
//! the echo or the room, does one read and what follows from it. What is left over stays queued for the next turn. Peers in
//! the middle of a long transfer are served after all others, as many as move 256 KiB together and at least one: no small
//! message waits for more than that.

pub(crate) mod activity;
mod any_service;
mod buffer;
pub(crate) mod memory;
pub(crate) mod peer;
pub(crate) mod peers;
mod queues;
pub(crate) mod service;

use std::mem;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::address::PeerAddress;
use crate::config::Config;
use crate::connection::{Close, Phase, Ready, Received};
use crate::event::Event;
use crate::room::LogSide;
use crate::shared_log::ServerId;
use crate::transport::Stream;
use any_service::AnyService;
use buffer::{READ_BUFFER, ReadBuffer};
use peer::{Id, Peer, Place, State};
use peers::{Peers, Turn};
use service::{BULK, Next, Served, Service};

/// How long a connection that the server ended waits for its peer to end it too.
const LINGER: Duration = Duration::from_secs(2);

/// The same for a client that was only told that the server is full: others wait for its place.
const LINGER_REFUSED: Duration = Duration::from_millis(50);

/// The peers of one server, and the service that they get.
#[derive(Debug)]
pub struct Hub<S> {
    peers: Peers<S>,
    service: AnyService,
    buffer: ReadBuffer,
    /// What has gone through connections that are over.
    closed: Traffic,
    is_congested: bool,
}

/// Peers that were given up. When this is dropped, after their log lines have been written, they see their end.
#[derive(Debug)]
#[must_use]
pub struct Abandoned<S>(#[expect(dead_code, reason = "it is only to be dropped")] Slab<Peer<S>>);

/// What has gone through a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that were received from clients.
    pub received: u64,
    /// Bytes that were written to clients' sockets.
    pub sent: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Messages that were echoed, or lines that were said in the room.
    pub messages: u64,
}

impl<S: Stream> Hub<S> {
    /// A hub without peers, with the service and the limits of `config`.
    pub fn new(config: &Config) -> Self {
        Self::with(config, AnyService::new(config))
    }

    /// A hub with a room that spans servers, of which this one is `server`. Its [`log_side`](Self::log_side) has to be
    /// connected to the log.
    pub fn shared(config: &Config, server: ServerId) -> Self {
        Self::with(config, AnyService::shared(config, server))
    }

    fn with(config: &Config, service: AnyService) -> Self {
        Self {
            peers: Peers::new(config, service.held()),
            service,
            buffer: ReadBuffer::new(),
            closed: Traffic::default(),
            is_congested: false,
        }
    }

    /// Makes an event of each message even if [`Config::log`] does not show them.
    pub fn report_messages(&mut self) {
        self.service.report_messages();
    }

    /// How many peers there are.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// How many of them were only accepted to be [refused](Self::refuse).
    pub fn refused(&self) -> usize {
        self.peers.refused()
    }

    /// Whether there is no peer.
    pub fn is_empty(&self) -> bool {
        self.peers.len() == 0
    }

    /// The key that [`insert`](Self::insert) will give to the next peer.
    pub fn next_key(&self) -> usize {
        self.peers.next_key()
    }

    /// Admits a peer and returns its key, by which readiness events name it. Keys of peers that were dropped are
    /// given out again, so no event of an earlier peer may be left over.
    pub fn insert(&mut self, stream: S, address: PeerAddress, now: Instant) -> usize {
        let id = self.peers.insert(stream, address, self.service.state(now), now);
        self.service.join(&mut self.peers, id);
        self.peers.arm(id.key());
        id.key()
    }

    /// Accepts a peer only to tell it `notice` and end the connection.
    pub fn refuse(&mut self, stream: S, address: PeerAddress, notice: &str, now: Instant) {
        let state = State::Ended { is_refused: true };
        let id = self.peers.insert(stream, address, state, now);
        if let Some((peer, ..)) = self.peers.borrow(id) {
            // Without memory for the notice, the end of the connection has to say it.
            _ = peer.connection.queue(notice.as_bytes());
            peer.connection.end(Close::Full);
        }
        self.peers.recount(id.key());
        self.peers.schedule(id);
    }

    /// Notes that a peer's stream may be ready. Does no I/O; a key that is not in use is ignored.
    pub fn on_ready(&mut self, key: usize, ready: Ready) {
        let Some(id) = self.peers.note_ready(key, ready) else { return };
        self.peers.schedule(id);
    }

    /// The side of the room that talks to the log which it shares with other servers, if it [does](Self::shared).
    pub fn log_side(&mut self) -> Option<LogSide<'_>> {
        match &mut self.service {
            AnyService::SharedRoom(room) => Some(LogSide::of(room, &self.peers.feed)),
            AnyService::Echo(_) | AnyService::Room(_) => None,
        }
    }

    /// Serves the peers that have something to do, each at most once, and tells what happened.
    ///
    /// `now` is the time at which the turn began. All events that came until `noted` have been passed to
    /// [`on_ready`](Self::on_ready): a deadline that has passed since is left for a later turn, because the event
    /// that makes it void may be waiting. Every turn is followed by a [`reap`](Self::reap).
    pub fn turn(&mut self, now: Instant, noted: Instant, mut on_event: impl FnMut(Event<'_>)) {
        let Self { peers, service, buffer, .. } = self;
        debug_assert!(peers.queues.settled.is_empty(), "a turn without a reap");
        peers.expire(noted);
        let mut turn = Turn { now, noted, buffer: buffer.bytes(), on_event: &mut on_event };
        service.before_turn(peers, &mut turn);
        // Peers that are not through by then are behind these, for the next turn.
        let (swift, bulky) = (peers.queues.swift.len(), peers.queues.bulky.len());
        for _ in 0..swift {
            if service.is_full(peers) {
                break;
            }
            let Some(key) = peers.queues.swift.pop_front() else { break };
            serve(peers, service, key, &mut turn);
        }
        let mut moved = 0;
        for _ in 0..bulky {
            let Some(key) = peers.queues.bulky.pop_front() else { break };
            moved += serve(peers, service, key, &mut turn);
            // At least one of them has its turn, so that the others do not stop them.
            if moved >= READ_BUFFER as u64 || service.is_full(peers) {
                break;
            }
        }
        self.is_congested = service.is_full(peers);
        service.after_turn(peers, &mut turn);
    }

    /// Whether another [`turn`](Self::turn) can make progress without an event.
    pub fn has_work(&self) -> bool {
        !self.peers.queues.is_empty() || self.service.has_work()
    }

    /// When [`turn`](Self::turn) has to be called again, though no event comes.
    pub fn deadline(&self) -> Option<Instant> {
        self.peers.deadline().into_iter().chain(self.service.deadline()).min()
    }

    /// Whether the last turn left peers unserved because it had brought enough: then new ones should wait.
    pub fn is_congested(&self) -> bool {
        self.is_congested
    }

    /// Whether a [`reap`](Self::reap) will end or half-close connections, which their clients will see.
    pub fn has_settled(&self) -> bool {
        !self.peers.queues.settled.is_empty()
    }

    /// Drops the connections that are over, and half-closes those for which nothing more is queued but that wait for
    /// their peer. Comes after the log lines of the turn have been written: a client that sees the end of
    /// its connection finds its line in the log. Returns whether a stream was dropped.
    pub fn reap(&mut self, now: Instant) -> bool {
        let mut has_dropped = false;
        let mut settled = mem::take(&mut self.peers.queues.settled);
        for key in settled.drain(..) {
            let Some(peer) = self.peers.get(key) else { continue };
            peer.place = Place::Idle;
            if peer.connection.half_close() {
                let peer = self.peers.remove(key);
                self.closed.received += peer.connection.received();
                self.closed.sent += peer.connection.sent();
                has_dropped = true;
                continue;
            }
            let (id, linger) = (peer.id(key), if peer.is_refused() { LINGER_REFUSED } else { LINGER });
            // While stopping it is the grace that ends the waiting.
            if let Phase::Lingering(close) = peer.connection.phase()
                && close != Close::Stopping
            {
                self.peers.arm_at(key, now + linger);
            }
            self.peers.schedule(id);
        }
        self.peers.queues.settled = settled;
        if has_dropped {
            self.peers.shrink();
        }
        // Not before: connections that are dropped give memory back too.
        self.peers.feed.trim();
        self.peers.wake_starved();
        self.peers.check();
        has_dropped
    }

    /// Winds up, as [`drain`](Self::drain) does, except for peers that have sent nothing yet, where the service answers
    /// them also while it stops: their first bytes may be on their way. Returns whether there are any; a [`drain`](Self::drain) has to follow then.
    pub fn begin_drain(&mut self) -> bool {
        let spares_new = self.service.spares_new();
        let mut has_new = false;
        self.peers.for_each(|_, peer, _| {
            match spares_new && peer.connection.is_new() {
                true => has_new = true,
                false => peer.connection.stop_reading(),
            }
            true
        });
        self.service.stop(&mut self.peers);
        has_new
    }

    /// Winds up: every peer is answered what had arrived by now and sent what is queued for it, then half-closed
    /// and waited for; one that has been sent everything is closed at once. [`turn`](Self::turn) and
    /// [`reap`](Self::reap) do the work, and [`is_empty`](Self::is_empty) tells when it is done.
    pub fn drain(&mut self) {
        self.peers.for_each(|_, peer, _| {
            peer.connection.stop_reading();
            true
        });
        self.service.stop(&mut self.peers);
    }

    /// Gives up the peers that are still there, and tells of them.
    pub fn abandon(&mut self, now: Instant, mut on_event: impl FnMut(Event<'_>)) -> Abandoned<S> {
        let mut turn = Turn { now, noted: now, buffer: self.buffer.bytes(), on_event: &mut on_event };
        let ids: Vec<Id> = self.peers.iter().map(|(id, _)| id).collect();
        for id in ids {
            let Some((peer, feed, _)) = self.peers.borrow(id) else { continue };
            let close = match peer.connection.phase() {
                Phase::Draining(close) | Phase::Lingering(close) | Phase::Closed(close) => close,
                Phase::Open | Phase::Stopping(_) => Close::Stopping,
            };
            peer.connection.abort(close, feed);
            self.service.abandon(&mut self.peers, id, &mut turn);
            if let Some(peer) = self.peers.find(id) {
                (turn.on_event)(peer.closed(close));
            }
        }
        let abandoned = Abandoned(self.peers.take());
        self.peers.feed.trim();
        abandoned
    }

    /// What has gone through all connections, those of now and those that are over.
    pub fn traffic(&self) -> Traffic {
        let (connections, messages) = (self.peers.total(), self.service.messages());
        let mut traffic = Traffic { connections, messages, ..self.closed };
        for (_, peer) in self.peers.iter() {
            traffic.received += peer.connection.received();
            traffic.sent += peer.connection.sent();
        }
        traffic
    }

    /// How many members the room has here, and how many of them wait for slower ones.
    pub fn members(&self) -> (usize, usize) {
        let members = self.peers.iter().filter_map(|(_, peer)| match &peer.state {
            State::Member(member) => Some(member.is_ahead()),
            _ => None,
        });
        members.fold((0, 0), |(all, ahead), is_ahead| (all + 1, ahead + usize::from(is_ahead)))
    }

    /// Timers that are set, and entries of earlier ones that are not forgotten yet.
    pub fn timers(&self) -> usize {
        self.peers.timers()
    }

    /// Bytes of memory that are held for all peers: what is queued for them, what is kept of unfinished messages, and the
    /// history of a room. At most [`Config::max_memory`] plus [`RESERVE`](crate::config::RESERVE) for each peer; in a
    /// room, the lines of one turn come on top, and in one that spans servers what is on its way to the log.
    pub fn held(&self) -> usize {
        self.peers.memory.held() + self.peers.feed.held()
    }
}

/// Gives a peer its turn. Returns how many bytes it moved.
fn serve<S: Stream>(peers: &mut Peers<S>, service: &mut AnyService, key: usize, turn: &mut Turn<'_>) -> u64 {
    let Some(peer) = peers.get(key) else { return 0 };
    peer.place = Place::Served;
    let id = peer.id(key);
    let served = match peer.state {
        State::Ended { .. } => wind_up(peers, id, turn),
        _ => service.serve(peers, id, turn),
    };
    let has_written = end_if_inactive(peers, id, served.next, turn);
    if peers.find(id).is_some_and(|peer| !peer.connection.takes_input()) {
        leave(peers, service, id, turn);
    }
    let Some((peer, feed, _)) = peers.borrow(id) else { return 0 };
    (peer.place, peer.is_bulky) = (Place::Idle, served.is_bulky);
    let has_settled = peer.connection.settle(feed);
    let is_ready = served.next == Next::Turn || has_written || peer.connection.can_flush();
    if has_settled {
        if let Phase::Closed(close) = peer.connection.phase() {
            (turn.on_event)(peer.closed(close));
        }
        peer.place = Place::Settled;
        peers.queues.settled.push(key);
    } else if is_ready {
        peers.schedule(id);
    } else if served.next == Next::Memory {
        peers.wait_for_memory(id);
    }
    peers.recount(key);
    peers.arm(key);
    served.moved
}

/// Serves a peer that takes no more part: what is queued for it goes out, and what comes after the server's end of the
/// connection is discarded.
fn wind_up<S: Stream>(peers: &mut Peers<S>, id: Id, turn: &mut Turn<'_>) -> Served {
    let Some((peer, feed, _)) = peers.borrow(id) else { return Served::NOTHING };
    let before = peer.connection.sent();
    peer.connection.flush(feed, turn.buffer.len());
    let mut moved = peer.connection.sent() - before;
    if let Phase::Lingering(close) = peer.connection.phase() {
        if peer.connection.can_receive()
            && let Received::Bytes(count) = peer.connection.receive(turn.buffer)
        {
            moved += count as u64;
        }
        // Its timer is due, or was, if it has none.
        if peer.timer.is_none() && close != Close::Stopping {
            peer.connection.abort(close, feed);
        }
    }
    let next = if peer.connection.can_receive() { Next::Turn } else { Next::Event };
    Served { next, moved, is_bulky: moved >= BULK }
}

/// Ends a connection on which nothing has moved for too long. Returns whether it could be written to after all.
fn end_if_inactive<S: Stream>(peers: &mut Peers<S>, id: Id, next: Next, turn: &Turn<'_>) -> bool {
    let timeouts = peers.timeouts;
    let Some((peer, feed, _)) = peers.borrow(id) else { return false };
    if let Phase::Lingering(_) | Phase::Closed(_) = peer.connection.phase() {
        return false;
    }
    peer.note_activity(false, turn.now);
    let overdue = |peer: &Peer<S>| peer.inactive_at(timeouts).filter(|(at, _)| *at <= turn.noted);
    let has_written = overdue(peer).is_some() && peer.try_write(feed, turn.buffer.len(), turn.now);
    if overdue(peer).is_some() && (next != Next::Event || peer.connection.is_held()) {
        // It has sent something, and it is the server that does not read it, or that has not passed it on.
        peer.note_activity(true, turn.now);
    }
    if let Some((_, close)) = overdue(peer) {
        match peer.connection.pending() {
            0 => peer.connection.end(close),
            _ => peer.connection.abort(close, feed),
        }
    }
    has_written
}

/// Tells the service that a peer takes no more part, unless it knows.
fn leave<S: Stream>(peers: &mut Peers<S>, service: &mut AnyService, id: Id, turn: &mut Turn<'_>) {
    let has_left = |peer: &Peer<S>| matches!(peer.state, State::Ended { .. });
    if peers.find(id).is_none_or(has_left) {
        return;
    }
    service.leave(peers, id, turn);
    if let Some((peer, ..)) = peers.borrow(id) {
        peer.state = State::Ended { is_refused: false };
    }
    peers.recount(id.key());
}
