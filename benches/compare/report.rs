//! What was measured, as it is written to the files of results.

use std::fs;
use std::path::Path;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Result;
use crate::rounds::{Figures, Spread};
use crate::targets::Verdict;

/// All that one run has measured.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// Whether it was a quick run, whose figures are rough.
    pub(crate) quick: bool,
    pub(crate) cells: Vec<Cell>,
    pub(crate) targets: Vec<Verdict>,
    /// Programs that were not there, and why.
    pub(crate) missing: Vec<Missing>,
}

/// Where and when it was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) date: String,
    pub(crate) version: &'static str,
}

/// What one server did in one situation. What was not measured is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Cell {
    pub(crate) scenario: &'static str,
    /// The situation, for people: `50 × 64 B`.
    pub(crate) what: String,
    pub(crate) server: &'static str,
    /// Connections, streams, or receivers.
    pub(crate) connections: usize,
    /// Bytes of a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<usize>,
    /// How many messages of one connection are on their way at the same time, in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) depth: Option<usize>,
    /// How many messages a second were sent, in an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offered_per_second: Option<u64>,
    /// What the figures count: messages, bytes, connections, deliveries.
    pub(crate) unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    pub(crate) figures: Option<Figures>,
    /// In the room: the processor time divided by that of redis in the same round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio_to_redis: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_us: Option<Latency>,
    /// For what part of the messages there was a line in the log, where each was to have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) logged_share: Option<f64>,
    /// Bytes of memory for each connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<MemoryPerConnection>,
    /// How long the whole took: to start, or to connect all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) took_ms: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system_calls_per_message: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) binary_bytes: Option<u64>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) left_out: Option<String>,
}

/// How long messages took, in microseconds: in one round, or in the median of some.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct MemoryPerConnection {
    pub(crate) resident: Spread,
    pub(crate) own: Spread,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Missing {
    pub(crate) name: &'static str,
    pub(crate) why: String,
}

/// A size as people write it.
pub(crate) fn bytes(count: usize) -> String {
    match count {
        _ if count >= 1 << 20 && count.is_multiple_of(1 << 20) => format!("{} MiB", count >> 20),
        _ if count >= 1 << 10 && count.is_multiple_of(1 << 10) => format!("{} KiB", count >> 10),
        _ => format!("{count} B"),
    }
}

impl Latency {
    /// Of a histogram of nanoseconds.
    pub(crate) fn of(times: &Histogram<u64>) -> Self {
        let within = |share: f64| times.value_at_quantile(share) as f64 / 1e3;
        Self {
            p50: within(0.5),
            p90: within(0.9),
            p99: within(0.99),
            p99_9: within(0.999),
            max: times.max() as f64 / 1e3,
        }
    }

    /// The median of each figure. (Of all messages of all rounds together, those would be the slowest during which
    /// the machine itself stood still for a moment.)
    pub(crate) fn median(rounds: &[Self]) -> Self {
        let median = |figure: fn(&Self) -> f64| Spread::of(rounds.iter().map(figure)).median;
        Self {
            p50: median(|round| round.p50),
            p90: median(|round| round.p90),
            p99: median(|round| round.p99),
            p99_9: median(|round| round.p99_9),
            max: median(|round| round.max),
        }
    }
}

impl Machine {
    /// Looks before any thread is pinned, so that all cores count.
    pub(crate) fn look() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
        Self {
            processor: model.map_or("unknown", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            date: chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

impl Results {
    /// Writes a file for each scenario that was run, with its cells and the targets for it.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        #[derive(Serialize)]
        struct File<'a> {
            machine: &'a Machine,
            quick: bool,
            missing: &'a [Missing],
            targets: Vec<&'a Verdict>,
            cells: &'a [Cell],
        }
        fs::create_dir_all(folder)?;
        for cells in self.cells.chunk_by(|one, next| one.scenario == next.scenario) {
            let scenario = cells[0].scenario;
            let targets = self.targets.iter().filter(|target| target.scenario == scenario).collect();
            let file = File { machine: &self.machine, quick: self.quick, missing: &self.missing, targets, cells };
            fs::write(folder.join(format!("{scenario}.json")), serde_json::to_string_pretty(&file)? + "\n")?;
        }
        Ok(())
    }
}
