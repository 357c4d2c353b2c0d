//! How many system calls a small message costs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::load::Load;
use crate::programs;
use crate::report::{Cell, bytes};
use crate::{Bench, Result};

const CONNECTIONS: usize = 50;
const SIZE: usize = 64;

/// Counts those of the daemon and of the floor, from their start to their end, with strace where that is installed.
pub(crate) fn count(bench: &Bench, scenario: &'static str) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for program in [programs::floor(), programs::daemon()] {
        let name = program.name;
        bench.progress.show(&format!("system calls of {name}"));
        let summary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("strace-{name}"));
        let path = summary.to_str().ok_or("a path that is no text")?;
        // -D: the server stays our child, and strace is beside it.
        let Some(server) = bench.start(&program.under("strace", &["strace", "-D", "-f", "-c", "-o", path]))? else {
            break;
        };
        let mut load = Load::connect(server.address, CONNECTIONS, SIZE, 1)?;
        let messages = load.closed(Duration::from_millis(if bench.quick { 300 } else { 1000 }))?;
        drop(load);
        server.stop()?;
        let calls = total(&summary)?;
        cells.push(Cell {
            scenario,
            what: format!("{CONNECTIONS} × {}, system calls", bytes(SIZE)),
            server: name,
            connections: CONNECTIONS,
            size: Some(SIZE),
            depth: Some(1),
            unit: "message",
            system_calls_per_message: Some(calls as f64 / messages as f64),
            ..Cell::default()
        });
    }
    Ok(cells)
}

/// The number of calls in a summary of strace, whose last line is: 100.00 0.012 3 4000 total
fn total(summary: &Path) -> Result<u64> {
    let text = fs::read_to_string(summary)?;
    let line = text.lines().find(|line| line.ends_with("total")).ok_or("strace counted nothing")?;
    Ok(line.split_whitespace().nth(3).ok_or("strace counted nothing")?.parse()?)
}
