//! How lines reach the members.

use crate::address::PeerAddress;
use std::ops::Range;
use std::time::Instant;

use super::history::History;
use super::notice::Notice;
use super::roster::Delivery;
use crate::config::Config;
use crate::connection::Close;
use crate::event::Event;
use crate::hub::peer::{Id, Peer, State};
use crate::hub::peers::Peers;
use crate::transport::Stream;

/// When a turn has brought this many bytes, they are delivered before more is taken in.
pub(super) const BATCH: usize = 64 << 10;

/// Pending answers to its own commands, in bytes, from which on a member is not read from.
const MAX_ANSWERS: usize = 64 << 10;

/// Pending private lines, in bytes, from which on a member is sent no more by others: more than it can have by its own
/// commands alone.
const MAX_PRIVATE: usize = 2 * MAX_ANSWERS;

/// The lines of one turn. They are appended to the feed once, and the members' queues refer to them; only what is for one
/// member alone is queued for it at once.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Up to where the feed has been delivered.
    delivered: u64,
    /// Bytes that were queued for single members in this turn.
    private: usize,
    /// Lines that have been said since the start.
    messages: u64,
    /// The last of them.
    pub(super) history: History,
    max_ahead: usize,
    /// Where lines are composed.
    line: String,
}

impl Batch {
    pub(super) fn new(config: &Config) -> Self {
        let (history, max_ahead) = (History::new(config), config.max_ahead);
        Self { delivered: 0, private: 0, messages: 0, history, max_ahead, line: String::new() }
    }

    /// Lines that have been said since the start.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// How many bytes of its own lines a member may be ahead of the slowest one.
    pub(super) fn max_ahead(&self) -> usize {
        self.max_ahead
    }

    /// Whether this turn has brought enough.
    pub(super) fn is_full<S: Stream>(&self, peers: &Peers<S>) -> bool {
        (peers.feed.end() - self.delivered) as usize + self.private >= BATCH
    }

    /// Between two turns newcomers are welcomed: that is not a part of the next one.
    pub(super) fn forget_private(&mut self) {
        self.private = 0;
    }

    /// Brings the lines of this turn to the members, and writes as much of what they have pending as their sockets take.
    /// Members that [may go on](may_go_on) with their own input get a turn.
    pub(super) fn deliver<S: Stream>(&mut self, peers: &mut Peers<S>, now: Instant) {
        self.private = 0;
        let end = peers.feed.end();
        if self.delivered == end {
            return;
        }
        self.delivered = end;
        peers.for_each(|_, peer, feed| {
            let State::Member(member) = &mut peer.state else { return false };
            peer.connection.send_shared(member.take_news(end), feed);
            peer.connection.flush(feed, BATCH);
            let is_waiting = member.waits();
            peer.note_activity(false, now);
            peer.connection.can_flush() || (!is_waiting && may_go_on(peer))
        });
        peers.feed.trim();
    }
}

/// Brings lines to members while a peer is served.
pub(crate) struct Sender<'a, S> {
    pub(super) batch: &'a mut Batch,
    pub(super) peers: &'a mut Peers<S>,
    pub(super) on_event: &'a mut dyn FnMut(Event<'_>),
}

impl<S: Stream> Delivery<Id> for Sender<'_, S> {
    fn publish(&mut self, author: Id, notice: Notice<'_>) {
        let said = self.append(&notice);
        if let Some(address) = self.credit(author, said) {
            self.report(address, notice);
        }
    }

    fn answer(&mut self, member: Id, line: &str) {
        self.send(member, line);
        if let Some((peer, ..)) = self.peers.borrow(member)
            && let State::Member(state) = &mut peer.state
        {
            let sent = peer.connection.sent();
            state.answers.take(sent);
            state.answers.add(sent + peer.connection.pending() as u64, line.len(), MAX_ANSWERS);
        }
    }

    fn whisper(&mut self, member: Id, line: &str) -> bool {
        let has_room = self.peers.find(member).is_some_and(|peer| peer.connection.private_pending() < MAX_PRIVATE);
        if has_room {
            self.send(member, line);
        }
        has_room
    }
}

impl<S: Stream> Sender<'_, S> {
    /// Appends a line to the feed, and keeps it for newcomers. Returns where it is.
    pub(super) fn append(&mut self, notice: &Notice<'_>) -> Range<u64> {
        let feed = &mut self.peers.feed;
        let start = feed.end();
        notice.write_chunks(&mut self.batch.line, |chunk| _ = feed.push(chunk.as_bytes()));
        let end = feed.end();
        self.remember(notice);
        start..end
    }

    /// Keeps a line for newcomers.
    pub(super) fn remember(&mut self, notice: &Notice<'_>) {
        self.batch.history.note(notice);
    }

    /// Tells a newcomer what was said last.
    pub(super) fn retell(&mut self, member: Id) {
        if let Some(earlier) = self.batch.history.replay() {
            self.answer(member, &earlier);
        }
    }

    /// Notes whose line is at `said` of the feed: its author does not hear it. Returns the author's address, if it is there.
    pub(super) fn credit(&mut self, author: Id, said: Range<u64>) -> Option<PeerAddress> {
        let (peer, feed, _) = self.peers.borrow(author)?;
        if let State::Member(member) = &mut peer.state {
            peer.connection.queue_shared(member.cursor..said.start, feed);
            member.cursor = said.end;
            member.announce_at = None;
            member.window.note(said, self.batch.max_ahead);
        }
        let address = peer.address;
        self.peers.recount(author.key());
        Some(address)
    }

    /// Shows the operator what a member of this server did.
    pub(super) fn report(&mut self, peer: PeerAddress, notice: Notice<'_>) {
        self.batch.messages += u64::from(matches!(notice, Notice::Said { .. }));
        (self.on_event)(Event::Room { peer, notice });
    }

    /// Queues a line for a member that takes no more part, if its connection is kept open.
    pub(super) fn tell_leaving(&mut self, member: Id, line: &str) {
        let Some((peer, ..)) = self.peers.borrow(member) else { return };
        if peer.connection.is_held() {
            // Without memory for it, it is not told.
            _ = peer.connection.queue(line.as_bytes());
            self.peers.recount(member.key());
            self.peers.schedule(member);
        }
    }

    /// Queues a line for one member alone.
    fn send(&mut self, member: Id, line: &str) {
        let Some((peer, feed, memory)) = self.peers.borrow(member) else { return };
        let State::Member(state) = &mut peer.state else { return };
        if peer.connection.write_error().is_some() {
            return;
        }
        // What was said before comes first.
        peer.connection.queue_shared(state.take_news(feed.end()), feed);
        if peer.connection.queue(line.as_bytes()).is_err() {
            memory.refused(feed.held());
            // Without memory for it the line is lost, and the member that does not read has to go.
            if peer.connection.queue(line.as_bytes()).is_err() {
                peer.connection.abort(Close::TooSlow, feed);
            }
        }
        self.batch.private += line.len();
        self.peers.recount(member.key());
        self.peers.schedule(member);
    }
}

/// Whether a member has input that can be taken, as far as only it is concerned.
pub(super) fn may_go_on<S: Stream>(peer: &Peer<S>) -> bool {
    let State::Member(member) = &peer.state else { return false };
    let has_input = peer.connection.can_receive() || !member.backlog.is_empty();
    // What cannot be written any more is not pending.
    let answers = match peer.connection.write_error() {
        Some(_) => 0,
        None => member.answers.total_from(peer.connection.sent()),
    };
    has_input && peer.connection.takes_input() && answers < MAX_ANSWERS
}
