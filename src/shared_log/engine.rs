//! The protocol between a server and the shared log in Redis, without sockets and without a clock.
//!
//! A server has two connections to Redis: one for calls of the script, one at a time, and one that reads the log. The
//! engine says when to connect and what to send, takes what arrives, and tells what the log says. It keeps these rules:
//!
//! - One batch of operations is on its way at a time. It is sent again with the same number until it is answered, and the
//!   script applies each number once.
//! - After each connect, the last entry that was delivered is read once more. If the log does not have it any more,
//!   Redis has lost data: the server enters the room again, and the members are told that lines may be missing.
//! - A server whose lease has ended reads what it missed before it enters again, so nothing is missing.
//! - Whatever Redis answers, or if it does not answer in time, both connections are closed and made anew.

mod calls;
mod channel;
mod connections;
mod earlier;
mod gap;
mod reading;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::outgoing::Outgoing;
use super::{LogEvent, MemberRecord, Op, Position, ServerId, Urgency};
use calls::{Call, Script};
use channel::Channel;
use gap::Gap;

/// How long the other servers may be out of reach before the members are told.
const AWAY_AFTER: Duration = Duration::from_secs(1);

/// The two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Calls the script.
    Calls,
    /// Reads the log.
    Reads,
}

/// What the owner of the sockets is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make this connection. [`Engine::connected`] or [`Engine::closed`] is to follow.
    Connect(Role),
    /// Close this connection, whether or not it has been made.
    Close(Role),
}

/// Whose log it is, and how Redis lets the server in.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name of the room.
    pub room: String,
    /// The user, where it is not the default one.
    pub user: Option<String>,
    /// The password, if there is one.
    pub password: Option<String>,
    /// The number of the database.
    pub database: u32,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("room", &self.room).finish_non_exhaustive()
    }
}

/// A server's part in the shared log.
#[derive(Debug)]
pub struct Engine {
    id: ServerId,
    settings: Settings,
    script: Script,
    random: Rng,
    calls: Channel,
    reads: Channel,
    actions: VecDeque<Action>,
    events: VecDeque<LogEvent>,
    stage: Stage,
    /// The call that is on its way.
    call: Option<Call>,
    /// When a call was last answered.
    answered_at: Instant,
    epoch: Vec<u8>,
    /// The number of the last call to enter, which also names it.
    run: u64,
    gap: Option<Gap>,
    /// The last entry that was delivered.
    last: Option<Last>,
    /// The position of the last entry that the log is known to have.
    top: u64,
    /// All members at a position that is still to be reached, and the operations that come behind it.
    snapshot: Option<(Position, Vec<MemberRecord>, usize)>,
    /// The members of this server as of the last entry.
    own: BTreeMap<u64, Own>,
    /// The last batch of each server that was delivered.
    batches: HashMap<ServerId, u64>,
    /// The last batches that were delivered.
    recent: VecDeque<(ServerId, u64)>,
    outgoing: Outgoing,
    floor: u64,
    urgency: Urgency,
    others_floor: Option<Position>,
    /// Since when the server has been out of touch with the log.
    trouble_since: Option<Instant>,
    /// Why, in words.
    trouble: String,
    is_away: bool,
    /// Attempts to connect since it last went well.
    attempts: u32,
    retry_at: Option<Instant>,
    is_leaving: bool,
    has_left: bool,
    /// How many entries the next read may bring.
    read_count: usize,
}

/// How far the server has come into the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is to enter.
    Out,
    /// Its lease has ended. It is to read up to this position, and then to enter.
    Behind(u64),
    In,
}

/// An entry, by what tells it from all others.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Last {
    position: u64,
    server: Vec<u8>,
    batch: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Own {
    name: String,
    is_announced: bool,
}

impl Engine {
    /// A server that is to enter the room. `id` is random and new at each start; `seed` is for the times between attempts to
    /// connect.
    pub fn new(settings: Settings, id: ServerId, seed: u64, now: Instant) -> Self {
        Self {
            id,
            script: Script::new(&settings.room, id),
            settings,
            random: Rng::with_seed(seed),
            calls: Channel::new(Duration::from_secs(3)),
            reads: Channel::new(reading::BLOCK + Duration::from_secs(3)),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            stage: Stage::Out,
            call: None,
            answered_at: now,
            epoch: Vec::new(),
            run: 0,
            gap: None,
            last: None,
            top: 0,
            snapshot: None,
            own: BTreeMap::new(),
            batches: HashMap::new(),
            recent: VecDeque::new(),
            outgoing: Outgoing::default(),
            floor: 0,
            urgency: Urgency::Relaxed,
            others_floor: None,
            trouble_since: Some(now),
            trouble: "it has not answered yet".to_owned(),
            is_away: false,
            attempts: 0,
            retry_at: Some(now),
            is_leaving: false,
            has_left: false,
            read_count: reading::COUNT,
        }
    }

    /// Asks the log to append something. It is sent with the next [`turn`](Self::turn).
    pub fn push(&mut self, op: Op) {
        self.outgoing.push(op);
    }

    /// Bytes of operations that Redis has not confirmed yet.
    pub fn pending_bytes(&self) -> usize {
        self.outgoing.bytes()
    }

    /// How soon the log is to be asked and told how far members are.
    pub fn set_urgency(&mut self, urgency: Urgency) {
        self.urgency = urgency;
    }

    /// The oldest entry that some member of this server has not taken yet, or the position after the last one. Only needed
    /// when the next turn [reports it](Self::reports_floor).
    pub fn set_floor(&mut self, floor: Position) {
        self.floor = floor.0;
    }

    /// Says goodbye, once everything that was asked for has been appended.
    pub fn leave(&mut self) {
        self.is_leaving = true;
    }

    /// Whether the log has taken the goodbye, or is out of reach and there is nothing that members have said to wait for:
    /// that this server has gone, the others notice themselves.
    pub fn has_left(&self) -> bool {
        self.has_left || self.is_leaving && self.is_away && !self.outgoing.has_text()
    }

    /// Does what is due, and sends what can be sent. All events that came until `noted` have been passed on: only
    /// deadlines until then have passed.
    pub fn turn(&mut self, now: Instant, noted: Instant) {
        if self.retry_at.is_some_and(|at| at <= noted) {
            self.retry_at = None;
            self.connect(Role::Calls, now);
            self.connect(Role::Reads, now);
        }
        if [&self.calls, &self.reads].iter().any(|channel| channel.deadline().is_some_and(|at| at <= noted)) {
            self.fail("it does not answer in time".to_owned(), now);
        }
        self.advance(now);
        if self.away_at().is_some_and(|at| at <= noted) {
            self.is_away = true;
            self.events.push_back(LogEvent::Away);
        }
    }

    /// Whether [`turn`](Self::turn) has something to do though nothing has come and nothing is due.
    pub fn has_work(&self) -> bool {
        !self.actions.is_empty() || !self.events.is_empty()
    }

    /// When [`turn`](Self::turn) is to be called, though nothing has come.
    pub fn deadline(&self) -> Option<Instant> {
        let deadlines =
            [self.retry_at, self.calls.deadline(), self.reads.deadline(), self.away_at(), self.next_call_at()];
        deadlines.into_iter().flatten().min()
    }

    /// The next thing that the owner of the sockets is to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next thing that the log says.
    pub fn poll_event(&mut self) -> Option<LogEvent> {
        self.events.pop_front()
    }

    /// Whether the server is in the room, and in touch with the others.
    pub fn is_in(&self) -> bool {
        self.trouble_since.is_none() && !self.is_away
    }

    /// Why the server was last out of touch with the log, or why lines may be missing.
    pub fn trouble(&self) -> &str {
        &self.trouble
    }

    /// What names the history of the log: after a loss of data there is a new one, with a higher number before it. Empty
    /// before the first.
    pub fn epoch(&self) -> &str {
        str::from_utf8(&self.epoch).unwrap_or_default()
    }

    /// The position of the last entry that was delivered.
    pub fn position(&self) -> Position {
        Position(self.last.as_ref().map_or(0, |last| last.position))
    }

    /// How many entries the log is known to have beyond that.
    pub fn lag(&self) -> u64 {
        self.top.saturating_sub(self.position().0)
    }

    /// Sends what can be sent now, and looks whether all is well.
    fn advance(&mut self, now: Instant) {
        self.send_call(now);
        self.send_read(now);
        self.note_contact(now);
    }

    /// Notes since when the server has been out of touch, and tells when it is in touch again.
    fn note_contact(&mut self, now: Instant) {
        let is_connected = self.calls.is_checked() && self.reads.is_checked();
        if !is_connected || self.stage != Stage::In || self.snapshot.is_some() {
            self.trouble_since.get_or_insert(now);
            return;
        }
        self.trouble_since = None;
        if self.call.as_ref().is_some_and(|call| call.sent_at + AWAY_AFTER <= now) {
            return;
        }
        self.attempts = 0;
        if mem::take(&mut self.is_away) {
            self.events.push_back(LogEvent::Back);
        }
    }

    fn away_at(&self) -> Option<Instant> {
        let since = [self.trouble_since, self.call.as_ref().map(|call| call.sent_at)].into_iter().flatten().min();
        since.filter(|_| !self.is_away && !self.has_left).map(|since| since + AWAY_AFTER)
    }

    /// Lines may be missing: the server is to enter again, and to read on from where it enters.
    fn note_gap(&mut self, gap: Gap, now: Instant) {
        self.trouble = gap.to_string();
        self.gap = self.gap.max(Some(gap));
        self.stage = Stage::Out;
        self.snapshot = None;
        self.close(Role::Reads);
        self.connect(Role::Reads, now);
    }
}
