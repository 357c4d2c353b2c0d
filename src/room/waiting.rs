//! Talkers that wait for the slowest member, and how long they do.

use std::mem;
use std::time::{Duration, Instant};

use super::delivery::BATCH;
use super::marks::Marks;
use super::quota::{Debts, Quotas};

use crate::address::PeerAddress;
use crate::config::RESERVE;
use crate::connection::Close;
use crate::feed::{BLOCK, Feed};
use crate::hub::peer::{Id, Peer, State};
use crate::hub::peers::Peers;
use crate::transport::Stream;

/// How often it is looked for stalled members while talkers that are not here wait and the slowest member makes progress.
const RECHECK: Duration = Duration::from_secs(1);

/// Who waits, and for whom.
#[derive(Debug)]
pub(super) struct Waiting {
    talkers: Vec<Id>,
    /// Where the slowest member was when it was last looked.
    floor: u64,
    /// When a member that talkers wait for may have stalled.
    stall_check: Option<Instant>,
    /// Whether talkers that are not here wait for the slowest member.
    is_waited_for: bool,
    quotas: Quotas,
    debts: Debts,
}

impl Waiting {
    pub(super) fn new(stall_timeout: Duration) -> Self {
        let quotas = Quotas::new(stall_timeout);
        Self { talkers: Vec::new(), floor: 0, stall_check: None, is_waited_for: false, quotas, debts: Debts::default() }
    }

    /// When [`reset_stalled`](Self::reset_stalled) has to be called though no event comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.stall_check
    }

    /// Whether talkers wait.
    pub(super) fn has_talkers(&self) -> bool {
        !self.talkers.is_empty()
    }

    /// A talker begins to wait.
    pub(super) fn push(&mut self, id: Id, now: Instant) {
        if self.talkers.is_empty() {
            self.stall_check = Some(now);
        }
        self.talkers.push(id);
    }

    /// Lets the talkers go on, if the slowest member, who is at `floor`, has caught up a little.
    pub(super) fn release<S: Stream>(&mut self, peers: &mut Peers<S>, floor: u64, now: Instant) {
        if floor == self.floor {
            return;
        }
        self.floor = floor;
        self.debts.take(floor);
        // Talkers that are here begin to wait again in their next turn.
        self.stall_check = self.is_waited_for.then(|| now + RECHECK);
        for id in self.talkers.drain(..) {
            if let Some((Peer { state: State::Member(member), .. }, ..)) = peers.borrow(id) {
                member.is_waiting = false;
                member.resume_at = None;
            }
            peers.schedule(id);
        }
    }

    /// Resets the members that talkers wait for, and that have made no progress for the stall timeout: they have taken
    /// neither enough nor everything that they have pending. A slow member that makes progress only sets the pace of
    /// talkers that say a lot. `is_waited_for` is whether talkers that are not here wait for the slowest member.
    pub(super) fn reset_stalled<S: Stream>(
        &mut self,
        peers: &mut Peers<S>,
        is_waited_for: bool,
        noted: Instant,
        now: Instant,
    ) {
        if is_waited_for && !mem::replace(&mut self.is_waited_for, is_waited_for) {
            self.stall_check = Some(noted);
        }
        self.is_waited_for = is_waited_for;
        if self.stall_check.is_none_or(|at| at > noted) {
            return;
        }
        self.talkers.retain(|id| {
            let Some((Peer { state: State::Member(member), .. }, ..)) = peers.borrow(*id) else { return false };
            member.is_waiting = member.resume_at.is_some();
            member.is_waiting
        });
        self.stall_check = None;
        if self.talkers.is_empty() && !is_waited_for {
            return;
        }
        let floor_end = peers.feed.floor_end();
        let mut stalled = Vec::new();
        peers.for_each(|id, peer, feed| {
            if peer.connection.first_shared().is_none_or(|at| at >= floor_end) {
                return false;
            }
            let timeout = self.quotas.timeout(peer.address.into(), now);
            let due = |peer: &Peer<S>| peer.stalled_since().map(|since| since + timeout);
            let has_written = due(peer).is_some_and(|at| at <= noted) && peer.try_write(feed, BATCH, now);
            match due(peer) {
                Some(at) if at <= noted && peer.connection.write_error().is_none() => stalled.push(id),
                Some(at) if self.stall_check.is_none_or(|check| at < check) => self.stall_check = Some(at),
                _ => {}
            }
            has_written || peer.connection.write_error().is_some()
        });
        for id in stalled {
            if let Some(peer) = peers.find(id) {
                self.charge(peer, now);
            }
            reset(peers, id);
        }
        peers.feed.trim();
    }

    /// Bytes that members with this peer's address, which have left, have said ahead of the slowest member.
    pub(super) fn debt<S: Stream>(&self, peer: &Peer<S>, floor: u64) -> usize {
        self.debts.of(peer.address.into(), floor)
    }

    /// A member leaves, which has `said` this ahead of the slowest one.
    pub(super) fn owe(&mut self, address: PeerAddress, said: Marks, max_ahead: usize) {
        self.debts.add(address.into(), said, max_ahead);
    }

    /// Whether talkers wait for this peer.
    pub(super) fn is_waited_for<S: Stream>(&self, peer: &Peer<S>, feed: &Feed) -> bool {
        let is_slowest = peer.connection.first_shared().is_some_and(|at| at < feed.floor_end());
        is_slowest && (self.is_waited_for || !self.talkers.is_empty())
    }

    /// Charges the address of a peer that talkers wait for, and that is about to go, for the time in which it made no
    /// progress.
    pub(super) fn charge<S: Stream>(&mut self, peer: &Peer<S>, now: Instant) {
        if let Some(since) = peer.stalled_since() {
            self.quotas.charge(peer.address.into(), now.saturating_duration_since(since), now);
        }
    }
}

/// Where memory has run out, resets members until it suffices: the one that is furthest behind, or, if what is pending
/// for single members takes more than the feed, the one that has most pending for itself alone.
pub(super) fn keep_within_memory<S: Stream>(peers: &mut Peers<S>) {
    // One block is always there to be appended to.
    let shared = |peers: &Peers<S>| peers.feed.held().saturating_sub(BLOCK);
    let is_over = |peers: &Peers<S>| shared(peers) + peers.memory.excess() > peers.memory.max();
    if !is_over(peers) {
        return;
    }
    let place = |(id, peer): (Id, &Peer<S>)| peer.connection.first_shared().map(|at| (at, id));
    let mut behind: Vec<(u64, Id)> = peers.iter().filter_map(place).collect();
    behind.sort_unstable_by(|one, other| other.cmp(one));
    let has_own = |(_, peer): &(Id, &Peer<S>)| peer.connection.private_pending() > 0 && peer.held() > RESERVE;
    let own = |(id, peer): (Id, &Peer<S>)| (peer.connection.held(), id);
    let mut greedy: Vec<(usize, Id)> = peers.iter().filter(has_own).map(own).collect();
    greedy.sort_unstable();
    while is_over(peers) {
        let (slowest, greediest) = (behind.last().map(|(_, id)| *id), greedy.last().map(|(_, id)| *id));
        let id = if shared(peers) >= peers.memory.excess() { slowest.or(greediest) } else { greediest.or(slowest) };
        let Some(id) = id else { return };
        behind.pop_if(|(_, slowest)| *slowest == id);
        greedy.pop_if(|(_, greediest)| *greediest == id);
        reset(peers, id);
        peers.feed.trim();
    }
}

fn reset<S: Stream>(peers: &mut Peers<S>, id: Id) {
    if let Some((peer, feed, _)) = peers.borrow(id)
        && peer.connection.pending() > 0
    {
        peer.connection.abort(Close::TooSlow, feed);
        peers.recount(id.key());
        peers.schedule(id);
    }
}
