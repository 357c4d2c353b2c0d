//! What can go wrong, and how it is said.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::error::reason;
use crate::transport::listener::UNIX_PREFIX;

/// Why an exchange failed. Each is displayed as one sentence, without a full stop.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The host name has no known address.
    #[non_exhaustive]
    Resolve {
        /// The name that was looked up.
        host: String,
        /// What the system said.
        reason: io::Error,
    },
    /// No connection came about.
    #[non_exhaustive]
    Connect {
        /// The server's name, as in `localhost port 8888` or `unix:/run/echo.sock`.
        peer: String,
        /// The address that the reason is about; `None` for a Unix socket, and if the deadline passed before an address
        /// was tried.
        address: Option<SocketAddr>,
        /// What the system said.
        reason: io::Error,
    },
    /// The server cannot be spoken to by TLS, or is not the one that is wanted.
    #[non_exhaustive]
    Tls {
        /// The server's name, as in `localhost port 8888`.
        peer: String,
        /// What is wrong.
        reason: io::Error,
    },
    /// The message could not be read. What could was sent, and its echo was written to the output.
    Input(io::Error),
    /// The reply could not be written.
    Output(io::Error),
    /// The peer ended a session, or the connection broke.
    #[non_exhaustive]
    Gone {
        /// The peer's name, see [`Peer::name`](super::Peer::name).
        peer: String,
        /// What the system said; `None` if the peer closed the connection normally.
        reason: Option<io::Error>,
    },
    /// A room did not pass on all that was said.
    #[non_exhaustive]
    Undelivered {
        /// The peer's name, see [`Peer::name`](super::Peer::name).
        peer: String,
        /// What was not passed on, and why.
        reason: Undelivered,
    },
    /// The room did not give the name that was asked for. Nothing else was sent, unless it greeted too late.
    #[non_exhaustive]
    Name {
        /// The peer's name, see [`Peer::name`](super::Peer::name).
        peer: String,
        /// The name that was asked for.
        name: String,
        /// What the room said, escaped.
        reason: String,
    },
    /// The peer did not send the message back.
    #[non_exhaustive]
    Peer {
        /// The peer's name, see [`Peer::name`](super::Peer::name).
        peer: String,
        /// What it did instead.
        failure: Failure,
        /// Bytes of the message that had been read from the input by then.
        sent: u64,
        /// Bytes of the reply that had come back by then.
        received: u64,
    },
}

/// What a room does not pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Undelivered {
    /// Anything, because all its places are taken.
    Full,
    /// A line that is too long.
    LineTooLong,
    /// What follows `/quit`.
    AfterQuit,
}

/// What a peer does that is not an echo.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// It neither took nor sent anything for this long, see [`Peer::timeout`](super::Peer::timeout).
    TimedOut(Duration),
    /// It was not done by the deadline, see [`Peer::deadline`](super::Peer::deadline).
    Late,
    /// The connection broke: reset, most often.
    Broken(io::Error),
    /// It ended its reply before the input had ended.
    Early,
    /// It ended its reply before the whole message had come back.
    Short,
    /// What it sent is not the message.
    Differs,
    /// It is a room, which sends nothing back.
    Room,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { host, reason: error } => {
                let reason = reason(error);
                let reason = reason.strip_prefix("failed to lookup address information: ").unwrap_or(&reason);
                write!(f, "unknown host {host}: {reason} (check its spelling and the network)")
            }
            Self::Connect { peer, address, reason: error } => {
                write!(f, "cannot connect to {peer}: {}", reason(error))?;
                let is_unix = peer.starts_with(UNIX_PREFIX);
                let is_local = is_unix || address.is_some_and(|address| address.ip().is_loopback());
                match error.kind() {
                    io::ErrorKind::NotFound if is_unix => write!(f, " (is echo-server running?)"),
                    io::ErrorKind::ConnectionRefused if is_local => write!(f, " (is echo-server running?)"),
                    _ => Ok(()),
                }
            }
            Self::Tls { peer, reason: error } => write!(f, "no TLS with {peer}: {}", reason(error)),
            Self::Input(error) => write!(f, "cannot read the input: {}", reason(error)),
            Self::Output(error) => write!(f, "cannot write the output: {}", reason(error)),
            Self::Gone { peer, reason: None } => write!(f, "{peer} has ended the session"),
            Self::Gone { peer, reason: Some(error) } => write!(f, "the connection to {peer} broke: {}", reason(error)),
            Self::Undelivered { peer, reason } => {
                let reason = match reason {
                    Undelivered::Full => "the room is full (try again later)",
                    Undelivered::LineTooLong => "a line was too long",
                    Undelivered::AfterQuit => "lines followed /quit",
                };
                write!(f, "not all was delivered to {peer}: {reason}")
            }
            Self::Name { peer, name, reason } => {
                write!(f, "the room at {peer} did not accept the name {name}: {reason}")
            }
            Self::Peer { peer, failure, sent, received } => failure.describe(f, peer, *sent, *received),
        }
    }
}

impl std::error::Error for Error {}

impl Failure {
    fn describe(&self, f: &mut fmt::Formatter<'_>, peer: &str, sent: u64, received: u64) -> fmt::Result {
        match self {
            Self::TimedOut(timeout) => {
                let timeout = humantime::format_duration(*timeout);
                write!(f, "no progress with {peer} for {timeout} after {received} of {sent} bytes came back")
            }
            Self::Late => {
                write!(f, "the deadline passed after {sent} bytes were sent to {peer} and {received} came back")
            }
            Self::Broken(error) => {
                let reason = reason(error);
                write!(f, "the connection to {peer} broke after {received} of {sent} bytes came back: {reason}")
            }
            Self::Early => write!(f, "{peer} ended its reply after {received} bytes, before the message was sent"),
            Self::Short => write!(f, "{peer} ended its reply after {received} of {sent} bytes"),
            Self::Room => write!(f, "{peer} is a room, not an echo server"),
            Self::Differs => write!(f, "the {received} bytes from {peer} differ from the {sent} bytes sent"),
        }
    }
}
