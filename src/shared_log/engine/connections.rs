//! The two connections to Redis: they are made, log in, bring answers, and are made anew when something is wrong.

use std::time::{Duration, Instant};

use super::channel::{Channel, Expected};
use super::{Action, Engine, Gap, Role, Stage};
use crate::shared_log::resp::{Malformed, Reply};

/// How long to wait before connecting again, at first and at most. It doubles each time.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The most characters of an answer of Redis that a log line shows.
const MAX_TROUBLE: usize = 200;

impl Engine {
    /// A connection that the engine [asked for](Action::Connect) has been made.
    pub fn connected(&mut self, role: Role, now: Instant) {
        if !self.channel(role).open(now) {
            return;
        }
        self.log_in(role, now);
    }

    /// A connection has ended or could not be made, for this reason.
    pub fn closed(&mut self, role: Role, reason: String, now: Instant) {
        if !self.channel(role).is_closed() {
            self.fail(reason, now);
        }
    }

    /// Bytes have come from Redis. A [`turn`](Self::turn) is to follow.
    pub fn received(&mut self, role: Role, bytes: &[u8], now: Instant) {
        let channel = self.channel(role);
        if !channel.is_open() {
            return;
        }
        channel.note_progress(now);
        let mut replies = channel.take_replies();
        replies.push(bytes);
        loop {
            match replies.next() {
                Ok(Some(reply)) => self.answered(role, &reply, now),
                Ok(None) => break,
                Err(Malformed) => self.fail("its answer is not in its protocol".to_owned(), now),
            }
            if !self.channel(role).is_open() {
                return;
            }
        }
        self.channel(role).put_back_replies(replies);
    }

    /// What is to be sent to Redis.
    pub fn output(&self, role: Role) -> &[u8] {
        match role {
            Role::Calls => self.calls.output(),
            Role::Reads => self.reads.output(),
        }
    }

    /// So many bytes of [`output`](Self::output) have been sent.
    pub fn sent(&mut self, role: Role, count: usize, now: Instant) {
        self.channel(role).sent(count, now);
    }

    pub(super) fn channel(&mut self, role: Role) -> &mut Channel {
        match role {
            Role::Calls => &mut self.calls,
            Role::Reads => &mut self.reads,
        }
    }

    pub(super) fn connect(&mut self, role: Role, now: Instant) {
        self.channel(role).connect(now);
        self.actions.push_back(Action::Connect(role));
    }

    pub(super) fn close(&mut self, role: Role) {
        if self.channel(role).close() {
            self.actions.push_back(Action::Close(role));
        }
    }

    /// Closes both connections, to make them anew after a while.
    pub(super) fn fail(&mut self, reason: String, now: Instant) {
        self.trouble = reason;
        self.close(Role::Calls);
        self.close(Role::Reads);
        self.call = None;
        self.script.hash = None;
        // Nothing is read over new connections before the script has answered, so a server that was still reading what it
        // missed would wait forever: it asks again how far that goes, for which the old answer may not hold any more.
        if matches!(self.stage, Stage::Behind(top) if self.position().0 < top) {
            self.stage = Stage::In;
        }
        let backoff = BACKOFF.0.saturating_mul(1 << self.attempts.min(8)).min(BACKOFF.1);
        self.attempts = self.attempts.saturating_add(1);
        self.retry_at = Some(now + backoff / 2 + backoff.mul_f64(self.random.f64() / 2.0));
        self.trouble_since.get_or_insert(now);
    }

    fn log_in(&mut self, role: Role, now: Instant) {
        let settings = &self.settings;
        let channel = match role {
            Role::Calls => &mut self.calls,
            Role::Reads => &mut self.reads,
        };
        match (&settings.user, &settings.password) {
            (Some(user), Some(password)) => channel.send(&["AUTH", user, password], Expected::Login, now),
            (None, Some(password)) => channel.send(&["AUTH", password], Expected::Login, now),
            (_, None) => {}
        }
        if settings.database != 0 {
            channel.send(&["SELECT", &settings.database.to_string()], Expected::Database, now);
        }
        if role == Role::Calls {
            self.script.load(channel, now);
        }
    }

    fn answered(&mut self, role: Role, reply: &Reply<'_>, now: Instant) {
        let Some(expected) = self.channel(role).answered(now) else {
            self.fail("it answers what nobody asked".to_owned(), now);
            return;
        };
        if let Reply::Error(text) = reply {
            self.refused(expected, text, now);
            return;
        }
        match expected {
            Expected::Login | Expected::Database => {}
            Expected::Script => self.script.hash = reply.text().map(<[u8]>::to_vec),
            Expected::Call => self.call_answered(reply, now),
            Expected::Read(read) => self.read_answered(&read, reply, now),
        }
    }

    fn refused(&mut self, expected: Expected, text: &[u8], now: Instant) {
        if text.starts_with(b"NOSCRIPT") && expected == Expected::Call {
            self.call = None;
            self.script.load(&mut self.calls, now);
            return;
        }
        if text.starts_with(b"WRONGTYPE") {
            // To enter again makes the log anew.
            self.note_gap(Gap::Entry, now);
        }
        let text = String::from_utf8_lossy(text);
        let reason = match expected {
            // Redis repeats the words of a command that it does not know.
            Expected::Login => format!("{}: it refuses the login", text.split(' ').next().unwrap_or_default()),
            Expected::Database => format!("{text}: it refuses database {}", self.settings.database),
            _ => text.chars().take(MAX_TROUBLE).collect(),
        };
        self.fail(reason, now);
    }
}
