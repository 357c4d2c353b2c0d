//! A room: what one says reaches all the others.
//!
//! The daemon runs with `--quiet`, since none of the others logs anything. What counts is a delivery: a line at one
//! receiver.

pub(crate) mod crowd;
pub(crate) mod tongue;

use std::time::Duration;

use crate::programs::{AGAIN, DAEMON, FLOOR, TOKIO};
use crate::report::Cell;
use crate::rounds::{Entrant, alternate, figures};
use crate::servers::{Program, Server};
use crate::{Bench, Result};
use crowd::Crowd;
use tongue::{LINE, Tongue};

const SCENARIO: &str = "chat";
const RECEIVERS: [usize; 3] = [10, 100, 1000];

/// How many lines may be on their way to the slowest receiver.
pub(crate) const WINDOWS: [u64; 2] = [1, 64];

const REDIS: &str = "redis";
const NCAT: &str = "ncat --chat";

/// What the pattern of the lines is made from.
pub(crate) const SEED: u64 = 6;

pub(crate) fn run(bench: &Bench) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for receivers in RECEIVERS {
        let mut servers = Vec::new();
        for (program, tongue) in contestants() {
            servers.extend(bench.start(&program)?.map(|server| (server, tongue)));
        }
        let mut rooms = Vec::new();
        for (server, tongue) in &servers {
            bench.progress.show(&format!("chat: {receivers} join {}", server.name));
            match Crowd::gather(&[server.address], *tongue, receivers, patience(bench, server), SEED) {
                Ok(crowd) => rooms.push((server, crowd)),
                Err(error) if is_needed(server) => return Err(format!("{}: {error}", server.name).into()),
                Err(error) => cells.extend(WINDOWS.map(|window| {
                    let left_out = Some(error.to_string());
                    Cell { left_out, ..cell(server, receivers, window) }
                })),
            }
        }
        for window in WINDOWS {
            cells.extend(measure(bench, receivers, window, &mut rooms)?);
        }
    }
    Ok(cells)
}

/// The floor first.
fn contestants() -> [(Program, Tongue); 6] {
    let redis = ["redis-server", "--bind", "127.0.0.1", "--port", "{port}", "--save", "", "--appendonly", "no"];
    let ncat = ["ncat", "--listen", "--chat", "--max-conns", "2000", "127.0.0.1", "{port}"];
    [
        (Program::own(FLOOR, &["room-floor"]).central(), Tongue::Plain),
        (Program::daemon(DAEMON, &["--chat", "--quiet"]).central(), Tongue::Named),
        (Program::own(AGAIN, &["room-floor"]).central(), Tongue::Plain),
        (Program::new(REDIS, redis).central(), Tongue::Redis),
        (Program::own(TOKIO, &["room-tokio"]), Tongue::Plain),
        (Program::new(NCAT, ncat), Tongue::Named),
    ]
}

/// How long a room may take to fill. Where everybody is told of everybody, that grows with the square of their number.
fn patience(bench: &Bench, server: &Server) -> Duration {
    Duration::from_secs(match bench.quick {
        _ if is_needed(server) => 60,
        true => 2,
        false => 10,
    })
}

/// Whether there is nothing to compare without it.
fn is_needed(server: &Server) -> bool {
    matches!(server.name, DAEMON | FLOOR)
}

fn measure(bench: &Bench, receivers: usize, window: u64, rooms: &mut [(&Server, Crowd)]) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    let mut entrants = Vec::new();
    for (server, crowd) in rooms {
        if server.name == NCAT && window > 1 {
            let left_out = Some("it names the speaker once a read, not once a line".to_owned());
            cells.push(Cell { left_out, ..cell(server, receivers, window) });
        } else {
            entrants.push(Entrant::new(server, crowd));
        }
    }
    let period = Duration::from_millis(match (bench.quick, receivers) {
        (true, ..100) => 20,
        (true, ..1000) => 30,
        (true, _) => 60,
        (false, ..1000) => 150,
        (false, _) => 300,
    });
    let what = format!("{SCENARIO}: {}", describe(receivers, window));
    let talk = |crowd: &mut &mut Crowd, period| Ok(crowd.talk(period, window)? * receivers as u64);
    alternate(
        bench,
        &what,
        bench.rounds(10, 5),
        &mut entrants,
        |crowd| talk(crowd, period / 10),
        |crowd| talk(crowd, period),
    )?;

    let redis = entrants.iter().position(|entrant| entrant.server.name == REDIS);
    let beside_redis = redis.map(|redis| figures(&entrants, redis));
    for (at, figures) in figures(&entrants, 0).into_iter().enumerate() {
        let ratio_to_redis = beside_redis.as_ref().and_then(|figures| Some(figures[at].as_ref()?.ratio));
        let cell = cell(entrants[at].server, receivers, window);
        let left_out = entrants[at].failure.clone();
        cells.push(Cell { figures, ratio_to_redis, left_out, ..cell });
    }
    Ok(cells)
}

fn cell(server: &Server, receivers: usize, window: u64) -> Cell {
    Cell {
        scenario: SCENARIO,
        what: describe(receivers, window),
        server: server.name,
        connections: receivers,
        size: Some(LINE),
        depth: Some(window as usize),
        unit: "delivery",
        ..Cell::default()
    }
}

pub(crate) fn describe(receivers: usize, window: u64) -> String {
    match window {
        1 => format!("{receivers} receivers, one at a time"),
        _ => format!("{receivers} receivers, window {window}"),
    }
}
