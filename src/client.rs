//! The blocking client: sends a message, reads the reply at the same time, and knows whether it is complete.
//!
//! A program that embeds the client starts from [`connect()`] and calls [`exchange()`] or [`check()`]:
//!
//! ```
//! use std::io::Cursor;
//! use std::sync::Arc;
//! use std::thread;
//!
//! use sockets::client::{Progress, Timeouts, check, connect, exchange};
//! use sockets::config::{Config, Log};
//! use sockets::Server;
//!
//! // Any echo server will do. This one runs in a thread of this program.
//! let server = Server::bind(&Config::with(|config| (config.port, config.log) = (0, Log::Off)))?;
//! let (port, stopper) = (server.port(), server.stopper());
//! let server = thread::spawn(move || server.run());
//!
//! let peer = connect("localhost", port, Timeouts::default())?;
//! let progress = Arc::new(Progress::default());
//! let mut reply = Vec::new();
//! exchange(Cursor::new("Hello, world!"), peer, &mut reply, &progress)?;
//! assert_eq!(reply, b"Hello, world!");
//! assert_eq!(progress.received(), 13);
//!
//! // The same as a health check that takes at most three seconds.
//! let mut timeouts = Timeouts::default();
//! timeouts.total = Some(std::time::Duration::from_secs(3));
//! let peer = connect("localhost", port, timeouts)?;
//! check(Cursor::new("still there?"), peer, &Arc::default())?;
//!
//! stopper.stop()?;
//! server.join().expect("the server does not panic")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`run`] is all of `echo-client`.
//!
//! | module | what it does |
//! |---|---|
//! | `connect` | resolves a name and connects to the first address that answers |
//! | `stream` | the connection: TCP or a Unix socket |
//! | `stream`, `tls` | a connection, with TLS or without |
//! | `exchange` | writes and reads at the same time, over any reader and writer |
//! | `check` | compares the reply with the message in constant memory |
//! | `room` | tells a room from an echo server, and takes a name in it |
//! | `session` | an interactive session on a terminal |
//! | `printer` | the reply on standard output |
//! | `meter` | what a person sees on standard error while waiting |
//! | `error`, `options` | what can go wrong, and what [`run`] is told |

use std::io::{self, Cursor, IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

mod check;
mod connect;
mod error;
mod exchange;
mod meter;
mod options;
mod printer;
mod room;
mod session;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

use crate::transport::listener::UNIX_PREFIX;
pub use check::check;
use connect::done_by;
pub use connect::{Timeouts, connect, connect_tls};
pub use error::{Error, Failure, Undelivered};
pub use exchange::{HalfClose, Peer, Progress, exchange};
pub use options::{Input, Options};
use printer::Printer;
use room::Dialog;
pub use stream::Stream;
#[doc(hidden)]
pub use tls::tls_over;
pub use tls::{Tls, Trust};

/// How much longer than its deadline a transfer may take to print what has come, before it is abandoned.
const PRINT_GRACE: Duration = Duration::from_millis(100);

/// How [`run`] ended, if it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All was done.
    Done,
    /// Ctrl-C ended a session.
    Interrupted,
}

/// Runs `echo-client`: from connecting to the last byte on standard output.
///
/// A closed standard output is no error: its reader, such as `head`, has seen enough.
///
/// `ends_at_once` tells whether the caller ends the program at once on Ctrl-C. A session has to restore the terminal
/// first, so it clears the flag and handles signals itself.
///
/// A room is no echo, so its reply may be shorter than the message. A peer counts as a room if it greets as a room
/// does and the message does not begin with such a greeting itself. A name is asked for before anything else is sent,
/// but only in a room, for whose greeting the client waits at most a second.
///
/// # Errors
///
/// Those of [`connect()`], [`exchange()`] and [`check()`], and those of rooms and sessions. What has come of the reply
/// is printed first.
pub fn run(options: &Options, ends_at_once: &AtomicBool) -> Result<End, Error> {
    if options.tls.as_ref().is_some_and(|tls| tls.trust == Trust::Anything) {
        // Without standard error nobody can be warned.
        _ = writeln!(io::stderr(), "echo-client: warning: with --insecure, anyone may be at the other end");
    }
    if options.input == Input::Terminal && session::is_wanted() {
        return session::run(connect_visibly(options)?, options, ends_at_once);
    }
    let deadline = options.timeouts.deadline().and_then(|deadline| deadline.checked_add(PRINT_GRACE));
    let progress = Arc::new(Progress::default());
    let (owned_options, shared_progress) = (options.clone(), Arc::clone(&progress));
    // The transfer observes its deadline by itself, unless standard output is blocked.
    match done_by(deadline, move || transfer(&owned_options, &shared_progress)) {
        Ok(outcome) => outcome.map(|()| End::Done),
        Err(reason) if reason.kind() == io::ErrorKind::TimedOut => {
            Err(progress.failure(&peer_name(&options.host, options.port), Failure::Late))
        }
        Err(reason) => Err(Error::Input(reason)),
    }
}

/// Connects, and tells a person who has to wait for that.
fn connect_visibly(options: &Options) -> Result<Peer<Stream>, Error> {
    let notice = format!("connecting to {}...", peer_name(&options.host, options.port));
    meter::announce(&notice, || options.connect())
}

/// Sends a message or standard input, and checks or prints the reply.
fn transfer(options: &Options, progress: &Arc<Progress>) -> Result<(), Error> {
    let peer = connect_visibly(options)?;
    if let Input::Message(message) = &options.input {
        return deliver(Cursor::new(message.clone()), peer, options, progress);
    }
    // On a terminal that shows the reply, or takes the input, the meter would be in the way.
    let is_watched = !io::stdin().is_terminal() && (options.check || !io::stdout().is_terminal());
    meter::show_during(is_watched, progress, || deliver(io::stdin(), peer, options, progress))
}

fn deliver(
    input: impl Read + Send + 'static,
    peer: Peer<Stream>,
    options: &Options,
    progress: &Arc<Progress>,
) -> Result<(), Error> {
    if options.check {
        return check(input, peer, progress);
    }
    let stdout = io::stdout();
    let is_line = matches!(options.input, Input::Message(_));
    let printer = Printer::new(stdout.lock(), is_line, stdout.is_terminal() && !options.raw);

    let name = options.name.as_deref();
    let (peer, has_name) = room::enter(peer, name)?;
    let peer_name = peer.name.clone();
    let dialog = Dialog::default();
    let mut output = dialog.reply(printer);
    let outcome = exchange(dialog.message(input), peer, &mut output, progress);
    let outcome = dialog.judge(outcome, peer_name, name, has_name);
    let printed = match outcome {
        Err(_) if progress.received() == 0 => Ok(()),
        _ => output.output.finish().map_err(Error::Output),
    };
    match outcome.and(printed) {
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// What errors and notices call a server.
fn peer_name(host: &str, port: u16) -> String {
    match host.strip_prefix(UNIX_PREFIX) {
        Some(_) => host.to_owned(),
        None => format!("{host} port {port}"),
    }
}
