//! Measures the daemon beside what people would use instead: `cargo bench`, or `cargo bench -- --quick`.
//!
//! Every server is a process of its own on one core, the load is this process on another, and all take turns in
//! alternating rounds. [`servers`] starts them, [`accounting`] reads what they used, [`rounds`] alternates and does the
//! statistics. Each scenario is a module and gives [`report::Cell`]s, which become files, plots and the table.

mod accounting;
mod bench;
mod bulk;
mod chat;
mod churn;
mod client;
mod echo;
mod fair;
mod flood;
mod idle;
mod load;
mod pattern;
#[path = "../peers/mod.rs"]
mod peers;
mod plot;
mod programs;
mod progress;
mod report;
mod rounds;
mod servers;
mod shared;
mod start;
mod syscalls;
mod table;
mod targets;
mod tls;

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand, ValueEnum};

use bench::Bench;
use peers::Role;
use progress::Progress;
use report::{Cell, Machine, Results};
use servers::Cores;

/// What goes wrong ends the run and is printed; nothing is done about it by its kind.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Measures echo-server beside what people would use instead.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    /// Only these [default: all]
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,

    /// Rough figures in less than a minute, written below the target folder
    #[arg(long)]
    quick: bool,

    /// So many rounds of each, whatever the time
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    rounds: Option<usize>,

    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,

    #[command(subcommand)]
    task: Option<Task>,
}

/// What this program does when it has started itself.
#[derive(Subcommand)]
enum Task {
    /// Becomes a server to be measured
    #[command(hide = true)]
    Launch {
        #[arg(long)]
        core: Option<usize>,
        #[arg(last = true)]
        command_line: Vec<OsString>,
    },
    /// Is a server to compare with
    #[command(hide = true, subcommand)]
    Serve(Role),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Messages that come back
    Echo,
    /// Streams at full speed
    Bulk,
    /// Small messages beside streams
    Fair,
    /// Connections that come and go
    Churn,
    /// Connections that say nothing
    Idle,
    /// A room
    Chat,
    /// A room that servers share over Redis
    Shared,
    /// The way from exec to the first answer
    Start,
    /// TLS: handshakes, messages, streams, idle connections
    Tls,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.task {
        Some(Task::Launch { core, command_line }) => servers::launch(core, &command_line),
        Some(Task::Serve(role)) => peers::serve(role).map_err(Into::into),
        None => compare(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<()> {
    servers::raise_descriptor_limit()?;
    let machine = Machine::look();
    let cores = Cores::find()?;
    match cores {
        Some(cores) => servers::pin(cores.load)?,
        None => eprintln!("There is only one core: servers and load share it, and the figures say little."),
    }
    let scenarios = if args.scenarios.is_empty() { Scenario::value_variants() } else { &args.scenarios };
    let progress = Progress::new(scenarios.iter().map(|scenario| scenario.weight()).sum());
    let bench = Bench::new(args.quick, args.rounds, cores, progress);
    let mut cells = Vec::new();
    for scenario in scenarios {
        let name = format!("{scenario:?}").to_lowercase();
        bench.progress.begin(&name, scenario.weight());
        cells.extend(scenario.run(&bench)?);
        bench.progress.end(&name);
    }
    bench.progress.finish();
    let targets = targets::judge(&cells);
    let results = Results { machine, quick: args.quick, cells, targets, missing: bench.into_missing() };
    let folder = folder_of_results(args.quick);
    results.write(&folder)?;
    plot::all(&results, &folder)?;
    table::print(&results);
    targets::print(&results.targets);
    println!("Files and pictures: {}", folder.display());
    Ok(())
}

/// Where the files go: those of a quick run not over the good ones.
fn folder_of_results(is_quick: bool) -> PathBuf {
    match is_quick {
        true => Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-results"),
        false => Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results"),
    }
}

impl Scenario {
    fn run(self, bench: &Bench) -> Result<Vec<Cell>> {
        match self {
            Self::Echo => echo::run(bench),
            Self::Bulk => bulk::run(bench),
            Self::Fair => fair::run(bench),
            Self::Churn => churn::run(bench),
            Self::Idle => idle::run(bench),
            Self::Chat => chat::run(bench),
            Self::Shared => shared::run(bench),
            Self::Start => start::run(bench),
            Self::Tls => tls::run(bench),
        }
    }

    /// About how long it takes beside the others.
    fn weight(self) -> usize {
        match self {
            Self::Echo => 10,
            Self::Chat | Self::Shared | Self::Tls => 4,
            Self::Bulk | Self::Fair | Self::Idle => 2,
            Self::Churn | Self::Start => 1,
        }
    }
}
