//! The log, on standard output, without ever waiting for it.
//!
//! The reader of the log may stall (a pipe that is not read, a terminal held with Ctrl-S, a full journal) or go away.
//! Neither may delay a connection. Lines wait in a bounded buffer; when it is full, whole lines are dropped and counted,
//! and the count is reported when the reader has caught up.

mod output;
mod record;
mod sink;
#[cfg(test)]
mod tests;

use std::fmt;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Local, SecondsFormat};
use serde::{Serialize, Serializer};

use crate::config::{Config, Log, LogFormat};
use crate::event::{Event, RedisState, Refusal};
use output::Output;
use record::{Excerpt, Record};
use sink::Sink;

/// The log of a server on standard output.
#[derive(Debug)]
pub(crate) struct Console {
    output: Output,
    /// Which lines are printed.
    log: Log,
    log_max: usize,
    clock: Clock,
}

/// What a server is doing and has done, for its operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counters {
    /// Open connections.
    pub(crate) connections: usize,
    /// Connections since the start, including the open ones.
    pub(crate) connections_total: u64,
    /// Connections that were closed on arrival: their address may not connect, or has too many connections.
    pub(crate) connections_refused: u64,
    /// Messages that were echoed, or lines that were relayed.
    pub(crate) messages: u64,
    /// Bytes received from clients.
    pub(crate) bytes_in: u64,
    /// Bytes written to clients' sockets.
    pub(crate) bytes_out: u64,
    /// Memory that is held for clients now, in bytes.
    pub(crate) bytes_held: usize,
    /// Log lines that were dropped because standard output did not take them.
    pub(crate) lines_dropped: u64,
    /// Time since the start. It is serialized in whole seconds.
    #[serde(rename = "uptime_seconds", serialize_with = "whole_seconds")]
    pub(crate) uptime: Duration,
    /// How it stands with Redis, in a room that spans servers.
    #[serde(flatten)]
    pub(crate) redis: Option<RedisCounters>,
}

/// What a server knows of the log that it shares with others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RedisCounters {
    #[serde(rename = "redis_state")]
    pub(crate) state: RedisState,
    /// What names the history of the log: a loss of data begins a new one.
    #[serde(rename = "redis_epoch")]
    pub(crate) epoch: String,
    /// The position of the last entry that was delivered.
    #[serde(rename = "redis_position")]
    pub(crate) position: u64,
    /// How many entries the log is known to have beyond that.
    #[serde(rename = "redis_lag")]
    pub(crate) lag: u64,
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
        write!(f, "log lines dropped: {lines_dropped}; uptime: {uptime}")?;
        let Some(RedisCounters { state, epoch, position, lag }) = &self.redis else { return Ok(()) };
        let state = if *state == RedisState::Away { "out of reach" } else { "connected" };
        write!(f, "; Redis: {state}, epoch {epoch}, position {position}, lag {lag}")
    }
}

impl Console {
    /// Creates the log that `config` asks for, on the standard output of this process.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            output: Output::new(if config.log == Log::Off { Sink::Closed } else { Sink::stdout() }),
            log: config.log,
            log_max: config.log_max,
            clock: Clock::new(config.log_format),
        }
    }

    /// The descriptor to watch for writable events, which tell that a stalled reader reads again. `None` if standard
    /// output never stalls.
    pub(crate) fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.output.pollable()
    }

    /// When to call [`flush`](Self::flush) at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.output.deadline()
    }

    /// How many lines have been dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.output.dropped_total()
    }

    /// `--- Starting server on port 8888 at 12:43:08 29/01/2018 ---`
    pub(crate) fn started(&mut self, port: u16) {
        self.print(Log::Quiet, &Record::Started { port });
    }

    /// `[12:43:08 29/01/2018] Answering health checks on 127.0.0.1:9100`
    pub(crate) fn admin(&mut self, address: SocketAddr) {
        self.print(Log::Quiet, &Record::Admin { address });
    }

    /// `[12:43:09 29/01/2018] Draining for 30s`
    pub(crate) fn draining(&mut self, duration: Duration) {
        self.print(Log::Quiet, &Record::Draining { duration });
    }

    /// `--- Stopping server on port 8888 at 12:43:39 29/01/2018 ---`
    ///
    /// If the server `is_interrupted`, a terminal shows a `^C`, and the line begins below it. There is always room for
    /// this line.
    pub(crate) fn stopped(&mut self, port: u16, is_interrupted: bool) {
        if self.log < Log::Quiet {
            return;
        }
        if is_interrupted && self.output.is_terminal() {
            self.output.append_reserved(1, |line| line.push('\n'));
        }
        self.report_dropped();
        self.append_reserved(&Record::Stopped { port });
    }

    /// `[12:43:09 29/01/2018] Connections: 2 now, 17 in total, 0 refused; messages: 20; …`
    ///
    /// There is room for hundreds of these lines when the log takes no others.
    pub(crate) fn counters(&mut self, counters: &Counters) {
        if self.log < Log::Quiet {
            return;
        }
        if !self.output.has_reserve() {
            self.output.drop_line();
            return;
        }
        self.report_dropped();
        self.append_reserved(&Record::Counters(counters));
    }

    /// Logs an event, if such events are logged:
    /// `[12:43:10 29/01/2018] Echoed: 'Hello, world!'`,
    /// `[12:43:10 29/01/2018] <ann> hello` or
    /// `[12:43:10 29/01/2018] Closed: 127.0.0.1:40112, 13 bytes in, 13 bytes out: the client finished`
    pub(crate) fn event(&mut self, event: &Event<'_>) {
        match *event {
            Event::Message { peer, text, length } => {
                let excerpt = Excerpt::new(text, length, self.log_max);
                self.print(Log::Messages, &Record::Echoed { peer, bytes: length, excerpt });
            }
            Event::Room { peer, notice } => {
                self.print(Log::Messages, &Record::of_notice(peer, notice, self.log_max));
            }
            Event::Opened { peer, subject } => self.print(Log::Verbose, &Record::Opened { peer, subject }),
            Event::HandshakeFailed { peer, reason } => {
                self.print(Log::Verbose, &Record::HandshakeFailed { peer, reason });
            }
            Event::Renewed { error } => self.print(Log::Quiet, &Record::Renewed { error }),
            Event::Closed { peer, close: reason, received, sent } => {
                self.print(Log::Verbose, &Record::Closed { peer, bytes_in: received, bytes_out: sent, reason });
            }
            Event::Redis { state, address, reason } => {
                self.print(Log::Quiet, &Record::Redis { state, address, reason });
            }
            Event::Refused { reason, connections, last } => {
                let importance = match reason {
                    Refusal::Address => Log::Quiet,
                    Refusal::Header => Log::Verbose,
                };
                self.print(importance, &Record::Refused { reason, connections, peer: last });
            }
        }
    }

    /// Tells whether events of [`pollable`](Self::pollable) are reported to [`on_ready`](Self::on_ready). Otherwise a
    /// stalled reader is tried again now and then.
    pub(crate) fn set_watched(&mut self, is_watched: bool) {
        self.output.set_watched(is_watched);
    }

    /// Notes an event that tells that standard output takes more.
    pub(crate) fn on_ready(&mut self) {
        self.output.on_ready();
    }

    /// Writes as many of the waiting lines as standard output takes now, without waiting for it. Call it once a turn and
    /// at the [`deadline`](Self::deadline). Unless the flush `is_urgent`, lines that come within some milliseconds after
    /// a flush wait for more.
    pub(crate) fn flush(&mut self, now: Instant, is_urgent: bool) {
        self.clock.is_fresh = false;
        if !is_urgent && !self.output.is_due(now) {
            return;
        }
        self.output.flush(now);
        if self.output.has_recovered()
            && let Some(lines) = self.output.take_dropped()
        {
            self.print(Log::Quiet, &Record::Dropped { lines });
            self.output.flush(now);
        }
    }

    /// Waits until the last lines are written or standard output fails, but not beyond `deadline`.
    pub(crate) fn finish(&mut self, deadline: Instant) {
        self.output.finish(deadline);
    }

    fn print(&mut self, importance: Log, record: &Record<'_>) {
        if self.log >= importance {
            self.output.append(record.estimated_len(), |line| compose(line, record, &mut self.clock));
        }
    }

    fn append_reserved(&mut self, record: &Record<'_>) {
        self.output.append_reserved(record.estimated_len(), |line| compose(line, record, &mut self.clock));
    }

    fn report_dropped(&mut self) {
        if let Some(lines) = self.output.take_dropped() {
            self.append_reserved(&Record::Dropped { lines });
        }
    }
}

fn compose(line: &mut String, record: &Record<'_>, clock: &mut Clock) {
    let (time, format) = clock.now();
    match format {
        LogFormat::Text => record.write_text(line, time),
        LogFormat::Json => record.write_json(line, time),
    }
    line.push('\n');
}

/// The time of day as it is printed: read at most once a turn and formatted at most once a second.
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
