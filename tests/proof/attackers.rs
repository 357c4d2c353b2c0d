//! Clients that mean harm, or are broken in a way that does the same.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use socket2::SockRef;

use crate::engine::{Actor, Engine, Next, Stage, ready};
use crate::measure::{PATIENCE, address};

/// Those of a room, and how many of each there are at any time.
pub(crate) const OF_A_ROOM: &[(Kind, usize)] = &[
    (Kind::EndlessLine, 5),
    (Kind::Idle, 20),
    (Kind::SlowWriter, 10),
    (Kind::Resetter, 2),
    (Kind::ConnectAndClose, 2),
    (Kind::Forger, 2),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Sends as much as it can, and never reads.
    NeverReads,
    /// The same, but reads a byte a second.
    SlowReader,
    /// Sends a byte a second.
    SlowWriter,
    /// Resets in the middle of a message.
    Resetter,
    /// Is reset as soon as it is connected, mostly before the server has accepted it.
    HalfOpen,
    /// Connects and closes.
    ConnectAndClose,
    /// Connects, and that is all.
    Idle,
    /// Sends a line that never ends.
    EndlessLine,
    /// Sends urgent data among other data.
    Urgent,
    /// Sends what looks like the server's own log.
    Forger,
}

/// What the system holds for an attacker at its own end, in bytes and each direction.
const BUFFER: usize = 64 << 10;

/// What a forger would like to see in the log.
pub(crate) const FORGED: &str = "[12:43:10 29/01/2018] Echoed: 'forged'";

pub(crate) struct Attacker {
    kind: Kind,
    /// How long it stays, if nobody ends it.
    pub(crate) until: Instant,
    /// How much it still wants to send, of those that want to send so much and no more.
    left: usize,
    next_at: Instant,
}

impl Attacker {
    pub(crate) fn new(kind: Kind, stage: &mut Stage) -> Self {
        let random = &mut stage.random;
        let stay = match kind {
            Kind::HalfOpen => Duration::ZERO,
            Kind::ConnectAndClose => Duration::from_millis(random.u64(1..8)),
            Kind::Resetter => Duration::from_millis(random.u64(1..50)),
            Kind::Idle | Kind::SlowReader | Kind::SlowWriter => Duration::from_secs(random.u64(20..40)),
            _ => Duration::from_millis(random.u64(2_000..15_000)),
        };
        let left = random.usize(1..200_000);
        Self { kind, until: stage.now + stay, left, next_at: stage.now }
    }

    /// Sends `x`s until the server takes no more, at most so many.
    fn send(stream: &mut TcpStream, stage: &mut Stage, mut most: usize) -> io::Result<usize> {
        let begin = most;
        stage.scratch.fill(b'x');
        while most > 0 {
            let count = most.min(stage.scratch.len());
            match ready(stream.write(&stage.scratch[..count]))? {
                Some(count) => most -= count,
                None => break,
            }
        }
        Ok(begin - most)
    }

    /// Throws away what came, at most so many times as much as fits the scratch buffer.
    fn discard(stream: &mut TcpStream, stage: &mut Stage) -> io::Result<()> {
        for _ in 0..16 {
            match ready(stream.read(&mut stage.scratch))? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(_) => {}
                None => break,
            }
        }
        Ok(())
    }
}

impl Actor for Attacker {
    /// It does not spend memory of its own: what the system holds is the server's. Clients on the same machine
    /// would have the system short of memory for all connections (`tcp_mem`), whatever the server does.
    fn prepare(&self, socket: &SockRef<'_>) {
        _ = socket.set_recv_buffer_size(BUFFER);
        _ = socket.set_send_buffer_size(BUFFER);
    }

    fn act(&mut self, stream: &mut TcpStream, stage: &mut Stage) -> io::Result<Next> {
        if stage.now >= self.until || stage.is_over {
            let resets = matches!(self.kind, Kind::Resetter | Kind::HalfOpen) || stage.random.bool();
            return Ok(if resets { Next::Reset } else { Next::Leave });
        }
        let is_time = stage.now >= self.next_at;
        let next = |seconds: f64| stage.now + Duration::from_secs_f64(seconds);
        match self.kind {
            Kind::HalfOpen | Kind::ConnectAndClose | Kind::Idle => return Ok(Next::WakeAt(self.until)),
            Kind::NeverReads => {
                // 4 MiB at a time, so that the other attackers have their turn.
                self.next_at = next(0.01);
                Self::send(stream, stage, 4 << 20)?;
            }
            Kind::SlowReader if is_time => {
                self.next_at = next(1.0);
                Self::send(stream, stage, 4 << 20)?;
                ready(stream.read(&mut [0]))?;
            }
            Kind::SlowWriter if is_time => {
                self.next_at = next(1.0);
                ready(stream.write(b"x"))?;
                Self::discard(stream, stage)?;
            }
            Kind::Resetter if self.left > 0 => {
                self.next_at = self.until;
                self.left -= Self::send(stream, stage, self.left)?;
                if stage.random.bool() {
                    _ = stream.shutdown(Shutdown::Write);
                }
            }
            Kind::EndlessLine if is_time => {
                self.next_at = next(0.01);
                Self::send(stream, stage, 256 << 10)?;
                Self::discard(stream, stage)?;
            }
            Kind::Urgent if is_time => {
                self.next_at = next(0.002);
                ready(stream.write(b"ordinary"))?;
                ready(SockRef::from(&*stream).send_out_of_band(b"urgent!"))?;
                Self::discard(stream, stage)?;
            }
            Kind::Forger if is_time => {
                self.next_at = next(0.01);
                let text =
                    format!("x'\n{FORGED}\r{FORGED}\u{2028}{FORGED}\u{85}\x1b[1A--- Stopping server on port 1 ---\n");
                ready(stream.write(text.as_bytes()))?;
                Self::discard(stream, stage)?;
            }
            _ => {}
        }
        Ok(Next::WakeAt(self.next_at.max(stage.now).min(self.until)))
    }

    /// What becomes of an attacker is no concern of ours.
    fn on_error(&mut self, _error: io::Error) -> Result<(), String> {
        Ok(())
    }
}

/// Attacks the server on `port` until it is told to stop. Who leaves is followed by another of the same kind.
pub(crate) fn attack(port: u16, attackers: &[(Kind, usize)], seed: u64, stop: &AtomicBool) -> u64 {
    let mut engine = Engine::new(seed);
    let mut number = 0;
    for (group, (kind, count)) in attackers.iter().enumerate() {
        for _ in 0..*count {
            number += 1;
            let attacker = Attacker::new(*kind, &mut engine.stage);
            engine.connect(group, address(port, number), Box::new(attacker));
        }
    }
    while !stop.load(Ordering::Relaxed) {
        engine.run(Instant::now() + Duration::from_millis(50), PATIENCE, &mut |group, stage| {
            number += 1;
            let attacker: Box<dyn Actor> = Box::new(Attacker::new(attackers[group].0, stage));
            Some((address(port, number), attacker))
        });
    }
    number as u64
}
