//! Alternating rounds, and what is made of them.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::servers::Server;
use crate::{Bench, Result};

/// A server in a comparison, with what puts load on it.
pub(crate) struct Entrant<'a, L> {
    pub(crate) server: &'a Server,
    pub(crate) load: L,
    /// Why it had to give up, if it had to.
    pub(crate) failure: Option<String>,
    /// What it did in each round.
    samples: Vec<Option<Sample>>,
}

/// What a server did in its part of a round.
#[derive(Clone, Copy, Debug)]
struct Sample {
    cpu: Duration,
    elapsed: Duration,
    units: u64,
}

/// How often everybody has a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    /// Rounds of those that are central.
    pub(crate) central: usize,
    /// Rounds, spread over them, in which all take part.
    pub(crate) all: usize,
}

impl<'a, L> Entrant<'a, L> {
    pub(crate) fn new(server: &'a Server, load: L) -> Self {
        Self { server, load, failure: None, samples: Vec::new() }
    }
}

/// Lets all take their turn, one after another, round by round, so that a machine that drifts touches all alike. Each
/// round begins with another one, so that nobody always comes after the same number of others.
/// `work` puts load on a server that is idle, returns when it is idle again, and says how many units (messages, bytes)
/// it has done in between; `warm_up` does a little of the same before that.
///
/// If one that is central fails, all does. Another one is left out from then on: it is not this package's fault.
pub(crate) fn alternate<L>(
    bench: &Bench,
    what: &str,
    rounds: Rounds,
    entrants: &mut [Entrant<'_, L>],
    mut warm_up: impl FnMut(&mut L) -> Result<u64>,
    mut work: impl FnMut(&mut L) -> Result<u64>,
) -> Result<()> {
    let stride = (rounds.central / rounds.all.max(1)).max(1);
    for round in 0..rounds.central {
        bench.progress.show(&format!("{what}, round {} of {}", round + 1, rounds.central));
        for place in 0..entrants.len() {
            let entrant = &mut entrants[(round + place) % entrants.len()];
            let is_asked = entrant.server.is_central || (round % stride == 0 && round / stride < rounds.all);
            let sample = match is_asked && entrant.failure.is_none() {
                true => entrant.take_turn(&mut warm_up, &mut work),
                false => Ok(None),
            };
            entrant.samples.push(sample.map_err(|error| format!("{}: {error}", entrant.server.name))?);
        }
    }
    Ok(())
}

impl<L> Entrant<'_, L> {
    fn take_turn(
        &mut self,
        warm_up: &mut impl FnMut(&mut L) -> Result<u64>,
        work: &mut impl FnMut(&mut L) -> Result<u64>,
    ) -> Result<Option<Sample>> {
        match warm_up(&mut self.load).and_then(|_| self.measure(work)) {
            Err(error) if !self.server.is_central => {
                self.failure = Some(error.to_string());
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }

    fn measure(&mut self, work: &mut impl FnMut(&mut L) -> Result<u64>) -> Result<Sample> {
        let cpu = self.server.cpu_time()?;
        let begin = Instant::now();
        let units = work(&mut self.load)?;
        let elapsed = begin.elapsed();
        let cpu = self.server.cpu_time()?.saturating_sub(cpu);
        Ok(Sample { cpu, elapsed, units })
    }
}

/// The figures of one server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) rounds: usize,
    /// Processor time per unit in nanoseconds.
    pub(crate) cpu_ns: Spread,
    /// The same divided by that of the reference in the same round.
    pub(crate) ratio: Spread,
    pub(crate) units_per_second: Spread,
}

/// The figures of all, compared to the entrant with the index `reference`, which must be central. Those who had to give
/// up have none.
pub(crate) fn figures<L>(entrants: &[Entrant<'_, L>], reference: usize) -> Vec<Option<Figures>> {
    let reference: Vec<f64> = entrants[reference].samples.iter().flatten().map(Sample::cpu_ns).collect();
    entrants.iter().map(|entrant| entrant.figures(&reference)).collect()
}

impl<L> Entrant<'_, L> {
    fn figures(&self, reference: &[f64]) -> Option<Figures> {
        let samples = self.samples.iter().zip(reference);
        let samples: Vec<(Sample, f64)> = samples.filter_map(|(sample, other)| Some(((*sample)?, *other))).collect();
        if samples.is_empty() || self.failure.is_some() {
            return None;
        }
        Some(Figures {
            rounds: samples.len(),
            cpu_ns: Spread::of(samples.iter().map(|(sample, _)| sample.cpu_ns())),
            ratio: Spread::of(samples.iter().map(|(sample, other)| sample.cpu_ns() / other)),
            units_per_second: Spread::of(samples.iter().map(|(sample, _)| sample.units_per_second())),
        })
    }
}

impl Sample {
    fn cpu_ns(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.units.max(1) as f64
    }

    fn units_per_second(&self) -> f64 {
        self.units as f64 / self.elapsed.as_secs_f64()
    }
}

/// The median of some rounds, and the quartiles: half of the rounds were between them.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) lower: f64,
    pub(crate) upper: f64,
}

impl Spread {
    /// Of at least one value; without any all is zero.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        Self { median: quantile(&values, 0.5), lower: quantile(&values, 0.25), upper: quantile(&values, 0.75) }
    }

    /// Half the distance of the quartiles.
    pub(crate) fn half_width(&self) -> f64 {
        (self.upper - self.lower) / 2.0
    }
}

/// The value below which a share of the sorted values is, between two neighbours in proportion.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * sorted.len().saturating_sub(1) as f64;
    let below = position as usize;
    match sorted.get(below..) {
        Some([low, high, ..]) => low + (high - low) * position.fract(),
        Some([only]) => *only,
        _ => 0.0,
    }
}
