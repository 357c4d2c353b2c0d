//! The ledger of one echo client: what the hub did for it and said of it, and whether that was right.

use std::time::Instant;

use sockets::Config;
use sockets::PeerAddress;
use sockets::config::{Log, RESERVE};
use sockets::connection::Close;
use sockets::message::PAUSE;
use sockets::outbox::SLACK;

use crate::socket::{Client, Record};

/// What was told of one client so far.
#[derive(Debug)]
pub(crate) struct Ledger {
    address: PeerAddress,
    client: Client,
    /// How many of its bytes were told in messages.
    told: usize,
    /// How many of its bytes had been read when the last turn ended.
    seen: usize,
    /// When the last of them was read.
    last_arrival: Instant,
    /// When bytes last came or went, and how many in all by then.
    moved: (Instant, usize),
    /// When it last took something or nothing was pending for it, how much it had taken by then, and whether more is pending.
    took: (Instant, usize),
    is_owed: bool,
    closed: Option<Close>,
    /// How many of its bytes had arrived when the hub was told to stop.
    pub(crate) stop_at: Option<usize>,
    /// Whether the hub gave it up, because it did not read on after the stop.
    is_given_up: bool,
}

/// What was drawn for all clients and bears on the judgement of each.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) config: Config,
    /// Memory is never short, whatever the clients do.
    pub(crate) is_plenty: bool,
}

/// The largest piece of a queue.
const PIECE: usize = 64 << 10;

impl Rules {
    /// The most bytes that are held for one client.
    fn max_pending(&self) -> usize {
        self.config.max_pending.max(RESERVE)
    }

    /// The most bytes that are kept of an unfinished message.
    fn max_text(&self) -> usize {
        if self.is_quiet() { 0 } else { self.config.log_max + 2 }
    }

    /// Whether nobody wants to know of messages.
    fn is_quiet(&self) -> bool {
        self.config.log < Log::Messages
    }
}

impl Ledger {
    pub(crate) fn new(address: PeerAddress, client: Client, now: Instant) -> Self {
        Self {
            address,
            client,
            told: 0,
            seen: 0,
            last_arrival: now,
            moved: (now, 0),
            took: (now, 0),
            is_owed: false,
            closed: None,
            stop_at: None,
            is_given_up: false,
        }
    }

    pub(crate) fn record(&self) -> Record {
        self.client.record()
    }

    /// How many of its bytes the client has not been sent.
    pub(crate) fn owed(&self) -> usize {
        let record = self.record();
        if record.is_dropped { 0 } else { record.taken - record.given }
    }

    /// The most that may be kept of the text of its unfinished message.
    fn most_text(&self, rules: &Rules) -> usize {
        let record = self.record();
        if record.is_dropped { 0 } else { (record.taken - self.told).min(rules.max_text()) }
    }

    /// The least and the most that may be held for the client.
    pub(crate) fn held(&self, rules: &Rules) -> (usize, usize) {
        let (owed, text) = (self.owed(), self.most_text(rules));
        // Memory counts by capacity: a piece that is half sent counts whole, and a text grows by a quarter.
        // The table of the pieces may be a quarter full.
        let spare = if owed > 0 { PIECE + SLACK + (8 << 10) + owed / 64 } else { 0 };
        (if rules.is_plenty { owed + text } else { owed }, owed + spare + text + text / 4)
    }

    /// A message was told in a turn in which deadlines until `noted` may expire: an event that comes later than that
    /// may be waiting. `payload` is what the client sends in all.
    pub(crate) fn message(&mut self, text: &[u8], length: u64, payload: &[u8], noted: Instant, rules: &Rules) {
        let (who, record) = (self.address, self.record());
        assert!(!rules.is_quiet(), "{who}: a message that nobody wants to know of");
        let message = &payload[self.told..self.told + length as usize];
        self.told += message.len();
        assert!(self.closed.is_none(), "{who}: a message after the end");
        assert!(!record.is_finished && !record.is_dropped, "{who}: a message after the client saw the end");
        assert!(!message.is_empty(), "{who}: a message of nothing");
        assert_eq!(self.told, record.taken, "{who}: the messages do not add up to what was read");
        assert!(message.starts_with(text), "{who}: a text that is not the message's");
        if rules.is_plenty || payload.len() <= RESERVE / 4 {
            let whole = message.len().min(rules.max_text());
            assert!(text.len() >= whole, "{who}: {} of {whole} bytes of a text, without need", text.len());
        }
        let may_end = self.has_ended() || looks_whole(message) && self.client.unread() == 0 || self.is_silent(noted);
        let may_end = may_end || self.is_idle(noted, rules) || self.is_stalled(noted, rules);
        assert!(may_end, "{who}: a message ended too early, after {length} bytes");
    }

    /// Whether nothing more is taken in, so that every message is complete.
    fn has_ended(&self) -> bool {
        let record = self.record();
        record.has_told_end || self.stop_at == Some(record.taken) || self.is_given_up
    }

    /// Whether nothing came, as far as the hub was told, for so long that a message is complete.
    fn is_silent(&self, now: Instant) -> bool {
        let has_come = self.client.unread() > 0 && !self.client.has_edge();
        !has_come && self.record().taken == self.seen && now >= self.last_arrival + PAUSE
    }

    /// The end of the connection was told in a turn in which deadlines until `noted` may expire.
    pub(crate) fn closed(&mut self, close: Close, received: u64, sent: u64, noted: Instant, rules: &Rules) {
        let (who, record) = (self.address, self.record());
        assert_eq!(self.closed.replace(close), None, "{who}: closed twice");
        assert!(!record.is_dropped, "{who}: dropped before it was told");
        assert_eq!(received as usize, record.taken, "{who}: bytes received");
        assert_eq!(sent as usize, record.given, "{who}: bytes sent");
        assert!(self.told == record.taken || rules.is_quiet(), "{who}: closed before its messages were told");
        match close {
            Close::Finished => assert!(self.client.has_fin(), "{who}: finished, but the client did not"),
            Close::Broken(_) => assert!(self.client.is_reset(), "{who}: broken without a reset"),
            Close::Stopping => assert!(self.stop_at.is_some(), "{who}: stopping, but nobody said so"),
            Close::Idle => assert!(self.is_idle(noted, rules), "{who}: idle, but something moved"),
            Close::TooSlow => assert!(self.is_stalled(noted, rules), "{who}: too slow, but it took something"),
            _ => panic!("{who}: closed because {close}"),
        }
    }

    /// Whether no byte has gone in either direction for as long as the timeout.
    pub(crate) fn is_idle(&self, now: Instant, rules: &Rules) -> bool {
        let record = self.record();
        let has_moved = record.taken + record.given != self.moved.1;
        !has_moved && rules.config.idle_timeout.is_some_and(|timeout| now >= self.moved.0 + timeout)
    }

    /// Whether it has taken nothing of what it was owed all that time.
    fn is_stalled(&self, now: Instant, rules: &Rules) -> bool {
        let has_taken = self.record().given != self.took.1;
        let stall = rules.config.stall_timeout;
        self.is_owed && !has_taken && stall.is_some_and(|timeout| now >= self.took.0 + timeout)
    }

    /// Whether it was sent away because it gave no sign of life.
    pub(crate) fn has_timed_out(&self) -> bool {
        matches!(self.closed, Some(Close::Idle | Close::TooSlow))
    }

    /// A turn ended at `now`: are all promises kept that do not wait for anything?
    pub(crate) fn check_turn(&mut self, now: Instant, rules: &Rules) {
        let (who, record) = (self.address, self.record());
        if record.taken > self.seen {
            self.seen = record.taken;
            self.last_arrival = now;
        }
        if record.taken + record.given != self.moved.1 {
            self.moved = (now, record.taken + record.given);
        }
        if record.given != self.took.1 || !self.is_owed {
            self.took = (now, record.given);
        }
        self.is_owed = self.owed() > 0;
        assert_eq!(record.is_dropped, self.closed.is_some(), "{who}: dropped without a word, or told but not dropped");
        assert!(self.held(rules).0 <= rules.max_pending(), "{who}: {} bytes held", self.held(rules).0);
        if let Some(stop_at) = self.stop_at {
            assert!(record.taken <= stop_at, "{who}: took in what came after the stop");
        }
        let is_over = record.is_finished || record.is_dropped;
        if is_over && !self.is_given_up && !self.has_timed_out() && !self.client.is_reset() {
            assert_eq!(record.given, record.taken, "{who}: sent the end before what was owed");
            let is_idle = self.is_idle(now, rules);
            let most = self.stop_at.filter(|_| !is_idle).unwrap_or(record.taken);
            assert_eq!(most, record.taken, "{who}: did not take in what had come");
        }
    }

    /// Nothing happens any more unless a client does something: is everything done that can be?
    /// `payload` is what the client sends in all, `held` are the bytes held for all clients.
    pub(crate) fn check_idle(
        &self,
        payload: &[u8],
        now: Instant,
        held: usize,
        deadline: Option<Instant>,
        rules: &Rules,
    ) {
        let (who, record) = (self.address, self.record());
        if record.is_dropped {
            return;
        }
        assert!(!self.client.is_reset(), "{who}: kept after a reset");
        let owed = self.owed();
        assert!(owed == 0 || self.client.wants_room(), "{who}: {owed} bytes were forgotten");
        // Below this the echo of one client goes on beside any other.
        let own = self.held(rules).1;
        let is_full = own + SLACK >= rules.max_pending() || held + RESERVE > rules.config.max_memory;
        let may_hold_back = owed > 0 && own + SLACK >= RESERVE && is_full;
        let unread = self.client.unread();
        if self.stop_at.is_none_or(|at| record.taken < at) || record.is_finished {
            assert!(unread == 0 || may_hold_back, "{who}: {unread} bytes are not read, while {owed} are pending");
            let has_end = unread == 0 && self.client.has_fin();
            assert!(!has_end || record.has_told_end || may_hold_back, "{who}: its end was not noticed");
        }
        let by = |since: Instant, timeout| deadline.is_some_and(|at| at <= now.max(since + timeout));
        if let Some(timeout) =
            rules.config.idle_timeout.filter(|_| (rules.is_plenty || owed > 0) && !record.is_finished)
        {
            // It may have waited for its turn when that was looked at first.
            assert!(by(self.moved.0, 2 * timeout), "{who}: nobody looks whether it is idle");
        }
        if let Some(timeout) = rules.config.stall_timeout.filter(|_| owed > 0) {
            assert!(by(self.took.0, timeout), "{who}: nobody looks whether it takes what is pending");
        }
        let is_ending = self.has_ended();
        assert!(!is_ending || owed > 0 || record.is_finished && !record.has_told_end, "{who}: not closed");

        let message = &payload[self.told..record.taken];
        if !message.is_empty() && !rules.is_quiet() {
            assert!(!is_ending, "{who}: its last message was not told");
            // Where it may not read on, the hub cannot know that nothing more came.
            let ends_soon = deadline.is_some_and(|at| at <= now + PAUSE);
            assert!(may_hold_back || ends_soon, "{who}: a message that nothing will end");
            assert!(may_hold_back || !looks_whole(message), "{who}: a message was not told");
            // After a read that was interrupted it knows that late.
            let is_late = self.is_silent(now) && record.interruptions == 0;
            assert!(may_hold_back || !is_late, "{who}: a message was not told after the pause");
        }
    }

    /// The client read to the end and got `got` bytes, and `length` is what it sends in all.
    pub(crate) fn check_reply(&self, got: usize, length: usize) {
        let taken = self.record().taken;
        assert_eq!(got, self.stop_at.unwrap_or(length), "{}: the reply is not whole", self.address);
        assert_eq!(got, taken, "{}: the reply is not what was taken in", self.address);
    }

    /// The hub is about to give the client up, and takes in nothing more.
    pub(crate) fn give_up(&mut self) {
        self.is_given_up = !self.record().is_dropped;
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up
    }
}

/// Whether what came so far can be taken for a message: said once more, apart from the hub's own words.
fn looks_whole(message: &[u8]) -> bool {
    let is_cut = (1..=message.len().min(3)).any(|count| {
        let ending = str::from_utf8(&message[message.len() - count..]);
        ending.is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    });
    (message.len() < 1024 || message.ends_with(b"\n")) && !is_cut
}
