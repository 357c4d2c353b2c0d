//! The exchange: a thread sends the input while the caller's thread writes what comes back to the output.
//!
//! Writing and reading at the same time keeps a long message from getting stuck: a server with any fixed buffer
//! stops reading while nobody reads its echo.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Error, Failure, Timeouts};

/// The size of each read and write, in bytes, in each direction.
const BUFFER: usize = 64 << 10;

/// How long the sending thread may take to notice that its input has ended once the reply has. It needs
/// microseconds; this time passes only if the input really has not ended.
const SENDER_GRACE: Duration = Duration::from_millis(100);

/// The other end of an exchange: the message goes to it and the reply comes from it.
///
/// [`connect`](super::connect()) returns one. Over anything else than TCP and Unix sockets, [`Peer::new`] makes one from a reader and
/// a writer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Peer<R, W = R> {
    /// What errors call it, as in `localhost port 8888`.
    pub name: String,
    /// How long it may neither take nor send anything. The time runs only while the exchange waits for the peer
    /// alone: not while the input has nothing to send, nor while the output is blocked. Default: 30 s.
    ///
    /// This timeout and the deadline are checked whenever a read returns, so a `reader` has to fail with
    /// [`ErrorKind::WouldBlock`] or [`ErrorKind::TimedOut`] now and then: one that blocks for ever makes the exchange
    /// wait for ever.
    pub timeout: Duration,
    /// When the whole exchange has to be done, whatever it waits for. Default: `None`.
    pub deadline: Option<Instant>,
    /// Where the reply comes from.
    pub reader: R,
    /// Where the message goes, unbuffered. A write that fails with [`ErrorKind::WouldBlock`] or
    /// [`ErrorKind::TimedOut`] is tried again.
    pub writer: W,
}

impl<R, W> Peer<R, W> {
    /// A peer with the default timeout and without a deadline.
    pub fn new(name: impl Into<String>, reader: R, writer: W) -> Self {
        Self { name: name.into(), timeout: Timeouts::default().progress, deadline: None, reader, writer }
    }
}

/// A writer that can say that nothing more will come, while the other direction stays open.
pub trait HalfClose: Write {
    /// Ends the outgoing direction.
    ///
    /// # Errors
    ///
    /// Those of the system; [`ErrorKind::NotConnected`] if the connection is gone already. After
    /// [`ErrorKind::WouldBlock`] or [`ErrorKind::TimedOut`] it is tried again.
    fn finish(&mut self) -> io::Result<()>;
}

impl HalfClose for TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// How far an exchange has come. Any thread may read it.
#[derive(Debug, Default)]
pub struct Progress {
    sent: AtomicU64,
    received: AtomicU64,
    /// Since when the sending thread has waited for the peer; `None` while it waits for its input.
    awaits_peer_since: Mutex<Option<Instant>>,
    /// The exchange has returned or is about to: nobody waits for the sending thread any more.
    is_over: AtomicBool,
}

impl Progress {
    /// Bytes of the message that have been read from the input: sent, or about to be.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Bytes of the reply that have come back.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// The error for what `peer` did, with the counts of this moment.
    pub(super) fn failure(&self, peer: &str, failure: Failure) -> Error {
        Error::Peer { peer: peer.to_owned(), failure, sent: self.sent(), received: self.received() }
    }

    fn sender_awaits_peer_since(&self) -> Option<Instant> {
        *self.awaits_peer_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_sender_awaits_peer_since(&self, since: Option<Instant>) {
        *self.awaits_peer_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

/// Sends `input` to `peer`, half-closes, and writes what comes back to `output` until the peer ends its reply.
/// `output` is flushed after every read. Memory stays constant, whatever the length.
///
/// Succeeds if the reply is at least as long as the message. A longer reply is written too; `progress`, which starts
/// at zero, has the lengths. [`check`](super::check()) also compares the bytes.
///
/// The input is read by a thread of its own. If the peer ends early while that thread is stuck in a read (a
/// terminal, an idle pipe), the exchange returns at once and leaves the thread behind; it ends when its read does.
///
/// # Errors
///
/// [`Error::Input`], [`Error::Output`], or [`Error::Peer`] with any [`Failure`] but [`Failure::Differs`].
/// Whatever came before the error has been written to `output`.
pub fn exchange<R, W>(
    input: impl Read + Send + 'static,
    peer: Peer<R, W>,
    output: &mut impl Write,
    progress: &Arc<Progress>,
) -> Result<(), Error>
where
    R: Read,
    W: HalfClose + Send + 'static,
{
    let Peer { name, timeout, deadline, reader, writer } = peer;
    let (report, reported) = mpsc::channel();
    let sending = Arc::clone(progress);
    let sender = thread::Builder::new().spawn(move || report.send(send(input, writer, &sending)));
    sender.map_err(Error::Input)?;

    let received = receive(reader, output, timeout, deadline, progress);
    progress.is_over.store(true, Relaxed);

    // The reply is complete; whether it is long enough is known when the input has ended. If both directions failed,
    // the failure of the input came first: it made the sending thread half-close, and the peer answered that.
    let sent = match received {
        Ok(()) => reported.recv_timeout(SENDER_GRACE),
        Err(_) => reported.try_recv().map_err(|_| RecvTimeoutError::Timeout),
    };
    match (sent, received) {
        (Ok(Err(Stop::Local(error))), _) => Err(Error::Input(error)),
        (_, Err(Stop::Local(error))) => Err(Error::Output(error)),
        (_, Err(Stop::Peer(failure))) | (Ok(Err(Stop::Peer(failure))), _) => Err(progress.failure(&name, failure)),
        (Err(_), Ok(())) => Err(progress.failure(&name, Failure::Early)),
        (Ok(Ok(())), Ok(())) if progress.received() < progress.sent() => Err(progress.failure(&name, Failure::Short)),
        (Ok(Ok(())), Ok(())) => Ok(()),
    }
}

/// Why one direction stopped before its end.
enum Stop {
    /// The input or the output failed.
    Local(io::Error),
    Peer(Failure),
}

/// The sending thread: from the input to the peer until the input ends.
fn send(mut input: impl Read, mut writer: impl HalfClose, progress: &Progress) -> Result<(), Stop> {
    let mut buffer = vec![0; BUFFER];
    let ended = loop {
        progress.set_sender_awaits_peer_since(None);
        let length = match input.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => break Err(Stop::Local(error)),
        };
        // Counted before the write, or the echo could be back before its message counts as sent.
        progress.sent.fetch_add(length as u64, Relaxed);
        progress.set_sender_awaits_peer_since(Some(Instant::now()));
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            match writer.write(rest) {
                Ok(0) => return Err(Stop::Peer(Failure::Broken(ErrorKind::WriteZero.into()))),
                Ok(length) => {
                    rest = &rest[length..];
                    progress.set_sender_awaits_peer_since(Some(Instant::now()));
                }
                // Only the receiving thread can tell whether this has gone on for too long: it knows whether the peer
                // is stuck or waits for its echo to be read.
                Err(error) if is_pause(&error) && !progress.is_over.load(Relaxed) => {}
                Err(error) => return Err(Stop::Peer(Failure::Broken(error))),
            }
        }
    };
    progress.set_sender_awaits_peer_since(Some(Instant::now()));
    loop {
        match writer.finish() {
            Err(error) if is_pause(&error) && !progress.is_over.load(Relaxed) => {}
            // The connection is gone already: reading returns the reason.
            Err(error) if error.kind() != ErrorKind::NotConnected => return Err(Stop::Peer(Failure::Broken(error))),
            _ => return ended,
        }
    }
}

/// From the peer to the output until the peer ends its reply.
fn receive(
    mut reader: impl Read,
    output: &mut impl Write,
    timeout: Duration,
    deadline: Option<Instant>,
    progress: &Progress,
) -> Result<(), Stop> {
    let mut buffer = vec![0; BUFFER];
    let mut awaits_peer_since = Instant::now();
    loop {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Stop::Peer(Failure::Late));
        }
        let length = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if is_pause(&error) => {
                let sender = progress.sender_awaits_peer_since();
                if sender.is_some_and(|since| since.max(awaits_peer_since).elapsed() >= timeout) {
                    return Err(Stop::Peer(Failure::TimedOut(timeout)));
                }
                continue;
            }
            Err(error) => return Err(Stop::Peer(Failure::Broken(error))),
        };
        progress.received.fetch_add(length as u64, Relaxed);
        output.write_all(&buffer[..length]).and_then(|()| output.flush()).map_err(Stop::Local)?;
        awaits_peer_since = Instant::now();
    }
}

/// Whether an error only says that nothing has happened so far: a signal, or the timeout of a socket, which has one
/// of the other two kinds, depending on the system.
pub(super) fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
