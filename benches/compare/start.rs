//! The way from exec to the first answer, and the size of the program.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::programs::{self, DAEMON};
use crate::report::Cell;
use crate::rounds::Spread;
use crate::servers::{Program, Server};
use crate::{Bench, Result};

pub(crate) fn run(bench: &Bench) -> Result<Vec<Cell>> {
    let mut programs = vec![programs::floor(), programs::daemon(), programs::floor_again()];
    programs.extend(bench.peers());
    programs.retain(Program::is_installed);
    let rounds = bench.rounds(41, 11);
    let mut times: Vec<Vec<f64>> = programs.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds.central {
        bench.progress.show(&format!("start, round {} of {}", round + 1, rounds.central));
        for (program, times) in programs.iter().zip(&mut times) {
            if program.is_central || round < rounds.all {
                times.push(first_answer(bench, program).map_err(|error| format!("{}: {error}", program.name))?);
            }
        }
    }
    let mut cells = Vec::new();
    for (program, times) in programs.iter().zip(times) {
        cells.push(Cell {
            scenario: "start",
            what: "exec to first answer".to_owned(),
            server: program.name,
            connections: 1,
            unit: "start",
            took_ms: Some(Spread::of(times.into_iter())),
            binary_bytes: if program.name == DAEMON { Some(stripped_size()?) } else { None },
            ..Cell::default()
        });
    }
    Ok(cells)
}

/// How many milliseconds it takes from before the program is started until its first client has its byte back.
fn first_answer(bench: &Bench, program: &Program) -> Result<f64> {
    let begin = Instant::now();
    let server = Server::start_at_once(program, bench.cores)?;
    let mut stream = TcpStream::connect(server.address)?;
    stream.write_all(b"?")?;
    let mut echo = [0];
    stream.read_exact(&mut echo)?;
    let took = begin.elapsed();
    match echo {
        [b'?'] => Ok(took.as_secs_f64() * 1e3),
        _ => Err("a wrong echo".into()),
    }
}

/// The bytes of the daemon's program without its symbols; with them, where nothing is installed to strip it.
fn stripped_size() -> Result<u64> {
    let program = env!("CARGO_BIN_EXE_echo-server");
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stripped");
    let is_stripped =
        Command::new("strip").arg("-o").arg(&copy).arg(program).status().is_ok_and(|status| status.success());
    Ok(fs::metadata(if is_stripped { copy.as_path() } else { Path::new(program) })?.len())
}
