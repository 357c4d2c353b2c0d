//! The targets, and whether they are met.

use serde::Serialize;

use crate::programs::{AGAIN, DAEMON, FLOOR, LOGGING, PROXIED, TOKIO};
use crate::report::{Cell, MemoryPerConnection};
use crate::shared;
use crate::table::Grid;
use crate::tls::TOKIO_RUSTLS;

/// One target, and what was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    #[serde(skip)]
    pub(crate) scenario: &'static str,
    pub(crate) what: String,
    pub(crate) target: String,
    pub(crate) measured: String,
    /// By what part the floor differed from itself: a target counts as met within it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) noise: Option<f64>,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Met,
    /// More than the target, but by less than the noise.
    MetWithinNoise,
    Missed,
    /// More than the target, in such a noise that this says nothing.
    TooNoisy,
}

/// A machine that differs from itself by more than this cannot tell whether a target is met within the noise.
const MOST_NOISE: f64 = 0.06;

/// All for which there are figures.
pub(crate) fn judge(cells: &[Cell]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for situation in cells.chunk_by(|one, next| one.scenario == next.scenario && one.what == next.what) {
        let situation = Situation { cells: situation };
        match situation.cells[0].scenario {
            "echo" => situation.echo(&mut verdicts),
            "bulk" => situation.cost(1.10, &mut verdicts),
            "fair" => situation.fairness(&mut verdicts),
            "churn" => situation.churn(&mut verdicts),
            "idle" => situation.idleness(&mut verdicts),
            "chat" => situation.chat(&mut verdicts),
            "shared" => situation.shared(&mut verdicts),
            "start" => situation.start(&mut verdicts),
            "tls" => situation.tls(&mut verdicts),
            _ => {}
        }
    }
    verdicts
}

pub(crate) fn print(verdicts: &[Verdict]) {
    if verdicts.is_empty() {
        return;
    }
    let mut grid = Grid::new(["target", "at most", "measured", "noise", ""]);
    for verdict in verdicts {
        let noise = verdict.noise.map_or(String::new(), |noise| format!("±{:.0} %", noise * 100.0));
        let outcome = match verdict.outcome {
            Outcome::Met => "met",
            Outcome::MetWithinNoise => "met within the noise",
            Outcome::Missed => "MISSED",
            Outcome::TooNoisy => "too noisy to say",
        };
        grid.add(vec![
            verdict.what.clone(),
            verdict.target.clone(),
            verdict.measured.clone(),
            noise,
            outcome.to_owned(),
        ]);
    }
    println!("\n{grid}");
}

/// What all servers did under the same conditions.
#[derive(Clone, Copy)]
struct Situation<'a> {
    cells: &'a [Cell],
}

impl<'a> Situation<'a> {
    fn echo(self, verdicts: &mut Vec<Verdict>) {
        let Cell { connections, size, depth, .. } = self.cells[0];
        if let Some(calls) = self.cell(DAEMON).and_then(|cell| cell.system_calls_per_message) {
            self.add("per message", (2.1, calls), None, verdicts);
        }
        if connections == 1 || depth != Some(1) {
            return;
        }
        match size {
            Some(64) => {
                self.cost(1.03, verdicts);
                self.beside_floor(LOGGING, 1.10, verdicts);
                if let Some((logging, tokio)) = self.cost_of(LOGGING).zip(self.cost_of(TOKIO)) {
                    self.add("CPU when logging, × tokio", (1.0, logging / tokio), self.noise(), verdicts);
                }
            }
            Some(0x4000) => self.cost(1.03, verdicts),
            _ => {}
        }
    }

    /// So much beside the floor, and less than all others.
    fn cost(self, limit: f64, verdicts: &mut Vec<Verdict>) {
        self.beside_floor(DAEMON, limit, verdicts);
        if let Some((ours, (peer, best))) = self.cost_of(DAEMON).zip(self.best_peer(cost)) {
            self.add(&format!("CPU × the best peer's, {peer}"), (1.0, ours / best), self.noise(), verdicts);
        }
    }

    fn beside_floor(self, server: &str, limit: f64, verdicts: &mut Vec<Verdict>) {
        let Some(cell) = self.cell(server) else { return };
        let Some(figures) = &cell.figures else { return };
        let what = if server == LOGGING { "CPU when logging, × floor" } else { "CPU × floor" };
        self.add(what, (limit, figures.ratio.median), self.noise(), verdicts);
        if let (Some(share), Some(verdict)) = (cell.logged_share.filter(|share| *share < 1.0), verdicts.last_mut()) {
            verdict.outcome = Outcome::Missed;
            verdict.measured += &format!(", {:.0} % logged", share * 100.0);
        }
    }

    fn churn(self, verdicts: &mut Vec<Verdict>) {
        self.beside_floor(DAEMON, 1.05, verdicts);
        if let Some((with, without)) = self.cost_of(PROXIED).zip(self.cost_of(DAEMON)) {
            self.add("CPU with a PROXY header, × without", (1.03, with / without), self.noise(), verdicts);
        }
    }

    fn fairness(self, verdicts: &mut Vec<Verdict>) {
        let p99 = |cell: &Cell| cell.latency_us.map(|latency| latency.p99);
        let of = |server| self.cell(server).and_then(p99);
        let Some(ours) = of(DAEMON) else { return };
        let noise = of(FLOOR).zip(of(AGAIN)).map(|(floor, again)| (again / floor - 1.0).abs());
        if let Some(tokio) = of(TOKIO) {
            self.add("p99 × tokio's", (0.25, ours / tokio), noise, verdicts);
        }
        if let Some((peer, best)) = self.best_peer(p99) {
            self.add(&format!("p99 × the best peer's, {peer}"), (1.0, ours / best), noise, verdicts);
        }
    }

    fn idleness(self, verdicts: &mut Vec<Verdict>) {
        let own = |memory: &MemoryPerConnection| memory.own.median;
        if let Some(memory) = self.cell(DAEMON).and_then(|cell| cell.memory.as_ref()) {
            self.add("bytes each", (160.0, own(memory)), None, verdicts);
        }
        let took = |server| Some(self.cell(server)?.took_ms?.median);
        if let (Some(ours), Some(floor), Some(again)) = (took(DAEMON), took(FLOOR), took(AGAIN)) {
            self.add("time to connect × floor", (1.0, ours / floor), Some((again / floor - 1.0).abs()), verdicts);
        }
    }

    fn chat(self, verdicts: &mut Vec<Verdict>) {
        let Some(ratio) = self.cell(DAEMON).and_then(|cell| cell.ratio_to_redis) else { return };
        match (self.cells[0].depth, self.cells[0].connections) {
            (Some(1), _) => self.add("CPU × redis", (0.92, ratio.median), self.noise(), verdicts),
            (_, 100..) => self.add("CPU × redis", (0.35, ratio.median), self.noise(), verdicts),
            _ => {}
        }
    }

    fn shared(self, verdicts: &mut Vec<Verdict>) {
        let noise = self.noise_of(shared::AGAIN);
        let Some(cell) = self.cell(shared::PAIR) else { return };
        if let (Some(ratio), Some(64), 500..) = (self.cost_of(shared::PAIR), cell.depth, cell.connections) {
            self.add("CPU × one server's", (1.15, ratio), noise, verdicts);
        }
        if let Some((ours, theirs)) = self.cost_of(shared::PAIR).zip(self.cost_of(shared::SOCKET_IO)) {
            self.add("CPU × socket.io's", (0.05, ours / theirs), noise, verdicts);
        }
        let median = |server| Some(self.cell(server)?.latency_us?.p50);
        if let Some((ours, alone)) = median(shared::PAIR).zip(median(DAEMON)) {
            self.add("median, µs more than one server's", (500.0, ours - alone), None, verdicts);
        }
        if let Some(figures) = cell.figures.as_ref().filter(|_| cell.unit == "line") {
            self.add("µs a line", (10.0, 1e6 / figures.units_per_second.median), None, verdicts);
        }
        if let Some(took) = cell.took_ms {
            self.add("ms to catch up", (1000.0, took.median), None, verdicts);
        }
    }

    fn start(self, verdicts: &mut Vec<Verdict>) {
        if let Some(took) = self.cell(DAEMON).and_then(|cell| cell.took_ms) {
            self.add("ms", (5.0, took.median), None, verdicts);
        }
    }

    fn tls(self, verdicts: &mut Vec<Verdict>) {
        self.cost(1.05, verdicts);
        let own = |server| Some(self.cell(server)?.memory.as_ref()?.own.median);
        if let (Some(ours), Some(floor), Some(tokio)) = (own(DAEMON), own(FLOOR), own(TOKIO_RUSTLS)) {
            self.add("bytes each beyond the floor", (256.0, ours - floor), None, verdicts);
            self.add("bytes each, × tokio-rustls", (1.0, ours / tokio), None, verdicts);
        }
    }

    fn add(self, what: &str, (limit, measured): (f64, f64), noise: Option<f64>, verdicts: &mut Vec<Verdict>) {
        let Cell { scenario, what: situation, .. } = &self.cells[0];
        let decimals = if limit < 100.0 { 2 } else { 0 };
        verdicts.push(Verdict {
            scenario,
            what: format!("{scenario}, {situation}: {what}"),
            target: format!("{limit:.decimals$}"),
            measured: format!("{measured:.decimals$}"),
            noise,
            outcome: match noise.unwrap_or(0.0) {
                _ if measured <= limit => Outcome::Met,
                noise if measured > limit * (1.0 + noise) => Outcome::Missed,
                ..=MOST_NOISE => Outcome::MetWithinNoise,
                _ => Outcome::TooNoisy,
            },
        });
    }

    fn cell(self, server: &str) -> Option<&'a Cell> {
        self.cells.iter().find(|cell| cell.server == server)
    }

    fn cost_of(self, server: &str) -> Option<f64> {
        cost(self.cell(server)?)
    }

    /// How far the quartiles of the floor beside itself are from 1: half of the rounds differed by less.
    fn noise(self) -> Option<f64> {
        self.noise_of(AGAIN)
    }

    /// The same where another server runs twice.
    fn noise_of(self, again: &str) -> Option<f64> {
        let ratio = self.cell(again)?.figures.as_ref()?.ratio;
        Some((ratio.lower - 1.0).abs().max((ratio.upper - 1.0).abs()))
    }

    /// The peer with the least of something.
    fn best_peer(self, value: impl Fn(&Cell) -> Option<f64>) -> Option<(&'static str, f64)> {
        let is_peer = |cell: &&Cell| !cell.server.starts_with(FLOOR) && !cell.server.starts_with(DAEMON);
        let values = self.cells.iter().filter(is_peer).filter_map(|cell| Some((cell.server, value(cell)?)));
        values.min_by(|one, other| one.1.total_cmp(&other.1))
    }
}

/// What a server costs beside the floor of the same rounds: so a machine that drifts does not count.
fn cost(cell: &Cell) -> Option<f64> {
    Some(cell.figures.as_ref()?.ratio.median)
}
