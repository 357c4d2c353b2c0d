//! The entries of the log, as lines for people or for programs.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::Counters;
use crate::address::PeerAddress;
use crate::connection::Close;
use crate::escape::{Style, escape, incomplete_tail};
use crate::event::{RedisState, Refusal};
use crate::room::notice::Notice;

/// The length of a line without the text of a message, in bytes: more than a time, an address and all field names.
const OVERHEAD: usize = 512;

/// One entry of the log. Its serialized form is the line for programs, except for the time.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Record<'a> {
    Started {
        port: u16,
    },
    Admin {
        address: SocketAddr,
    },
    Draining {
        #[serde(rename = "seconds", serialize_with = "seconds")]
        duration: Duration,
    },
    Stopped {
        port: u16,
    },
    Opened {
        peer: PeerAddress,
        #[serde(skip_serializing_if = "Option::is_none")]
        subject: Option<&'a str>,
    },
    #[serde(rename = "handshake_failed")]
    HandshakeFailed {
        peer: PeerAddress,
        reason: &'a str,
    },
    Renewed {
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    },
    Echoed {
        peer: PeerAddress,
        bytes: u64,
        #[serde(flatten)]
        excerpt: Excerpt<'a>,
    },
    Joined {
        peer: PeerAddress,
        name: &'a str,
        #[serde(serialize_with = "display")]
        message: Notice<'a>,
    },
    Renamed {
        peer: PeerAddress,
        from: &'a str,
        to: &'a str,
        #[serde(serialize_with = "display")]
        message: Notice<'a>,
    },
    Said {
        peer: PeerAddress,
        name: &'a str,
        bytes: usize,
        cut: bool,
        #[serde(serialize_with = "display")]
        message: Notice<'a>,
    },
    Left {
        peer: PeerAddress,
        name: &'a str,
        #[serde(serialize_with = "display")]
        message: Notice<'a>,
    },
    Closed {
        peer: PeerAddress,
        bytes_in: u64,
        bytes_out: u64,
        #[serde(serialize_with = "display")]
        reason: Close,
    },
    Refused {
        reason: Refusal,
        connections: u64,
        /// The address of the last one.
        peer: PeerAddress,
    },
    Redis {
        state: RedisState,
        address: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        reason: &'a str,
    },
    Dropped {
        lines: u64,
    },
    Counters(&'a Counters),
}

/// The beginning of a message.
#[derive(Debug)]
pub(super) struct Excerpt<'a> {
    text: &'a [u8],
    is_cut: bool,
}

impl<'a> Excerpt<'a> {
    /// At most `max` bytes of a message that has `length` bytes and begins with `text`. The LF or CRLF at its end is
    /// left out.
    pub(super) fn new(text: &'a [u8], length: u64, max: usize) -> Self {
        if text.len() as u64 == length {
            let text = match text.strip_suffix(b"\n") {
                Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
                None => text,
            };
            Self { text: cut(text, max), is_cut: text.len() > max }
        } else {
            // What was kept of a longer message may end within a character.
            Self { text: whole_characters(&text[..text.len().min(max)]), is_cut: true }
        }
    }
}

impl Serialize for Excerpt<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Only what is not UTF-8 is copied.
        let text = String::from_utf8_lossy(self.text);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("message", &text)?;
        map.serialize_entry("cut", &self.is_cut)?;
        map.serialize_entry("invalid_utf8", &matches!(text, Cow::Owned(_)))?;
        map.end()
    }
}

impl<'a> Record<'a> {
    /// The entry of a notice. It shows at most `max` bytes of what a member said.
    pub(super) fn of_notice(peer: PeerAddress, message: Notice<'a>, max: usize) -> Self {
        match message {
            Notice::Joined { name } => Self::Joined { peer, name, message },
            Notice::Renamed { from, to } => Self::Renamed { peer, from, to, message },
            Notice::Left { name, .. } => Self::Left { peer, name, message },
            Notice::Said { name, text } => {
                let message = Notice::Said { name, text: cut(text, max) };
                Self::Said { peer, name, bytes: text.len(), cut: text.len() > max, message }
            }
        }
    }

    /// The length of the line, if little of the text has to be escaped.
    pub(super) fn estimated_len(&self) -> usize {
        let text = match self {
            Record::Echoed { excerpt, .. } => excerpt.text.len(),
            Record::Said { message: Notice::Said { text, .. }, .. } => text.len(),
            _ => 0,
        };
        text + OVERHEAD
    }

    /// Appends the line for people, including `time`.
    pub(super) fn write_text(&self, out: &mut String, time: &str) {
        match self {
            Record::Started { .. } | Record::Stopped { .. } => out.push_str("--- "),
            _ => out.extend(["[", time, "] "]),
        }
        // Writing to a string never fails.
        _ = match self {
            Record::Started { port } => write!(out, "Starting server on port {port} at {time} ---"),
            Record::Stopped { port } => write!(out, "Stopping server on port {port} at {time} ---"),
            Record::Admin { address } => write!(out, "Answering health checks on {address}"),
            Record::Draining { duration } => write!(out, "Draining for {}", humantime::format_duration(*duration)),
            Record::Opened { peer, subject: None | Some("") } => write!(out, "Opened: {peer}"),
            Record::Opened { peer, subject: Some(subject) } => write!(out, "Opened: {peer}, {subject}"),
            Record::HandshakeFailed { peer, reason } => write!(out, "TLS failed: {peer}: {reason}"),
            Record::Renewed { error: None } => write!(out, "Using a new certificate"),
            Record::Renewed { error: Some(error) } => write!(out, "Keeping the old certificate: {error}"),
            Record::Echoed { bytes, excerpt, .. } => {
                out.push_str("Echoed: '");
                escape(out, excerpt.text, Style::Log);
                match excerpt.is_cut {
                    true => write!(out, "…' ({} of {bytes} bytes)", excerpt.text.len()),
                    false => out.write_char('\''),
                }
            }
            Record::Said { message: message @ Notice::Said { text, .. }, bytes, cut: true, .. } => {
                write!(out, "{message}… ({} of {bytes} bytes)", text.len())
            }
            Record::Joined { message, .. }
            | Record::Renamed { message, .. }
            | Record::Said { message, .. }
            | Record::Left { message, .. } => write!(out, "{message}"),
            Record::Closed { peer, bytes_in, bytes_out, reason } => {
                write!(out, "Closed: {peer}, {bytes_in} bytes in, {bytes_out} bytes out: {reason}")
            }
            Record::Redis { state: RedisState::Connected, address, .. } => {
                write!(out, "Connected to Redis at {address}")
            }
            Record::Redis { state, address, reason } => {
                let is_away = *state == RedisState::Away;
                let (verb, rest) = if is_away { ("is out of reach", "; trying again") } else { ("has lost lines", "") };
                _ = write!(out, "Redis at {address} {verb}: ");
                escape(out, reason.as_bytes(), Style::Log);
                out.write_str(rest)
            }
            Record::Refused { reason, connections, peer } => {
                let what = match reason {
                    Refusal::Address => "",
                    Refusal::Header => " without a valid PROXY header",
                };
                match connections {
                    1 => write!(out, "1 connection{what} refused: {peer}"),
                    _ => write!(out, "{connections} connections{what} refused, the last: {peer}"),
                }
            }
            Record::Dropped { lines: 1 } => out.write_str("1 log line dropped"),
            Record::Dropped { lines } => write!(out, "{lines} log lines dropped"),
            Record::Counters(counters) => write!(out, "{counters}"),
        };
    }

    /// Appends the line for programs: a JSON object that begins with the `time`.
    pub(super) fn write_json(&self, out: &mut String, time: &str) {
        #[derive(Serialize)]
        struct Entry<'a> {
            time: &'a str,
            #[serde(flatten)]
            record: &'a Record<'a>,
        }
        // All keys are strings, and writing to a string never fails.
        _ = serde_json::to_writer(Utf8(out), &Entry { time, record: self });
    }
}

/// At most `max` bytes of `text`, cut between two characters.
fn cut(text: &[u8], max: usize) -> &[u8] {
    if text.len() > max { whole_characters(&text[..max]) } else { text }
}

/// `text` without an incomplete character at its end.
fn whole_characters(text: &[u8]) -> &[u8] {
    &text[..text.len() - incomplete_tail(text)]
}

fn display<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// Lets serde_json, which writes only whole characters at a time, write to a string.
struct Utf8<'a>(&'a mut String);

impl io::Write for Utf8<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push_str(str::from_utf8(bytes).map_err(io::Error::other)?);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
