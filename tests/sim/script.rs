//! What a client does: how it writes, when it reads, and how it ends.

use std::fmt;

use fastrand::Rng;

use crate::socket::{Client, ReplyEnd};

/// In about how many steps the most patient client gets its reply.
const STEPS: usize = 200;

/// A client that carries out what was drawn for it, a step at a time.
pub(crate) struct Script {
    /// What it sends.
    pub(crate) payload: Vec<u8>,
    /// How many bytes it has sent.
    pub(crate) sent: usize,
    /// How many bytes of the reply it has read.
    pub(crate) got: usize,
    /// How the reply ended, once it did.
    pub(crate) end: Option<ReplyEnd>,
    /// How many bytes it sends before it waits for their echo.
    window: usize,
    /// Until where it sends before it waits.
    goal: usize,
    /// Whether it only waits at the end of a line.
    ends_lines: bool,
    /// How many bytes one write and one read have at most.
    bites: (usize, usize),
    reading: Reading,
    leaving: Leaving,
    /// Whether it has ended its side, in whatever way.
    has_left: bool,
}

/// When a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Always,
    AfterWriting,
    Never,
}

/// What a client does when it has sent everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// It half-closes, and reads to the end.
    HalfClose,
    /// It stays, until it is sent away.
    Stay,
    /// It closes its socket, whatever it has not read yet.
    Close,
    Reset,
}

impl Script {
    /// Draws a client that sends at most `most` bytes over a connection on which no more than `narrowest`
    /// bytes are on the way at once. Greedy ones send much and read late.
    pub(crate) fn draw(random: &mut Rng, most: usize, narrowest: usize, is_greedy: bool) -> Self {
        let reading = match random.u8(if is_greedy { ..4 } else { ..8 }) {
            0 => Reading::Never,
            1 | 2 => Reading::AfterWriting,
            _ => Reading::Always,
        };
        let window = match random.u8(..3) {
            0 if reading == Reading::Always => random.usize(1..2000),
            1 if reading == Reading::Always => random.usize(1..200_000),
            _ => usize::MAX,
        };
        let mut bite = || [1, random.usize(1..5000), 300_000, 300_000][random.usize(..4)];
        let bites = (bite(), bite());
        let narrowest = narrowest.min(window).min(bites.0).min(bites.1);
        let most = most.min(narrowest.saturating_mul(STEPS));
        let length = match random.u8(..8) {
            0 => 0,
            1..5 if !is_greedy => random.usize(..most.min(3000)),
            _ => random.usize(..most),
        };
        let leaving = match random.u8(..10) {
            0 => Leaving::Close,
            1 => Leaving::Reset,
            2 => Leaving::Stay,
            _ => Leaving::HalfClose,
        };
        let payload = payload(random, length);
        let ends_lines = random.bool();
        Self {
            payload,
            sent: 0,
            got: 0,
            end: None,
            window,
            goal: 0,
            ends_lines,
            bites,
            reading,
            leaving,
            has_left: false,
        }
    }

    /// Does what the script says, as far as it can be done now: all of it where `is_eager`. Returns whether
    /// anything was.
    pub(crate) fn act(&mut self, client: &Client, is_eager: bool, random: &mut Rng) -> bool {
        if self.is_over() {
            return false;
        }
        let before = (self.sent, self.got, self.has_left, self.end);
        if !self.has_left {
            self.write(client, is_eager, random);
        }
        if self.reads() {
            self.read(client, random);
        }
        before != (self.sent, self.got, self.has_left, self.end)
    }

    fn write(&mut self, client: &Client, is_eager: bool, random: &mut Rng) {
        if self.got >= self.goal {
            let message = random.usize(1..=self.window);
            self.goal = if self.window == usize::MAX { usize::MAX } else { self.got + message };
            if self.ends_lines && self.window < usize::MAX {
                let rest = self.payload.get(self.goal..).unwrap_or_default();
                self.goal += rest.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            }
        }
        let goal = self.goal.min(self.payload.len());
        let count = random.usize(1..=self.bites.0).min(goal.saturating_sub(self.sent));
        self.sent += client.send(&self.payload[self.sent..][..count]);
        // FIN and the last bytes come together or apart, as chance will have it.
        if self.sent == self.payload.len() && (is_eager || random.bool()) {
            match self.leaving {
                Leaving::HalfClose => client.finish(),
                Leaving::Stay => return,
                Leaving::Close => client.close(),
                Leaving::Reset => client.reset(),
            }
            self.has_left = true;
        }
    }

    fn read(&mut self, client: &Client, random: &mut Rng) {
        let bytes = client.receive(random.usize(1..=self.bites.1));
        let expected = self.payload.get(self.got..self.got + bytes.len());
        assert!(expected == Some(&bytes), "wrong bytes came back after {}", self.got);
        self.got += bytes.len();
        self.end = client.reply_end();
        if self.end.is_some() {
            client.close();
            self.has_left = true;
        }
    }

    fn reads(&self) -> bool {
        match self.reading {
            Reading::Always => true,
            Reading::AfterWriting => self.sent == self.payload.len(),
            Reading::Never => false,
        }
    }

    /// Whether the client needs nothing any more.
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some() || self.has_left && self.leaving != Leaving::HalfClose
    }

    /// Whether the client itself is the reason that it makes no progress: it does not read, or it has its
    /// whole reply and stays.
    pub(crate) fn is_stuck_by_choice(&self) -> bool {
        let is_content = self.leaving == Leaving::Stay && self.got == self.payload.len();
        is_content || !self.reads() || self.is_over()
    }

    /// Whether the client has done all that a client can to get its whole reply.
    pub(crate) fn is_honest(&self) -> bool {
        self.leaving == Leaving::HalfClose
    }

    /// Gives up what kept the client from an end: it reads on and leaves when it has everything. Where that
    /// much fairness is not asked for, it may just leave.
    pub(crate) fn relent(&mut self, client: &Client, is_fair: bool, random: &mut Rng) {
        self.window = usize::MAX;
        self.goal = usize::MAX;
        self.bites = (300_000, self.bites.1.max(1000));
        self.reading = Reading::Always;
        if self.has_left {
            return;
        }
        match random.u8(..3) {
            0 if !is_fair => {
                self.leaving = Leaving::Reset;
                client.reset();
                self.has_left = true;
            }
            1 if !is_fair => {
                self.leaving = Leaving::Close;
                client.close();
                self.has_left = true;
            }
            _ => self.leaving = Leaving::HalfClose,
        }
    }
}

/// Text, or noise: lines, characters of all lengths, and bytes that are no UTF-8.
fn payload(random: &mut Rng, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    if random.bool() {
        bytes.resize(length, 0);
        random.fill(&mut bytes);
    }
    while bytes.len() < length {
        let character = random.char('a'..='z');
        match random.u8(..16) {
            0 => bytes.push(b'\n'),
            1 => bytes.extend(b"\r\n"),
            2 => bytes.extend("ä€".as_bytes()),
            3 => bytes.extend("👍".as_bytes()),
            4 => bytes.push(random.u8(..)),
            // More than what is short.
            5 => bytes.extend_from_slice(&[character as u8; 1500]),
            _ => bytes.extend_from_slice(&[character as u8; 40]),
        }
    }
    bytes.truncate(length);
    bytes
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} then {:?}: sent {} of {}, ", self.reading, self.leaving, self.sent, self.payload.len())?;
        write!(f, "waits at {}, got {}, {:?}", self.goal, self.got, self.end)
    }
}
