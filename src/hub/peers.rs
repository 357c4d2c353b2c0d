//! The table of peers, their queues and timers, and the memory that is held for them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::mem;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use slab::Slab;

use super::activity::Timeouts;
use super::memory::Memory;
use super::peer::{Due, Id, Peer, Place, State};
use super::queues::Queues;
use crate::address::PeerAddress;
use crate::config::{Config, RESERVE};
use crate::connection::{Connection, Ready};
use crate::event::Event;
use crate::feed::Feed;
use crate::transport::Stream;

/// How many entries the tables keep though they are not needed.
const KEPT_ENTRIES: usize = 1024;

/// How many peers are checked at the end of each turn in debug builds.
const CHECKED: usize = 256;

/// One turn: what a service is given while it serves a peer.
pub(crate) struct Turn<'a> {
    /// When the turn began.
    pub(crate) now: Instant,
    /// All events that came until then have been noted: only deadlines until then may have passed in silence.
    pub(crate) noted: Instant,
    /// Where reads go to.
    pub(crate) buffer: &'a mut [u8],
    /// Takes what happened.
    pub(crate) on_event: &'a mut dyn FnMut(Event<'_>),
}

/// All peers.
#[derive(Debug)]
pub(crate) struct Peers<S> {
    slab: Slab<Peer<S>>,
    pub(super) queues: Queues,
    /// When to serve a peer though no event comes. An entry that is not [`Peer::timer`] is ignored.
    timers: BinaryHeap<Reverse<(Due, Id)>>,
    /// What [`Due`] counts from.
    epoch: Instant,
    pub(super) timeouts: Timeouts,
    pub(crate) memory: Memory,
    /// What is to be sent to many of them.
    pub(crate) feed: Feed,
    /// How many were only accepted to be refused.
    refused: usize,
    /// The most peers there have been since the tables were last shrunk.
    most: usize,
    /// The number of the newest peer: they are counted, and no number is given twice.
    last_serial: u64,
}

impl<S: Stream> Peers<S> {
    /// No peers yet, beside a service that takes `base` bytes of memory.
    pub(super) fn new(config: &Config, base: usize) -> Self {
        Self {
            slab: Slab::new(),
            queues: Queues::default(),
            timers: BinaryHeap::new(),
            epoch: Instant::now(),
            timeouts: Timeouts::new(config),
            memory: Memory::new(config, base),
            feed: Feed::default(),
            refused: 0,
            most: KEPT_ENTRIES,
            last_serial: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn refused(&self) -> usize {
        self.refused
    }

    /// How many peers there have been, those of now included.
    pub(super) fn total(&self) -> u64 {
        self.last_serial
    }

    pub(super) fn next_key(&self) -> usize {
        self.slab.vacant_key()
    }

    pub(super) fn insert(&mut self, stream: S, address: PeerAddress, state: State, now: Instant) -> Id {
        self.last_serial += 1;
        let peer = Peer {
            connection: Connection::new(stream),
            address,
            state,
            serial: self.last_serial,
            activity: self.timeouts.watch(now),
            timer: None,
            counted: 0,
            place: Place::Idle,
            has_starved: false,
            is_bulky: false,
        };
        self.refused += usize::from(peer.is_refused());
        let key = self.slab.insert(peer);
        self.most = self.most.max(self.slab.len());
        self.recount(key);
        self.arm(key);
        Id { serial: self.last_serial, key }
    }

    pub(super) fn remove(&mut self, key: usize) -> Peer<S> {
        let peer = self.slab.remove(key);
        self.memory.change(peer.counted, 0);
        self.refused -= usize::from(peer.is_refused());
        peer
    }

    /// All peers, for a server that gives them up.
    pub(super) fn take(&mut self) -> Slab<Peer<S>> {
        (self.queues, self.refused) = (Queues::default(), 0);
        let mut slab = std::mem::take(&mut self.slab);
        for (_, peer) in &mut slab {
            self.memory.change(std::mem::take(&mut peer.counted), 0);
        }
        slab
    }

    /// The peer, if it is still there, with the feed and the accounting of the memory.
    pub(crate) fn borrow(&mut self, id: Id) -> Option<(&mut Peer<S>, &mut Feed, &mut Memory)> {
        let peer = self.slab.get_mut(id.key).filter(|peer| peer.serial == id.serial)?;
        Some((peer, &mut self.feed, &mut self.memory))
    }

    /// The peer, if it is still there.
    pub(crate) fn find(&self, id: Id) -> Option<&Peer<S>> {
        self.slab.get(id.key).filter(|peer| peer.serial == id.serial)
    }

    /// The peer, if it is still there.
    pub(crate) fn find_mut(&mut self, id: Id) -> Option<&mut Peer<S>> {
        self.slab.get_mut(id.key).filter(|peer| peer.serial == id.serial)
    }

    /// Passes an event on to a connection, and tells whose it is.
    pub(super) fn note_ready(&mut self, key: usize, ready: Ready) -> Option<Id> {
        let peer = self.slab.get_mut(key)?;
        peer.connection.on_ready(ready);
        Some(peer.id(key))
    }

    pub(super) fn get(&mut self, key: usize) -> Option<&mut Peer<S>> {
        self.slab.get_mut(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, &Peer<S>)> {
        self.slab.iter().map(|(key, peer)| (peer.id(key), peer))
    }

    /// Calls `work` for each peer that there is, and counts anew what is held for it. `work` returns whether the peer
    /// has to be served.
    pub(crate) fn for_each(&mut self, mut work: impl FnMut(Id, &mut Peer<S>, &mut Feed) -> bool) {
        for (key, peer) in &mut self.slab {
            let is_wanted = work(peer.id(key), peer, &mut self.feed);
            let held = peer.held();
            self.memory.change(peer.counted, held);
            peer.counted = held;
            if is_wanted {
                schedule(key, peer, &mut self.queues);
            }
        }
    }

    /// Counts anew what is held for a peer, after something was queued for it or taken from it.
    pub(crate) fn recount(&mut self, key: usize) {
        let peer = &mut self.slab[key];
        let held = peer.held();
        self.memory.change(peer.counted, held);
        peer.counted = held;
    }

    /// Gives a peer a turn, if it has none coming.
    pub(crate) fn schedule(&mut self, id: Id) {
        if let Some(peer) = self.slab.get_mut(id.key).filter(|peer| peer.serial == id.serial) {
            schedule(id.key, peer, &mut self.queues);
        }
    }

    /// Queues a peer that could be read from if others gave memory back.
    pub(super) fn wait_for_memory(&mut self, id: Id) {
        let peer = &mut self.slab[id.key];
        peer.place = Place::Starved;
        if !mem::replace(&mut peer.has_starved, true) {
            self.queues.starved.push_back(id);
        }
    }

    /// Gives turns to as many starved peers as there is memory for.
    pub(super) fn wake_starved(&mut self) {
        self.memory.recover(self.feed.held());
        let mut free = self.memory.max().saturating_sub(self.memory.held() + self.feed.held());
        while free >= RESERVE
            && let Some(id) = self.queues.starved.pop_front()
        {
            let Some(peer) = self.find_mut(id) else { continue };
            peer.has_starved = false;
            if peer.place == Place::Starved {
                self.schedule(id);
                free -= RESERVE;
            }
        }
    }

    /// Sets a peer's timer to the earliest of its deadlines. A peer that is settled gets its next turn without one.
    pub(super) fn arm(&mut self, key: usize) {
        let peer = &self.slab[key];
        if peer.place != Place::Settled
            && let Some(at) = peer.deadline(self.timeouts)
            && peer.timer.is_none_or(|timer| self.due(at) < timer)
        {
            self.arm_at(key, at);
        }
    }

    /// Sets a peer's timer, whatever it was set to before.
    pub(super) fn arm_at(&mut self, key: usize, at: Instant) {
        let due = self.due(at);
        let peer = &mut self.slab[key];
        peer.timer = Some(due);
        self.timers.push(Reverse((due, peer.id(key))));
        if self.timers.len() > KEPT_ENTRIES + 2 * self.slab.len() {
            self.forget_timers();
        }
    }

    /// Gives turns to the peers whose timers are due. Whether a deadline has really passed is seen in that turn, after
    /// what had arrived has been read.
    pub(super) fn expire(&mut self, noted: Instant) {
        let noted = self.due(noted);
        while let Some(&Reverse((due, id))) = self.timers.peek()
            && due <= noted
        {
            self.timers.pop();
            if let Some(peer) = self.find_mut(id).filter(|peer| peer.timer == Some(due)) {
                peer.timer = None;
                self.schedule(id);
            }
        }
        self.forget_first_timers();
    }

    pub(super) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Forgets timers that would be due next and that peers do not have any more, so that no turn is taken for them.
    fn forget_first_timers(&mut self) {
        while self.timers.peek().is_some_and(|Reverse(timer)| !is_set(&self.slab, *timer)) {
            self.timers.pop();
        }
    }

    /// Forgets timers that peers do not have any more.
    fn forget_timers(&mut self) {
        let slab = &self.slab;
        self.timers.retain(|Reverse(timer)| is_set(slab, *timer));
        self.timers.shrink_to(KEPT_ENTRIES);
    }

    fn due(&self, at: Instant) -> Due {
        let nanoseconds = at.saturating_duration_since(self.epoch).as_nanos();
        Due(NonZeroU64::MIN.saturating_add(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    }

    /// When the next timer is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((due, _))| self.epoch + Duration::from_nanos(due.0.get() - 1))
    }

    /// Forgets entries of peers that are gone, and gives back the tables of many that are. What it
    /// costs grows with what is there, but so much must have changed since the last time that each peer pays
    /// for a small part of it.
    pub(super) fn shrink(&mut self) {
        if self.timers.len() > KEPT_ENTRIES + 2 * self.slab.len() {
            self.forget_timers();
        }
        self.forget_first_timers();
        let Self { slab, queues, .. } = self;
        let is_there = |id: Id| slab.get(id.key).is_some_and(|peer| peer.serial == id.serial);
        if queues.starved.len() > KEPT_ENTRIES + 2 * slab.len() {
            queues.starved.retain(|id| is_there(*id));
            queues.starved.shrink_to(KEPT_ENTRIES);
        }
        if self.most > KEPT_ENTRIES && slab.len() < self.most / 4 {
            self.most = slab.len().max(KEPT_ENTRIES);
            // As far as no peer is behind the free places.
            slab.shrink_to_fit();
            queues.shrink_to(KEPT_ENTRIES);
        }
        if slab.is_empty() && slab.capacity() > 2 * KEPT_ENTRIES {
            *slab = Slab::new();
        }
    }

    /// Checks, in debug builds, what has to be true at the end of each turn; of many peers only now and then, because this
    /// looks at all of them.
    pub(super) fn check(&self) {
        if cfg!(debug_assertions) && (self.slab.len() <= CHECKED || self.last_serial.is_multiple_of(CHECKED as u64)) {
            let mut places = [0; 6];
            let (mut held, mut excess) = (self.memory.base(), self.memory.base());
            for (_, peer) in &self.slab {
                places[peer.place as usize] += 1;
                assert_eq!(peer.counted, peer.held(), "a peer's memory was not counted anew");
                let has_timer = peer.timer.is_some() || peer.place != Place::Idle;
                assert!(has_timer || peer.deadline(self.timeouts).is_none(), "a deadline without a timer");
                held += peer.counted;
                excess += peer.counted.saturating_sub(RESERVE);
            }
            assert_eq!(
                (held, excess),
                (self.memory.held(), self.memory.excess()),
                "the accounting of the memory is wrong"
            );
            let [_, served, swift, bulky, starved, settled] = places;
            assert_eq!(
                (0, swift, bulky, settled),
                (served, self.queues.swift.len(), self.queues.bulky.len(), self.queues.settled.len()),
                "place and queue disagree"
            );
            assert!(starved <= self.queues.starved.len(), "a starved peer is in no queue");
        }
    }
}

/// Whether the peer has this timer still.
fn is_set<S>(slab: &Slab<Peer<S>>, (due, id): (Due, Id)) -> bool {
    slab.get(id.key).is_some_and(|peer| peer.serial == id.serial && peer.timer == Some(due))
}

fn schedule<S>(key: usize, peer: &mut Peer<S>, queues: &mut Queues) {
    let (place, queue): (Place, &mut VecDeque<usize>) = match peer.place {
        Place::Served | Place::Swift | Place::Bulky | Place::Settled => return,
        Place::Idle | Place::Starved if peer.is_bulky => (Place::Bulky, &mut queues.bulky),
        Place::Idle | Place::Starved => (Place::Swift, &mut queues.swift),
    };
    peer.place = place;
    queue.push_back(key);
}
