//! What a person sees on standard error while waiting. Nothing is shown if that is not a terminal.

use std::fs::File;
use std::io::{self, IsTerminal, Seek, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::tcgetwinsize;

use super::Progress;

/// How long something may take before a person is told what it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the progress is drawn.
const INTERVAL: Duration = Duration::from_millis(100);

/// The columns that the progress takes with a bar of a useful length. Narrower terminals show no bar.
const BAR_COLUMNS: u16 = 100;

/// Does `work`, and shows `notice` if that takes long.
pub(super) fn announce<T>(notice: &str, work: impl FnOnce() -> T) -> T {
    let show = |is_done: &Receiver<()>| {
        if is_done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            _ = writeln!(io::stderr(), "{notice}");
        }
    };
    beside(io::stderr().is_terminal(), show, work)
}

/// Does `work`, and shows `progress` from when that takes long until it is done, if `is_wanted`.
pub(super) fn show_during<T>(is_wanted: bool, progress: &Progress, work: impl FnOnce() -> T) -> T {
    // Asked for before anything is read.
    let length = input_length();
    beside(is_wanted && io::stderr().is_terminal(), |is_done| show(progress, length, is_done), work)
}

/// Does `work`, and beside it, if `is_shown`, lets another thread `show` something until the work is done.
fn beside<T>(is_shown: bool, show: impl FnOnce(&Receiver<()>) + Send, work: impl FnOnce() -> T) -> T {
    if !is_shown {
        return work();
    }
    thread::scope(|scope| {
        let (done, is_done) = mpsc::channel();
        // Without the thread there is only nothing to see.
        _ = thread::Builder::new().spawn_scoped(scope, move || show(&is_done));
        let result = work();
        drop(done);
        result
    })
}

fn show(progress: &Progress, length: Option<u64>, is_done: &Receiver<()>) {
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden());
    while is_done.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        bar.set_position(progress.received());
        bar.set_style(style(length.is_some()));
        bar.set_message(describe(&bar, progress));
        bar.tick();
        if bar.is_hidden() && bar.elapsed() >= PATIENCE {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
    bar.finish_and_clear();
}

/// `wide_msg` cuts the text off where the line ends: a line that wraps would not be erased.
fn style(has_length: bool) -> ProgressStyle {
    let columns = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
    let template = if has_length && columns >= BAR_COLUMNS { "{msg} [{wide_bar}]" } else { "{wide_msg}" };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

fn describe(bar: &ProgressBar, progress: &Progress) -> String {
    let [sent, received, speed] = [progress.sent(), progress.received(), bar.per_sec() as u64].map(HumanBytes);
    let Some(length) = bar.length() else { return format!("{received} back, {sent} sent, {speed}/s") };
    let percent = 100 * received.0 / length.max(1);
    let text = format!("{percent}%, {received} of {} back, {sent} sent, {speed}/s", HumanBytes(length));
    match bar.eta() {
        Duration::ZERO => text,
        left => format!("{text}, {} left", HumanDuration(left)),
    }
}

/// What is left of standard input if that is a regular file, in bytes.
fn input_length() -> Option<u64> {
    let mut file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let metadata = file.metadata().ok().filter(|metadata| metadata.is_file() && metadata.len() > 0)?;
    Some(metadata.len().saturating_sub(file.stream_position().ok()?))
}
