//! What a person sees at the end: all figures that count, scenario by scenario.

use std::fmt::{self, Write};

use crate::programs::{AGAIN, FLOOR};
use crate::report::{Cell, Latency, MemoryPerConnection, Results};
use crate::rounds::Spread;
use crate::shared;

/// Rows of words in columns, the first to the left, the others to the right.
pub(crate) struct Grid {
    rows: Vec<Vec<String>>,
}

impl Grid {
    pub(crate) fn new<S: ToString>(head: impl IntoIterator<Item = S>) -> Self {
        Self { rows: vec![head.into_iter().map(|word| word.to_string()).collect()] }
    }

    pub(crate) fn add(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// The columns that have more than a head.
    fn used_columns(&self) -> Vec<usize> {
        let is_used = |column: &usize| self.rows.iter().skip(1).any(|row| !row[*column].is_empty());
        (0..self.rows[0].len()).filter(is_used).collect()
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.used_columns();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = columns.iter().map(|column| width(*column)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (place, (column, width)) in columns.iter().zip(&widths).enumerate() {
                match place {
                    0 => write!(line, "  {:width$}", row[*column])?,
                    _ => write!(line, "  {:>width$}", row[*column])?,
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// How many situations are side by side at most, so that they fit on a terminal.
const MOST_COLUMNS: usize = 6;

/// All scenarios of a run.
pub(crate) fn print(results: &Results) {
    let machine = &results.machine;
    let cores = machine.cores;
    println!("\n{}, {cores} cores, Linux {}, {}", machine.processor, machine.kernel, machine.date);
    println!("Medians of the rounds; ± is half the distance of the quartiles. {AGAIN:?} shows the noise.");
    for cells in results.cells.chunk_by(|one, next| one.scenario == next.scenario) {
        match cells[0].scenario {
            // Many situations are easier to compare side by side than one after another.
            "echo" | "chat" => print_side_by_side(cells),
            _ => print_one_by_one(cells),
        }
    }
    let missing: Vec<String> = results.missing.iter().map(|one| format!("{} ({})", one.name, one.why)).collect();
    if !missing.is_empty() {
        println!("\nmissing: {}", missing.join(", "));
    }
}

fn print_side_by_side(cells: &[Cell]) {
    let Cell { scenario, unit, .. } = cells[0];
    println!("\n{scenario}: processor time per {unit} of the floor, and of the others in multiples of it");
    let has_figures = |cells: &&[Cell]| cells.iter().any(|cell| cell.figures.is_some());
    let situations: Vec<&[Cell]> = cells.chunk_by(|one, next| one.what == next.what).filter(has_figures).collect();
    for situations in situations.chunks(MOST_COLUMNS) {
        print!("\n{}", side_by_side(situations));
    }
    let mut reasons: Vec<String> = Vec::new();
    for cell in cells {
        let reason = cell.left_out.as_ref().map(|why| format!("  - {}: {why}\n", cell.server));
        reasons.extend(reason.filter(|reason| !reasons.contains(reason)));
    }
    if !reasons.is_empty() {
        print!("\n{}", reasons.concat());
    }
    for cells in situations.into_iter().filter(|cells| cells[0].offered_per_second.is_some()) {
        println!("\n{scenario}, {}: latency", cells[0].what);
        let without_figures = cells.iter().map(|cell| Cell { figures: None, ..cell.clone() });
        print!("{}", one_by_one(&without_figures.collect::<Vec<Cell>>()));
    }
}

fn print_one_by_one(cells: &[Cell]) {
    for cells in cells.chunk_by(|one, next| one.what == next.what) {
        println!("\n{}: {}", cells[0].scenario, cells[0].what);
        print!("{}", one_by_one(cells));
    }
}

/// A row for each server, and a column for each situation.
fn side_by_side(situations: &[&[Cell]]) -> Grid {
    let heads: Vec<(&str, &str)> =
        situations.iter().map(|cells| cells[0].what.split_once(", ").unwrap_or((&cells[0].what, ""))).collect();
    let mut grid = Grid::new([""].into_iter().chain(heads.iter().map(|(first, _)| *first)));
    if heads.iter().any(|(_, second)| !second.is_empty()) {
        grid.add([""].into_iter().chain(heads.iter().map(|(_, second)| *second)).map(str::to_owned).collect());
    }
    for server in servers(situations.concat().iter()) {
        let value = |cells: &&[Cell]| {
            let figures = cells.iter().find(|cell| cell.server == server)?.figures.as_ref()?;
            Some(if server == FLOOR { time(figures.cpu_ns.median) } else { ratio(&figures.ratio) })
        };
        let values = situations.iter().map(|cells| value(cells).unwrap_or_else(|| "-".to_owned()));
        grid.add([server.to_owned()].into_iter().chain(values).collect());
    }
    grid
}

/// The servers, in the order in which they first appear.
fn servers<'a>(cells: impl Iterator<Item = &'a Cell>) -> Vec<&'static str> {
    let mut servers = Vec::new();
    for cell in cells {
        if !servers.contains(&cell.server) {
            servers.push(cell.server);
        }
    }
    servers
}

/// A row for each server, and a column for each figure.
fn one_by_one(cells: &[Cell]) -> Grid {
    let mut grid = Grid::new([
        "",
        "CPU",
        if cells[0].scenario == shared::SCENARIO { "× alone" } else { "× floor" },
        "per second",
        "p50",
        "p99",
        "p99.9",
        "max",
        "own memory",
        "resident",
        "took",
        "stripped",
        "",
    ]);
    for cell in cells {
        let figures = cell.figures.as_ref();
        let latency = |value: fn(&Latency) -> f64| cell.latency_us.as_ref().map(|latency| time(value(latency) * 1e3));
        let memory = |value: fn(&MemoryPerConnection) -> Spread| {
            cell.memory.as_ref().map(|memory| format!("{:.0} B", value(memory).median))
        };
        let row = [
            Some(cell.server.to_owned()),
            figures.map(|figures| cost(cell, figures.cpu_ns.median)),
            figures.map(|figures| ratio(&figures.ratio)),
            figures.map(|figures| rate(cell, figures.units_per_second.median)),
            latency(|latency| latency.p50),
            latency(|latency| latency.p99),
            latency(|latency| latency.p99_9),
            latency(|latency| latency.max),
            memory(|memory| memory.own),
            memory(|memory| memory.resident),
            cell.took_ms.map(|took| format!("{:.1} ms ±{:.1}", took.median, took.half_width())),
            cell.binary_bytes.map(|bytes| format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20))),
            cell.left_out.clone(),
        ];
        grid.add(row.into_iter().map(Option::unwrap_or_default).collect());
    }
    grid
}

/// What a unit costs, as people count: messages one by one, bytes by the million.
fn cost(cell: &Cell, cpu_ns: f64) -> String {
    match cell.unit {
        "byte" => format!("{:.0} µs/MB", cpu_ns * 1e3),
        _ => time(cpu_ns),
    }
}

fn rate(cell: &Cell, per_second: f64) -> String {
    match cell.unit {
        "byte" => format!("{:.0} MB", per_second / 1e6),
        _ => format!("{per_second:.0}"),
    }
}

/// A time, given in nanoseconds, with three digits.
fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ..1e3 => (ns, "ns"),
        ..1e6 => (ns / 1e3, "µs"),
        _ => (ns / 1e6, "ms"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

fn ratio(ratio: &Spread) -> String {
    format!("{:.2} ±{:.2}", ratio.median, ratio.half_width())
}
