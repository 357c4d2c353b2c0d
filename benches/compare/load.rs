//! Messages: many connections, each with some messages on their way. All in one thread, on one edge-triggered poll.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Poll};

use crate::Result;
use crate::client::{Client, PATIENCE};
use crate::pattern::Pattern;
use crate::report::Latency;

pub(crate) struct Load {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    pattern: Pattern,
    /// Takes in more than can be on its way to one client, so that one read is always enough.
    buffer: Vec<u8>,
    size: u64,
    depth: u64,
    /// When the messages on their way were begun, in the closed loop: `depth` of them for each client.
    begun: Vec<Instant>,
    /// How long the messages of this round have taken so far, in nanoseconds.
    times: Histogram<u64>,
    /// How long those of each finished round took.
    pub(crate) latencies: Vec<Latency>,
}

impl Load {
    /// So many connections, and messages of `size` bytes, `depth` of them on their way on each connection.
    pub(crate) fn connect(address: SocketAddr, connections: usize, size: usize, depth: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let pattern = Pattern::new(size, size * depth);
        let connect = |number| {
            let origin = (number * size) as u64;
            Client::connect(address, (poll.registry(), number), (&pattern, origin), size as u64)
        };
        let clients = (0..connections).map(connect).collect::<Result<Vec<Client>>>()?;
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            clients,
            pattern,
            buffer: vec![0; size * depth + 1],
            size: size as u64,
            depth: depth as u64,
            begun: vec![Instant::now(); connections * depth],
            times: histogram()?,
            latencies: Vec::new(),
        })
    }

    /// How many messages have come back since it connected.
    pub(crate) fn messages(&self) -> u64 {
        self.clients.iter().map(|client| client.received / self.size).sum()
    }

    /// The closed loop: each answer is followed by the next message. Goes on for so long, then waits for the answers
    /// that are owed. Returns how many messages came back.
    pub(crate) fn closed(&mut self, duration: Duration) -> Result<u64> {
        let messages = self.exchange(duration, true)?;
        self.end_round();
        Ok(messages)
    }

    /// The same without a record of the times.
    pub(crate) fn warm_up(&mut self, duration: Duration) -> Result<u64> {
        self.exchange(duration, false)
    }

    fn exchange(&mut self, duration: Duration, is_recorded: bool) -> Result<u64> {
        let begin = Instant::now();
        let end = begin + duration;
        self.begun.fill(begin);
        for client in &mut self.clients {
            client.allowed += self.depth * self.size;
            client.send(&self.pattern)?;
        }
        let mut owed = self.clients.len() as u64 * self.depth;
        let mut messages = 0;
        while owed > 0 {
            wait(&mut self.poll, &mut self.events, PATIENCE)?;
            if self.events.is_empty() {
                return Err(format!("nothing came for {PATIENCE:?}, {owed} messages are missing").into());
            }
            for event in &self.events {
                let number = event.token().0;
                let client = &mut self.clients[number];
                let answered = client.take_messages(&self.pattern, &mut self.buffer, self.size)?;
                let now = Instant::now();
                for message in answered.clone() {
                    let begun = &mut self.begun[number * self.depth as usize + (message % self.depth) as usize];
                    if is_recorded {
                        self.times.saturating_record((now - *begun).as_nanos() as u64);
                    }
                    // That of the message which follows it now.
                    *begun = now;
                }
                let count = answered.end - answered.start;
                messages += count;
                if now < end {
                    client.allowed += count * self.size;
                } else {
                    owed -= count;
                }
                client.send(&self.pattern)?;
            }
        }
        Ok(messages)
    }

    /// The open loop: so many messages a second, each at its time, whether the server keeps up or not. Returns how
    /// many there were.
    pub(crate) fn open(&mut self, per_second: u64, duration: Duration) -> Result<u64> {
        let mut schedule = self.schedule(per_second, duration);
        while !self.follow(&mut schedule)? {}
        self.end_round();
        Ok(schedule.total)
    }

    /// Takes stock of the times that were recorded since the last round.
    pub(crate) fn end_round(&mut self) {
        self.latencies.push(Latency::of(&self.times));
        self.times.reset();
    }

    pub(crate) fn schedule(&self, per_second: u64, duration: Duration) -> Schedule {
        Schedule {
            begin: Instant::now(),
            interval: Duration::from_secs(1) / per_second as u32,
            total: per_second * duration.as_millis() as u64 / 1000,
            sent: 0,
            received: 0,
            first_messages: self.clients.iter().map(|client| client.received / self.size).collect(),
        }
    }

    /// Sends what is due, and takes what has come. Never waits: the times are too close for the clock of a poll.
    /// Returns whether all has come.
    ///
    /// A message's time counts from when it was due. If the server makes others wait, or this loop is late, that is
    /// part of it: otherwise just the worst times would be missed (coordinated omission).
    pub(crate) fn follow(&mut self, schedule: &mut Schedule) -> Result<bool> {
        while schedule.sent < schedule.total && schedule.due(schedule.sent) <= Instant::now() {
            let number = (schedule.sent % self.clients.len() as u64) as usize;
            let client = &mut self.clients[number];
            client.allowed += self.size;
            client.send(&self.pattern)?;
            schedule.sent += 1;
        }
        wait(&mut self.poll, &mut self.events, Duration::ZERO)?;
        for event in &self.events {
            let number = event.token().0;
            let client = &mut self.clients[number];
            let answered = client.take_messages(&self.pattern, &mut self.buffer, self.size)?;
            client.send(&self.pattern)?;
            let now = Instant::now();
            for message in answered {
                let turn = message - schedule.first_messages[number];
                let due = schedule.due(turn * self.clients.len() as u64 + number as u64);
                self.times.saturating_record((now - due).as_nanos() as u64);
                schedule.received += 1;
            }
        }
        let is_over = schedule.received == schedule.total;
        if !is_over && Instant::now() > schedule.due(schedule.total) + PATIENCE {
            return Err(format!("{} messages are missing", schedule.total - schedule.received).into());
        }
        Ok(is_over)
    }
}

/// For times in nanoseconds up to a minute, with three digits.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(60_000_000_000, 3)?)
}

/// When messages are due, one client after another.
pub(crate) struct Schedule {
    begin: Instant,
    interval: Duration,
    total: u64,
    sent: u64,
    received: u64,
    /// How many messages each client had received before.
    first_messages: Vec<u64>,
}

impl Schedule {
    fn due(&self, number: u64) -> Instant {
        self.begin + self.interval * number as u32
    }
}

/// Polls, for at most so long; being stopped and continued is no event.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events, timeout: Duration) -> Result<()> {
    loop {
        match poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return Ok(outcome?),
        }
    }
}
