//! Clients that check every byte.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::engine::{Actor, Next, Stage, ready};

/// A stream of bytes that is different for each seed and can be had from any position on.
#[derive(Clone, Copy)]
pub(crate) struct Content(pub(crate) u64);

impl Content {
    /// The bytes of the stream from `position` on: the words of SplitMix64.
    pub(crate) fn fill(self, position: u64, bytes: &mut [u8]) {
        let mut at = position;
        let mut rest = bytes;
        while !rest.is_empty() {
            let word = mixed(self.0.wrapping_add((at / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15))).to_le_bytes();
            let word = &word[(at % 8) as usize..];
            let count = word.len().min(rest.len());
            let (part, after) = rest.split_at_mut(count);
            part.copy_from_slice(&word[..count]);
            at += count as u64;
            rest = after;
        }
    }
}

fn mixed(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// How an honest client ends when it has said all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// It half-closes, and expects the server's end after the last byte.
    HalfClose,
    /// It closes.
    Close,
    /// It resets the connection.
    Reset,
}

/// Sends message after message, each once the one before has come back, and checks every byte.
pub(crate) struct Honest {
    content: Content,
    /// The lengths of the messages that are still to be sent, the last first; without them it goes on until
    /// the stage says that it is over.
    lengths: Option<Vec<u32>>,
    /// How long it waits between two messages.
    pause: Duration,
    farewell: Farewell,
    /// The round it is in, if it sends one message in each.
    round: Option<usize>,
    begun: Instant,
    next_at: Option<Instant>,
    sent: u64,
    checked: u64,
    end: u64,
    has_ended: bool,
}

impl Honest {
    /// One that sends these many messages of random length up to `longest`.
    pub(crate) fn new(stage: &mut Stage, messages: usize, longest: u32, farewell: Farewell) -> Self {
        let lengths = (0..messages).map(|_| stage.random.u32(1..=longest)).collect();
        Self::with(stage, Some(lengths), Duration::ZERO, farewell)
    }

    /// One that talks until the stage is over, with a pause between the messages.
    pub(crate) fn lasting(stage: &mut Stage, pause: Duration) -> Self {
        Self::with(stage, None, pause, Farewell::HalfClose)
    }

    /// One that sends a message in each round, of these lengths, and then half-closes.
    pub(crate) fn in_rounds(stage: &mut Stage, lengths: &[u32]) -> Self {
        let lengths = lengths.iter().rev().copied().collect();
        let honest = Self::with(stage, Some(lengths), Duration::ZERO, Farewell::HalfClose);
        Self { round: Some(stage.round - 1), ..honest }
    }

    fn with(stage: &mut Stage, lengths: Option<Vec<u32>>, pause: Duration, farewell: Farewell) -> Self {
        Self {
            content: Content(stage.random.u64(..)),
            lengths,
            pause,
            farewell,
            round: None,
            begun: stage.now,
            next_at: None,
            sent: 0,
            checked: 0,
            end: 0,
            has_ended: false,
        }
    }

    /// The length of the next message, if there is one: mostly short, sometimes as long as may always be held.
    fn next_length(&mut self, stage: &mut Stage) -> Option<u32> {
        match &mut self.lengths {
            Some(lengths) => lengths.pop(),
            None if stage.is_over => None,
            None if stage.random.u8(..50) == 0 => Some(stage.random.u32(1..60_000)),
            None => Some(stage.random.u32(1..2000)),
        }
    }

    fn push(&mut self, stream: &mut TcpStream, stage: &mut Stage) -> io::Result<()> {
        while self.sent < self.end {
            let bytes = &mut stage.scratch[..(self.end - self.sent).min(64 << 10) as usize];
            self.content.fill(self.sent, bytes);
            match ready(stream.write(bytes))? {
                Some(count) => self.sent += count as u64,
                None => break,
            }
        }
        Ok(())
    }

    /// Reads what is there. Returns whether the server has ended its side.
    fn pull(&mut self, stream: &mut TcpStream, stage: &mut Stage) -> io::Result<bool> {
        let (bytes, expected) = stage.scratch.split_at_mut(64 << 10);
        while let Some(count) = ready(stream.read(bytes))? {
            if count == 0 {
                return Ok(true);
            }
            let (bytes, expected) = (&bytes[..count], &mut expected[..count]);
            self.content.fill(self.checked, expected);
            assert!(bytes == expected, "wrong bytes came back between {} and {}", self.checked, self.sent);
            self.checked += count as u64;
            stage.checked += count as u64;
            assert!(self.checked <= self.sent, "more came back than was sent");
            // Nothing is left then, and an event comes with the next bytes.
            if self.checked == self.end && !self.has_ended {
                break;
            }
        }
        Ok(false)
    }
}

impl Actor for Honest {
    fn act(&mut self, stream: &mut TcpStream, stage: &mut Stage) -> io::Result<Next> {
        loop {
            self.push(stream, stage)?;
            let is_ended = self.pull(stream, stage)?;
            if self.checked < self.end {
                assert!(!is_ended, "the server ended, {} of {} bytes came back", self.checked, self.end);
                return Ok(Next::Wait);
            }
            if self.has_ended {
                return Ok(if is_ended { Next::Leave } else { Next::Wait });
            }
            assert!(!is_ended, "the server ended though nobody asked for it");
            if self.end > 0 && self.next_at.is_none() {
                stage.times.push(self.begun.elapsed());
                self.next_at = Some(stage.now + self.pause);
            }
            if let Some(at) = self.next_at
                && at > stage.now
                && !stage.is_over
            {
                return Ok(Next::WakeAt(at));
            }
            if let Some(round) = &mut self.round {
                if *round == stage.round {
                    return Ok(Next::Rest);
                }
                *round += 1;
            }
            let Some(length) = self.next_length(stage) else {
                match self.farewell {
                    Farewell::HalfClose => stream.shutdown(Shutdown::Write)?,
                    Farewell::Close => return Ok(Next::Leave),
                    Farewell::Reset => return Ok(Next::Reset),
                }
                self.has_ended = true;
                continue;
            };
            (self.begun, self.next_at) = (Instant::now(), None);
            self.end += u64::from(length);
        }
    }
}
