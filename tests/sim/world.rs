//! The world around a hub: a clock that stands still unless it is moved, a poll that tells edges, and the
//! order of a turn that the server keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use fastrand::Rng;
use sockets::Config;
use sockets::Event;
use sockets::PeerAddress;
use sockets::connection::Ready;
use sockets::hub::Hub;
use sockets::room::LogSide;
use sockets::shared_log::LogEvent;
use sockets::transport::Stream;

use crate::socket::{self, Client, Edge, Nature, Socket};

/// How many turns in a row may do nothing to any stream though the hub asked for them, one more for each
/// peer: each may be found drained once. More of them are a spin.
const FRUITLESS_TURNS: usize = 2;

/// How events come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poll {
    /// Each edge once, all of them with the next poll.
    Genuine,
    /// Each edge once, but some only with a later poll, as where more come than one poll can tell. Until all are told,
    /// no deadline may expire that has passed since.
    Late,
    /// Also events that say too much, for nothing, or to a peer that is gone.
    Spurious,
}

pub(crate) struct World<S = Socket> {
    pub(crate) hub: Hub<S>,
    pub(crate) now: Instant,
    /// All events that came until then have been told to the hub.
    pub(crate) noted: Instant,
    poll: Poll,
    random: Rng,
    /// The sockets that the hub holds, by their keys.
    clients: BTreeMap<usize, Client>,
    /// The keys of those of whose end an event has told, rightly or not.
    told_of_end: BTreeSet<usize>,
    /// How many clients ever came.
    arrivals: u32,
    fruitless_turns: usize,
}

impl World {
    pub(crate) fn new(config: &Config, poll: Poll, random: Rng) -> Self {
        Self::with(Hub::new(config), poll, random, Instant::now())
    }

    /// Accepts a new client, the last thing in a turn, from a host of its own.
    pub(crate) fn accept(&mut self, nature: Nature) -> (PeerAddress, Client) {
        self.accept_from(Ipv4Addr::from_bits((10 << 24) + self.arrivals + 1), nature)
    }

    /// Accepts a new client from `host`. No two ever have the same address.
    pub(crate) fn accept_from(&mut self, host: Ipv4Addr, nature: Nature) -> (PeerAddress, Client) {
        self.arrivals += 1;
        let address = SocketAddr::from((host, self.arrivals as u16)).into();
        let (socket, client) = socket::connection(nature);
        self.admit(socket, address, client.clone());
        (address, client)
    }

    /// Accepts a client only to send it away with `notice`.
    pub(crate) fn turn_away(&mut self, nature: Nature, notice: &str) -> (PeerAddress, Client) {
        let key = self.hub.next_key();
        self.arrivals += 1;
        let address = SocketAddr::from((Ipv4Addr::from_bits((10 << 24) + self.arrivals), 7)).into();
        let (socket, client) = socket::connection(nature);
        self.hub.refuse(socket, address, notice, self.now);
        assert!(self.clients.insert(key, client.clone()).is_none(), "a key given twice");
        (address, client)
    }
}

impl<S: Stream> World<S> {
    /// A world that began at `now`, around a hub that has no clients yet.
    pub(crate) fn with(hub: Hub<S>, poll: Poll, random: Rng, now: Instant) -> Self {
        Self {
            hub,
            now,
            noted: now,
            poll,
            random,
            clients: BTreeMap::new(),
            told_of_end: BTreeSet::new(),
            arrivals: 0,
            fruitless_turns: 0,
        }
    }

    /// Admits `stream`, whose other end is `client`.
    pub(crate) fn admit(&mut self, stream: S, address: PeerAddress, client: Client) -> usize {
        let key = self.hub.next_key();
        assert_eq!(self.hub.insert(stream, address, self.now), key, "not the key that was promised");
        assert!(self.clients.insert(key, client).is_none(), "a key given twice");
        key
    }

    /// The side of the room that talks to the log.
    pub(crate) fn log_side(&mut self) -> LogSide<'_> {
        self.hub.log_side().expect("a room that spans servers")
    }

    /// The log says something to the hub.
    pub(crate) fn tell(&mut self, event: LogEvent) {
        self.fruitless_turns = 0;
        self.log_side().on_event(event);
    }

    /// Waits as the server does, but never longer than not at all, and tells the hub what became ready.
    /// Returns whether there is a reason for a turn: a turn without one would hide work that was forgotten.
    pub(crate) fn poll(&mut self) -> bool {
        let mut is_woken = self.hub.has_work() || self.hub.deadline().is_some_and(|at| at <= self.now);
        let mut keys: Vec<usize> = self.clients.keys().copied().collect();
        self.random.shuffle(&mut keys);
        for key in keys {
            let client = &self.clients[&key];
            if client.has_edge() && (self.poll != Poll::Late || self.random.u8(..4) > 0) {
                self.note(key, client.take_edge());
                is_woken = true;
            }
        }
        self.note_time();
        if self.poll == Poll::Spurious && self.random.u8(..4) == 0 {
            let random = &mut self.random;
            let key = random.usize(..self.clients.len() + 2);
            let edge = Edge {
                readable: random.bool(),
                writable: random.bool(),
                read_closed: random.u8(..8) == 0,
                error: false,
            };
            self.note(key, edge);
            is_woken = true;
        }
        is_woken
    }

    fn note_time(&mut self) {
        if !self.clients.values().any(Client::has_edge) {
            self.noted = self.now;
        }
    }

    fn note(&mut self, key: usize, edge: Edge) {
        self.fruitless_turns = 0;
        if let Some(client) = self.clients.get(&key) {
            client.note_told(edge);
            if edge.read_closed {
                self.told_of_end.insert(key);
            }
        }
        let Edge { readable, writable, read_closed, error } = edge;
        self.hub.on_ready(key, Ready { readable, writable, read_closed, error });
    }

    /// A turn and the reaping after it.
    pub(crate) fn turn(&mut self, mut on_event: impl FnMut(Event<'_>)) {
        let has_work = self.hub.has_work();
        let before = self.deeds();
        let mut has_told = false;
        self.hub.turn(self.now, self.noted, |event| {
            has_told = true;
            on_event(event);
        });
        for ((key, client), old) in self.clients.iter().zip(&before) {
            // Twice only to find the end of which an event has told.
            let most = if self.told_of_end.contains(key) { 2 } else { 1 };
            assert!(client.record().reads <= old.0 + most, "one peer was read from twice in a turn");
        }
        self.hub.reap(self.now);
        let is_fruitless = !has_told && self.deeds().iter().zip(&before).all(|(new, old)| new.1 == old.1);
        self.fruitless_turns = if has_work && is_fruitless { self.fruitless_turns + 1 } else { 0 };
        assert!(self.fruitless_turns <= FRUITLESS_TURNS + self.clients.len(), "the hub spins");
        let deadline = self.hub.deadline();
        let has_passed = deadline.is_some_and(|at| at <= self.noted);
        assert!(!has_passed || self.hub.has_work(), "the hub wants to be woken in the past");
        self.clients.retain(|_, client| !client.record().is_dropped);
        self.told_of_end.retain(|key| self.clients.contains_key(key));
        assert_eq!(self.hub.is_empty(), self.clients.is_empty());
    }

    /// The hub gives up the peers that are left.
    pub(crate) fn abandon(&mut self, on_event: impl FnMut(Event<'_>)) {
        drop(self.hub.abandon(self.now, on_event));
        assert!(self.hub.is_empty(), "somebody was not given up");
        self.clients.clear();
    }

    /// What was done to each stream so far: the calls of read, and all that is progress.
    fn deeds(&self) -> Vec<(usize, usize)> {
        let deed = |client: &Client| {
            let record = client.record();
            let moved = record.taken + record.given + record.discarded + record.interruptions;
            let ends = [record.has_told_end, record.is_finished, record.is_dropped];
            (record.reads, moved + ends.iter().filter(|&&has| has).count())
        };
        self.clients.values().map(deed).collect()
    }

    /// Whether the server would wait for something to happen now.
    pub(crate) fn is_idle(&self) -> bool {
        !self.hub.has_work() && !self.clients.values().any(Client::has_edge)
    }

    /// Lets the time pass until the hub wants to be woken. Returns whether it does.
    pub(crate) fn sleep(&mut self) -> bool {
        let Some(deadline) = self.hub.deadline() else { return false };
        self.pass(deadline.saturating_duration_since(self.now));
        self.note_time();
        true
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}
