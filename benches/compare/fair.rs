//! Small messages beside streams at full speed: how long they wait.

use std::time::Duration;

use crate::client::PATIENCE;
use crate::flood::Flood;
use crate::load::Load;
use crate::programs;
use crate::report::{Cell, Latency};
use crate::rounds::{self, Entrant, Figures};
use crate::servers::Server;
use crate::{Bench, Result};

/// How many streams there are: a few, and so many that a server must not serve them all before it looks again.
const STREAMS: [usize; 2] = [4, 64];

/// How much of a stream is read and written at once: little, so that small messages do not wait for the load itself.
const PIECE: usize = 64 << 10;

/// So many connections with small messages, of so many bytes, so many of them a second.
const CONNECTIONS: usize = 20;
const SIZE: usize = 64;
const PER_SECOND: u64 = 2_000;

struct Mixed {
    flood: Flood,
    small: Load,
}

pub(crate) fn run(bench: &Bench) -> Result<Vec<Cell>> {
    let mut lineup = vec![programs::floor(), programs::daemon(), programs::floor_again()];
    let (peers, stuck) = programs::peers_for_streams(bench);
    lineup.extend(peers);
    let servers = programs::start(bench, &lineup)?;
    let mut cells = Vec::new();
    for streams in STREAMS {
        cells.extend(measure(bench, &servers, streams)?);
        let left_out = || Some(programs::STUCK.to_owned());
        cells.extend(stuck.iter().map(|program| Cell { left_out: left_out(), ..cell(program.name, streams) }));
    }
    Ok(cells)
}

fn measure(bench: &Bench, servers: &[Server], streams: usize) -> Result<Vec<Cell>> {
    let mut entrants = Vec::new();
    for server in servers {
        let flood = Flood::connect(server.address, streams, PIECE)?;
        let small = Load::connect(server.address, CONNECTIONS, SIZE, 1)?;
        entrants.push(Entrant::new(server, Mixed { flood, small }));
    }
    let duration = Duration::from_millis(if bench.quick { 100 } else { 400 });
    let warm_up = |load: &mut Mixed| load.flood.transfer((16 << 20) / streams as u64);
    rounds::alternate(bench, &describe(streams), bench.rounds(6, 6), &mut entrants, warm_up, |load| {
        load.work(duration)
    })?;

    let with_figures = |(entrant, figures): (&Entrant<'_, Mixed>, Option<Figures>)| Cell {
        latency_us: figures.is_some().then(|| Latency::median(&entrant.load.small.latencies)),
        figures,
        left_out: entrant.failure.clone(),
        ..cell(entrant.server.name, streams)
    };
    Ok(entrants.iter().zip(rounds::figures(&entrants, 0)).map(with_figures).collect())
}

fn cell(server: &'static str, streams: usize) -> Cell {
    Cell {
        scenario: "fair",
        what: describe(streams),
        server,
        connections: CONNECTIONS,
        size: Some(SIZE),
        offered_per_second: Some(PER_SECOND),
        unit: "byte",
        ..Cell::default()
    }
}

fn describe(streams: usize) -> String {
    format!("{PER_SECOND}/s × {SIZE} B beside {streams} streams")
}

impl Mixed {
    /// Returns how many bytes the streams have moved meanwhile.
    fn work(&mut self, duration: Duration) -> Result<u64> {
        let before = self.flood.received();
        self.flood.allow(1 << 40);
        let mut schedule = self.small.schedule(PER_SECOND, duration);
        while !self.small.follow(&mut schedule)? {
            self.flood.step(Duration::ZERO)?;
        }
        self.small.end_round();
        self.flood.stop();
        while !self.flood.is_done() {
            self.flood.step(PATIENCE)?;
        }
        Ok(self.flood.received() - before)
    }
}
