//! How many system calls a small message costs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::load::Load;
use crate::programs;
use crate::report::{Cell, bytes};
use crate::servers::Program;
use crate::{Bench, Result};

const CONNECTIONS: usize = 50;
const SIZE: usize = 64;

/// Counts those of the daemon and of the floor, with strace where that is installed. What they do to start, to accept
/// and to end is not counted: it is taken off as what a run of few messages costs.
pub(crate) fn count(bench: &Bench, scenario: &'static str) -> Result<Vec<Cell>> {
    let duration = Duration::from_millis(if bench.quick { 300 } else { 1000 });
    let mut cells = Vec::new();
    for program in [programs::floor(), programs::daemon()] {
        bench.progress.show(&format!("system calls of {}", program.name));
        let Some(few) = trace(bench, &program, Duration::ZERO)? else { break };
        let Some(many) = trace(bench, &program, duration)? else { break };
        let calls =
            many.calls.saturating_sub(few.calls) as f64 / many.messages.saturating_sub(few.messages).max(1) as f64;
        cells.push(Cell {
            scenario,
            what: format!("{CONNECTIONS} × {}, system calls", bytes(SIZE)),
            server: program.name,
            connections: CONNECTIONS,
            size: Some(SIZE),
            depth: Some(1),
            unit: "message",
            system_calls_per_message: Some(calls),
            ..Cell::default()
        });
    }
    Ok(cells)
}

/// What happened from the start of a server to its end.
struct Trace {
    messages: u64,
    calls: u64,
}

/// `None` where strace is missing.
fn trace(bench: &Bench, program: &Program, duration: Duration) -> Result<Option<Trace>> {
    let summary = Path::new(env!("CARGO_TARGET_TMPDIR")).join("system-calls");
    let path = summary.to_str().ok_or("a path that is no text")?;
    // -D: the server stays our child, and strace is beside it.
    let strace = ["strace", "-D", "-f", "-c", "-o", path];
    let Some(server) = bench.start(&program.clone().under("strace", &strace))? else { return Ok(None) };
    let mut load = Load::connect(server.address, CONNECTIONS, SIZE, 1)?;
    let messages = load.closed(duration)?;
    drop(load);
    server.stop()?;
    Ok(Some(Trace { messages, calls: total(&summary)? }))
}

/// The number of calls in a summary of strace, whose last line is: 100.00 0.012 3 4000 total
fn total(summary: &Path) -> Result<u64> {
    let text = fs::read_to_string(summary)?;
    let line = text.lines().find(|line| line.ends_with("total")).ok_or("strace counted nothing")?;
    Ok(line.split_whitespace().nth(3).ok_or("strace counted nothing")?.parse()?)
}
