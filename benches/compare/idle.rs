//! Connections that say nothing: what memory each costs, and how fast many connect.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, getrlimit};
use socket2::SockRef;

use crate::accounting::Memory;
use crate::client::{PATIENCE, ready};
use crate::load::wait;
use crate::programs;
use crate::report::{Cell, MemoryPerConnection};
use crate::rounds::Spread;
use crate::servers::Program;
use crate::{Bench, Result};

/// Descriptors that are not for connections.
const RESERVE: usize = 100;

/// What was found in one round.
struct Sample {
    took: Duration,
    resident: f64,
    own: f64,
}

pub(crate) fn run(bench: &Bench) -> Result<Vec<Cell>> {
    let mut programs = vec![programs::floor(), programs::daemon(), programs::floor_again()];
    programs.extend(bench.peers());
    let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize);
    let connections = if bench.quick { 1_000 } else { 10_000 }.min(limit.saturating_sub(RESERVE));
    let what = format!("{connections} idle");
    let cell = |program: &Program| Cell {
        scenario: "idle",
        what: what.clone(),
        server: program.name,
        connections,
        unit: "connection",
        ..Cell::default()
    };

    let mut cells = Vec::new();
    let (forking, programs): (Vec<_>, Vec<_>) = programs.into_iter().partition(|program| program.forks);
    let rounds = bench.rounds(5, 3);
    let mut samples: Vec<Vec<Sample>> = programs.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds.central {
        bench.progress.part(round, rounds.central);
        for (program, samples) in programs.iter().zip(&mut samples) {
            if program.is_central || round < rounds.all {
                bench.progress.show(&format!("{what}, {}, round {}", program.name, round + 1));
                samples.extend(measure(bench, program, connections)?);
            }
        }
    }
    for (program, samples) in programs.iter().zip(&samples) {
        if samples.is_empty() {
            continue;
        }
        let spread = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value));
        let memory =
            MemoryPerConnection { resident: spread(|sample| sample.resident), own: spread(|sample| sample.own) };
        let took_ms = spread(|sample| sample.took.as_secs_f64() * 1e3);
        cells.push(Cell { memory: Some(memory), took_ms: Some(took_ms), ..cell(program) });
    }
    let left_out = || Some("a process for each connection".to_owned());
    cells.extend(forking.iter().map(|program| Cell { left_out: left_out(), ..cell(program) }));
    Ok(cells)
}

/// Has them all connect to a server that has just been started; `None` if it is not there.
fn measure(bench: &Bench, program: &Program, connections: usize) -> Result<Option<Sample>> {
    let Some(server) = bench.start(program)? else { return Ok(None) };
    let failed = |error| format!("{}: {error}", program.name);
    // Whatever it sets up for its first client is not for those who follow.
    drop(connect_all(server.address, 1).map_err(failed)?);
    let before = Memory::of(server.pid())?;
    let begin = Instant::now();
    let crowd = connect_all(server.address, connections).map_err(failed)?;
    let took = begin.elapsed();
    let after = Memory::of(server.pid())?;
    drop(crowd);
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / connections as f64;
    Ok(Some(Sample { took, resident: each(after.resident, before.resident), own: each(after.own, before.own) }))
}

/// Connections that end with a reset, which leaves nothing to the system that would still be there in the next round.
struct Crowd(Vec<TcpStream>);

impl Drop for Crowd {
    fn drop(&mut self) {
        for stream in &self.0 {
            _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Begins all connections at once. Returns when all are there, and the last to come has got its echo: when that one
/// has been accepted, so have the others, which were in the queue before it.
fn connect_all(address: SocketAddr, connections: usize) -> Result<Crowd> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut crowd = Crowd(Vec::with_capacity(connections));
    for number in 0..connections {
        let mut stream = TcpStream::connect(address)?;
        poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        crowd.0.push(stream);
    }
    let mut is_connected = vec![false; connections];
    let mut missing = connections;
    let mut last = 0;
    while missing > 0 {
        wait(&mut poll, &mut events, PATIENCE)?;
        if events.is_empty() {
            return Err(format!("{missing} of {connections} connections do not come about").into());
        }
        for event in events.iter().filter(|event| event.is_writable()) {
            let number = event.token().0;
            if let Some(error) = crowd.0[number].take_error()? {
                return Err(error.into());
            }
            if !std::mem::replace(&mut is_connected[number], true) {
                missing -= 1;
                last = number;
            }
        }
    }
    let stream = &mut crowd.0[last];
    stream.write_all(b"?")?;
    let mut echo = [0; 2];
    loop {
        match ready(stream.read(&mut echo))? {
            Some(1) if echo[0] == b'?' => return Ok(crowd),
            Some(_) => return Err("a wrong echo".into()),
            None => wait(&mut poll, &mut events, PATIENCE)?,
        }
        if events.is_empty() {
            return Err("the last to come is not served".into());
        }
    }
}
