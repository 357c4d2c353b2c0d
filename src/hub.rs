//! The core: the table of peers, and what is done for each of them in a turn.
//!
//! Nothing here knows of sockets, clocks or logs: streams are anything that implements
//! [`Stream`], the time comes in as an argument, and what happened goes out as an [`Event`]. A turn serves
//! the peers that have something to do, each once: what it is owed is sent, one read is taken in and echoed, or
//! relayed. What is left over stays on the work list for the next turn, and of those in the middle of a long
//! transfer only the first is served in each, after all others: nobody waits for more than one such read.

mod buffer;
mod echo;
mod life;
mod peer;
mod relay;
mod upkeep;
mod work;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::config::{Config, FOREVER, Log, RESERVE};
use crate::connection::{Close, Connection, Phase};
use crate::event::Event;
use crate::feed::Feed;
use crate::message::PAUSE;
use crate::transport::Stream;
use buffer::{READ_BUFFER, ReadBuffer};
use life::{Life, Timeouts};
use peer::{Limits, Outlook, Peer, Ticket, Timer};
use relay::Relay;
use work::Work;

/// A peer that moves so many bytes in its turn, in both directions together, is in the middle of a transfer.
const BULK: u64 = 64 << 10;

/// How long a connection that we ended waits for its peer to end it too.
const LINGER: Duration = Duration::from_secs(2);

/// How many entries the tables of peers keep though they are not needed.
const KEPT_ENTRIES: usize = 1024;

/// The peers of one server, and what is held for them.
#[derive(Debug)]
pub struct Hub<S> {
    peers: Slab<Peer<S>>,
    /// How many of them were only taken in to be turned away.
    turned_away: usize,
    /// The most peers there have been since the tables were last shrunk.
    most_peers: usize,
    /// The number of the newest peer: they are counted, and no number is given twice.
    last_serial: u64,
    work: Work,
    /// Keys of the peers that wait for [`Hub::reap`].
    settled: Vec<usize>,
    /// When to look at a peer though no event comes.
    timers: BinaryHeap<Reverse<(Instant, Ticket, Timer)>>,
    /// Peers that could be read from if others gave memory back, the longest waiting first.
    starved: VecDeque<Ticket>,
    buffer: ReadBuffer,
    /// How many bytes are held for the peers, each for one alone.
    held: usize,
    /// What is held for many of them at once.
    feed: Feed,
    limits: Limits,
    timeouts: Timeouts,
    /// What has gone through connections that are over.
    past: Traffic,
    /// There if peers are relayed to each other instead of echoed.
    relay: Option<Relay>,
}

/// Peers that were given up. When this is dropped, after the log lines of it have been written, they see their end.
#[derive(Debug)]
#[must_use]
pub struct Abandoned<S>(#[expect(dead_code, reason = "it is only to be dropped")] Slab<Peer<S>>);

/// How many bytes have gone, and in how many messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that were taken in from clients.
    pub received: u64,
    /// Bytes that were handed to clients' sockets.
    pub sent: u64,
    /// How many connections there were.
    pub connections: u64,
}

impl<S: Stream> Hub<S> {
    /// A hub without peers, with the limits of `config`.
    pub fn new(config: &Config) -> Self {
        let shows_messages = config.log >= Log::Messages;
        Self {
            peers: Slab::new(),
            turned_away: 0,
            most_peers: KEPT_ENTRIES,
            last_serial: 0,
            work: Work::default(),
            settled: Vec::new(),
            timers: BinaryHeap::new(),
            starved: VecDeque::new(),
            buffer: ReadBuffer::new(),
            held: 0,
            feed: Feed::default(),
            limits: Limits {
                max_memory: config.max_memory,
                max_pending: config.max_pending.max(RESERVE),
                max_text: if shows_messages { config.log_max.saturating_add("\r\n".len()) } else { 0 },
            },
            timeouts: Timeouts {
                idle: config.idle_timeout.map(|timeout| timeout.min(FOREVER)),
                // A room has a rule of its own for those who take nothing.
                stall: config.stall_timeout.filter(|_| !config.chat).map(|timeout| timeout.min(FOREVER)),
            },
            past: Traffic::default(),
            relay: config.chat.then(|| Relay::new(config)),
        }
    }

    /// How many peers there are.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// How many of them were only taken in to be [turned away](Self::turn_away).
    pub fn turned_away(&self) -> usize {
        self.turned_away
    }

    /// Whether there is no peer.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The key that [`insert`](Self::insert) will give to the next peer.
    pub fn next_key(&self) -> usize {
        self.peers.vacant_key()
    }

    /// Takes in a peer and returns its key, by which events name it. Keys of peers that were dropped are
    /// given out again, so no event of an earlier peer may be left over.
    pub fn insert(&mut self, stream: S, address: SocketAddr, now: Instant) -> usize {
        self.last_serial += 1;
        let key = self.peers.insert(Peer {
            connection: Connection::new(stream),
            address,
            serial: self.last_serial,
            unfinished: None,
            hearing: self.relay.is_some().then(Box::default),
            life: self.timeouts.is_any().then(|| Box::new(Life::new(now))),
            is_turned_away: false,
            is_working: false,
            is_settled: false,
            is_timed: false,
            is_starved: false,
            is_slow: false,
            is_bulky: false,
        });
        self.most_peers = self.most_peers.max(self.peers.len());
        if let Some(timeout) = self.timeouts.idle {
            let ticket = Ticket { serial: self.last_serial, key };
            self.timers.push(Reverse((now + timeout, ticket, Timer::Idle)));
        }
        if self.relay.is_some() {
            // It joins the room without having to say anything.
            self.peers[key].schedule(key, &mut self.work);
        }
        key
    }

    /// Takes in a peer only to tell it `notice` and end the connection.
    pub fn turn_away(&mut self, stream: S, address: SocketAddr, notice: &str, now: Instant) {
        let key = self.insert(stream, address, now);
        let peer = &mut self.peers[key];
        peer.is_turned_away = true;
        peer.hearing = None;
        peer.connection.owe(notice.as_bytes());
        peer.connection.end(Close::Full);
        self.turned_away += 1;
        self.held += peer.held();
        peer.schedule(key, &mut self.work);
    }

    /// Notes that a peer's stream may be ready. Does no I/O; a key that is not in use is ignored.
    pub fn on_ready(&mut self, key: usize, readable: bool, writable: bool, read_closed: bool) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.connection.on_ready(readable, writable, read_closed);
        peer.schedule(key, &mut self.work);
    }

    /// Serves the peers that have something to do, each at most once, and tells what happened.
    ///
    /// `now` is the time at which the turn began. Every turn is followed by a [`reap`](Self::reap).
    pub fn turn(&mut self, now: Instant, mut on_event: impl FnMut(Event<'_>)) {
        debug_assert!(self.settled.is_empty(), "a turn without a reap");
        // Those that are not through by then are behind these, for the next turn.
        let (swift, bulky) = self.work.len();
        for _ in 0..swift {
            // What was said is brought to the members first.
            if self.relay.as_ref().is_some_and(|relay| relay.is_full(&self.feed)) {
                break;
            }
            let Some(key) = self.work.pop_swift() else { break };
            self.serve(key, now, &mut on_event);
        }
        let mut moved = 0;
        for _ in 0..bulky {
            if moved >= READ_BUFFER as u64 {
                break;
            }
            let Some(key) = self.work.pop_bulky() else { break };
            moved += self.serve(key, now, &mut on_event);
        }
        self.expire(now, &mut on_event);
        self.relay(now);
    }

    /// Whether another [`turn`](Self::turn) can make progress without an event.
    pub fn has_work(&self) -> bool {
        !self.work.is_empty() || self.relay.as_ref().is_some_and(|relay| relay.has_undelivered(&self.feed))
    }

    /// When [`turn`](Self::turn) has to be called again, though no event comes.
    pub fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, ..))| *at);
        let stall = self.relay.as_ref().and_then(Relay::deadline);
        timer.into_iter().chain(stall).min()
    }

    /// Whether a [`reap`](Self::reap) will end or half-close connections, which their clients will see.
    pub fn has_settled(&self) -> bool {
        !self.settled.is_empty()
    }

    /// Drops the connections that are over, and half-closes those that are owed nothing more but wait for
    /// their peer. Comes after the log lines of the turn have been written: a client that sees the end of
    /// its connection finds its line in the log. Returns whether a stream was dropped.
    pub fn reap(&mut self, now: Instant) -> bool {
        let mut has_dropped = false;
        for key in self.settled.drain(..) {
            let peer = &mut self.peers[key];
            peer.is_settled = false;
            let phase = peer.connection.phase();
            if peer.connection.depart() {
                self.past.received += peer.connection.received();
                self.past.sent += peer.connection.sent();
                self.held -= peer.held();
                self.turned_away -= usize::from(peer.is_turned_away);
                peer.connection.clear(&mut self.feed);
                self.peers.remove(key);
                has_dropped = true;
                continue;
            }
            peer.schedule(key, &mut self.work);
            // While stopping it is the grace that ends the waiting.
            if phase != Phase::Draining(Close::Stopping) {
                let ticket = Ticket { serial: peer.serial, key };
                self.timers.push(Reverse((now + LINGER, ticket, Timer::Linger)));
            }
        }
        if has_dropped {
            self.forget_dropped();
        }
        // Not before: those that are dropped give memory back too.
        self.feed.trim();
        if let Some(relay) = &mut self.relay {
            relay.watch_slow(&mut self.peers, self.held + self.feed.held(), &mut self.work, now);
        }
        self.feed_starved();
        has_dropped
    }

    /// Winds up: every peer is answered what had arrived by now and sent what it is owed, then half-closed
    /// and waited for; one that has been sent everything is closed at once. [`turn`](Self::turn) and
    /// [`reap`](Self::reap) do the work, and [`is_empty`](Self::is_empty) tells when it is done.
    pub fn drain(&mut self) {
        for (key, peer) in &mut self.peers {
            peer.connection.stop_reading();
            let is_silent = self.relay.is_none() && peer.connection.phase() == Phase::Stopping(0);
            if is_silent && peer.connection.has_sent_all() {
                peer.connection.abort(Close::Stopping);
            }
            peer.schedule(key, &mut self.work);
        }
        if let Some(relay) = &mut self.relay {
            relay.stop();
        }
    }

    /// Gives up the peers that are still there, and tells of them.
    pub fn abandon(&mut self, mut on_event: impl FnMut(Event<'_>)) -> Abandoned<S> {
        let mut peers = mem::take(&mut self.peers);
        for (_, peer) in &mut peers {
            peer.end_message(&mut on_event);
            peer.connection.break_off_if_owed();
            peer.connection.clear(&mut self.feed);
            let close = match peer.connection.phase() {
                Phase::Draining(close) | Phase::Lingering(close) | Phase::Closed(close) => close,
                Phase::Open | Phase::Stopping(_) => Close::Stopping,
            };
            peer.tell_closed(close, &mut on_event);
        }
        (self.held, self.turned_away) = (0, 0);
        self.feed.trim();
        Abandoned(peers)
    }

    /// What has gone through all connections, those of now and those that are over.
    pub fn traffic(&self) -> Traffic {
        let mut traffic = Traffic { connections: self.last_serial, ..self.past };
        for (_, peer) in &self.peers {
            traffic.received += peer.connection.received();
            traffic.sent += peer.connection.sent();
        }
        traffic
    }

    /// How many bytes are held for all peers: what they are owed, and what is kept of unfinished messages.
    /// At most [`Config::max_memory`] plus [`RESERVE`] for each peer. In a room, what is said in one turn comes on
    /// top where that is less than sixteen of its longest lines, or 1 MiB.
    pub fn held(&self) -> usize {
        self.held + self.feed.held()
    }

    /// Gives a peer its turn. Returns how many bytes it moved, in either direction.
    fn serve(&mut self, key: usize, now: Instant, on_event: &mut impl FnMut(Event<'_>)) -> u64 {
        let Some(peer) = self.peers.get_mut(key) else { return 0 };
        peer.is_working = false;
        let moved_before = peer.connection.received() + peer.connection.sent();
        let ticket = Ticket { serial: peer.serial, key };
        let held_by_others = self.held - peer.held();

        let buffer = self.buffer.bytes();
        peer.connection.flush(&mut self.feed, buffer.len());
        let outlook = if let Some(relay) = &mut self.relay {
            let held = held_by_others + peer.held() + self.feed.held();
            let is_open = relay.is_open(held);
            relay.hear(peer, ticket, held, buffer, &mut self.feed, on_event);
            peer.relay_outlook(is_open)
        } else {
            peer.echo(buffer, &self.limits, held_by_others, now, on_event);
            peer.echo_outlook(&self.limits, held_by_others)
        };
        let has_settled = peer.connection.settle();
        self.held = held_by_others + peer.held();
        peer.note_life(now);
        let moved = peer.connection.received() + peer.connection.sent() - moved_before;
        // In a room a turn brings so little that nobody has to wait for another.
        peer.is_bulky = self.relay.is_none() && moved >= BULK;

        if has_settled {
            if let Phase::Closed(close) = peer.connection.phase() {
                peer.tell_closed(close, on_event);
            }
            peer.is_settled = true;
            self.settled.push(key);
            return moved;
        }
        if peer.unfinished.is_some() && !mem::replace(&mut peer.is_timed, true) {
            self.timers.push(Reverse((now + PAUSE, ticket, Timer::Pause)));
        }
        if let Some(at) = peer.stall_watch(&self.timeouts) {
            self.timers.push(Reverse((at, ticket, Timer::Stall)));
        }
        match outlook {
            _ if peer.connection.can_flush() => peer.schedule(key, &mut self.work),
            Outlook::Busy => peer.schedule(key, &mut self.work),
            Outlook::Starved if !mem::replace(&mut peer.is_starved, true) => self.starved.push_back(ticket),
            Outlook::Starved | Outlook::Waiting => {}
        }
        moved
    }

    /// Brings what was said in the room to its members, and notes who holds the others up.
    fn relay(&mut self, now: Instant) {
        let Some(relay) = &mut self.relay else { return };
        let is_over = relay.announce_end(&self.peers, &mut self.feed);
        relay.deliver(&mut self.peers, &mut self.feed, &mut self.held, &mut self.work, now);
        if is_over {
            for (key, peer) in &mut self.peers {
                peer.connection.end(Close::Stopping);
                peer.schedule(key, &mut self.work);
            }
        }
    }
}
