//! How far a run has come, for the person who waits for it.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on a terminal; elsewhere a line for each scenario.
pub(crate) struct Progress {
    bar: ProgressBar,
    begun: Cell<Instant>,
}

impl Progress {
    pub(crate) fn new(scenarios: usize) -> Self {
        let bar = ProgressBar::new(scenarios as u64);
        let style = ProgressStyle::with_template("{elapsed:>4} {bar:20} {pos}/{len} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_secs(1));
        Self { bar, begun: Cell::new(Instant::now()) }
    }

    pub(crate) fn begin(&self, scenario: &str) {
        self.begun.set(Instant::now());
        self.show(scenario);
    }

    /// Says what is being done.
    pub(crate) fn show(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    pub(crate) fn end(&self, scenario: &str) {
        self.bar.inc(1);
        if self.bar.is_hidden() {
            eprintln!("{scenario}: measured in {:.0?}", self.begun.get().elapsed());
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
