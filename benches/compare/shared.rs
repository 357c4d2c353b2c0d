//! A room that two servers share over Redis, beside one server alone, and beside what people would use instead: socket.io
//! with its adapter for Redis Streams, where node finds the packages (`NODE_PATH`).
//!
//! Half of the receivers are on each server. What counts is a delivery, and the time of both servers and Redis.

use std::process::{Command, Stdio};
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::process::{Pid, Signal, kill_process};

use crate::chat::crowd::Crowd;
use crate::chat::tongue::{LINE, Tongue};
use crate::chat::{SEED, WINDOWS, describe};
use crate::programs::{self, DAEMON};
use crate::report::{Cell, Latency};
use crate::rounds::{Entrant, Spread, alternate, figures};
use crate::servers::{Program, Server};
use crate::{Bench, Result};

pub(crate) const SCENARIO: &str = "shared";

/// The same as the daemon alone: what they differ by is noise.
pub(crate) const AGAIN: &str = "echo-server again";
pub(crate) const PAIR: &str = "two echo-servers, Redis";
pub(crate) const SOCKET_IO: &str = "two socket.io, Redis";

const RECEIVERS: [usize; 3] = [100, 500, 1000];

/// How many lines are on their way where it is about how many pass in a second: less than `--max-ahead`.
const FLOOD: u64 = 2048;

/// How many lines a server is behind.
const BEHIND: u64 = 10_000;

/// How long a room may take to fill.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(bench: &Bench) -> Result<Vec<Cell>> {
    let has_socket_io = match find_socket_io() {
        Ok(()) => true,
        Err(why) => {
            bench.note_missing(SOCKET_IO, why.to_string());
            false
        }
    };
    let mut cells = Vec::new();
    for receivers in RECEIVERS {
        let mut servers = vec![alone(bench, DAEMON)?, alone(bench, AGAIN)?];
        let Some(pair) = pair(bench, &[])? else { return Ok(Vec::new()) };
        servers.push(pair);
        if has_socket_io {
            servers.extend(socket_io(bench)?);
        }
        let mut rooms = Vec::new();
        for server in &servers {
            bench.progress.show(&format!("{SCENARIO}: {receivers} join {}", server.name));
            rooms.push((server, gather(server, receivers)?));
        }
        for window in WINDOWS {
            cells.extend(costs(bench, receivers, window, &mut rooms)?);
        }
    }
    cells.extend(latency(bench)?);
    cells.extend(throughput(bench)?);
    cells.extend(catching_up(bench)?);
    Ok(cells)
}

fn alone(bench: &Bench, name: &'static str) -> Result<Server> {
    let server = bench.start(&Program::daemon(name, &["--chat", "--quiet"]).central())?;
    server.ok_or_else(|| "the daemon is not there".into())
}

/// Two servers and their Redis.
fn pair(bench: &Bench, options: &[&str]) -> Result<Option<Server>> {
    let Some((redis, url)) = start_redis(bench)? else { return Ok(None) };
    let options = [&["--chat", "--quiet", "--redis", &url], options].concat();
    together(bench, &Program::daemon(PAIR, &options).central(), redis)
}

fn socket_io(bench: &Bench) -> Result<Option<Server>> {
    let Some((redis, url)) = start_redis(bench)? else { return Ok(None) };
    let words = ["node".into(), programs::source("socketio.js"), url.into()];
    together(bench, &Program::new(SOCKET_IO, words), redis)
}

fn start_redis(bench: &Bench) -> Result<Option<(Server, String)>> {
    let words = ["redis-server", "--bind", "127.0.0.1", "--port", "{port}", "--save", "", "--appendonly", "no"];
    let redis = bench.start(&Program::new("redis", words))?;
    Ok(redis.map(|redis| {
        let url = format!("redis://{}", redis.address);
        (redis, url)
    }))
}

/// Two of these, whose time counts together with that of their Redis.
fn together(bench: &Bench, program: &Program, redis: Server) -> Result<Option<Server>> {
    let Some((first, second)) = bench.start(program)?.zip(bench.start(program)?) else { return Ok(None) };
    Ok(Some(first.with([second, redis])))
}

fn find_socket_io() -> Result<()> {
    let question = "['socket.io', '@socket.io/redis-streams-adapter', 'redis'].forEach(require)";
    let found = Command::new("node").args(["-e", question]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match found.map_err(|_| "node is not installed")?.success() {
        true => Ok(()),
        false => Err("node finds no socket.io, @socket.io/redis-streams-adapter and redis; see NODE_PATH".into()),
    }
}

/// Fills the room of a server, or of two.
fn gather(server: &Server, receivers: usize) -> Result<Crowd> {
    let mut addresses = vec![server.address];
    addresses.extend(server.companions().first().map(|other| other.address));
    let tongue = if server.name == SOCKET_IO { Tongue::SocketIo } else { Tongue::Named };
    let crowd = Crowd::gather(&addresses, tongue, receivers, PATIENCE, SEED);
    crowd.map_err(|error| format!("{}: {error}", server.name).into())
}

/// The processor time of a delivery.
fn costs(bench: &Bench, receivers: usize, window: u64, rooms: &mut [(&Server, Crowd)]) -> Result<Vec<Cell>> {
    let mut entrants: Vec<_> = rooms.iter_mut().map(|(server, crowd)| Entrant::new(server, crowd)).collect();
    let period = Duration::from_millis(if bench.quick { 60 } else { 300 });
    let what = format!("{SCENARIO}: {}", describe(receivers, window));
    let talk = |crowd: &mut &mut Crowd, period| Ok(crowd.talk(period, window)? * receivers as u64);
    let rounds = bench.rounds(10, 5);
    alternate(bench, &what, rounds, &mut entrants, |crowd| talk(crowd, period / 10), |crowd| talk(crowd, period))?;
    let cells = figures(&entrants, 0).into_iter().zip(&entrants).map(|(figures, entrant)| Cell {
        figures,
        depth: Some(window as usize),
        left_out: entrant.failure.clone(),
        ..cell(describe(receivers, window), entrant.server.name, receivers)
    });
    Ok(cells.collect())
}

/// How long a line takes to the last of a few receivers.
fn latency(bench: &Bench) -> Result<Vec<Cell>> {
    let (receivers, lines) = (10, if bench.quick { 500 } else { 5000 });
    let Some(pair) = pair(bench, &[])? else { return Ok(Vec::new()) };
    let mut cells = Vec::new();
    for server in [alone(bench, DAEMON)?, pair] {
        let mut crowd = gather(&server, receivers)?;
        let mut times = Histogram::<u64>::new(3)?;
        for _ in 0..lines {
            times.record(crowd.say(1, false)?.as_nanos() as u64)?;
        }
        let latency_us = Some(Latency::of(&times));
        cells.push(Cell { latency_us, ..cell(format!("{receivers} receivers, latency"), server.name, receivers) });
    }
    Ok(cells)
}

/// How many lines pass through Redis in a second.
fn throughput(bench: &Bench) -> Result<Vec<Cell>> {
    let Some(server) = pair(bench, &[])? else { return Ok(Vec::new()) };
    let receivers = 2;
    let mut entrants = [Entrant::new(&server, gather(&server, receivers)?)];
    let period = Duration::from_millis(if bench.quick { 200 } else { 1000 });
    let (warm_up, work) = (period / 10, period);
    let what = format!("{SCENARIO}: lines per second");
    alternate(
        bench,
        &what,
        bench.rounds(10, 10),
        &mut entrants,
        |crowd| crowd.talk(warm_up, FLOOD),
        |crowd| crowd.talk(work, FLOOD),
    )?;
    let figures = figures(&entrants, 0).into_iter().next().flatten();
    let what = format!("{receivers} receivers, window {FLOOD}");
    let depth = Some(FLOOD as usize);
    Ok(vec![Cell { figures, depth, unit: "line", ..cell(what, server.name, receivers) }])
}

/// How long a server takes to tell what it has missed. The talker does not wait for it meanwhile.
fn catching_up(bench: &Bench) -> Result<Vec<Cell>> {
    let Some(server) = pair(bench, &["--max-ahead", "64MiB"])? else { return Ok(Vec::new()) };
    let mut crowd = gather(&server, 2)?;
    let [second, ..] = server.companions() else { return Ok(Vec::new()) };
    let pid = Pid::from_raw(second.pid().cast_signed()).ok_or("no process")?;
    let mut times = Vec::new();
    for _ in 0..bench.rounds(5, 5).central {
        kill_process(pid, Signal::STOP)?;
        crowd.say(BEHIND, true)?;
        kill_process(pid, Signal::CONT)?;
        times.push(crowd.say(0, false)?.as_secs_f64() * 1e3);
    }
    let took_ms = Some(Spread::of(times.into_iter()));
    Ok(vec![Cell { took_ms, ..cell(format!("{BEHIND} lines behind"), server.name, 2) }])
}

fn cell(what: String, server: &'static str, receivers: usize) -> Cell {
    Cell {
        scenario: SCENARIO,
        what,
        server,
        connections: receivers,
        size: Some(LINE),
        unit: "delivery",
        ..Cell::default()
    }
}
