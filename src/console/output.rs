//! The lines that wait for standard output.

use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::sink::Sink;

/// How many bytes of lines wait for a reader that stalls. A single line that is longer waits too.
pub(super) const MAX_WAITING: usize = 4 << 20;

/// After so long a write is tried again that failed for a reason which may pass, such as a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// Lines that come within this time after others have been written wait for its end and go out together, because
/// every write to a pipe wakes its reader: with a write in each turn that was more than half of what logging cost.
const GATHERING: Duration = Duration::from_millis(5);

/// So many bytes of lines do not wait for more: what a pipe holds by default (pipe(7)).
const ENOUGH: usize = 64 << 10;

/// Memory that an empty buffer keeps, in bytes: enough for the lines of a busy turn.
const KEPT_CAPACITY: usize = 64 << 10;

/// A bounded buffer of whole lines in front of a [`Sink`].
#[derive(Debug)]
pub(super) struct Output {
    sink: Sink,
    /// Whole lines; of the first, `written` bytes are out already.
    waiting: Vec<u8>,
    written: usize,
    /// How many lines were dropped since the last time this was told.
    dropped: u64,
    dropped_in_all: u64,
    /// When to try again, after a write that failed.
    retry_at: Option<Instant>,
    /// When it was last flushed.
    flushed_at: Option<Instant>,
    /// Whether an event will say when a reader that has stalled reads on.
    is_watched: bool,
    /// Whether the reader has stalled, so that such an event is to come.
    is_stalled: bool,
}

impl Output {
    pub(super) fn new(sink: Sink) -> Self {
        Self {
            sink,
            waiting: Vec::new(),
            written: 0,
            dropped: 0,
            dropped_in_all: 0,
            retry_at: None,
            flushed_at: None,
            is_watched: false,
            is_stalled: false,
        }
    }

    pub(super) fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.sink.pollable()
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.sink.is_terminal()
    }

    /// When a [`flush`](Self::flush) is due, if one is.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.retry_at {
            Some(at) => Some(at),
            None if self.is_stalled || self.waiting.is_empty() => None,
            None => self.flushed_at.map(|at| at + GATHERING),
        }
    }

    /// Whether what waits need not wait for more.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let is_enough = !self.is_stalled && self.waiting.len() - self.written >= ENOUGH;
        is_enough || self.flushed_at.is_none_or(|at| at + GATHERING <= now)
    }

    pub(super) fn set_watched(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
    }

    /// The reader that has stalled may have read on.
    pub(super) fn on_ready(&mut self) {
        self.is_stalled = false;
    }

    pub(super) fn dropped_in_all(&self) -> u64 {
        self.dropped_in_all
    }

    /// Whether there is room for a line of `len` bytes; otherwise it counts as dropped. Once a line has been
    /// dropped, all are until that [is told](Self::take_dropped), so that a slow reader finds one gap and its
    /// size instead of many.
    pub(super) fn has_room_for(&mut self, len: usize) -> bool {
        if matches!(self.sink, Sink::Closed) {
            return false;
        }
        let waiting = self.waiting.len() - self.written;
        // What only waits for more lines is as good as written.
        let flows = waiting < ENOUGH && !self.is_stalled && self.retry_at.is_none();
        let has_room = self.dropped == 0 && (flows || waiting + len <= MAX_WAITING);
        if !has_room {
            self.dropped += 1;
            self.dropped_in_all += 1;
        }
        has_room
    }

    /// Whether there is room again for many lines.
    pub(super) fn flows(&self) -> bool {
        self.waiting.len() - self.written <= MAX_WAITING / 2
    }

    /// How many lines were dropped since this was last asked, if any.
    pub(super) fn take_dropped(&mut self) -> Option<u64> {
        Some(mem::take(&mut self.dropped)).filter(|lines| *lines > 0)
    }

    /// Appends a line, which ends in a newline.
    pub(super) fn push(&mut self, line: &str) {
        if !matches!(self.sink, Sink::Closed) {
            self.waiting.extend_from_slice(line.as_bytes());
        }
    }

    /// Writes what standard output takes now, and never waits for it. A reader that is gone ends the logging.
    /// Other errors pass, perhaps: the lines are kept for another try.
    pub(super) fn flush(&mut self, now: Instant) {
        if self.written == self.waiting.len() || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        self.is_stalled = false;
        self.flushed_at = Some(now);
        while self.written < self.waiting.len() {
            match self.sink.write(&self.waiting[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.is_watched => {
                    self.is_stalled = true;
                    break;
                }
                Err(error) if is_final(&error) => {
                    self.sink = Sink::Closed;
                    self.written = self.waiting.len();
                }
                Err(_) => {
                    self.retry_at = Some(now + RETRY);
                    break;
                }
            }
        }
        // Moving what is left only when it is the smaller half keeps the cost linear.
        if self.written >= self.waiting.len() - self.written {
            self.waiting.drain(..mem::take(&mut self.written));
            self.waiting.shrink_to(KEPT_CAPACITY);
        }
    }

    /// Waits until all lines are written or standard output fails, but not beyond `deadline`.
    pub(super) fn finish(&mut self, deadline: Instant) {
        loop {
            let now = Instant::now();
            self.flush(now);
            if self.waiting.is_empty() || self.retry_at.is_some() || now >= deadline {
                return;
            }
            self.sink.wait(deadline - now);
        }
    }
}

/// Whether nobody will read standard output any more.
fn is_final(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::PIPE | Errno::BADF | Errno::IO | Errno::NXIO | Errno::CONNRESET | Errno::NOTCONN))
}
