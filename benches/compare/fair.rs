//! Small messages beside streams at full speed: how long they wait.

use std::time::Duration;

use crate::client::PATIENCE;
use crate::flood::Flood;
use crate::load::Load;
use crate::programs;
use crate::report::{Cell, Latency};
use crate::rounds::{self, Entrant, Figures};
use crate::{Bench, Result};

const STREAMS: usize = 4;

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
    let mut entrants = Vec::new();
    for server in &servers {
        let flood = Flood::connect(server.address, STREAMS, PIECE)?;
        let small = Load::connect(server.address, CONNECTIONS, SIZE, 1)?;
        entrants.push(Entrant::new(server, Mixed { flood, small }));
    }
    let what = format!("{PER_SECOND}/s × {SIZE} B beside {STREAMS} streams");
    let duration = Duration::from_millis(if bench.quick { 100 } else { 500 });
    let warm_up = |load: &mut Mixed| load.flood.transfer(4 << 20);
    rounds::alternate(bench, &what, bench.rounds(6, 6), &mut entrants, warm_up, |load| load.work(duration))?;

    let cell = |server| Cell {
        scenario: "fair",
        what: what.clone(),
        server,
        connections: CONNECTIONS,
        size: Some(SIZE),
        offered_per_second: Some(PER_SECOND),
        unit: "byte",
        ..Cell::default()
    };
    let with_figures = |(entrant, figures): (&Entrant<'_, Mixed>, Option<Figures>)| Cell {
        latency_us: figures.is_some().then(|| Latency::of(&entrant.load.small.latency)),
        figures,
        left_out: entrant.failure.clone(),
        ..cell(entrant.server.name)
    };
    let mut cells: Vec<Cell> = entrants.iter().zip(rounds::figures(&entrants, 0)).map(with_figures).collect();
    cells.extend(stuck.iter().map(|program| Cell { left_out: Some(programs::STUCK.to_owned()), ..cell(program.name) }));
    Ok(cells)
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
        self.flood.stop();
        while !self.flood.is_done() {
            self.flood.step(PATIENCE)?;
        }
        Ok(self.flood.received() - before)
    }
}
