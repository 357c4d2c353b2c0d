//! Messages that come back: by number of connections, size, and how many are on their way.

use std::time::{Duration, Instant};

use crate::load::Load;
use crate::programs::{self, LOGGING};
use crate::report::{Cell, Latency, bytes};
use crate::rounds::{self, Entrant, Rounds};
use crate::servers::Server;
use crate::{Bench, Result, syscalls};

const SCENARIO: &str = "echo";

/// More connections than this are too many for servers that have a process for each.
const MOST_PROCESSES: usize = 50;

/// The open loop: so many messages a second, which is a fraction of what the slowest can do.
const PER_SECOND: u64 = 10_000;

/// One situation in which all servers are compared.
#[derive(Clone, Copy)]
struct Situation {
    connections: usize,
    size: usize,
    pace: Pace,
    /// Whether a target is set for it: then it is measured more often.
    is_target: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// So many messages of one connection are on their way.
    Closed(usize),
    /// So many messages a second on all connections together.
    Open(u64),
}

pub(crate) fn run(bench: &Bench) -> Result<Vec<Cell>> {
    let mut lineup = vec![programs::floor(), programs::daemon(), programs::logging(), programs::floor_again()];
    lineup.extend(bench.peers());
    let servers = programs::start(bench, &lineup)?;
    let mut cells = Vec::new();
    let situations = situations(bench.quick);
    for (done, situation) in situations.iter().enumerate() {
        bench.progress.part(done, situations.len());
        let measured = situation.measure(bench, &servers);
        cells.extend(measured.map_err(|error| format!("{}: {error}", situation.describe()))?);
    }
    cells.extend(syscalls::count(bench, SCENARIO)?);
    Ok(cells)
}

fn situations(is_quick: bool) -> Vec<Situation> {
    let closed = |connections, size, depth| {
        let is_target = connections > 1 && size != 1 << 10 && depth == 1;
        Situation { connections, size, pace: Pace::Closed(depth), is_target }
    };
    let open = Situation { connections: 50, size: 64, pace: Pace::Open(PER_SECOND), is_target: false };
    if is_quick {
        return vec![closed(1, 64, 1), closed(50, 64, 1), closed(50, 16 << 10, 1), closed(50, 64, 16), open];
    }
    let mut all = Vec::new();
    for depth in [1, 16] {
        for size in [64, 1 << 10, 16 << 10] {
            for connections in [1, 50, 1000] {
                // What is on its way all at once must not be more than the kernel likes to hold.
                if connections * size * depth <= 64 << 20 {
                    all.push(closed(connections, size, depth));
                }
            }
        }
    }
    all.push(open);
    all
}

impl Situation {
    fn measure(self, bench: &Bench, servers: &[Server]) -> Result<Vec<Cell>> {
        let what = self.describe();
        bench.progress.show(&what);
        let can_take_part = |server: &&Server| self.connections <= MOST_PROCESSES || !server.forks;
        let (able, unable): (Vec<&Server>, Vec<&Server>) = servers.iter().partition(can_take_part);
        let mut entrants = Vec::new();
        for server in able {
            let lines_before = server.lines();
            let load = Load::connect(server.address, self.connections, self.size, self.depth());
            let load = load.map_err(|error| format!("{}: {error}", server.name))?;
            entrants.push(Entrant::new(server, (load, lines_before)));
        }
        let (warm_up, duration) = self.times(bench.quick);
        let work = |(load, _): &mut (Load, u64)| match self.pace {
            Pace::Closed(_) => load.closed(duration),
            Pace::Open(per_second) => load.open(per_second, duration),
        };
        rounds::alternate(bench, &what, self.rounds(bench), &mut entrants, |(load, _)| load.warm_up(warm_up), work)?;

        let figures = rounds::figures(&entrants, 0);
        let mut cells = Vec::new();
        for (entrant, figures) in entrants.iter().zip(figures) {
            let (load, lines_before) = &entrant.load;
            // If more are on their way, those that arrive together are one message for the log.
            let is_logged = entrant.server.name == LOGGING && self.pace == Pace::Closed(1);
            let logged_share = is_logged.then(|| logged_share(entrant.server, *lines_before, load.messages()));
            let latency_us = figures.is_some().then(|| Latency::median(&load.latencies));
            let left_out = entrant.failure.clone();
            cells.push(Cell { figures, latency_us, logged_share, left_out, ..self.cell(entrant.server) });
        }
        let left_out = || Some("a process for each connection".to_owned());
        cells.extend(unable.into_iter().map(|server| Cell { left_out: left_out(), ..self.cell(server) }));
        Ok(cells)
    }

    fn rounds(self, bench: &Bench) -> Rounds {
        match self.is_target {
            true => bench.rounds(21, 7),
            false => bench.rounds(6, 3),
        }
    }

    /// How long to warm up, and how long to measure.
    fn times(self, is_quick: bool) -> (Duration, Duration) {
        let milliseconds = match (self.pace, is_quick) {
            (Pace::Closed(_), true) => (10, 40),
            (Pace::Closed(_), false) => (20, 100),
            (Pace::Open(_), true) => (10, 100),
            (Pace::Open(_), false) => (20, 700),
        };
        (Duration::from_millis(milliseconds.0), Duration::from_millis(milliseconds.1))
    }

    fn depth(self) -> usize {
        match self.pace {
            Pace::Closed(depth) => depth,
            Pace::Open(_) => 1,
        }
    }

    fn describe(self) -> String {
        let base = format!("{} × {}", self.connections, bytes(self.size));
        match self.pace {
            Pace::Closed(1) => base,
            Pace::Closed(depth) => format!("{base}, {depth} deep"),
            Pace::Open(per_second) => format!("{base}, {per_second}/s"),
        }
    }

    fn cell(self, server: &Server) -> Cell {
        let (depth, offered_per_second) = match self.pace {
            Pace::Closed(depth) => (Some(depth), None),
            Pace::Open(per_second) => (None, Some(per_second)),
        };
        Cell {
            scenario: SCENARIO,
            what: self.describe(),
            server: server.name,
            connections: self.connections,
            size: Some(self.size),
            depth,
            offered_per_second,
            unit: "message",
            ..Cell::default()
        }
    }
}

/// What part of the messages a server that logs has written a line for. Where its reader does not keep up, it drops some
/// rather than keep its clients waiting.
fn logged_share(server: &Server, lines_before: u64, messages: u64) -> f64 {
    let mut lines = server.lines();
    let mut last_change = Instant::now();
    while lines < lines_before + messages && last_change.elapsed() < Duration::from_millis(200) {
        std::thread::yield_now();
        if lines != server.lines() {
            lines = server.lines();
            last_change = Instant::now();
        }
    }
    (lines - lines_before) as f64 / messages as f64
}
