//! The load of the room: one who speaks, and many who check every byte they hear.

use std::io::{self, Read, Write};
use std::net::{self, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::tongue::{Scripts, Tongue};
use crate::Result;

/// Nothing takes so long unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many connect at a time: some servers have room for ten.
const ARRIVALS: usize = 8;

/// The most lines that may be on their way.
pub(crate) const MAX_WINDOW: u64 = 10_000;

/// More than [`MAX_WINDOW`].
const RING: usize = 1 << 14;

/// A room full of receivers, and one sender.
pub(crate) struct Crowd {
    poll: Poll,
    events: Events,
    /// The sender comes last, as it did to the room.
    members: Vec<Member>,
    scripts: Scripts,
    front: Front,
    /// How many lines were to be said until now, and how many bytes of them are out.
    said: u64,
    sent: u64,
    buffer: Box<[u8]>,
}

struct Member {
    stream: TcpStream,
    /// What it has heard since the beginning of the talk, in bytes, and of those the whole lines.
    heard: u64,
    lines: u64,
    /// What it has heard before that.
    early: Vec<u8>,
}

impl Crowd {
    /// Fills the room at these addresses, in turn, and waits until everybody has heard of everybody, if that takes no longer
    /// than `patience`.
    pub(crate) fn gather(
        addresses: &[SocketAddr],
        tongue: Tongue,
        receivers: usize,
        patience: Duration,
        seed: u64,
    ) -> Result<Self> {
        let deadline = Instant::now() + patience;
        let mut crowd = Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            members: Vec::with_capacity(receivers + 1),
            scripts: tongue.scripts(b"", receivers, seed)?,
            front: Front::new(receivers),
            said: 0,
            sent: 0,
            buffer: vec![0; 64 << 10].into_boxed_slice(),
        };
        while crowd.members.len() < receivers {
            let from = crowd.members.len();
            for _ in 0..ARRIVALS.min(receivers - from) {
                crowd.enter(addresses)?;
            }
            for (greeting, answer) in tongue.greetings() {
                crowd.members[from..].iter_mut().try_for_each(|member| member.stream.write_all(greeting))?;
                crowd.listen_until(deadline, |number, heard| number < from || has(heard, answer))?;
            }
        }
        crowd.enter(addresses)?;
        for (greeting, answer) in tongue.greetings_of_sender() {
            crowd.members[receivers].stream.write_all(greeting)?;
            crowd.listen_until(deadline, |number, heard| number < receivers || has(heard, answer))?;
        }
        crowd.members[receivers].stream.write_all(&tongue.marker_said())?;
        let has_heard = |number, heard: &[u8]| number == receivers || tongue.name_heard(heard).is_some();
        crowd.listen_until(deadline, has_heard)?;

        let names = crowd.members[..receivers].iter().map(|member| tongue.name_heard(&member.early));
        let names: Vec<&[u8]> = names.flatten().collect();
        if names.windows(2).any(|two| two[0] != two[1]) {
            return Err("the sender's name is not the same for all".into());
        }
        crowd.scripts = tongue.scripts(names.first().copied().unwrap_or_default(), receivers, seed)?;
        for member in &mut crowd.members {
            member.early = Vec::new();
        }
        Ok(crowd)
    }

    /// Lets the sender speak for a time, with at most `window` lines on their way to the slowest receiver, and
    /// waits until everybody has heard all. Returns how many lines that were.
    pub(crate) fn talk(&mut self, period: Duration, window: u64) -> Result<u64> {
        assert!(window <= MAX_WINDOW);
        let first = self.said;
        self.go_on(|crowd, elapsed| {
            let is_over = elapsed >= period;
            if !is_over {
                crowd.said = crowd.front.slowest + window;
            }
            is_over && crowd.have_all_heard()
        })?;
        Ok(self.said - first)
    }

    /// Lets the sender say so many lines at once, and waits until everybody has heard them, or only the first receiver.
    /// Returns how long that took.
    pub(crate) fn say(&mut self, lines: u64, is_first_enough: bool) -> Result<Duration> {
        self.said += lines;
        assert!(self.said - self.front.slowest <= MAX_WINDOW);
        self.go_on(|crowd, _| crowd.have_all_heard() || is_first_enough && crowd.members[0].lines == crowd.said)
    }

    /// Lets all speak and hear until this holds, which is asked before each wait. Returns how long that took.
    fn go_on(&mut self, mut is_done: impl FnMut(&mut Self, Duration) -> bool) -> Result<Duration> {
        let begin = Instant::now();
        let mut now = begin;
        let mut last_event = begin;
        loop {
            if is_done(self, now - begin) {
                return Ok(now - begin);
            }
            self.speak()?;
            wait(&mut self.poll, &mut self.events)?;
            now = Instant::now();
            if !self.events.is_empty() {
                last_event = now;
            } else if now - last_event > PATIENCE {
                let (said, slowest) = (self.said, self.front.slowest);
                return Err(format!("{} of {said} lines have not arrived", said - slowest).into());
            }
            self.hear()?;
        }
    }

    fn enter(&mut self, addresses: &[SocketAddr]) -> Result<()> {
        let stream = net::TcpStream::connect(addresses[self.members.len() % addresses.len()])?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let interests = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(self.members.len()), interests)?;
        self.members.push(Member { stream, heard: 0, lines: 0, early: Vec::new() });
        Ok(())
    }

    /// Lets all hear what comes until each has heard enough.
    fn listen_until(&mut self, deadline: Instant, is_enough: impl Fn(usize, &[u8]) -> bool) -> Result<()> {
        // Those who wait, the next one at the end. Who has heard enough once may hear more.
        let mut waiting: Vec<usize> = (0..self.members.len()).rev().collect();
        loop {
            while let Some(&number) = waiting.last()
                && is_enough(number, &self.members[number].early)
            {
                waiting.pop();
            }
            if waiting.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err("it takes too long to fill the room".into());
            }
            wait(&mut self.poll, &mut self.events)?;
            for event in &self.events {
                let member = &mut self.members[event.token().0];
                while let Some(count) = taken(member.stream.read(&mut self.buffer))? {
                    if count == 0 {
                        return Err("the room was closed".into());
                    }
                    member.early.extend_from_slice(&self.buffer[..count]);
                }
            }
        }
    }

    /// Sends what is to be said, as far as it goes out.
    fn speak(&mut self) -> Result<()> {
        let said = &self.scripts.said;
        let Some(sender) = self.members.last_mut() else { return Ok(()) };
        while self.sent < self.said * said.frame() {
            let count = (self.said * said.frame() - self.sent) as usize;
            match taken(sender.stream.write(said.part(self.sent, count)))? {
                Some(count) => self.sent += count as u64,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Lets those hear to whom something has come, and checks it.
    fn hear(&mut self) -> Result<()> {
        let sender = self.members.len() - 1;
        for event in self.events.iter().filter(|event| event.is_readable()) {
            let number = event.token().0;
            let member = &mut self.members[number];
            while let Some(count) = taken(member.stream.read(&mut self.buffer))? {
                if count == 0 {
                    return Err("the room was closed".into());
                }
                let bytes = &self.buffer[..count];
                if number == sender {
                    let answer = &self.scripts.answer;
                    let is_expected = |(at, byte): (usize, &u8)| {
                        !answer.is_empty() && answer[(member.heard as usize + at) % answer.len()] == *byte
                    };
                    if !bytes.iter().enumerate().all(is_expected) {
                        return Err(format!("the sender was told {:?}", bytes.escape_ascii().to_string()).into());
                    }
                    member.heard += count as u64;
                } else {
                    if !self.scripts.heard.has(member.heard, bytes) {
                        let heard = bytes[..count.min(200)].escape_ascii();
                        return Err(format!("receiver {number} heard after {} bytes: {heard}", member.heard).into());
                    }
                    member.heard += count as u64;
                    let lines = member.heard / self.scripts.heard.frame();
                    if lines > self.said {
                        return Err(format!("receiver {number} heard more than was said").into());
                    }
                    self.front.advance(member.lines, lines);
                    member.lines = lines;
                }
                // A short read leaves nothing, and what comes later is a new event.
                if count < self.buffer.len() && !event.is_read_closed() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether all receivers have heard all, and the sender has all answers.
    fn have_all_heard(&self) -> bool {
        let expected = self.said * self.scripts.answer.len() as u64;
        self.front.slowest == self.said && self.members.last().is_some_and(|sender| sender.heard == expected)
    }
}

/// How far the slowest receiver has come, without looking at all of them.
struct Front {
    /// How many receivers have heard so many lines, by the number of lines modulo the length.
    counts: [u32; RING],
    slowest: u64,
}

impl Front {
    fn new(receivers: usize) -> Self {
        let mut counts = [0; RING];
        counts[0] = receivers as u32;
        Self { counts, slowest: 0 }
    }

    /// A receiver that had heard `from` lines has heard `to`, which is at most [`MAX_WINDOW`] ahead of the slowest.
    fn advance(&mut self, from: u64, to: u64) {
        self.counts[from as usize % RING] -= 1;
        self.counts[to as usize % RING] += 1;
        while self.counts[self.slowest as usize % RING] == 0 {
            self.slowest += 1;
        }
    }
}

fn has(heard: &[u8], answer: &[u8]) -> bool {
    memchr::memmem::find(heard, answer).is_some()
}

fn wait(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, Some(Duration::from_millis(100))) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        outcome => outcome,
    }
}

/// What a read or a write took, `None` where it would have to wait.
fn taken(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => Ok(None),
        Err(error) => Err(error),
    }
}
