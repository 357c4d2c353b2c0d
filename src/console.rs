//! Log lines to standard output, without ever waiting for it.
//!
//! Whoever reads the log may stall (a pipe that nobody reads, a terminal held with Ctrl-S, a full journal) or
//! go away; neither may delay a connection. Lines wait in a bounded buffer; when it is full whole lines are
//! dropped, counted, and the count is told when the log flows again.

mod sink;

use std::fmt::{self, Write as _};
use std::io::{self, ErrorKind};
use std::mem;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Local};

use crate::config::{Config, Log};
use crate::escape::{Style, escape, incomplete_tail};
use crate::hub::Event;
use sink::Sink;

/// How many bytes of lines wait for a reader that stalls. A single line that is longer waits too.
pub const MAX_WAITING: usize = 4 << 20;

/// After so long a write is tried again that failed for a reason which may pass, such as a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// Memory that an empty buffer keeps, in bytes: enough for the lines of a busy turn.
const KEPT_CAPACITY: usize = 64 << 10;

/// The server's voice on standard output.
#[derive(Debug)]
pub struct Console {
    sink: Sink,
    /// The least important lines that are printed.
    log: Log,
    log_max: usize,
    /// Whole lines that wait to be written; of the first, `written` bytes have been.
    waiting: Vec<u8>,
    written: usize,
    dropped: u64,
    /// When to try again, after a write that failed.
    retry_at: Option<Instant>,
    /// The line being composed.
    line: String,
    stamp: Stamp,
}

/// The time of day as the lines show it, formatted at most once a second and read at most once a turn.
#[derive(Debug, Default)]
struct Stamp {
    text: String,
    second: Option<u64>,
    is_fresh: bool,
}

impl Console {
    /// A console on standard output, which prints what `config` asks for.
    pub fn new(config: &Config) -> Self {
        Self {
            sink: if config.log == Log::Off { Sink::Closed } else { Sink::stdout() },
            log: config.log,
            log_max: config.log_max,
            waiting: Vec::new(),
            written: 0,
            dropped: 0,
            retry_at: None,
            line: String::new(),
            stamp: Stamp::default(),
        }
    }

    /// What to register for writable events, so that [`flush`](Self::flush) is called when a stalled reader
    /// reads again. `None` where standard output never stalls, or cannot be asked.
    pub fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.sink.pollable()
    }

    /// When [`flush`](Self::flush) has to be called though no event comes.
    pub fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// `--- Starting server on port 8888 at 12:43:08 29/01/2018 ---`
    pub fn started(&mut self, port: u16) {
        self.mark("Starting", port);
    }

    /// `--- Stopping server on port 8888 at 12:43:39 29/01/2018 ---`
    ///
    /// On a terminal `is_interrupted` says that it has printed a `^C`, which gets a line of its own.
    pub fn stopped(&mut self, port: u16, is_interrupted: bool) {
        self.tell_dropped();
        if is_interrupted && self.sink.is_terminal() {
            self.line.push('\n');
        }
        self.mark("Stopping", port);
    }

    /// `[12:43:09 29/01/2018] Opened: 127.0.0.1:40112`
    pub fn opened(&mut self, peer: SocketAddr) {
        if self.log >= Log::Verbose {
            self.entry(format_args!("Opened: {peer}"));
        }
    }

    /// The line of an event, if it has one:
    /// `[12:43:10 29/01/2018] Echoed: 'Hello, world!'`,
    /// `[12:43:10 29/01/2018] <ann> hello` or
    /// `[12:43:10 29/01/2018] Closed: 127.0.0.1:40112, 13 bytes in, 13 bytes out: the client finished`
    pub fn event(&mut self, event: &Event<'_>) {
        match *event {
            Event::Message { text, length, .. } if self.log >= Log::Messages => self.echoed(text, length),
            Event::Room { line } if self.log >= Log::Messages => self.entry(format_args!("{line}")),
            Event::Closed { peer, close, received, sent } if self.log >= Log::Verbose => {
                self.entry(format_args!("Closed: {peer}, {received} bytes in, {sent} bytes out: {close}"));
            }
            _ => {}
        }
    }

    fn echoed(&mut self, text: &[u8], length: u64) {
        self.begin_entry();
        self.line.push_str("Echoed: '");
        let is_whole = text.len() as u64 == length;
        let unended = without_line_ending(text);
        if is_whole && unended.len() <= self.log_max {
            escape(&mut self.line, unended, Style::Log);
            self.line.push('\'');
        } else {
            let shown = &text[..text.len().min(self.log_max)];
            let shown = &shown[..shown.len() - incomplete_tail(shown)];
            escape(&mut self.line, shown, Style::Log);
            _ = write!(self.line, "…' ({} of {length} bytes)", shown.len());
        }
        self.end_line();
    }

    fn mark(&mut self, what: &str, port: u16) {
        if self.log >= Log::Quiet {
            let time = self.stamp.now();
            _ = write!(self.line, "--- {what} server on port {port} at {time} ---");
            self.end_line();
        }
    }

    fn entry(&mut self, text: fmt::Arguments<'_>) {
        self.begin_entry();
        _ = self.line.write_fmt(text);
        self.end_line();
    }

    fn begin_entry(&mut self) {
        self.line.push('[');
        self.line.push_str(self.stamp.now());
        self.line.push_str("] ");
    }

    /// Queues the composed line. Once lines have been dropped, all are until the buffer is half empty, so
    /// that a slow reader finds one gap and its size instead of many.
    fn end_line(&mut self) {
        self.line.push('\n');
        let waiting = self.waiting.len() - self.written;
        let limit = if self.dropped > 0 { MAX_WAITING / 2 } else { MAX_WAITING };
        if matches!(self.sink, Sink::Closed) {
            // Nobody will ever read it.
        } else if waiting > 0 && waiting + self.line.len() > limit {
            self.dropped += 1;
        } else {
            let line = mem::take(&mut self.line);
            self.tell_dropped();
            self.waiting.extend_from_slice(line.as_bytes());
            self.line = line;
        }
        self.line.clear();
        self.line.shrink_to(KEPT_CAPACITY);
    }

    /// `[12:43:12 29/01/2018] 123 log lines dropped`
    fn tell_dropped(&mut self) {
        let dropped = mem::take(&mut self.dropped);
        if dropped > 0 {
            let (time, s) = (self.stamp.now(), if dropped == 1 { "" } else { "s" });
            self.waiting.extend_from_slice(format!("[{time}] {dropped} log line{s} dropped\n").as_bytes());
        }
    }

    /// Writes what standard output takes now of the lines that wait, and never waits for it. To be called
    /// once a turn, and when [`pollable`](Self::pollable) or [`deadline`](Self::deadline) say so.
    ///
    /// A reader that is gone ends the logging. Other errors pass, perhaps: the lines are kept for another try.
    pub fn flush(&mut self, now: Instant) {
        self.stamp.is_fresh = false;
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        while self.written < self.waiting.len() {
            match self.sink.write(&self.waiting[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.sink.pollable().is_none() {
                        self.retry_at = Some(now + RETRY);
                    }
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
        self.forget_written();
    }

    fn forget_written(&mut self) {
        let left = self.waiting.len() - self.written;
        if self.dropped > 0 && left <= MAX_WAITING / 2 {
            self.tell_dropped();
        }
        // Moving what is left only when it is the smaller half keeps the cost linear.
        if self.written >= left {
            self.waiting.drain(..mem::take(&mut self.written));
        }
        if self.waiting.is_empty() {
            self.waiting.shrink_to(KEPT_CAPACITY);
        }
    }

    /// Waits until all lines are written or standard output fails, but not beyond `deadline`: for the last
    /// lines of a program.
    pub fn finish(&mut self, deadline: Instant) {
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

impl Stamp {
    fn now(&mut self) -> &str {
        if !mem::replace(&mut self.is_fresh, true) {
            let now = SystemTime::now();
            let second = now.duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_secs()).ok();
            if second.is_none() || second != self.second {
                self.second = second;
                self.text = DateTime::<Local>::from(now).format("%H:%M:%S %d/%m/%Y").to_string();
            }
        }
        &self.text
    }
}

/// Without the one LF or CRLF at its end.
fn without_line_ending(text: &[u8]) -> &[u8] {
    match text.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None => text,
    }
}

/// Whether nobody will read standard output any more.
fn is_final(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::PIPE | Errno::BADF | Errno::IO | Errno::NXIO | Errno::CONNRESET | Errno::NOTCONN))
}
