//! The blocking client: sends a message, reads the reply at the same time, and knows whether it is whole.
//!
//! | module | what it does |
//! |---|---|
//! | `exchange` | writes and reads at once over any reader and writer; says what went wrong |
//! | `session` | what is typed on a terminal goes out, what comes appears above it |
//! | `room` | tells a room from an echo |
//! | `check` | compares both directions in constant memory |
//! | `printer` | the reply as people and pipes want it on standard output |
//! | `meter` | the progress of a long transfer on a terminal |
//!
//! [`run`] puts them together as `echo-client` does. A program that wants the exchange alone starts from
//! [`connect`] and [`exchange()`]:
//!
//! ```no_run
//! use std::io::Cursor;
//! use std::sync::Arc;
//!
//! use sockets::client::{Error, Progress, Timeouts, connect, exchange};
//!
//! fn main() -> Result<(), Error> {
//!     let peer = connect("localhost", 8888, Timeouts::default())?;
//!     let mut reply = Vec::new();
//!     exchange(Cursor::new("Hello, world!"), peer, &mut reply, &Arc::new(Progress::default()))?;
//!     assert_eq!(reply, b"Hello, world!");
//!     Ok(())
//! }
//! ```

use std::fmt;
use std::io::{self, Cursor, IsTerminal, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::error::reason;

mod check;
mod exchange;
mod meter;
mod options;
mod printer;
mod room;
mod session;
#[cfg(test)]
mod tests;

pub use check::check;
pub use exchange::{HalfClose, Peer, Progress, exchange};
pub use options::{Input, Options};
use printer::Printer;
use room::Beginning;

/// How what the command line asks for ended, where it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All was done.
    Done,
    /// A session was ended by Ctrl-C.
    Interrupted,
}

/// Does what the command line of `echo-client` says: from connecting to the last byte on standard output.
///
/// A message of the command line and a standard input are exchanged; a terminal gets a session. A standard output that
/// its reader has closed is no error: whoever closed it has seen enough.
///
/// `ends_at_once` says whether the caller ends the program at once on Ctrl-C. A session, which has a terminal to put
/// back first, unsets it and sees to signals itself.
///
/// # Errors
///
/// All those of [`connect`], [`exchange()`] and [`check()`], and [`Error::Gone`]. What came of the reply is printed
/// even so. The reply of a room is no echo: it may be shorter than the message. A peer is taken for a room where a
/// name is given, or where it greets as a room does and the message does not begin like that.
pub fn run(options: &Options, ends_at_once: &AtomicBool) -> Result<End, Error> {
    let peer = connect(&options.host, options.port, options.timeouts)?;
    let progress = Arc::new(Progress::default());
    match &options.input {
        Input::Terminal if session::is_wanted() => return session::run(peer, options, ends_at_once),
        Input::Message(message) => deliver(Cursor::new(message.clone()), peer, options, &progress)?,
        Input::Terminal | Input::Stdin => {
            // On a terminal that shows the reply, or takes the input, the meter would be in the way.
            let is_watched = io::stderr().is_terminal()
                && !io::stdin().is_terminal()
                && (options.check || !io::stdout().is_terminal());
            meter::show_during(is_watched, &progress, || deliver(io::stdin(), peer, options, &progress))?;
        }
    }
    Ok(End::Done)
}

/// Sends `input` and checks or prints the reply.
fn deliver(
    input: impl Read + Send + 'static,
    peer: Peer<TcpStream>,
    options: &Options,
    progress: &Arc<Progress>,
) -> Result<(), Error> {
    if options.check {
        return check(input, peer, progress);
    }
    let stdout = io::stdout();
    let is_line = matches!(options.input, Input::Message(_));
    let printer = Printer::new(stdout.lock(), is_line, stdout.is_terminal() && !options.raw);
    let (message, reply) = (Beginning::default(), Beginning::default());
    let input = Cursor::new(options.opening()).chain(message.of(input));
    let mut output = reply.of(printer);
    let outcome = match exchange(input, peer, &mut output, progress) {
        Err(Error::Peer { failure: Failure::Short, .. })
            if options.name.is_some() || (reply.is_greeting() && !message.is_greeting()) =>
        {
            Ok(())
        }
        outcome => outcome,
    };
    let printed = match outcome {
        Err(_) if progress.received() == 0 => Ok(()),
        _ => output.stream.finish().map_err(Error::Output),
    };
    match outcome.and(printed) {
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// How long to wait for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection, at each address of the name. Default: 5 s.
    pub connect: Duration,
    /// For any progress of an exchange that waits for the peer alone, see [`Peer::timeout`]. Default: 30 s.
    pub progress: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), progress: Duration::from_secs(30) }
    }
}

/// Connects to the first address of `host` that answers. Small writes go out at once (`TCP_NODELAY`).
///
/// # Errors
///
/// [`Error::Connect`] if the name cannot be resolved or no address answers within `timeouts.connect`; the
/// reason is that of the first address, which is the one that the system prefers.
pub fn connect(host: &str, port: u16, timeouts: Timeouts) -> Result<Peer<TcpStream>, Error> {
    let name = format!("{host} port {port}");
    match connect_any(host, port, timeouts) {
        Ok((reader, writer)) => Ok(Peer { name, timeout: timeouts.progress, reader, writer }),
        Err(reason) => Err(Error::Connect { peer: name, reason }),
    }
}

fn connect_any(host: &str, port: u16, timeouts: Timeouts) -> io::Result<(TcpStream, TcpStream)> {
    // A timed out read or write is the chance to see whether anything moved at all. Four chances in each
    // timeout end a stalled exchange at most a quarter late. (The system takes no zero for a timeout.)
    let tick = (timeouts.progress / 4).max(Duration::from_millis(1));
    let mut first_reason = None;
    for address in (host, port).to_socket_addrs()? {
        let stream = match TcpStream::connect_timeout(&address, timeouts.connect) {
            Ok(stream) => stream,
            Err(reason) => {
                first_reason.get_or_insert(reason);
                continue;
            }
        };
        // Where nobody listens on a high port of this machine, the system may pick that very port as ours
        // and connect the socket to itself, which echoes perfectly.
        if stream.local_addr()? == stream.peer_addr()? {
            first_reason.get_or_insert(io::Error::other("Nobody listens there"));
            continue;
        }
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(tick))?;
        stream.set_write_timeout(Some(tick))?;
        return Ok((stream.try_clone()?, stream));
    }
    Err(first_reason.unwrap_or_else(|| io::Error::other("The name has no address")))
}

/// Why an exchange failed. Each is displayed as one sentence, without a full stop.
#[derive(Debug)]
pub enum Error {
    /// No connection came about.
    Connect {
        /// What was to be connected to, as in `localhost port 8888`.
        peer: String,
        /// What the system said.
        reason: io::Error,
    },
    /// The message could not be read. What could was sent, and its echo was put out.
    Input(io::Error),
    /// The reply could not be put out.
    Output(io::Error),
    /// The peer ended a session, or the connection broke.
    Gone {
        /// The peer's name, see [`Peer::name`].
        peer: String,
        /// What the system said, if the peer did not end the session in an orderly way.
        reason: Option<io::Error>,
    },
    /// The peer did not send the message back.
    Peer {
        /// The peer's name, see [`Peer::name`].
        peer: String,
        /// What it did instead.
        failure: Failure,
        /// Bytes of the message that had been read from the input by then.
        sent: u64,
        /// Bytes of the reply that had come back by then.
        received: u64,
    },
}

/// What a peer does that is no echo.
#[derive(Debug)]
pub enum Failure {
    /// It neither took nor sent anything for so long, see [`Peer::timeout`].
    TimedOut(Duration),
    /// The connection broke: reset, most often.
    Broken(io::Error),
    /// It ended its reply before the input had ended.
    Early,
    /// It ended its reply before the whole message had come back.
    Short,
    /// What it sent is not the message.
    Differs,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peer, failure, sent, received) = match self {
            Self::Connect { peer, reason: error } => return write!(f, "cannot connect to {peer}: {}", reason(error)),
            Self::Input(error) => return write!(f, "cannot read the input: {}", reason(error)),
            Self::Output(error) => return write!(f, "cannot write the output: {}", reason(error)),
            Self::Gone { peer, reason: None } => return write!(f, "{peer} has ended the session"),
            Self::Gone { peer, reason: Some(error) } => {
                return write!(f, "the connection to {peer} broke: {}", reason(error));
            }
            Self::Peer { peer, failure, sent, received } => (peer, failure, sent, received),
        };
        match failure {
            Failure::TimedOut(timeout) => {
                let timeout = humantime::format_duration(*timeout);
                write!(f, "no progress with {peer} for {timeout} after {received} of {sent} bytes came back")
            }
            Failure::Broken(error) => {
                let reason = reason(error);
                write!(f, "the connection to {peer} broke after {received} of {sent} bytes came back: {reason}")
            }
            Failure::Early => write!(f, "{peer} ended its reply after {received} bytes, before the message was sent"),
            Failure::Short => write!(f, "{peer} ended its reply after {received} of {sent} bytes"),
            Failure::Differs => write!(f, "the {received} bytes from {peer} differ from the {sent} bytes sent"),
        }
    }
}

impl std::error::Error for Error {}
