//! What the log tells, as a line for people or for programs.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::Counters;
use crate::escape::{Style, escape, incomplete_tail};

/// One entry of the log. Its serialized form is the line for programs, less the time.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Record<'a> {
    Started {
        port: u16,
    },
    Stopped {
        port: u16,
    },
    Opened {
        peer: SocketAddr,
    },
    Echoed {
        peer: SocketAddr,
        bytes: u64,
        #[serde(flatten)]
        shown: Shown<'a>,
    },
    Joined {
        peer: SocketAddr,
        message: &'a str,
    },
    Renamed {
        peer: SocketAddr,
        message: &'a str,
    },
    Said {
        peer: SocketAddr,
        message: &'a str,
    },
    Left {
        peer: SocketAddr,
        message: &'a str,
    },
    Closed {
        peer: SocketAddr,
        bytes_in: u64,
        bytes_out: u64,
        reason: String,
    },
    Refused {
        connections: u64,
        /// The last of them.
        peer: SocketAddr,
    },
    Dropped {
        lines: u64,
    },
    Counters(&'a Counters),
}

/// What is shown of a message.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    text: &'a [u8],
    is_cut: bool,
}

impl<'a> Shown<'a> {
    /// Of a message of `length` bytes that begins with `text`, at most `max` bytes, without the one LF or
    /// CRLF at its end. It is cut between two characters.
    pub(super) fn new(text: &'a [u8], length: u64, max: usize) -> Self {
        if text.len() as u64 == length {
            let text = match text.strip_suffix(b"\n") {
                Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
                None => text,
            };
            if text.len() <= max {
                return Self { text, is_cut: false };
            }
        }
        let text = &text[..text.len().min(max)];
        Self { text: &text[..text.len() - incomplete_tail(text)], is_cut: true }
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("message", &String::from_utf8_lossy(self.text))?;
        map.serialize_entry("cut", &self.is_cut)?;
        map.serialize_entry("invalid_utf8", &str::from_utf8(self.text).is_err())?;
        map.end()
    }
}

impl Record<'_> {
    /// Appends the line for people, `time` included.
    pub(super) fn write_text(&self, out: &mut String, time: &str) {
        match self {
            Record::Started { .. } | Record::Stopped { .. } => out.push_str("--- "),
            _ => out.extend(["[", time, "] "]),
        }
        // Writing to a string does not fail.
        _ = match self {
            Record::Started { port } => write!(out, "Starting server on port {port} at {time} ---"),
            Record::Stopped { port } => write!(out, "Stopping server on port {port} at {time} ---"),
            Record::Opened { peer } => write!(out, "Opened: {peer}"),
            Record::Echoed { bytes, shown, .. } => {
                out.push_str("Echoed: '");
                escape(out, shown.text, Style::Log);
                match shown.is_cut {
                    true => write!(out, "…' ({} of {bytes} bytes)", shown.text.len()),
                    false => out.write_char('\''),
                }
            }
            Record::Joined { message, .. }
            | Record::Renamed { message, .. }
            | Record::Said { message, .. }
            | Record::Left { message, .. } => out.write_str(message),
            Record::Closed { peer, bytes_in, bytes_out, reason } => {
                write!(out, "Closed: {peer}, {bytes_in} bytes in, {bytes_out} bytes out: {reason}")
            }
            Record::Refused { connections: 1, peer } => write!(out, "1 connection refused: {peer}"),
            Record::Refused { connections, peer } => write!(out, "{connections} connections refused, the last: {peer}"),
            Record::Dropped { lines: 1 } => out.write_str("1 log line dropped"),
            Record::Dropped { lines } => write!(out, "{lines} log lines dropped"),
            Record::Counters(counters) => write!(out, "{counters}"),
        };
    }

    /// Appends the line for programs: a JSON object that says the `time` first.
    pub(super) fn write_json(&self, out: &mut String, time: &str) {
        #[derive(Serialize)]
        struct Line<'a> {
            time: &'a str,
            #[serde(flatten)]
            record: &'a Record<'a>,
        }
        // Nothing in it can fail to be JSON: all keys are strings.
        out.push_str(&serde_json::to_string(&Line { time, record: self }).unwrap_or_default());
    }
}
