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
    lineup.extend(programs::peers_for_streams(bench));
    let servers = programs::start(bench, &lineup)?;
    let mut cells = Vec::new();
    for streams in [1, 4] {
        cells.extend(measure(bench, &servers, streams)?);
    }
    Ok(cells)
}

/// In every round, a part of a gibibyte goes through each server.
fn measure(bench: &Bench, servers: &[Server], streams: usize) -> Result<Vec<Cell>> {
    let what = format!("{streams} {}", if streams == 1 { "stream" } else { "streams" });
    let rounds = bench.rounds(8, 4);
    let in_all: u64 = if bench.quick { 64 << 20 } else { 1 << 30 };
    let each_time = in_all / rounds.central as u64 / streams as u64;
    let mut entrants = Vec::new();
    for server in servers {
        entrants.push(Entrant::new(server, Flood::connect(server.address, streams, PIECE)?));
    }
    let warm_up = |load: &mut Flood| load.transfer(each_time / 8);
    rounds::alternate(bench, &what, rounds, &mut entrants, warm_up, |load| load.transfer(each_time))?;

    let floors = servers.iter().enumerate().filter(|(_, server)| FLOORS.iter().any(|(name, _)| *name == server.name));
    let costs = rounds::figures(&entrants, 0);
    let cost = |index: usize| costs[index].cpu_ns.median;
    let best = floors.map(|(index, _)| index).min_by(|one, other| cost(*one).total_cmp(&cost(*other)));
    let twin = servers.iter().position(|server| server.name == TWIN.0);
    let (best, twin) = best.zip(twin).ok_or("there is no floor")?;
    let to_the_best = rounds::figures(&entrants, best);
    let to_its_twin = rounds::figures(&entrants, twin);
    let cell = |(index, server): (usize, &Server)| Cell {
        scenario: "bulk",
        what: what.clone(),
        server: server.name,
        connections: streams,
        unit: "byte",
        figures: Some(if server.name == AGAIN { to_its_twin[index].clone() } else { to_the_best[index].clone() }),
        ..Cell::default()
    };
    Ok(servers.iter().enumerate().map(cell).collect())
}
