//! What a member does: how it writes, when it reads, and how it ends.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::socket::{Client, ReplyEnd};

/// Who has read or sent so many bytes more does it a byte faster: what is slow must not take for ever.
const HASTE: usize = 50;

/// How many bytes a second a person types at most.
pub(crate) const TYPING: usize = 200;

/// When a member reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// About so many bytes at a time, whenever it can.
    Always(usize),
    AfterWriting,
    /// So many bytes, and then nothing more until it is told to.
    UpTo(usize),
}

/// What a member does when it has sent everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It half-closes, and reads to the end.
    HalfClose,
    /// It stays, until it is sent away.
    Stay,
    /// It closes its socket, whatever it has not read yet.
    Close,
    Reset,
}

/// A member that carries out what was drawn for it, a step at a time.
#[derive(Debug)]
pub(crate) struct Member {
    /// How many bytes it has sent.
    pub(crate) sent: usize,
    /// How many bytes it has read.
    pub(crate) got: usize,
    /// How what it was told ended, once it did.
    pub(crate) end: Option<ReplyEnd>,
    /// How many bytes it sends before it resets the connection.
    breaks_at: Option<usize>,
    /// How many bytes one write has at most.
    bite: usize,
    pub(crate) reading: Reading,
    leaving: Leaving,
    /// Whether it has ended its side, in whatever way.
    has_left: bool,
    /// It talks like a person: when it may send its next line.
    next_line: Option<Instant>,
}

impl Member {
    /// Draws a member that sends `length` bytes and may be told about `most`, over a connection on which no more than
    /// `narrowest` bytes are on the way at once.
    pub(crate) fn draw(random: &mut Rng, length: usize, most: usize, is_fair: bool) -> Self {
        let slow = 1 + random.usize(..=most / 200);
        let reading = match random.u8(..16) {
            0 | 1 if !is_fair => Reading::UpTo(0),
            2 if !is_fair => Reading::UpTo(random.usize(..most)),
            3 if !is_fair => Reading::AfterWriting,
            4..7 => Reading::Always(slow),
            7..9 => Reading::Always(random.usize(slow..=most.max(slow))),
            _ => Reading::Always(usize::MAX),
        };
        let slow = 1 + length / 200;
        let bite = match random.u8(..4) {
            0 => slow,
            1 => random.usize(slow..=length.max(slow)),
            _ => usize::MAX,
        };
        let leaving = match random.u8(..10) {
            0 if !is_fair => Leaving::Close,
            1 if !is_fair => Leaving::Reset,
            2..6 => Leaving::Stay,
            _ => Leaving::HalfClose,
        };
        let breaks_at = (!is_fair && random.u8(..12) == 0).then(|| random.usize(..=length));
        Self { sent: 0, got: 0, end: None, breaks_at, bite, reading, leaving, has_left: false, next_line: None }
    }

    /// A member that reads everything at once and sends a line at a time, no faster than a person types.
    pub(crate) fn person(now: Instant) -> Self {
        Self {
            sent: 0,
            got: 0,
            end: None,
            breaks_at: None,
            bite: usize::MAX,
            reading: Reading::Always(usize::MAX),
            leaving: Leaving::HalfClose,
            has_left: false,
            next_line: Some(now),
        }
    }

    /// A member that does not read, and stays.
    pub(crate) fn deaf() -> Self {
        let (reading, leaving) = (Reading::UpTo(0), Leaving::Stay);
        let bite = usize::MAX;
        Self { sent: 0, got: 0, end: None, breaks_at: None, bite, reading, leaving, has_left: false, next_line: None }
    }

    /// A member that breaks the connection as soon as it is there.
    pub(crate) fn fleeting() -> Self {
        Self { breaks_at: Some(0), ..Self::deaf() }
    }

    pub(crate) fn is_person(&self) -> bool {
        self.next_line.is_some()
    }

    /// Whether it will send more in a while.
    pub(crate) fn is_typing(&self, length: usize) -> bool {
        self.is_person() && !self.has_left && self.sent < length
    }

    /// Sends the next line of a person, if it has been typed by now. Returns whether it was.
    pub(crate) fn type_line(&mut self, client: &Client, speech: &[u8], now: Instant) -> bool {
        let Some(next) = self.next_line.filter(|next| *next <= now && self.sent < speech.len()) else { return false };
        let rest = &speech[self.sent..];
        let line = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        let count = client.send(&rest[..line]);
        self.sent += count;
        let time = Duration::from_millis(1000 * count as u64 / TYPING as u64);
        self.next_line = Some(next.max(now) + time);
        count > 0
    }

    /// Does what can be done now: all of it where `is_eager`. Returns whether anything was.
    pub(crate) fn act(&mut self, client: &Client, speech: &[u8], is_eager: bool, random: &mut Rng) -> bool {
        if self.is_over() {
            return false;
        }
        let before = (self.sent, self.got, self.has_left, self.end);
        if !self.has_left {
            self.write(client, speech, is_eager, random);
        }
        let limit = match self.reading {
            Reading::Always(limit) => limit.saturating_add(self.got / HASTE),
            Reading::AfterWriting if self.sent == speech.len() => usize::MAX,
            Reading::AfterWriting => 0,
            Reading::UpTo(limit) => limit.saturating_sub(self.got),
        };
        if limit > 0 {
            self.got += client.receive(limit).len();
            self.end = client.reply_end();
            if self.end.is_some() {
                client.close();
                self.has_left = true;
            }
        }
        before != (self.sent, self.got, self.has_left, self.end)
    }

    fn write(&mut self, client: &Client, speech: &[u8], is_eager: bool, random: &mut Rng) {
        if self.is_typing(speech.len()) {
            return;
        }
        let bite = self.bite.saturating_add(self.sent / HASTE);
        let count = random.usize(1..=bite).min(speech.len() - self.sent);
        self.sent += client.send(&speech[self.sent..][..count]);
        if self.breaks_at.is_some_and(|at| self.sent >= at) {
            client.reset();
            self.has_left = true;
        } else if self.sent == speech.len() && (is_eager || random.bool()) {
            // FIN and the last bytes come together or apart, as chance will have it.
            match self.leaving {
                Leaving::HalfClose => client.finish(),
                Leaving::Stay => return,
                Leaving::Close => client.close(),
                Leaving::Reset => client.reset(),
            }
            self.has_left = true;
        }
    }

    /// Whether the member needs nothing any more.
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some() || self.has_left && (self.leaving != Leaving::HalfClose || self.breaks_at.is_some())
    }

    /// Whether nothing but itself keeps it from an end: it does not read, or it has sent all and stays.
    pub(crate) fn is_stuck_by_choice(&self, length: usize) -> bool {
        if self.is_typing(length) {
            return true;
        }
        let is_content = self.leaving == Leaving::Stay && self.sent == length;
        is_content || !matches!(self.reading, Reading::Always(_)) || self.is_over()
    }

    /// Whether it does all that a client can to be told everything.
    pub(crate) fn is_honest(&self) -> bool {
        matches!(self.leaving, Leaving::HalfClose | Leaving::Stay) && self.breaks_at.is_none()
    }

    /// Whether it has always read on.
    pub(crate) fn is_healthy(&self) -> bool {
        matches!(self.reading, Reading::Always(_)) && self.is_honest()
    }

    /// Gives up what kept it from an end: it reads on and, unless it `stays`, leaves when it has everything.
    pub(crate) fn relent(&mut self, stays: bool) {
        let is_reading = matches!(self.reading, Reading::Always(_));
        if !is_reading {
            self.reading = Reading::Always(usize::MAX);
        }
        if self.has_left || (stays && !is_reading) {
            return;
        }
        self.bite = usize::MAX;
        self.reading = Reading::Always(usize::MAX);
        self.breaks_at = None;
        self.leaving = Leaving::HalfClose;
    }
}
