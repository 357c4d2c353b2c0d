//! A bad wire between two networks: packets are lost, late, doubled and out of order, there is a limit to how
//! many fit, and now and then it is cut. (What netem does, for kernels without it, and from a seed.)

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::SyncDevice;

use crate::namespace::Namespace;

/// The address of the side on which the server is.
pub(crate) const SERVER: &str = "10.77.0.1";

const CLIENT: &str = "10.77.0.2";

/// How many of a thousand packets are lost, doubled, and overtaken by others.
const LOST: u32 = 50;
const DOUBLED: u32 = 10;
const OVERTAKEN: u32 = 20;

/// How long a packet is on its way, more or less.
const DELAY: Duration = Duration::from_millis(50);
const JITTER: Duration = Duration::from_millis(5);

/// How much later than it should one arrives that is overtaken, at most.
const DETOUR: Duration = Duration::from_millis(20);

/// In each direction.
const BITS_PER_SECOND: u64 = 20_000_000;

/// How long packets wait at most to be sent: 250 kB. More of them are dropped.
const LONGEST_QUEUE: Duration = Duration::from_millis(100);

/// How long the wire waits for packets at most before it looks whether it is to end.
const NAP: Duration = Duration::from_millis(20);

/// Two networks and the wire between them, until it is dropped.
pub(crate) struct Wire {
    pub(crate) server: Namespace,
    pub(crate) client: Namespace,
    /// What TCP sends with.
    pub(crate) congestion_control: String,
    control: Arc<Control>,
    carrier: Option<JoinHandle<Tally>>,
}

#[derive(Default)]
struct Control {
    is_over: AtomicBool,
    /// Until when the wire is cut.
    cut_until: Mutex<Option<Instant>>,
}

/// What happened to the packets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    carried: u64,
    lost: u64,
    doubled: u64,
    /// Arrived after one that was sent later.
    reordered: u64,
    /// Found the queue full.
    dropped: u64,
    /// Were on the wire when it was cut, or came while it was.
    cut: u64,
}

impl Wire {
    pub(crate) fn new(seed: u64) -> io::Result<Self> {
        let (server, client) = (Namespace::new()?, Namespace::new()?);
        let ends = [server.add_end(SERVER, CLIENT)?, client.add_end(CLIENT, SERVER)?];
        server.ask_for_bbr();
        let congestion_control = client.ask_for_bbr();
        let control = Arc::<Control>::default();
        let carrier = {
            let control = Arc::clone(&control);
            thread::spawn(move || carry(&ends, Rng::with_seed(seed), &control))
        };
        Ok(Self { server, client, congestion_control, control, carrier: Some(carrier) })
    }

    /// Cuts the wire for so long, from now on.
    pub(crate) fn cut(&self, time: Duration) {
        *self.control.cut_until.lock().unwrap() = Some(Instant::now() + time);
    }

    /// Takes the wire away.
    pub(crate) fn end(mut self) -> Tally {
        self.control.is_over.store(true, Ordering::Relaxed);
        self.carrier.take().expect("there until now").join().expect("no panic")
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.control.is_over.store(true, Ordering::Relaxed);
        if let Some(carrier) = self.carrier.take() {
            // It matters only where the test has not failed yet.
            _ = carrier.join();
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { carried, lost, doubled, reordered, dropped, cut } = self;
        write!(f, "{carried} packets, {lost} lost, {doubled} doubled, {reordered} reordered, ")?;
        write!(f, "{dropped} in a full queue, {cut} on a cut wire")
    }
}

/// Carries packets between the two ends until the wire is taken away.
fn carry([server, client]: &[SyncDevice; 2], mut random: Rng, control: &Control) -> Tally {
    let mut up = Direction::new(client, server, random.fork());
    let mut down = Direction::new(server, client, random.fork());
    while !control.is_over.load(Ordering::Relaxed) {
        let due = [up.deliver(), down.deliver()].into_iter().flatten().min();
        let wait = due.map_or(NAP, |at| at.saturating_duration_since(Instant::now()).min(NAP));
        let wait = Timespec::try_from(wait).expect("a short time");
        poll(&mut [PollFd::new(server, PollFlags::IN), PollFd::new(client, PollFlags::IN)], Some(&wait)).expect("poll");
        let is_cut = control.cut_until.lock().unwrap().is_some_and(|until| Instant::now() < until);
        up.collect(is_cut);
        down.collect(is_cut);
    }
    up.tally + down.tally
}

/// One of the two directions.
struct Direction<'a> {
    from: &'a SyncDevice,
    to: &'a SyncDevice,
    random: Rng,
    /// When the last packet in the queue will have been sent.
    sent_at: Instant,
    /// When the last packet that is not overtaken will have arrived.
    arrived_at: Instant,
    underway: BinaryHeap<Reverse<Packet>>,
    /// The number of the latest packet that has arrived.
    latest: u64,
    tally: Tally,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    at: Instant,
    number: u64,
    bytes: Vec<u8>,
}

impl<'a> Direction<'a> {
    fn new(from: &'a SyncDevice, to: &'a SyncDevice, random: Rng) -> Self {
        let now = Instant::now();
        Self {
            from,
            to,
            random,
            sent_at: now,
            arrived_at: now,
            underway: BinaryHeap::new(),
            latest: 0,
            tally: Tally::default(),
        }
    }

    /// Takes over what was sent since the last time.
    fn collect(&mut self, is_cut: bool) {
        if is_cut {
            self.tally.cut += self.underway.len() as u64;
            self.underway.clear();
        }
        let mut buffer = [0; 2000];
        loop {
            match self.from.recv(&mut buffer) {
                // Only what belongs to the test: the kernel says things in IPv6 too.
                Ok(count) if buffer[0] >> 4 == 4 => self.take(&buffer[..count], is_cut),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("reading from the wire: {error}"),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], is_cut: bool) {
        self.tally.carried += 1;
        let now = Instant::now();
        let queued_until = self.sent_at.max(now);
        // All is drawn for every packet, so that what happens to one changes nothing for the next.
        let [is_lost, is_doubled, is_overtaken] =
            [LOST, DOUBLED, OVERTAKEN].map(|of_thousand| self.random.u32(..1000) < of_thousand);
        let jitter = 2 * JITTER * self.random.u32(..=1000) / 1000;
        let detour = DETOUR * self.random.u32(1..=1000) / 1000;
        if is_cut {
            self.tally.cut += 1;
        } else if is_lost {
            self.tally.lost += 1;
        } else if queued_until > now + LONGEST_QUEUE {
            self.tally.dropped += 1;
        } else {
            self.sent_at = queued_until + Duration::from_nanos(bytes.len() as u64 * 8_000_000_000 / BITS_PER_SECOND);
            let mut at = (self.sent_at + DELAY - JITTER + jitter).max(self.arrived_at);
            if is_overtaken {
                at += detour;
            } else {
                self.arrived_at = at;
            }
            let number = self.tally.carried;
            if is_doubled {
                self.tally.doubled += 1;
                self.underway.push(Reverse(Packet { at: at + detour, number, bytes: bytes.to_vec() }));
            }
            self.underway.push(Reverse(Packet { at, number, bytes: bytes.to_vec() }));
        }
    }

    /// Hands over what has arrived by now; returns when the next one will.
    fn deliver(&mut self) -> Option<Instant> {
        while let Some(Reverse(packet)) = self.underway.peek() {
            if packet.at > Instant::now() {
                return Some(packet.at);
            }
            if packet.number < self.latest {
                self.tally.reordered += 1;
            }
            self.latest = self.latest.max(packet.number);
            self.to.send(&packet.bytes).expect("the other end takes it");
            self.underway.pop();
        }
        None
    }
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            carried: self.carried + other.carried,
            lost: self.lost + other.lost,
            doubled: self.doubled + other.doubled,
            reordered: self.reordered + other.reordered,
            dropped: self.dropped + other.dropped,
            cut: self.cut + other.cut,
        }
    }
}
