//! The progress of a long transfer, on standard error.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::Progress;

/// How long a transfer may take before it is worth a meter.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the meter is drawn.
const INTERVAL: Duration = Duration::from_millis(100);

/// Does `work`, and if that takes long shows `progress` until it is done. Without `is_watched`, does `work` alone.
pub(super) fn show_during<T>(is_watched: bool, progress: &Progress, work: impl FnOnce() -> T) -> T {
    if !is_watched {
        return work();
    }
    thread::scope(|scope| {
        let (done, is_done) = mpsc::channel::<()>();
        scope.spawn(move || show(progress, &is_done));
        let result = work();
        drop(done);
        result
    })
}

fn show(progress: &Progress, is_done: &Receiver<()>) {
    let mut wait = PATIENCE;
    let mut bar = None;
    while is_done.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let bar = bar.get_or_insert_with(new_bar);
        bar.set_message(HumanBytes(progress.sent()).to_string());
        bar.set_position(progress.received());
        bar.tick();
        wait = INTERVAL;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

fn new_bar() -> ProgressBar {
    let total = input_length();
    let template = match total {
        Some(_) => "{msg} sent, {bytes} of {total_bytes} back ({percent}%), {bytes_per_sec} [{wide_bar}] {eta}",
        None => "{msg} sent, {bytes} back, {bytes_per_sec}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is sound").progress_chars("=> ");
    ProgressBar::new(total.unwrap_or(0)).with_elapsed(PATIENCE).with_style(style)
}

/// What is left of standard input where that is a regular file, in bytes.
fn input_length() -> Option<u64> {
    let mut file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let metadata = file.metadata().ok().filter(|metadata| metadata.is_file() && metadata.len() > 0)?;
    Some(metadata.len().saturating_sub(file.stream_position().ok()?))
}
