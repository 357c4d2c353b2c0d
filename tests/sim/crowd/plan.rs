//! What is drawn for a simulation of the room, and for each of its members.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use fastrand::Rng;
use sockets::Config;
use sockets::config::RESERVE;

use super::member::{Member, Reading};
use super::speech::{Manner, Speech};
use crate::play::Stop;
use crate::socket::Nature;
use crate::world::Poll;

/// A timeout that only runs out where the clients wait for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3600);

/// The most that is kept of what was said, in bytes.
const HISTORY: usize = 32 << 10;

/// Everything that is drawn once for a simulation.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rules: Rules,
    pub(crate) poll: Poll,
    /// How many members come in all, and how many are there at once.
    pub(crate) members: (usize, usize),
    /// About how many bytes one member sends at most.
    pub(crate) most: usize,
    /// How likely a member only listens, in 1 of 8.
    pub(crate) listeners: u8,
    /// Whether some talk much without reading, and the others little.
    pub(crate) has_monologues: bool,
    /// Whether all of them do what clients can do to be told everything.
    pub(crate) is_fair: bool,
    /// Whether hostile members come too, again when they are sent away, and share few hosts.
    pub(crate) is_attacked: bool,
    pub(crate) stop: Stop,
    /// Whether signals interrupt reads and writes.
    pub(crate) has_interrupts: bool,
    /// How likely a member is to act in a round, in 1 of 256.
    pub(crate) pace: u8,
}

/// What bears on the judgement of each member.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) config: Config,
    /// Whether events may tell of an end that has not come.
    pub(crate) has_wrong_events: bool,
    /// Whether several members may come from one host.
    pub(crate) shares_hosts: bool,
}

impl Plan {
    pub(crate) fn draw(random: &mut Rng) -> Self {
        let has_monologues = random.u8(..8) == 0;
        let most = if has_monologues { 200_000 } else { [100, 2000, 2000, 20_000, 200_000][random.usize(..5)] };
        // The more they say, the fewer they are.
        let crowd = match most {
            0..=2000 => 40,
            20_000 => 15,
            _ => 6,
        };
        let max_line = match random.u8(..8) {
            0 => random.usize(..40),
            1..4 => random.usize(40..2000),
            4 => 200_000,
            _ => RESERVE,
        };
        let max_ahead = match random.u8(..8) {
            0 => 1 << 20,
            1 => random.usize(..300).max(most / 50),
            2..5 => random.usize(300..5000).max(most / 50),
            _ if has_monologues => random.usize(5000..30_000),
            _ => random.usize(5000..300_000),
        };
        let max_memory = match random.u8(..4) {
            0 => random.usize(..2 << 20),
            1 => random.usize(2 << 20..8 << 20),
            _ => 1 << 30,
        };
        let history = if random.bool() { 0 } else { random.usize(1..100) };
        let stall_timeout = [Some(Duration::from_millis(50)), Some(Duration::from_secs(1)), None, Some(PATIENCE)];
        let config = Config::with(|config| {
            config.chat = true;
            config.max_line = max_line;
            config.max_ahead = max_ahead;
            config.history = history;
            config.max_memory = max_memory;
            config.stall_timeout = stall_timeout[random.usize(..4)];
        });
        let is_attacked = random.u8(..4) == 0;
        let poll = [Poll::Genuine, Poll::Genuine, Poll::Late, Poll::Spurious][random.usize(..4)];
        Self {
            rules: Rules { config, has_wrong_events: poll == Poll::Spurious, shares_hosts: is_attacked },
            poll,
            members: (random.usize(1..=2 * crowd), random.usize(1..=crowd)),
            most,
            listeners: random.u8(..8),
            has_monologues,
            is_attacked,
            is_fair: !is_attacked && !has_monologues && random.u8(..4) == 0,
            stop: Stop::draw(200, random),
            has_interrupts: random.u8(..3) == 0,
            pace: random.u8(50..),
        }
    }

    /// How many bytes the longest line may have as it is shown, and as it is sent.
    pub(crate) fn longest_lines(&self) -> (usize, usize) {
        let longest = self.rules.config.max_line.min(self.most.max(200));
        (6 * longest + 200, longest + 2)
    }

    /// How many bytes of memory the room keeps for its history, at most.
    pub(crate) fn history(&self) -> usize {
        if self.rules.config.history > 0 { HISTORY.min(self.rules.config.max_memory / 8) } else { 0 }
    }

    /// The network between the hub and one more client.
    pub(crate) fn nature(&self, random: &mut Rng) -> Nature {
        let all = self.most * self.members.1;
        let mut size = || match random.u8(..8) {
            0 => random.usize(1 + all / 1000..10 + all / 500),
            1..4 => random.usize(1 + all / 500..5000),
            _ => random.usize(5000..200_000),
        };
        let (receive_buffer, send_buffer) = (size(), size());
        // Those who do not read at first have much to read in the end.
        let send_buffer = if self.is_attacked { send_buffer.max(2000) } else { send_buffer };
        Nature {
            receive_buffer,
            send_buffer,
            wakes_at: if random.bool() { 1 } else { send_buffer.div_ceil(3) },
            interrupts: if self.has_interrupts { random.usize(2..20) } else { 0 },
            reset_keeps_arrived: random.bool(),
            seed: random.u64(..),
        }
    }

    /// The host of one more client, if it is one of several from there.
    pub(crate) fn host(&self, random: &mut Rng) -> Option<Ipv4Addr> {
        (self.is_attacked && random.bool()).then(|| Ipv4Addr::new(192, 0, 2, random.u8(..3)))
    }

    /// What member `id` sends, and how, where so many are there already.
    pub(crate) fn member(&self, id: usize, here: usize, now: Instant, random: &mut Rng) -> (Member, Speech) {
        let manner = match random.u8(..8) {
            _ if random.u8(..8) < self.listeners => Manner::Nothing,
            0..3 => Manner::Talk,
            3..6 => Manner::Mixed,
            6 => Manner::Pester,
            _ => Manner::Flood,
        };
        if random.u8(..6) == 0 {
            let length = random.usize(200..3000);
            return (Member::person(now), Speech::draw(random, id, Manner::Person, length, self.rules.config.max_line));
        }
        if self.is_attacked && random.bool() {
            let (member, manner) = match random.u8(..3) {
                0 => (Member::fleeting(), Manner::Nothing),
                1 => (Member::deaf(), Manner::Pester),
                _ => (Member::deaf(), Manner::Flood),
            };
            let length = random.usize(1000..20_000);
            return (member, Speech::draw(random, id, manner, length, self.rules.config.max_line));
        }
        let most = self.most;
        let is_monologue = self.has_monologues && random.u8(..3) == 0;
        let (manner, most) = match manner {
            _ if is_monologue => (Manner::Talk, most),
            Manner::Flood => (manner, most.min(4000)),
            _ if self.has_monologues => (manner, most / 4),
            _ => (manner, most),
        };
        let length = random.usize(..=most);
        let speech = Speech::draw(random, id, manner, length, self.rules.config.max_line);
        let mut member = Member::draw(random, speech.bytes.len(), self.most * here.max(1), self.is_fair);
        if is_monologue {
            member.reading = Reading::UpTo(random.usize(..2000));
        }
        (member, speech)
    }
}
