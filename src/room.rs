//! The room: what one member says, all the others hear.
//!
//! Nothing waits for one member's socket: lines are appended to the feed once, and each member's queue refers to them.
//! What a slow member can hold up is decided in two places: `Room::input_budget` says who may talk, and
//! `Waiting::reset_stalled` who is disconnected because others wait for it.
//!
//! | module | what it does |
//! |---|---|
//! | `command` | what a line that a member sends means |
//! | `roster` | who is here under which name, without connections |
//! | `sequencer` | when what members do takes effect |
//! | `notice` | the lines that all members hear |
//! | `history` | what was said last, for newcomers |
//! | `delivery` | how lines reach the members |
//! | `window`, `marks` | how far a talker may be ahead of the slowest member |
//! | `shared`, `log_side` | a room that spans servers, and how it is connected to their log |
//! | `waiting`, `quota` | talkers that wait, and how long one address may make them wait |

mod command;
mod delivery;
mod history;
mod log_side;
mod marks;
pub(crate) mod member;
pub(crate) mod notice;
mod quota;
pub mod roster;
mod sequencer;
mod shared;
mod waiting;
mod window;

use std::io::ErrorKind;
use std::mem;
use std::time::Instant;

use crate::config::{CHAT_STALL_TIMEOUT, Config, FOREVER, RESERVE};
use crate::connection::{Close, Phase, Received};
use crate::hub::peer::{Id, Peer, State};
use crate::hub::peers::{Peers, Turn};
use crate::hub::service::{Next, Served, Service};
use crate::message::Line;
pub use crate::names::MAX_NAME;
use crate::shared_log::ServerId;
use crate::transport::Stream;
use delivery::{BATCH, Batch, Sender, may_go_on};
pub use log_side::LogSide;
pub use notice::Notice;
use roster::{Delivery as _, Reaction, Roster};
use sequencer::Sequencer;
use shared::Shared;
use waiting::{Waiting, keep_within_memory};

/// Memory is short when less than this many batches, or longest lines, are free.
const HEADROOM: usize = 8;

/// What a member may read at least where memory is short, in bytes: the end of a line that takes all of its share.
const LEAST_READ: usize = 1024;

/// What a member hears whose lines the server has not passed on when it stops.
const UNSENT: &str = "* your last lines may not have been sent\n";

/// A room of one server: what its members do takes effect at once.
pub(crate) type LocalRoom = Room<Roster<Id>>;

/// A room that spans servers: what its members do takes effect when their log says so.
pub(crate) type SharedRoom = Room<Shared>;

/// The room service.
#[derive(Debug)]
pub(crate) struct Room<Q> {
    sequencer: Q,
    batch: Batch,
    waiting: Waiting,
    stop: Stop,
    max_line: usize,
    max_ahead: usize,
}

/// How far the end of the room has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    /// What the members have said so far is delivered.
    Ending,
    /// The members have been told.
    Over,
}

impl LocalRoom {
    pub(crate) fn local(config: &Config) -> Self {
        Self::new(config, Roster::new())
    }
}

impl SharedRoom {
    pub(crate) fn shared(config: &Config, server: ServerId) -> Self {
        Self::new(config, Shared::new(server, config.max_ahead))
    }
}

impl<Q: Sequencer> Room<Q> {
    fn new(config: &Config, sequencer: Q) -> Self {
        let stall_timeout = config.stall_timeout.map_or(CHAT_STALL_TIMEOUT, |timeout| timeout.min(FOREVER));
        Self {
            sequencer,
            batch: Batch::new(config),
            waiting: Waiting::new(stall_timeout),
            stop: Stop::No,
            max_line: config.max_line,
            max_ahead: config.max_ahead,
        }
    }

    /// Lines that were said.
    pub(crate) fn messages(&self) -> u64 {
        self.batch.messages()
    }

    /// Bytes of memory that it takes beside what is held for its members.
    pub(crate) fn held(&self) -> usize {
        self.batch.history.held()
    }

    /// Who may talk: how many bytes of its input may be taken from a member now, 0 if it has to wait.
    ///
    /// A member that does not read the answers to its own commands has to read some first. A member that is too far
    /// ahead of the slowest one waits, except that it may always talk at the pace of a person. Nothing else that other
    /// members do keeps it from talking.
    fn input_budget<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id, now: Instant) -> usize {
        let floor = self.sequencer.floor(&peers.feed);
        let Some((peer, feed, _)) = peers.borrow(id) else { return 0 };
        let (may_go_on, debt) = (may_go_on(peer), self.waiting.debt(peer, floor));
        let State::Member(member) = &mut peer.state else { return 0 };
        member.is_held = !self.sequencer.may_read(id, member.is_held);
        if member.is_held {
            member.resume_at = None;
            let is_away = self.sequencer.is_away();
            if peer.connection.has_failed() && (is_away || !member.is_in()) {
                // Connections that break must not pile up until they may join or talk.
                peer.connection.abort(Close::Broken(ErrorKind::ConnectionReset), feed);
            }
            // Nor those that have ended and of which nothing waits: there is only the end to be read.
            let has_input = member.lines.held() + member.backlog.len() > 0 || !peer.connection.has_ended();
            let is_over = is_away && !has_input && !self.sequencer.is_awaited(id) && peer.connection.can_receive();
            return usize::from(is_over);
        }
        if !may_go_on {
            member.resume_at = None;
            return 0;
        }
        let room = match self.stop {
            Stop::No => member.window.room(floor, debt, self.max_ahead, now),
            // A room that ends does not wait for slow members, and there is little to wait for: nothing that comes
            // later is heard.
            Stop::Ending => BATCH,
            Stop::Over => 0,
        };
        if room == 0 && debt >= self.max_ahead / 2 && peer.connection.has_failed() {
            // A flood of connections that break must not pile up until their lines may be said.
            peer.connection.abort(Close::Broken(ErrorKind::ConnectionReset), feed);
            return 0;
        }
        member.resume_at = (room == 0).then(|| member.window.resume_at(now));
        if room == 0 && !mem::replace(&mut member.is_waiting, true) {
            self.waiting.push(id, now);
        }
        room
    }

    /// Takes up to `room` bytes of a member's input, and does what its lines say. Returns how many bytes were used up.
    fn read_lines<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id, room: usize, turn: &mut Turn<'_>) -> usize {
        // Only its author can free the memory of a line that has no end yet.
        let max_line = if self.is_short(peers) { self.max_line.min(RESERVE) } else { self.max_line };
        let free = free_memory(peers);
        let Some((peer, ..)) = peers.borrow(id) else { return 0 };
        let most = free.max(RESERVE.saturating_sub(peer.held())).clamp(LEAST_READ, BATCH);
        let State::Member(member) = &mut peer.state else { return 0 };
        let (mut lines, mut backlog) = (mem::take(&mut member.lines), mem::take(&mut member.backlog));
        let received = match backlog.is_empty() {
            true => peer.connection.receive(&mut turn.buffer[..room.min(most)]),
            false => Received::Nothing,
        };
        let input = if let Received::Bytes(count) = received { &turn.buffer[..count] } else { &backlog[..] };
        let mut rest = &input[..room.min(input.len())];
        let before = rest.len();
        let mut reaction = Reaction::Stay;
        while reaction == Reaction::Stay
            && !self.batch.is_full(peers)
            && let Some(line) = lines.next(&mut rest, max_line)
        {
            reaction = self.handle_line(peers, id, line, max_line, turn.on_event);
        }
        if received == Received::End
            && let Some(line) = lines.last(max_line)
        {
            reaction = self.handle_line(peers, id, line, max_line, turn.on_event);
        }
        lines.forget_spent();
        let used = before - rest.len();
        let Some((peer, ..)) = peers.borrow(id) else { return used };
        if let State::Member(member) = &mut peer.state {
            member.is_fast = member.window.spend(used, turn.now);
            match received {
                Received::Bytes(count) => backlog = turn.buffer[used..count].to_vec(),
                _ => _ = backlog.drain(..used),
            }
            backlog.shrink_to(2 * backlog.len());
            (member.lines, member.backlog) = (lines, backlog);
        }
        if reaction == Reaction::Leave {
            peer.connection.end(Close::Quit);
        }
        used
    }

    fn handle_line<S: Stream>(
        &mut self,
        peers: &mut Peers<S>,
        id: Id,
        line: Line<'_>,
        max_line: usize,
        on_event: &mut dyn FnMut(crate::Event<'_>),
    ) -> Reaction {
        let mut sender = Sender { batch: &mut self.batch, peers, on_event };
        match line {
            Line::Text(text) => self.sequencer.handle_line(id, text, &mut sender),
            Line::TooLong => {
                self.sequencer.refuse_line(id, max_line, &mut sender);
                Reaction::Stay
            }
        }
    }

    /// Whether a newcomer has stayed long enough to be announced.
    fn is_to_be_announced<S: Stream>(&self, peers: &Peers<S>, id: Id, noted: Instant) -> bool {
        let Some(peer) = peers.find(id).filter(|peer| peer.connection.takes_input()) else { return false };
        let State::Member(member) = &peer.state else { return false };
        self.stop != Stop::Over && member.announce_at.is_some_and(|at| at <= noted)
    }

    fn is_short<S: Stream>(&self, peers: &Peers<S>) -> bool {
        let headroom = self.max_line.max(BATCH).saturating_mul(HEADROOM).min(peers.memory.max() / 2).max(BATCH);
        headroom > free_memory(peers)
    }

    /// Where the room is to end and everything has been said, or nothing can be, tells the members.
    fn end<S: Stream>(&mut self, peers: &mut Peers<S>, now: Instant) {
        let is_said = || self.sequencer.is_settled() && !peers.iter().any(|(_, peer)| may_go_on(peer));
        if self.stop != Stop::Ending || !(self.sequencer.is_away() || is_said()) {
            return;
        }
        self.stop = Stop::Over;
        self.tell_unsent(peers);
        let end = peers.feed.end();
        peers.for_each(|_, peer, _| {
            if let State::Member(member) = &mut peer.state {
                // Also those that the room has not taken in.
                member.cursor = member.cursor.min(end);
            }
            false
        });
        peers.feed.push(b"* server is stopping\n");
        self.batch.deliver(peers, now);
        peers.for_each(|_, peer, _| {
            peer.connection.hold(false);
            peer.connection.end(Close::Stopping);
            true
        });
    }

    /// Tells the members of whose lines some are unread or have not taken effect.
    fn tell_unsent<S: Stream>(&mut self, peers: &mut Peers<S>) {
        let is_unsent = |(id, peer): &(Id, &Peer<S>)| may_go_on(peer) || self.sequencer.is_awaited(*id);
        let unsent: Vec<Id> = peers.iter().filter(is_unsent).map(|(id, _)| id).collect();
        let mut sender = Sender { batch: &mut self.batch, peers, on_event: &mut |_| {} };
        for id in unsent {
            sender.tell_leaving(id, UNSENT);
            sender.answer(id, UNSENT);
        }
    }
}

impl<Q: Sequencer> Service for Room<Q> {
    fn join<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id) {
        let (floor, end) = (self.sequencer.floor(&peers.feed), peers.feed.end());
        if let Some((peer, ..)) = peers.borrow(id) {
            let is_in_debt = self.waiting.debt(peer, floor) > 0;
            peer.is_bulky = true;
            if let State::Member(member) = &mut peer.state {
                // What was said before is not for it.
                member.cursor = end;
                if is_in_debt {
                    member.window.use_savings();
                }
            }
        }
        self.sequencer.join(id, &mut Sender { batch: &mut self.batch, peers, on_event: &mut |_| {} });
        self.batch.forget_private();
    }

    fn serve<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id, turn: &mut Turn<'_>) -> Served {
        let Some((peer, feed, _)) = peers.borrow(id) else { return Served::NOTHING };
        let was_waited_for = self.waiting.is_waited_for(peer, feed);
        peer.connection.flush(feed, BATCH);
        if was_waited_for && peer.connection.write_error().is_some() {
            self.waiting.charge(peer, turn.now);
        }
        let used = match self.input_budget(peers, id, turn.now) {
            0 => 0,
            room => self.read_lines(peers, id, room, turn),
        };
        if self.is_to_be_announced(peers, id, turn.noted) {
            self.sequencer.announce(id, &mut Sender { batch: &mut self.batch, peers, on_event: turn.on_event });
        }
        let Some((peer, feed, _)) = peers.borrow(id) else { return Served::NOTHING };
        peer.connection.flush(feed, BATCH);
        let is_waiting = matches!(&peer.state, State::Member(member) if member.waits());
        let next = match () {
            () if is_waiting => Next::Service,
            () if may_go_on(peer) => Next::Turn,
            () => Next::Event,
        };
        // Members that talk like people go first. Whether a newcomer does is not known yet.
        let is_bulky = matches!(&peer.state, State::Member(member) if member.is_fast || member.announce_at.is_some());
        Served { next, moved: used as u64, is_bulky }
    }

    fn leave<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id, turn: &mut Turn<'_>) {
        let Some((peer, feed, _)) = peers.borrow(id) else { return };
        if matches!(peer.connection.phase(), Phase::Closed(_)) && self.waiting.is_waited_for(peer, feed) {
            self.waiting.charge(peer, turn.now);
        }
        let reason = match peer.connection.phase() {
            Phase::Closed(Close::TooSlow) => Some("too slow"),
            Phase::Closed(Close::Idle) | Phase::Draining(Close::Idle) => Some("idle"),
            _ => None,
        };
        if let State::Member(member) = &mut peer.state
            && !matches!(peer.connection.phase(), Phase::Closed(_))
        {
            // It still gets what was said until now.
            peer.connection.queue_shared(member.take_news(feed.end()), feed);
        }
        if self.stop != Stop::Over {
            let mut sender = Sender { batch: &mut self.batch, peers, on_event: turn.on_event };
            self.sequencer.leave(id, reason, &mut sender);
        }
        if let Some((peer, feed, _)) = peers.borrow(id)
            && let State::Member(member) = &mut peer.state
        {
            let said = member.window.take_said(feed.end(), self.max_ahead);
            self.waiting.owe(peer.address, said, self.max_ahead);
        }
    }

    fn is_full<S: Stream>(&self, peers: &Peers<S>) -> bool {
        self.batch.is_full(peers)
    }

    fn before_turn<S: Stream>(&mut self, peers: &mut Peers<S>, turn: &mut Turn<'_>) {
        let times = (turn.noted, turn.now);
        loop {
            let mut sender = Sender { batch: &mut self.batch, peers, on_event: turn.on_event };
            if !self.sequencer.next(&mut sender, times) {
                break;
            }
            if self.batch.is_full(peers) {
                self.batch.deliver(peers, turn.now);
                keep_within_memory(peers);
            }
        }
    }

    fn after_turn<S: Stream>(&mut self, peers: &mut Peers<S>, turn: &mut Turn<'_>) {
        self.batch.deliver(peers, turn.now);
        self.end(peers, turn.now);
        keep_within_memory(peers);
        let is_waited_for = self.sequencer.is_waited_for(&peers.feed);
        self.waiting.reset_stalled(peers, is_waited_for, turn.noted, turn.now);
        self.waiting.release(peers, self.sequencer.floor(&peers.feed), turn.now);
        self.sequencer.after_turn(peers);
    }

    fn has_work(&self) -> bool {
        self.sequencer.has_work()
    }

    fn deadline(&self) -> Option<Instant> {
        self.waiting.deadline().into_iter().chain(self.sequencer.deadline()).min()
    }

    fn stop<S: Stream>(&mut self, _: &mut Peers<S>) {
        self.stop = Stop::Ending;
    }
}

/// How much more may be held for all members, each one's [`RESERVE`] not counted.
fn free_memory<S: Stream>(peers: &Peers<S>) -> usize {
    peers.memory.max().saturating_sub(peers.feed.held() + peers.memory.excess())
}
