//! Connections that come and go: each sends one message, half-closes, and reads to the end.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::client::{PATIENCE, ready};
use crate::load::wait;
use crate::pattern::Pattern;
use crate::programs::{self, PROXIED};
use crate::report::{Cell, bytes};
use crate::rounds::{self, Entrant, Figures};
use crate::{Bench, Result};

/// So many are there at the same time.
const AT_A_TIME: usize = 16;

const SIZE: usize = 64;

/// A PROXY header of version 2, for TCP over IPv4, with the addresses from 192.0.2.1 port 4711 to 192.0.2.2 port 7.
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x12\x67\0\x07";

struct Churn {
    address: SocketAddr,
    poll: Poll,
    events: Events,
    pattern: Pattern,
    /// What each connection begins with.
    header: &'static [u8],
    /// How many have come.
    count: u64,
}

struct Visitor {
    stream: TcpStream,
    number: u64,
    has_spoken: bool,
    received: usize,
}

pub(crate) fn run(bench: &Bench) -> Result<Vec<Cell>> {
    let mut lineup = vec![programs::floor(), programs::daemon(), programs::proxied(), programs::floor_again()];
    lineup.extend(bench.peers());
    let servers = programs::start(bench, &lineup)?;
    let mut entrants = Vec::new();
    for server in &servers {
        let header = if server.name == PROXIED { HEADER } else { b"" };
        entrants.push(Entrant::new(server, Churn::new(server.address, header)?));
    }
    let what = format!("{AT_A_TIME} at a time, {} each", bytes(SIZE));
    let milliseconds = if bench.quick { (10, 40) } else { (30, 150) };
    let warm_up = |load: &mut Churn| load.receive_visitors(Duration::from_millis(milliseconds.0));
    let work = |load: &mut Churn| load.receive_visitors(Duration::from_millis(milliseconds.1));
    rounds::alternate(bench, &what, bench.rounds(20, 5), &mut entrants, warm_up, work)?;

    let cell = |(entrant, figures): (&Entrant<'_, Churn>, Option<Figures>)| Cell {
        scenario: "churn",
        what: what.clone(),
        server: entrant.server.name,
        connections: AT_A_TIME,
        size: Some(SIZE),
        unit: "connection",
        left_out: entrant.failure.clone(),
        figures,
        ..Cell::default()
    };
    Ok(entrants.iter().zip(rounds::figures(&entrants, 0)).map(cell).collect())
}

impl Churn {
    fn new(address: SocketAddr, header: &'static [u8]) -> Result<Self> {
        let (poll, events) = (Poll::new()?, Events::with_capacity(AT_A_TIME));
        Ok(Self { address, poll, events, pattern: Pattern::new(SIZE, SIZE), header, count: 0 })
    }

    /// Each visitor is followed by the next, for so long. Returns how many there were.
    fn receive_visitors(&mut self, duration: Duration) -> Result<u64> {
        let end = Instant::now() + duration;
        let before = self.count;
        let mut visitors = Vec::new();
        for key in 0..AT_A_TIME {
            visitors.push(Some(Visitor::come(self.address, self.poll.registry(), key, self.count)?));
            self.count += 1;
        }
        while visitors.iter().any(Option::is_some) {
            wait(&mut self.poll, &mut self.events, PATIENCE)?;
            if self.events.is_empty() {
                return Err(format!("nothing came for {PATIENCE:?}, some connections wait").into());
            }
            for event in &self.events {
                let key = event.token().0;
                let Some(visitor) = &mut visitors[key] else { continue };
                if !visitor.act(self.header, &self.pattern)? {
                    continue;
                }
                // The one who leaves closes before the next comes.
                visitors[key] = None;
                if Instant::now() < end {
                    visitors[key] = Some(Visitor::come(self.address, self.poll.registry(), key, self.count)?);
                    self.count += 1;
                }
            }
        }
        Ok(self.count - before)
    }
}

impl Visitor {
    fn come(address: SocketAddr, registry: &Registry, key: usize, number: u64) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, Token(key), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, number, has_spoken: false, received: 0 })
    }

    /// Does what it can; whether it has come to its end.
    fn act(&mut self, header: &[u8], pattern: &Pattern) -> Result<bool> {
        let position = self.number * SIZE as u64;
        if !self.has_spoken {
            if let Some(error) = self.stream.take_error()? {
                return Err(error.into());
            }
            let message = [header, pattern.at(position, SIZE as u64)].concat();
            let Some(count) = ready(self.stream.write(&message))? else { return Ok(false) };
            if count < message.len() {
                return Err("no room for a small message".into());
            }
            self.stream.shutdown(Shutdown::Write)?;
            self.has_spoken = true;
        }
        let mut buffer = [0; SIZE + 1];
        while let Some(count) = ready(self.stream.read(&mut buffer))? {
            if count == 0 && self.received == SIZE {
                return Ok(true);
            }
            if count == 0 || self.received + count > SIZE {
                return Err(format!("{} bytes came back of {SIZE}", self.received + count).into());
            }
            pattern.check(position + self.received as u64, &buffer[..count])?;
            self.received += count;
        }
        Ok(false)
    }
}
