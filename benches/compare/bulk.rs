//! Streams at full speed: what a byte costs.

use crate::flood::Flood;
use crate::programs::{self, AGAIN};
use crate::report::Cell;
use crate::rounds::{self, Entrant};
use crate::servers::{Program, Server};
use crate::{Bench, Result};

/// How much is read and written at once by the load.
const PIECE: usize = 256 << 10;

/// The floor depends on how much it reads at once. The best of these is what the others are compared with.
const FLOORS: [(&str, &str); 5] = [
    ("floor, 16 KiB reads", "16384"),
    ("floor, 64 KiB reads", "65536"),
    ("floor, 256 KiB reads", "262144"),
    ("floor, 1 MiB reads", "1048576"),
    ("floor, 4 MiB reads", "4194304"),
];

/// The one that runs twice. What it differs by from its twin is noise.
const TWIN: (&str, &str) = FLOORS[3];

pub(crate) fn run(bench: &Bench) -> Result<Vec<Cell>> {
    let mut lineup = vec![programs::daemon()];
    lineup.extend(FLOORS.map(|(name, size)| Program::own(name, &["floor", "--read-size", size]).central()));
    lineup.push(Program::own(AGAIN, &["floor", "--read-size", TWIN.1]).central());
    let (peers, stuck) = programs::peers_for_streams(bench);
    lineup.extend(peers);
    let servers = programs::start(bench, &lineup)?;
    let mut cells = Vec::new();
    for (done, streams) in [1, 4].into_iter().enumerate() {
        bench.progress.part(done, 2);
        cells.extend(measure(bench, &servers, streams)?);
        let left_out = || Some(programs::STUCK.to_owned());
        cells.extend(stuck.iter().map(|program| Cell { left_out: left_out(), ..cell(program.name, streams) }));
    }
    Ok(cells)
}

/// In every round, a part of a gibibyte goes through each server.
fn measure(bench: &Bench, servers: &[Server], streams: usize) -> Result<Vec<Cell>> {
    let rounds = bench.rounds(24, 8);
    let in_all: u64 = if bench.quick { 64 << 20 } else { 1 << 30 };
    let each_time = in_all / (rounds.central * streams) as u64;
    let mut entrants = Vec::new();
    for server in servers {
        entrants.push(Entrant::new(server, Flood::connect(server.address, streams, PIECE)?));
    }
    let warm_up = |load: &mut Flood| load.transfer(each_time / 8);
    let work = |load: &mut Flood| load.transfer(each_time);
    rounds::alternate(bench, &describe(streams), rounds, &mut entrants, warm_up, work)?;

    let named = |name: &str| servers.iter().position(|server| server.name == name);
    let floors: Vec<usize> = FLOORS.iter().filter_map(|(name, _)| named(name)).collect();
    let costs = rounds::figures(&entrants, floors[0]);
    let cost = |floor: usize| costs[floor].as_ref().map_or(f64::INFINITY, |figures| figures.cpu_ns.median);
    let best = floors.into_iter().min_by(|one, other| cost(*one).total_cmp(&cost(*other)));
    let (best, twin) = best.zip(named(TWIN.0)).ok_or("there is no floor")?;
    let to_the_best = rounds::figures(&entrants, best);
    let to_its_twin = rounds::figures(&entrants, twin);
    let mut cells = Vec::new();
    for (entrant, (to_the_best, to_its_twin)) in entrants.iter().zip(to_the_best.into_iter().zip(to_its_twin)) {
        let name = entrant.server.name;
        let figures = if name == AGAIN { to_its_twin } else { to_the_best };
        cells.push(Cell { figures, left_out: entrant.failure.clone(), ..cell(name, streams) });
    }
    Ok(cells)
}

fn cell(server: &'static str, streams: usize) -> Cell {
    Cell { scenario: "bulk", what: describe(streams), server, connections: streams, unit: "byte", ..Cell::default() }
}

fn describe(streams: usize) -> String {
    format!("{streams} {}", if streams == 1 { "stream" } else { "streams" })
}
