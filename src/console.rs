//! The log, on standard output, without ever waiting for it.
//!
//! Whoever reads the log may stall (a pipe that nobody reads, a terminal held with Ctrl-S, a full journal) or
//! go away; neither may delay a connection. Lines wait in a bounded buffer; when it is full whole lines are
//! dropped, counted, and the count is told when the log flows again.

mod output;
mod record;
mod sink;

use std::fmt;
use std::mem;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Local, SecondsFormat};
use serde::{Serialize, Serializer};

use crate::config::{Config, Log, LogFormat};
use crate::event::Event;
use crate::room::Notice;
use output::Output;
use record::{Record, Shown};
use sink::Sink;

/// Memory that is kept for composing lines, in bytes.
const KEPT_CAPACITY: usize = 64 << 10;

/// The server's voice on standard output.
#[derive(Debug)]
pub struct Console {
    output: Output,
    /// The least important lines that are printed.
    log: Log,
    log_max: usize,
    clock: Clock,
    /// The line being composed.
    line: String,
}

/// What a server has done, for its operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Connections there are now.
    pub connections: usize,
    /// Connections there have been, those of now included.
    pub connections_total: u64,
    /// Connections that were closed on arrival, because they may not connect.
    pub connections_refused: u64,
    /// Messages that were echoed, or lines that were relayed.
    pub messages: u64,
    /// Bytes that were taken in from clients.
    pub bytes_in: u64,
    /// Bytes that were handed to clients' sockets.
    pub bytes_out: u64,
    /// Bytes that are held for clients now.
    pub bytes_held: usize,
    /// Log lines that were dropped because nobody took them.
    pub lines_dropped: u64,
    /// How long the server has been running; serialized in whole seconds.
    #[serde(rename = "uptime_seconds", serialize_with = "whole_seconds")]
    pub uptime: Duration,
}

fn whole_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, connections_total, connections_refused, messages, .. } = self;
        let Self { bytes_in, bytes_out, bytes_held, lines_dropped, uptime, .. } = self;
        let uptime = humantime::format_duration(Duration::from_secs(uptime.as_secs()));
        write!(f, "Connections: {connections} now, {connections_total} in total, {connections_refused} refused; ")?;
        write!(f, "messages: {messages}; bytes: {bytes_in} in, {bytes_out} out, {bytes_held} held; ")?;
        write!(f, "log lines dropped: {lines_dropped}; uptime: {uptime}")
    }
}

impl Console {
    /// A console on standard output, which prints what `config` asks for.
    pub fn new(config: &Config) -> Self {
        Self {
            output: Output::new(if config.log == Log::Off { Sink::Closed } else { Sink::stdout() }),
            log: config.log,
            log_max: config.log_max,
            clock: Clock::new(config.log_format),
            line: String::new(),
        }
    }

    /// What to register for writable events, so that [`flush`](Self::flush) is called when a stalled reader
    /// reads again. `None` where standard output never stalls, or cannot be asked.
    pub fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.output.pollable()
    }

    /// When [`flush`](Self::flush) has to be called though no event comes.
    pub fn deadline(&self) -> Option<Instant> {
        self.output.deadline()
    }

    /// How many lines were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.output.dropped_in_all()
    }

    /// `--- Starting server on port 8888 at 12:43:08 29/01/2018 ---`
    pub fn started(&mut self, port: u16) {
        self.print(Log::Quiet, &Record::Started { port });
    }

    /// `--- Stopping server on port 8888 at 12:43:39 29/01/2018 ---`
    ///
    /// On a terminal `is_interrupted` says that it shows a `^C`, after which a new line is begun.
    pub fn stopped(&mut self, port: u16, is_interrupted: bool) {
        if is_interrupted && self.output.is_terminal() {
            self.output.push("\n");
        }
        // The last lines find room, however many wait.
        if let Some(lines) = self.output.take_dropped() {
            self.compose(&Record::Dropped { lines });
            self.output.push(&self.line);
        }
        if self.log >= Log::Quiet {
            self.compose(&Record::Stopped { port });
            self.output.push(&self.line);
        }
    }

    /// `[12:43:09 29/01/2018] Connections: 2 now, 17 in total, 0 refused; messages: 20; …`
    pub fn counters(&mut self, counters: &Counters) {
        self.print(Log::Quiet, &Record::Counters(counters));
    }

    /// The line of an event, if it has one:
    /// `[12:43:10 29/01/2018] Echoed: 'Hello, world!'`,
    /// `[12:43:10 29/01/2018] <ann> hello` or
    /// `[12:43:10 29/01/2018] Closed: 127.0.0.1:40112, 13 bytes in, 13 bytes out: the client finished`
    pub fn event(&mut self, event: &Event<'_>) {
        match *event {
            Event::Message { peer, text, length } if self.log >= Log::Messages => {
                let shown = Shown::new(text, length, self.log_max);
                self.print(Log::Messages, &Record::Echoed { peer, bytes: length, shown });
            }
            Event::Opened { peer } => self.print(Log::Verbose, &Record::Opened { peer }),
            Event::Refused { connections, last } => {
                self.print(Log::Quiet, &Record::Refused { connections, peer: last });
            }
            Event::Room { peer, notice } => {
                let line = notice.to_string();
                let message = &*line;
                let record = match notice {
                    Notice::Joined { .. } => Record::Joined { peer, message },
                    Notice::Renamed { .. } => Record::Renamed { peer, message },
                    Notice::Said { .. } => Record::Said { peer, message },
                    Notice::Left { .. } => Record::Left { peer, message },
                };
                self.print(Log::Messages, &record);
            }
            Event::Closed { peer, close, received, sent } if self.log >= Log::Verbose => {
                let reason = close.to_string();
                self.print(Log::Verbose, &Record::Closed { peer, bytes_in: received, bytes_out: sent, reason });
            }
            _ => {}
        }
    }

    /// Whether [`on_ready`](Self::on_ready) will be called when a stalled reader reads again.
    pub fn set_watched(&mut self, is_watched: bool) {
        self.output.set_watched(is_watched);
    }

    /// An event said that standard output takes more.
    pub fn on_ready(&mut self) {
        self.output.on_ready();
    }

    /// Writes what standard output takes now of the lines that wait, and never waits for it. To be called
    /// once a turn, and when [`pollable`](Self::pollable) or [`deadline`](Self::deadline) say so. Lines that
    /// come soon after others wait some milliseconds for more, unless the flush `is_urgent`.
    pub fn flush(&mut self, now: Instant, is_urgent: bool) {
        self.clock.is_fresh = false;
        if !is_urgent && !self.output.is_due(now) {
            return;
        }
        self.output.flush(now);
        if self.output.flows()
            && let Some(lines) = self.output.take_dropped()
        {
            self.print(Log::Quiet, &Record::Dropped { lines });
            self.output.flush(now);
        }
    }

    /// Waits until all lines are written or standard output fails, but not beyond `deadline`: for the last
    /// lines of a program.
    pub fn finish(&mut self, deadline: Instant) {
        self.output.finish(deadline);
    }

    fn print(&mut self, importance: Log, record: &Record<'_>) {
        if self.log >= importance {
            self.compose(record);
            if self.output.has_room_for(self.line.len()) {
                self.output.push(&self.line);
            }
        }
    }

    fn compose(&mut self, record: &Record<'_>) {
        self.line.clear();
        self.line.shrink_to(KEPT_CAPACITY);
        let (time, format) = self.clock.now();
        match format {
            LogFormat::Text => record.write_text(&mut self.line, time),
            LogFormat::Json => record.write_json(&mut self.line, time),
        }
        self.line.push('\n');
    }
}

/// The time of day as the lines show it: read at most once a turn and formatted at most once a second.
#[derive(Debug)]
struct Clock {
    format: LogFormat,
    text: String,
    second: Option<u64>,
    is_fresh: bool,
}

impl Clock {
    fn new(format: LogFormat) -> Self {
        Self { format, text: String::new(), second: None, is_fresh: false }
    }

    fn now(&mut self) -> (&str, LogFormat) {
        if !mem::replace(&mut self.is_fresh, true) {
            self.set(SystemTime::now());
        }
        (&self.text, self.format)
    }

    fn set(&mut self, now: SystemTime) {
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_secs()).ok();
        if second.is_some() && second == self.second {
            return;
        }
        self.second = second;
        let local = DateTime::<Local>::from(now);
        self.text = match self.format {
            LogFormat::Text => local.format("%H:%M:%S %d/%m/%Y").to_string(),
            LogFormat::Json => local.to_rfc3339_opts(SecondsFormat::Secs, false),
        };
    }
}

#[cfg(test)]
mod tests {
    use chrono::Timelike;

    use super::*;

    #[test]
    fn the_time_is_right_when_the_clock_is_set_back_and_forth() {
        let mut clock = Clock::new(LogFormat::Json);
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_517_229_790);
        let before_the_epoch = SystemTime::UNIX_EPOCH - Duration::from_secs(7);
        let hour = Duration::from_secs(3600);
        let ahead = start + 5 * hour;
        for now in [start, start, ahead, start, start - 7 * hour, ahead, before_the_epoch, before_the_epoch, start] {
            clock.set(now);
            let shown: SystemTime = DateTime::parse_from_rfc3339(&clock.text).expect("RFC 3339").into();
            assert_eq!(shown, now);
        }
    }

    #[test]
    fn fractions_of_a_second_are_not_shown() {
        let mut clock = Clock::new(LogFormat::Json);
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_517_229_790);
        for fraction in [0, 1, 999, 1000] {
            clock.set(begin + Duration::from_millis(fraction));
            let shown = DateTime::parse_from_rfc3339(&clock.text).expect("RFC 3339");
            assert_eq!((shown.second(), shown.nanosecond()), (10 + u32::from(fraction == 1000), 0));
        }
    }
}
