//! How far a run has come, for the person who waits for it.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Into how many steps a unit of weight is divided.
const STEPS: usize = 100;

/// A bar on a terminal; elsewhere a line for each scenario.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// When the scenario began, where on the bar, and how much of it is its own.
    begun: Cell<Instant>,
    base: Cell<usize>,
    weight: Cell<usize>,
}

impl Progress {
    /// The weights of the scenarios sum up to this.
    pub(crate) fn new(total_weight: usize) -> Self {
        let bar = ProgressBar::new((total_weight * STEPS) as u64);
        let style = ProgressStyle::with_template("{elapsed:>4} {bar:20} {percent:>3} % {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_secs(1));
        Self { bar, begun: Cell::new(Instant::now()), base: Cell::new(0), weight: Cell::new(0) }
    }

    /// A scenario begins that takes about so much of the whole.
    pub(crate) fn begin(&self, scenario: &str, weight: usize) {
        self.begun.set(Instant::now());
        self.weight.set(weight);
        self.show(scenario);
    }

    /// So many parts of the scenario are done, out of so many.
    pub(crate) fn part(&self, done: usize, parts: usize) {
        self.bar.set_position((self.base.get() + self.weight.get() * STEPS * done / parts) as u64);
    }

    /// Says what is being done.
    pub(crate) fn show(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    pub(crate) fn end(&self, scenario: &str) {
        self.part(1, 1);
        self.base.set(self.base.get() + self.weight.get() * STEPS);
        if self.bar.is_hidden() {
            eprintln!("{scenario}: measured in {:.0?}", self.begun.get().elapsed());
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
