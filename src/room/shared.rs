//! A room that spans servers: what members do takes effect when the log that the servers share says so.
//!
//! What a member of this server does becomes an [`Op`], and nothing else happens until it comes back from the log as a
//! [`Change`](crate::shared_log::Change), in the same order on all servers. Members of other servers are in the roster like
//! those of this one; they only have no connection here.
//!
//! | module | what it does |
//! |---|---|
//! | `outstanding` | what was asked of the log and has not come back |
//! | `positions` | which entry of the log is where in the feed |
//! | `audience` | lines reach those of the members that are here |
//! | `changes` | what the log says takes effect |
//! | `snapshot` | the members are others than was known, after a gap |

mod audience;
mod changes;
mod outstanding;
mod positions;
mod snapshot;

use crate::address::PeerAddress;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::mem;
use std::time::Instant;

use super::delivery::Sender;
use super::marks::Marks;
use super::member::Member;
use super::roster::{Action, Delivery as _, Reaction, Roster};
use super::sequencer::Sequencer;
use crate::feed::Feed;
use crate::hub::peer::{Id, Peer, State};
use crate::hub::peers::Peers;
use crate::shared_log::{LogEvent, MemberId, Op, Position, ServerId, Urgency};
use crate::transport::Stream;
use audience::Audience;
use outstanding::Outstanding;
use positions::Positions;

/// What members hear when the log cannot be reached.
const AWAY: &str = "* the room's other servers cannot be reached; new lines wait\n";

/// What they hear when it can be again.
const BACK: &str = "* the room's other servers can be reached again\n";

/// What they hear when the log has lost data.
const GAP: &str = "* lines may be missing here\n";

/// The least that members have to take, in bytes, before the other servers are told at once.
const LEAST_NEWS: u64 = 1024;

/// The members of all servers, as far as the log has told of them, and those of this server, as far as it has not.
#[derive(Debug)]
pub(crate) struct Shared {
    server: ServerId,
    roster: Roster<MemberId>,
    /// The members of this server, by their numbers, until the log has said that they left.
    own: HashMap<u64, Own>,
    /// What the log has said and has not taken effect.
    inbox: VecDeque<LogEvent>,
    /// What is asked of the log and has not been handed over.
    ops: Vec<Op>,
    outstanding: Outstanding,
    positions: Positions,
    /// What the members of the other servers have not taken.
    others: Position,
    /// Up to where the members of this server had taken the feed when it was last reported.
    reported: u64,
    /// What members of other servers have said and some member of this one has not taken.
    remote: HashMap<MemberId, Marks>,
    /// Members of other servers whose servers have not been heard of since the log lost data.
    unconfirmed: BTreeSet<MemberId>,
    /// Until when their servers have time.
    confirm_by: Option<Instant>,
    /// Newcomers for which the log has not been asked.
    newcomers: BTreeSet<u64>,
    /// Members that are not read from because of the log.
    held: Vec<Id>,
    has_entered: bool,
    is_away: bool,
    max_ahead: usize,
}

/// A member of this server.
#[derive(Debug)]
struct Own {
    id: Id,
    address: PeerAddress,
    stage: Stage,
    /// Whether the others are to hear of it: the log knows, or has been asked.
    is_announced: bool,
    /// Whether it waits for an answer of the log.
    is_waiting: bool,
    /// Whether it takes part.
    is_here: bool,
}

/// How far a member of this server is in the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The log has not been asked.
    Waiting,
    /// The log has been asked.
    Joining,
    /// The log has said that it joined.
    In,
}

impl Shared {
    pub(super) fn new(server: ServerId, max_ahead: usize) -> Self {
        Self {
            server,
            roster: Roster::new(),
            own: HashMap::new(),
            inbox: VecDeque::new(),
            ops: Vec::new(),
            outstanding: Outstanding::default(),
            positions: Positions::default(),
            others: Position(u64::MAX),
            reported: 0,
            remote: HashMap::new(),
            unconfirmed: BTreeSet::new(),
            confirm_by: None,
            newcomers: BTreeSet::new(),
            held: Vec::new(),
            has_entered: false,
            is_away: false,
            max_ahead,
        }
    }

    /// Takes what the log says, for the next turn.
    pub(super) fn push(&mut self, event: LogEvent) {
        self.inbox.push_back(event);
    }

    /// Hands over what is asked of the log.
    pub(super) fn take_ops(&mut self) -> Vec<Op> {
        mem::take(&mut self.ops)
    }

    /// The first entry that some member of this server has not taken, which is reported to the other servers now.
    pub(super) fn report_floor(&mut self, feed: &Feed) -> Position {
        self.reported = feed.floor();
        self.positions.in_log(self.reported)
    }

    /// Up to where the slowest member has taken the feed as the other servers know it: entry by entry.
    fn entry_floor(&self, feed: &Feed) -> u64 {
        self.positions.in_feed(self.positions.in_log(feed.floor())).min(feed.end())
    }

    /// How soon floors should be exchanged, while talkers of this server wait or not.
    pub(super) fn urgency(&self, has_waiting: bool, feed: &Feed) -> Urgency {
        let is_alone = self.others == Position(u64::MAX);
        let news = feed.floor().saturating_sub(self.reported);
        if !is_alone && news >= LEAST_NEWS.max(self.max_ahead as u64 / 4) {
            Urgency::Now
        } else if has_waiting && self.positions.in_feed(self.others) < feed.floor() {
            Urgency::Soon
        } else {
            Urgency::Relaxed
        }
    }

    fn member(&self, number: u64) -> MemberId {
        MemberId { server: self.server, number }
    }

    fn ask(&mut self, op: Op) {
        self.outstanding.push(&op);
        self.ops.push(op);
    }

    /// Asks the log to announce a newcomer, unless it was asked.
    fn ask_to_announce<S: Stream>(&mut self, number: u64, sender: &mut Sender<'_, S>) {
        let Some(own) = self.own.get_mut(&number).filter(|own| !own.is_announced) else { return };
        own.is_announced = true;
        if let Some(member) = member(sender.peers, own.id) {
            member.announce_at = None;
        }
        self.ask(Op::Announce { member: number });
    }

    /// Whether the log takes what members say.
    fn is_open(&self) -> bool {
        self.has_entered && !self.is_away && !self.outstanding.is_full()
    }

    /// The log knows no more of a member of this server that has left.
    fn forget<S: Stream>(&mut self, number: u64, peers: &mut Peers<S>) {
        if let Some(own) = self.own.remove(&number)
            && let Some((peer, ..)) = peers.borrow(own.id)
        {
            peer.connection.hold(false);
            peers.schedule(own.id);
        }
    }

    /// Asks the log for the newcomers that wait.
    fn ask_for_newcomers(&mut self) {
        while self.is_open()
            && let Some(number) = self.newcomers.pop_first()
        {
            if let Some(own) = self.own.get_mut(&number) {
                own.stage = Stage::Joining;
            }
            self.ask(Op::Join { member: number });
        }
    }

    /// Tells all members of this server, also those that wait to be taken in, and gives them a turn: one whose connection is
    /// over may have to go.
    fn tell_all<S: Stream>(&self, line: &str, sender: &mut Sender<'_, S>) {
        sender.peers.feed.push(line.as_bytes());
        for own in self.own.values() {
            if !own.is_here {
                // If nobody is there any more, the answer to this is a reset.
                sender.tell_leaving(own.id, line);
            } else if own.stage != Stage::In {
                sender.answer(own.id, line);
            }
            sender.peers.schedule(own.id);
        }
    }

    /// Checks, in debug builds, what has to be true at the end of each turn.
    fn check<S: Stream>(&self, peers: &Peers<S>) {
        if cfg!(debug_assertions) {
            for own in self.own.values().filter(|own| own.stage == Stage::In) {
                if let Some(Peer { state: State::Member(member), .. }) = peers.find(own.id) {
                    assert!(member.is_in(), "a member does not hear");
                }
            }
            assert!(self.inbox.is_empty(), "something that the log said was left over");
            assert!(!self.is_open() || self.held.is_empty(), "a member is held for nothing");
            assert!(!self.positions.has_taken(peers.feed.floor(), self.others), "positions pile up");
            let floor = self.entry_floor(&peers.feed);
            assert!(self.remote.values().all(|said| said.total_from(floor) > 0), "marks pile up");
        }
    }
}

impl Sequencer for Shared {
    fn join<S: Stream>(&mut self, id: Id, sender: &mut Sender<'_, S>) {
        let Some((peer, ..)) = sender.peers.borrow(id) else { return };
        let own = Own {
            id,
            address: peer.address,
            stage: Stage::Waiting,
            is_announced: false,
            is_waiting: false,
            is_here: true,
        };
        if let State::Member(member) = &mut peer.state {
            member.keep_waiting();
        }
        self.own.insert(id.serial(), own);
        self.newcomers.insert(id.serial());
        self.ask_for_newcomers();
        if self.is_away {
            sender.answer(id, AWAY);
        }
    }

    fn handle_line<S: Stream>(&mut self, id: Id, text: &[u8], sender: &mut Sender<'_, S>) -> Reaction {
        let (number, author) = (id.serial(), self.member(id.serial()));
        let mut audience = Audience { sender, server: self.server, own: &self.own, remote: &mut self.remote };
        let op = match self.roster.interpret(author, text, &mut audience) {
            Action::Nothing => return Reaction::Stay,
            Action::Leave => return Reaction::Leave,
            Action::Say(text) => Op::Say { member: number, text: text.into_owned() },
            Action::Whisper { to, text } => Op::Whisper { member: number, to, text: text.to_vec() },
            Action::Rename(name) => Op::Rename { member: number, name: name.to_owned() },
        };
        let Some(own) = self.own.get_mut(&number) else { return Reaction::Stay };
        own.is_waiting = matches!(op, Op::Rename { .. } | Op::Whisper { .. });
        let reaction = if own.is_waiting { Reaction::Wait } else { Reaction::Stay };
        match &op {
            // A new name announces a newcomer, if it is free.
            Op::Rename { .. } => {}
            _ => self.ask_to_announce(number, sender),
        }
        if let (Op::Say { text, .. }, Some(member)) = (&op, member(sender.peers, id)) {
            member.window.send(text.len());
        }
        self.ask(op);
        reaction
    }

    fn refuse_line<S: Stream>(&mut self, id: Id, limit: usize, sender: &mut Sender<'_, S>) {
        let author = self.member(id.serial());
        let mut audience = Audience { sender, server: self.server, own: &self.own, remote: &mut self.remote };
        self.roster.refuse_line(author, limit, &mut audience);
    }

    fn announce<S: Stream>(&mut self, id: Id, sender: &mut Sender<'_, S>) {
        self.ask_to_announce(id.serial(), sender);
    }

    fn leave<S: Stream>(&mut self, id: Id, reason: Option<&'static str>, sender: &mut Sender<'_, S>) {
        let number = id.serial();
        let Some(own) = self.own.get_mut(&number) else { return };
        own.is_here = false;
        if own.stage == Stage::Waiting {
            self.own.remove(&number);
            self.newcomers.remove(&number);
        } else {
            // It sees the end when what it has said is heard.
            let is_held = self.outstanding.has_said(number);
            if let Some((peer, ..)) = sender.peers.borrow(id) {
                peer.connection.hold(is_held);
            }
            self.ask(Op::Leave { member: number, reason: reason.map(str::to_owned) });
        }
    }

    fn may_read(&mut self, id: Id, is_held: bool) -> bool {
        let is_ready = self.own.get(&id.serial()).is_some_and(|own| own.stage == Stage::In && !own.is_waiting);
        // One that waits for an answer is scheduled when it comes.
        if is_ready && !self.is_open() && !is_held {
            self.held.push(id);
        }
        is_ready && self.is_open()
    }

    fn is_away(&self) -> bool {
        self.is_away
    }

    fn is_awaited(&self, id: Id) -> bool {
        self.outstanding.has_said(id.serial())
    }

    fn floor(&self, feed: &Feed) -> u64 {
        feed.floor().min(self.positions.in_feed(self.others))
    }

    fn is_waited_for(&self, feed: &Feed) -> bool {
        let floor = self.entry_floor(feed);
        // Half of it, because their servers learn late what was taken here.
        floor < feed.end() && self.remote.values().any(|said| said.total_from(floor) >= self.max_ahead / 2)
    }

    fn is_settled(&self) -> bool {
        self.outstanding.is_empty()
    }

    fn has_work(&self) -> bool {
        // What is asked is handed over after a turn.
        !self.inbox.is_empty() || !self.ops.is_empty()
    }

    fn next<S: Stream>(&mut self, sender: &mut Sender<'_, S>, (noted, now): (Instant, Instant)) -> bool {
        if self.confirm_by.is_some_and(|at| at <= noted) {
            self.give_up_unconfirmed(sender);
        }
        let Some(event) = self.inbox.pop_front() else { return false };
        self.apply(event, sender, now);
        true
    }

    fn after_turn<S: Stream>(&mut self, peers: &mut Peers<S>) {
        self.ask_for_newcomers();
        if self.is_open() {
            for id in self.held.drain(..) {
                release(peers, id);
            }
        }
        let floor = self.entry_floor(&peers.feed);
        self.remote.retain(|_, said| {
            said.take(floor);
            said.total() > 0
        });
        self.positions.forget(peers.feed.floor(), self.others);
        self.check(peers);
    }

    fn deadline(&self) -> Option<Instant> {
        self.confirm_by
    }
}

/// What the room knows of a peer, if it is there and takes part.
fn member<S: Stream>(peers: &mut Peers<S>, id: Id) -> Option<&mut Member> {
    match &mut peers.borrow(id)?.0.state {
        State::Member(member) => Some(member),
        _ => None,
    }
}

/// Lets a member be read from again.
fn release<S: Stream>(peers: &mut Peers<S>, id: Id) {
    if let Some(member) = member(peers, id) {
        member.is_held = false;
        peers.schedule(id);
    }
}
