//! What the hub does for peers that talk to each other.
//!
//! Relaying only queues, and nothing waits for one member's socket. All lines of a turn are appended to the
//! feed once; at its end every member is sent the new part of the feed, less what it said itself, plus what
//! is for it alone. Nothing is read from anybody while a member is owed too much.

use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use slab::Slab;

use super::peer::{Outlook, Peer, Ticket, find};
use super::work::Work;
use crate::config::{CHAT_STALL_TIMEOUT, Config, FOREVER, RESERVE};
use crate::connection::{Close, Phase, Received};
use crate::event::Event;
use crate::feed::Feed;
use crate::message::{Line, Lines};
use crate::room::{Hall, Notice, Reaction, Room};
use crate::transport::Stream;

/// When a turn has brought so many bytes, they are delivered before more is taken in.
const BATCH: usize = 64 << 10;

/// A turn may need so many times the batch, or the longest line, on top of what was held when it began.
const HEADROOM: usize = 8;

/// What a member is owed is copied out of the feed where it keeps more than so many times as much there.
const WORTH_A_COPY: u64 = 4;

/// The state of the room and of its queues.
#[derive(Debug)]
pub(super) struct Relay {
    room: Room<Ticket>,
    /// Up to where the feed has been delivered.
    delivered: u64,
    /// In what the members' view of the rest differs from the feed, in the order of the feed.
    edits: Vec<Edit>,
    /// How many bytes the edits insert.
    inserted: usize,
    /// The members that hold the others up.
    slow: Vec<Slow>,
    stop: Stop,
    max_line: usize,
    max_queue: usize,
    max_memory: usize,
    stall_timeout: Duration,
}

/// One member does not see the feed as it is.
#[derive(Debug)]
struct Edit {
    key: usize,
    at: u64,
    change: Change,
}

#[derive(Debug)]
enum Change {
    /// It goes on only there.
    SkipTo(u64),
    /// Before that it is told this.
    Insert(Box<str>),
}

/// A peer that is owed too much.
#[derive(Debug)]
struct Slow {
    ticket: Ticket,
    /// When it had last taken enough, and how many bytes in all until then.
    since: Instant,
    sent: u64,
}

/// How far the end of the room has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    /// What the members have said so far is relayed.
    Ending,
    /// They have been told.
    Over,
}

/// What a peer is about to say.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    standing: Standing,
    lines: Lines,
    /// What was read but must wait until the others have been served.
    backlog: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    /// It has not joined the room yet.
    #[default]
    New,
    Member,
    Gone,
}

impl Hearing {
    pub(super) fn held(&self) -> usize {
        self.lines.held() + self.backlog.len()
    }
}

/// How the room reaches its members during a turn.
struct Voice<'a, F> {
    /// Of whom it tells.
    peer: SocketAddr,
    feed: &'a mut Feed,
    edits: &'a mut Vec<Edit>,
    inserted: &'a mut usize,
    on_event: &'a mut F,
}

impl<F: FnMut(Event<'_>)> Hall<Ticket> for Voice<'_, F> {
    fn tell_others(&mut self, except: Ticket, line: &str) {
        let range = self.feed.push(line.as_bytes());
        match self.edits.last_mut() {
            Some(Edit { key, change: Change::SkipTo(end), .. }) if *key == except.key && *end == range.start => {
                *end = range.end;
            }
            _ => self.edits.push(Edit { key: except.key, at: range.start, change: Change::SkipTo(range.end) }),
        }
    }

    fn tell(&mut self, member: Ticket, line: &str) {
        *self.inserted += line.len();
        self.edits.push(Edit { key: member.key, at: self.feed.end(), change: Change::Insert(line.into()) });
    }

    fn show(&mut self, notice: Notice<'_>) {
        (self.on_event)(Event::Room { peer: self.peer, notice });
    }
}

impl Relay {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            room: Room::new(),
            delivered: 0,
            edits: Vec::new(),
            inserted: 0,
            slow: Vec::new(),
            stop: Stop::No,
            max_line: config.max_line,
            max_queue: config.max_queue,
            max_memory: config.max_memory,
            stall_timeout: config.stall_timeout.map_or(CHAT_STALL_TIMEOUT, |timeout| timeout.min(FOREVER)),
        }
    }

    /// Whether enough was said in this turn.
    pub(super) fn is_full(&self, feed: &Feed) -> bool {
        (feed.end() - self.delivered) as usize + self.inserted >= BATCH
    }

    pub(super) fn has_undelivered(&self, feed: &Feed) -> bool {
        feed.end() > self.delivered || !self.edits.is_empty()
    }

    /// Whether members are listened to, while `held` bytes are held for all. When memory runs out, whoever is
    /// owed anything is slow; where nobody is, waiting would give nothing back. A room that is to end has no
    /// time to wait for the slow, and little to wait for: nothing that comes later is heard.
    pub(super) fn is_open(&self, held: usize) -> bool {
        self.slow.is_empty() || (self.stop == Stop::Ending && self.has_memory(held))
    }

    fn has_memory(&self, held: usize) -> bool {
        let headroom = self.max_line.max(BATCH).saturating_mul(HEADROOM);
        held + headroom.min(self.max_memory / 2) <= self.max_memory
    }

    /// When somebody will have held the others up for too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.slow.iter().map(|slow| slow.since + self.stall_timeout).min()
    }

    /// Winds the room up: the members are told as soon as all they have said is relayed.
    pub(super) fn stop(&mut self) {
        self.stop = Stop::Ending;
    }

    /// Takes in what one read brings, if the room is open while `held` bytes are held for all, and gives it to
    /// the room. Who is not in the room joins it, and who ends the connection leaves it.
    pub(super) fn hear<S: Stream>(
        &mut self,
        peer: &mut Peer<S>,
        ticket: Ticket,
        held: usize,
        buffer: &mut [u8],
        feed: &mut Feed,
        on_event: &mut impl FnMut(Event<'_>),
    ) {
        if let Phase::Lingering(_) = peer.connection.phase()
            && peer.connection.can_receive()
        {
            peer.connection.receive(buffer);
        }
        let is_open = self.is_open(held);
        // Nobody but who sent it can free the memory of a line that has no end yet.
        let max_line = if self.has_memory(held) { self.max_line } else { self.max_line.min(RESERVE) };
        let Some(hearing) = &mut peer.hearing else { return };
        let mut voice =
            Voice { peer: peer.address, feed, edits: &mut self.edits, inserted: &mut self.inserted, on_event };
        if hearing.standing == Standing::New {
            hearing.standing = Standing::Member;
            // What was said before is not for it.
            let change = Change::SkipTo(voice.feed.end());
            voice.edits.push(Edit { key: ticket.key, at: self.delivered, change });
            self.room.join(ticket, &mut voice);
        }
        if is_open && peer.connection.takes_input() {
            let backlog = mem::take(&mut hearing.backlog);
            let mut input = &backlog[..];
            if backlog.is_empty()
                && peer.connection.can_receive()
                && let Received::Bytes(count) = peer.connection.receive(&mut buffer[..BATCH])
            {
                input = &buffer[..count];
            }
            let mut reaction = Reaction::Stay;
            while reaction == Reaction::Stay
                && (voice.feed.end() - self.delivered) as usize + *voice.inserted < BATCH
                && let Some(line) = hearing.lines.next(&mut input, max_line)
            {
                reaction = hear_line(&mut self.room, ticket, line, max_line, &mut voice);
            }
            if let Phase::Draining(Close::Finished) = peer.connection.phase()
                && let Some(line) = hearing.lines.last(max_line)
            {
                reaction = hear_line(&mut self.room, ticket, line, max_line, &mut voice);
            }
            if reaction == Reaction::Leave {
                peer.connection.end(Close::Quit);
            } else {
                hearing.backlog = input.to_vec();
            }
        }
        if !peer.connection.takes_input() && hearing.standing == Standing::Member {
            hearing.standing = Standing::Gone;
            self.see_off(peer, ticket, feed, on_event);
        }
    }

    /// A member leaves the room. It is still owed what was said until now.
    fn see_off<S: Stream>(
        &mut self,
        peer: &mut Peer<S>,
        ticket: Ticket,
        feed: &mut Feed,
        on_event: &mut impl FnMut(Event<'_>),
    ) {
        let reason = match peer.connection.phase() {
            Phase::Closed(Close::TooSlow) => Some("too slow"),
            Phase::Closed(Close::Idle) | Phase::Draining(Close::Idle) => Some("idle"),
            Phase::Closed(_) => None,
            _ => {
                let edits: Vec<Edit> = self.edits.extract_if(.., |edit| edit.key == ticket.key).collect();
                owe(peer, &edits, self.delivered, feed);
                None
            }
        };
        if self.stop != Stop::Over {
            let mut voice =
                Voice { peer: peer.address, feed, edits: &mut self.edits, inserted: &mut self.inserted, on_event };
            self.room.leave(ticket, reason, &mut voice);
        }
    }

    /// Where the room is to end and all is said, tells everyone. Returns whether it did.
    pub(super) fn announce_end<S: Stream>(&mut self, peers: &Slab<Peer<S>>, feed: &mut Feed) -> bool {
        if self.stop != Stop::Ending || peers.iter().any(|(_, peer)| peer.has_more_to_say()) {
            return false;
        }
        feed.push(b"* server is stopping\n");
        self.stop = Stop::Over;
        true
    }

    /// Sends every member what was said in this turn, and notes who is slow. `held` is how many bytes are held
    /// for the peers, each for one alone.
    pub(super) fn deliver<S: Stream>(
        &mut self,
        peers: &mut Slab<Peer<S>>,
        feed: &mut Feed,
        held: &mut usize,
        work: &mut Work,
        now: Instant,
    ) {
        if self.has_undelivered(feed) {
            let mut edits = mem::take(&mut self.edits);
            // A stable sort: for each member they stay in the order of the feed.
            edits.sort_by_key(|edit| edit.key);
            let mut edits = &edits[..];
            for (key, peer) in peers.iter_mut() {
                edits = &edits[edits.partition_point(|edit| edit.key < key)..];
                let (own_edits, others) = edits.split_at(edits.partition_point(|edit| edit.key == key));
                edits = others;
                *held -= peer.held();
                self.deliver_to(peer, own_edits, feed, *held);
                *held += peer.held();
                if peer.is_member() && (peer.connection.can_flush() || !peer.connection.takes_input()) {
                    peer.schedule(key, work);
                }
                peer.note_life(now);
            }
            self.delivered = feed.end();
            self.inserted = 0;
            feed.trim();
        } else if self.has_memory(*held + feed.held()) {
            return;
        }
        self.note_slow(peers, *held + feed.held(), now);
    }

    /// Sends one member the new part of the feed, with its own `edits`, while so many bytes are held for others.
    fn deliver_to<S: Stream>(&self, peer: &mut Peer<S>, edits: &[Edit], feed: &mut Feed, held_by_others: usize) {
        if peer.is_member() {
            if edits.is_empty() {
                peer.connection.send_shared(self.delivered..feed.end(), feed);
            } else {
                owe(peer, edits, self.delivered, feed);
                peer.connection.flush(feed, BATCH);
            }
        }
        // Little that is owed must not keep much in the feed: who talks without reading is owed all but his
        // own lines. A copy takes memory, and is no gain where many would get one of nearly the same.
        let (lag, owed) = (peer.connection.lag(feed), peer.connection.owed());
        if lag > self.max_queue as u64
            && owed as u64 <= lag / WORTH_A_COPY
            && self.has_memory(held_by_others + peer.held() + owed + feed.held())
        {
            peer.connection.detach(feed);
        }
    }

    /// Notes who is owed more than the mark; when memory runs out, who is owed anything.
    fn note_slow<S: Stream>(&mut self, peers: &mut Slab<Peer<S>>, held: usize, now: Instant) {
        let mark = if self.has_memory(held) { self.max_queue } else { 0 };
        for (key, peer) in peers {
            let counts = !peer.is_turned_away && !matches!(peer.connection.phase(), Phase::Closed(_));
            if counts && peer.connection.owed() > mark && !mem::replace(&mut peer.is_slow, true) {
                let ticket = Ticket { serial: peer.serial, key };
                self.slow.push(Slow { ticket, since: now, sent: peer.connection.sent() });
            }
        }
    }

    /// Forgets who is slow no more, and closes who has been for too long.
    pub(super) fn watch_slow<S: Stream>(
        &mut self,
        peers: &mut Slab<Peer<S>>,
        held: usize,
        work: &mut Work,
        now: Instant,
    ) {
        let enough = if self.has_memory(held) { self.max_queue / 2 } else { 0 };
        let progress = (self.max_queue as u64 / 16).max(1);
        self.slow.retain_mut(|slow| {
            let Some(peer) = find(peers, slow.ticket) else { return false };
            // What a broken connection is owed waits only for the end of the turn.
            peer.is_slow = peer.connection.owed() > enough && !matches!(peer.connection.phase(), Phase::Closed(_));
            if !peer.is_slow {
                return false;
            }
            let sent = peer.connection.sent();
            if sent - slow.sent >= progress {
                (slow.since, slow.sent) = (now, sent);
            }
            if now >= slow.since + self.stall_timeout {
                peer.connection.abort(Close::TooSlow);
                peer.schedule(slow.ticket.key, work);
                peer.is_slow = false;
            }
            peer.is_slow
        });
    }
}

impl<S: Stream> Peer<S> {
    pub(super) fn relay_outlook(&self, is_open: bool) -> Outlook {
        match (self.connection.takes_input(), self.has_input()) {
            (true, true) if !is_open => Outlook::Starved,
            (_, true) => Outlook::Busy,
            (_, false) => Outlook::Waiting,
        }
    }

    fn is_member(&self) -> bool {
        self.hearing.as_ref().is_some_and(|hearing| hearing.standing == Standing::Member)
    }

    /// Whether the end of the room has to wait for it.
    fn has_more_to_say(&self) -> bool {
        let Some(hearing) = &self.hearing else { return false };
        hearing.standing == Standing::New || (self.connection.takes_input() && self.has_input())
    }

    /// Whether there is something that it said and that was not heard yet.
    pub(super) fn has_input(&self) -> bool {
        let has_backlog = self.hearing.as_ref().is_some_and(|hearing| !hearing.backlog.is_empty());
        self.connection.can_receive() || has_backlog
    }
}

fn hear_line(
    room: &mut Room<Ticket>,
    ticket: Ticket,
    line: Line<'_>,
    max_line: usize,
    voice: &mut impl Hall<Ticket>,
) -> Reaction {
    match line {
        Line::Text(text) => room.hear(ticket, text, voice),
        Line::TooLong => {
            room.refuse_line(ticket, max_line, voice);
            Reaction::Stay
        }
    }
}

/// Queues for a member the feed from `position` to its end, with the member's own `edits`.
fn owe<S: Stream>(peer: &mut Peer<S>, edits: &[Edit], mut position: u64, feed: &mut Feed) {
    for edit in edits {
        if edit.at > position {
            peer.connection.owe_shared(position..edit.at, feed);
            position = edit.at;
        }
        match &edit.change {
            Change::SkipTo(end) => position = position.max(*end),
            Change::Insert(line) => peer.connection.owe(line.as_bytes()),
        }
    }
    peer.connection.owe_shared(position..feed.end(), feed);
}
