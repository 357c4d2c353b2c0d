//! The exchange: a thread sends the input while the caller's thread puts out what comes back.
//!
//! Writing and reading at the same time is what keeps a long message from getting stuck: a server with
//! any fixed buffer stops reading once nobody takes its echo.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Error, Failure};

/// What is read and written at once, in bytes, in each direction.
const BUFFER: usize = 64 << 10;

/// How long the sending thread may take to notice that its input has ended once the reply has. It needs
/// microseconds; only an input that really has not ended makes anyone wait so long.
const LAST_WORD: Duration = Duration::from_millis(100);

/// The other end of an exchange: where the message goes and the reply comes from.
#[derive(Debug)]
pub struct Peer<R, W = R> {
    /// What errors call it, as in `localhost port 8888`.
    pub name: String,
    /// How long it may neither take nor send anything. The time runs only while it alone is waited for:
    /// not while the input has nothing to send, nor while the output takes nothing. It is looked at whenever
    /// `reader` fails with [`ErrorKind::WouldBlock`] or [`ErrorKind::TimedOut`], so a reader that never
    /// does is waited for without end.
    pub timeout: Duration,
    /// Where the reply comes from.
    pub reader: R,
    /// Where the message goes, unbuffered. A write that fails with [`ErrorKind::WouldBlock`] or
    /// [`ErrorKind::TimedOut`] is tried again.
    pub writer: W,
}

/// A writer that can say that nothing more will come, while the other direction stays open.
pub trait HalfClose: Write {
    /// Ends the outgoing direction.
    ///
    /// # Errors
    ///
    /// Those of the system; [`ErrorKind::NotConnected`] if the connection is gone already.
    fn finish(&mut self) -> io::Result<()>;
}

impl HalfClose for TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// How far an exchange has come. Any thread may watch it.
#[derive(Debug, Default)]
pub struct Progress {
    sent: AtomicU64,
    received: AtomicU64,
    /// Since when the sending thread has waited for the peer; `None` while it waits for its input.
    awaits_peer_since: Mutex<Option<Instant>>,
    /// Nobody waits for the sending thread any more.
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

    /// The error for what `peer` did, at this point.
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

/// Sends `input` to `peer`, half-closes, and writes to `output` what comes back until the peer ends its reply:
/// no more, and no less. `output` is flushed after every read. Memory stays constant, whatever the length.
///
/// Returns once the reply has ended and is at least as long as the message. A longer one is put out too;
/// `progress`, which starts at zero, tells. Whether it is the same bytes is the question of [`check`](super::check()).
///
/// The input is read by a thread of its own. If the peer ends early while that thread is stuck in a read (a
/// terminal, an idle pipe), the exchange returns at once and leaves it behind; it ends when its read does.
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
    let Peer { name, timeout, reader, writer } = peer;
    let (report, reported) = mpsc::channel();
    let sending = Arc::clone(progress);
    thread::spawn(move || report.send(send(input, writer, &sending)));

    let received = receive(reader, output, timeout, progress);
    progress.is_over.store(true, Relaxed);

    // The reply is as long as it will get; whether that is long enough is known when the input has ended. If
    // both directions failed, the input's failure is the cause: without it the peer had not been done.
    let sent = match received {
        Ok(()) => reported.recv_timeout(LAST_WORD),
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
                // Whether this has gone on for too long is for the receiving thread to say, which knows
                // whether the peer is stuck or only waits for us to take its echo.
                Err(error) if is_pause(&error) && !progress.is_over.load(Relaxed) => {}
                Err(error) => return Err(Stop::Peer(Failure::Broken(error))),
            }
        }
    };
    progress.set_sender_awaits_peer_since(Some(Instant::now()));
    match writer.finish() {
        // The connection is gone already: reading has told, or will tell, how.
        Err(error) if error.kind() != ErrorKind::NotConnected => Err(Stop::Peer(Failure::Broken(error))),
        _ => ended,
    }
}

/// From the peer to the output until the peer ends its reply.
fn receive(mut reader: impl Read, output: &mut impl Write, timeout: Duration, progress: &Progress) -> Result<(), Stop> {
    let mut buffer = vec![0; BUFFER];
    let mut awaits_peer_since = Instant::now();
    loop {
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

/// Whether an error only says that nothing happened so far: a signal, or a socket's timeout, which comes
/// under either of the other two names.
fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
