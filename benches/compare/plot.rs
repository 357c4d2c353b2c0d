//! The results as pictures.

mod bars;
mod frame;
mod lines;

use std::path::Path;

use crate::Result;
use crate::programs::{AGAIN, DAEMON};
use crate::report::{Cell, Results, bytes};
use bars::{Bars, Scale, bars};
use frame::Words;
use lines::{Line, Mark, lines};

/// What most people would have: more than one, fewer than need special settings.
const TYPICAL_CONNECTIONS: usize = 50;

const WINDOW: usize = 64;

/// Draws all that there are results for into files of this folder.
pub(crate) fn all(results: &Results, folder: &Path) -> Result<()> {
    let foot = &foot(results);
    echo(&results.cells, &folder.join("echo.svg"), foot)?;
    latency(&results.cells, &folder.join("latency.svg"), foot)?;
    memory(&results.cells, &folder.join("memory.svg"), foot)?;
    chat_cost(&results.cells, &folder.join("chat.svg"), foot)?;
    chat_speed(&results.cells, &folder.join("chat-deliveries.svg"), foot)
}

/// Processor time per message, by server and size.
fn echo(cells: &[Cell], path: &Path, foot: &str) -> Result<()> {
    let is_shown = |cell: &Cell| {
        cell.scenario == "echo"
            && cell.connections == TYPICAL_CONNECTIONS
            && cell.depth == Some(1)
            && is_contestant(cell)
    };
    let cells: Vec<&Cell> = cells.iter().filter(|cell| is_shown(cell)).collect();
    let mut sizes: Vec<usize> = cells.iter().filter_map(|cell| cell.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let cost = |server, size| {
        let cell = cells.iter().find(|cell| cell.server == server && cell.size == Some(size))?;
        Some(cell.figures.as_ref()?.cpu_ns.median / 1e3)
    };
    let all: Vec<Bars<'_>> = servers(&cells)
        .map(|server| Bars { server, values: sizes.iter().map(|size| cost(server, *size)).collect() })
        .collect();
    let words = Words {
        title: "Processor time for a message that is echoed",
        subtitle: &format!("{TYPICAL_CONNECTIONS} connections, one message of each on its way"),
        x: "size of the message",
        y: "processor time, µs",
        foot,
    };
    let sizes: Vec<String> = sizes.into_iter().map(bytes).collect();
    bars(path, &words, &sizes, Scale::Linear, &all)
}

/// Latency at a fixed rate, by percentile.
fn latency(cells: &[Cell], path: &Path, foot: &str) -> Result<()> {
    let is_shown = |cell: &Cell| cell.scenario == "echo" && cell.offered_per_second.is_some() && is_contestant(cell);
    let cells: Vec<&Cell> = cells.iter().filter(|cell| is_shown(cell)).collect();
    let Some(first) = cells.first() else { return Ok(()) };
    let subtitle = format!(
        "{} messages of {} a second on {} connections, each counted from when it was due",
        thousands(first.offered_per_second.unwrap_or(0)),
        bytes(first.size.unwrap_or(0)),
        first.connections,
    );
    // The nines at equal distances.
    let at = |share: f64| -(1.0 - share).log10();
    let marks: Vec<Mark> = [("50 %", 0.5), ("90 %", 0.9), ("99 %", 0.99), ("99.9 %", 0.999)]
        .map(|(name, share)| Mark { at: at(share), name: name.to_owned() })
        .into();
    let line = |cell: &&Cell| {
        let times = cell.latency_us?;
        let points = [(0.5, times.p50), (0.9, times.p90), (0.99, times.p99), (0.999, times.p99_9)];
        Some(Line { server: cell.server, points: points.map(|(share, time)| (at(share), time)).into() })
    };
    let mut all: Vec<Line<'_>> = cells.iter().filter_map(line).collect();
    all.sort_by_key(|line| line.server != DAEMON);
    let words = Words {
        title: "Latency at a fixed rate",
        subtitle: &subtitle,
        x: "share of the messages that took at most so long",
        y: "latency, µs",
        foot,
    };
    lines(path, &words, &marks, &all)
}

/// Memory per idle connection.
fn memory(cells: &[Cell], path: &Path, foot: &str) -> Result<()> {
    let cells = cells.iter().filter(|cell| cell.scenario == "idle" && is_contestant(cell));
    let cells: Vec<&Cell> = cells.filter(|cell| cell.memory.is_some()).collect();
    let Some(connections) = cells.first().map(|cell| cell.connections) else { return Ok(()) };
    let own = |cell: &Cell| cell.memory.map(|memory| memory.own.median);
    let mut all: Vec<Bars<'_>> =
        cells.iter().map(|cell| Bars { server: cell.server, values: vec![own(cell)] }).collect();
    all.sort_by_key(|bars| bars.server != DAEMON);
    let words = Words {
        title: "Memory for an idle connection",
        subtitle: "what the server has of its own, without what the kernel holds",
        x: "",
        y: "bytes, logarithmic",
        foot,
    };
    bars(path, &words, &[format!("{} connections", thousands(connections as u64))], Scale::Logarithmic, &all)
}

/// Processor time per delivery, by the number of receivers.
fn chat_cost(cells: &[Cell], path: &Path, foot: &str) -> Result<()> {
    let words = Words {
        title: "Processor time for a line that reaches a receiver",
        subtitle: &room(),
        x: "receivers",
        y: "processor time, ns",
        foot,
    };
    by_receivers(cells, path, &words, |cell| Some(cell.figures.as_ref()?.cpu_ns.median))
}

/// Deliveries a second, by the number of receivers.
fn chat_speed(cells: &[Cell], path: &Path, foot: &str) -> Result<()> {
    let words = Words {
        title: "Lines delivered in a room",
        subtitle: &room(),
        x: "receivers",
        y: "deliveries per second",
        foot,
    };
    by_receivers(cells, path, &words, |cell| Some(cell.figures.as_ref()?.units_per_second.median))
}

fn room() -> String {
    format!("one member speaks, lines of 64 B, at most {WINDOW} on their way to the slowest receiver")
}

fn by_receivers(cells: &[Cell], path: &Path, words: &Words<'_>, figure: fn(&Cell) -> Option<f64>) -> Result<()> {
    let is_shown = |cell: &Cell| cell.scenario == "chat" && cell.depth == Some(WINDOW) && is_contestant(cell);
    let cells: Vec<&Cell> = cells.iter().filter(|cell| is_shown(cell) && cell.figures.is_some()).collect();
    let mut receivers: Vec<usize> = cells.iter().map(|cell| cell.connections).collect();
    receivers.sort_unstable();
    receivers.dedup();
    let at = |receivers: usize| (receivers as f64).log10();
    let marks: Vec<Mark> =
        receivers.into_iter().map(|count| Mark { at: at(count), name: thousands(count as u64) }).collect();
    let line = |server| {
        let cells = cells.iter().filter(|cell| cell.server == server);
        let points = cells.filter_map(|cell| Some((at(cell.connections), figure(cell)?))).collect();
        Line { server, points }
    };
    let all: Vec<Line<'_>> = servers(&cells).map(line).collect();
    lines(path, words, &marks, &all)
}

/// The floor against itself is for the table.
fn is_contestant(cell: &Cell) -> bool {
    cell.server != AGAIN
}

/// The servers that have figures: ours, then the others in the order in which they first appear.
fn servers<'a>(cells: &[&'a Cell]) -> impl Iterator<Item = &'a str> {
    let mut servers: Vec<&str> = Vec::new();
    for cell in cells.iter().filter(|cell| cell.figures.is_some()) {
        if !servers.contains(&cell.server) {
            servers.push(cell.server);
        }
    }
    servers.sort_by_key(|server| *server != DAEMON);
    servers.into_iter()
}

/// A number as people write it.
fn thousands(number: u64) -> String {
    match number {
        ..1000 => number.to_string(),
        _ => format!("{},{:03}", thousands(number / 1000), number % 1000),
    }
}

/// Where and when it was measured.
fn foot(results: &Results) -> String {
    let machine = &results.machine;
    let rough = if results.quick { ", rough figures of a quick run" } else { "" };
    format!("{}, {} cores, Linux {}, {}{rough}", machine.processor, machine.cores, machine.kernel, machine.date)
}
