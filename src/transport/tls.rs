//! TLS (rustls) over any stream, on either side: that of a server to its clients, and that of a client to Redis.
//!
//! Both verdicts of a plain socket are lost below TLS: decrypted bytes can wait here while the socket is drained, and
//! encrypted ones while nothing is queued above. So this says itself when it is drained and when it is blocked.
//!
//! What a peer can make it hold is bounded: an unfinished record of up to 16 KiB, decrypted bytes of up to one record
//! and 1 KiB, and 64 KiB of encrypted bytes that the socket does not take. rustls bounds what is neither: empty
//! records, key updates and alerts in a row.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::ops::DerefMut;
use std::sync::Arc;

use rustls::client::ClientConnectionData;
use rustls::pki_types::ServerName;
use rustls::server::ServerConnectionData;
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, InvalidMessage, ServerConfig, ServerConnection, SideData,
};

use super::{Received, Stream};
use crate::tls::reason;
use stream::Writer;

mod stream;

/// The most bytes of ciphertext that one read takes.
const READ: usize = 64 << 10;

/// The least bytes of ciphertext that one read takes, however few decrypted bytes are wanted: so few that what a
/// record leaves over still fits into rustls.
const LEAST_READ: usize = 1 << 10;

/// The same while nothing can be decrypted yet.
const HANDSHAKE_READ: usize = 4 << 10;

/// The most bytes that may come without one that is decrypted: a whole record, and the few empty ones and key updates
/// that rustls takes in a row. What is longer is a handshake message that no client has a use for:
/// greetings have less than 2 KiB, and chains of certificates a few.
const MAX_UNDELIVERED: usize = 24 << 10;

/// The most plaintext in one record.
const RECORD: usize = 16 << 10;

/// How the first record of a client begins: with a handshake.
const HANDSHAKE: u8 = 22;

/// The length of a record's header.
const HEADER: usize = 5;

thread_local! {
    /// Where ciphertext is read to, and short pieces of plaintext are gathered. What it holds is used up at once, so one is
    /// enough for all connections.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// What rustls has for one side of a connection.
pub trait Side: DerefMut<Target = ConnectionCommon<Self::Data>> {
    /// What only this side has.
    type Data: SideData;
}

impl Side for ServerConnection {
    type Data = ServerConnectionData;
}

impl Side for ClientConnection {
    type Data = ClientConnectionData;
}

/// One side of a TLS connection over a stream.
pub struct Tls<S: Stream, C: Side = ServerConnection> {
    stream: S,
    connection: C,
    /// Decrypted bytes that wait to be read.
    plaintext: usize,
    /// Bytes that came since the last one that was decrypted, or since the last message of the handshake that was answered:
    /// of an unfinished record, most often.
    undelivered: usize,
    /// Bytes that were taken to be sent and that may wait, encrypted, to be written.
    unsent: usize,
    /// Whether the last read drained the stream.
    is_drained: bool,
    /// Whether anything was received.
    has_begun: bool,
    /// The peer's side has ended, the peer broke the protocol, or the stream below broke: nothing more is read.
    end: Option<End>,
    ending: Ending,
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer said so.
    Closed,
    /// The peer broke the protocol, or said that we did.
    Failed,
    /// The stream below broke, of which it tells only once.
    Broken(ErrorKind),
}

/// How far our own end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Open,
    /// The alert that says so waits to be written; the end of the stream follows it.
    Finishing,
    Finished,
}

impl<S: Stream> Tls<S> {
    /// A connection whose client has not said anything yet. [`handshake`](Self::handshake) comes first.
    ///
    /// # Errors
    ///
    /// If the settings allow no connection.
    pub fn new(stream: S, config: Arc<ServerConfig>) -> io::Result<Self> {
        Ok(Self::over(stream, ServerConnection::new(config).map_err(io::Error::other)?))
    }
}

impl<S: Stream> Tls<S, ClientConnection> {
    /// A connection to a server whose certificate has to be for `name`. [`handshake`](Self::handshake) comes first.
    ///
    /// # Errors
    ///
    /// If the settings allow no connection.
    pub fn client(stream: S, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        Ok(Self::over(stream, ClientConnection::new(config, name).map_err(io::Error::other)?))
    }
}

impl<S: Stream, C: Side> Tls<S, C> {
    fn over(stream: S, connection: C) -> Self {
        Self {
            stream,
            connection,
            plaintext: 0,
            undelivered: 0,
            unsent: 0,
            is_drained: false,
            has_begun: false,
            end: None,
            ending: Ending::Open,
        }
    }

    /// Takes the handshake one step further: writes what waits to be written, reads once, and writes what follows. When
    /// this succeeds the handshake is done; what the client has sent right after it can be [`recv`](Self::recv)d, and what
    /// is still to be written goes out with what is [sent](Self::send) first: an empty `send` is enough.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`] if the next step has to wait for an event, unless one has told of the end of what the
    /// client sends; [`ErrorKind::Interrupted`] if it may come at once. Everything else is the end: the client has been
    /// sent an alert, where there is one for the reason.
    pub fn handshake(&mut self) -> io::Result<()> {
        if !self.connection.is_handshaking() {
            return Ok(());
        }
        self.flush()?;
        match self.decrypt(&mut [], HANDSHAKE_READ) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if !self.connection.is_handshaking() {
            return Ok(());
        }
        match self.flush() {
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Err(error),
            _ if self.is_drained => Err(ErrorKind::WouldBlock.into()),
            _ => Err(ErrorKind::Interrupted.into()),
        }
    }

    /// Ends a handshake that has not begun and that nothing more will come for: one read tells a client without TLS by its
    /// first byte, and no signature is made for one that is gone. The error says why it failed, as that of
    /// [`handshake`](Self::handshake) does.
    pub fn reject(&mut self) -> io::Error {
        let mut first = [0];
        match self.stream.recv(&mut first) {
            Ok(Received { count: 0, .. }) => return ErrorKind::UnexpectedEof.into(),
            Err(error) => return error,
            Ok(_) => {}
        }
        if first[0] == HANDSHAKE {
            self.has_begun = true;
            return truncated();
        }
        self.feed(&first, &mut []);
        self.failure()
    }

    /// Whether a read may bring something though no event comes for it.
    pub fn may_receive(&self) -> bool {
        !self.is_drained || self.plaintext > 0 || self.end.is_some()
    }

    /// Whether the client has said anything.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// What rustls knows of the connection.
    pub fn connection(&self) -> &C {
        &self.connection
    }

    /// The stream below.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream below.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Moves decrypted bytes to `buffer`. Returns how many.
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        if self.plaintext == 0 || buffer.is_empty() {
            return 0;
        }
        // It fails only where nothing waits.
        let count = self.connection.reader().read(buffer).unwrap_or(0);
        self.plaintext -= count.min(self.plaintext);
        count
    }

    /// Reads once from the stream, at least `least` bytes if they are there, and decrypts what came. Returns how much of
    /// it is in `buffer`; 0 is the end.
    fn decrypt(&mut self, buffer: &mut [u8], least: usize) -> io::Result<usize> {
        match self.end {
            Some(End::Closed) => return Ok(0),
            Some(End::Failed) => return Err(self.failure()),
            Some(End::Broken(kind)) => return Err(kind.into()),
            None if self.ending != Ending::Open => return self.discard(),
            None => {}
        }
        BUFFER.with_borrow_mut(|ciphertext| {
            // Nothing decrypts to more bytes than it had, so all of it fits.
            let limit = buffer.len().clamp(least, READ);
            let received = self.stream.recv(&mut ciphertext[..limit]);
            self.is_drained = match received.as_ref().map_err(io::Error::kind) {
                Ok(received) => received.is_drained,
                Err(ErrorKind::WouldBlock) => true,
                Err(ErrorKind::Interrupted) => false,
                Err(kind) => {
                    self.end = Some(End::Broken(kind));
                    false
                }
            };
            let received = received?.count;
            if received == 0 {
                return Err(truncated());
            }
            let count = self.feed(&ciphertext[..received], buffer);
            match self.end {
                _ if count > 0 => Ok(count),
                Some(End::Closed) => Ok(0),
                Some(_) => Err(self.failure()),
                // Whether the stream is drained, or at its end, only the next read can tell.
                None => Err(ErrorKind::Interrupted.into()),
            }
        })
    }

    /// Reads once after our end, when nothing that comes is of use any more. rustls does not see it: for a bad record it
    /// would send an alert behind `close_notify`, and its debug builds assert that it never does.
    fn discard(&mut self) -> io::Result<usize> {
        let received = BUFFER.with_borrow_mut(|buffer| self.stream.recv(buffer))?;
        self.is_drained = received.is_drained;
        if received.count == 0 { Ok(0) } else { Err(ErrorKind::Interrupted.into()) }
    }

    /// Decrypts `input`. Returns how many bytes of it are in `buffer`; what does not fit waits.
    fn feed(&mut self, mut input: &[u8], buffer: &mut [u8]) -> usize {
        let (mut count, length) = (0, input.len());
        if !self.has_begun && input.first().is_some_and(|first| *first != HANDSHAKE) && length < HEADER {
            // This is no TLS, but rustls wants to see a header to say so.
            input = &[0; HEADER];
        }
        self.has_begun = true;
        while !input.is_empty() && self.end.is_none() {
            let was_handshaking = self.connection.is_handshaking();
            let Ok(taken @ 1..) = self.connection.read_tls(&mut input) else {
                self.end = Some(End::Failed);
                break;
            };
            let Ok(state) = self.connection.process_new_packets() else {
                self.end = Some(End::Failed);
                // It may be followed by the alert that tells the peer why.
                _ = self.flush();
                break;
            };
            let has_more = state.plaintext_bytes_to_read() > self.plaintext;
            self.plaintext = state.plaintext_bytes_to_read();
            let is_answered = was_handshaking && (self.connection.wants_write() || !self.connection.is_handshaking());
            self.undelivered = if has_more || is_answered { 0 } else { self.undelivered + taken };
            count += self.take(&mut buffer[count..]);
            if state.peer_has_closed() {
                (self.end, self.undelivered) = (Some(End::Closed), 0);
            } else if self.undelivered > MAX_UNDELIVERED {
                self.end = Some(End::Failed);
            }
        }
        if self.is_drained && length > LEAST_READ {
            self.shrink();
        }
        count
    }

    /// Encrypts several short slices as one, so that they share records. (rustls could do that too, but allocates for it.)
    fn gather(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut length = 0;
            for slice in slices {
                let count = slice.len().min(buffer.len() - length);
                buffer[length..length + count].copy_from_slice(&slice[..count]);
                length += count;
            }
            self.connection.writer().write(&buffer[..length])
        })
    }

    /// Gives back what rustls keeps of a long record.
    fn shrink(&mut self) {
        struct Nothing;
        impl Read for Nothing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(ErrorKind::WouldBlock.into())
            }
        }
        // It fits its buffer to what it holds before it reads.
        _ = self.connection.read_tls(&mut Nothing);
    }

    /// What rustls found wrong, if it did.
    pub fn error(&mut self) -> Option<rustls::Error> {
        self.connection.process_new_packets().err()
    }

    /// Why the connection failed.
    fn failure(&mut self) -> io::Error {
        match self.connection.process_new_packets() {
            Err(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType))
                if self.connection.is_handshaking() =>
            {
                io::Error::new(ErrorKind::InvalidData, "not TLS")
            }
            Err(error @ rustls::Error::AlertReceived(_)) => {
                io::Error::new(ErrorKind::ConnectionAborted, reason(&error))
            }
            Err(error) => io::Error::new(ErrorKind::InvalidData, reason(&error)),
            Ok(_) => io::Error::new(ErrorKind::InvalidData, "a message that is too long"),
        }
    }

    /// Writes what was taken before, and then our end if it is due.
    fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            let mut writer = Writer { stream: &mut self.stream, is_blocked: false };
            let written = self.connection.write_tls(&mut writer)?;
            // What is written is a little more than what was taken to be sent.
            self.unsent = self.unsent.saturating_sub(written);
            if writer.is_blocked && self.connection.wants_write() {
                return Err(ErrorKind::WouldBlock.into());
            }
        }
        self.unsent = 0;
        if self.ending == Ending::Finishing {
            self.ending = Ending::Finished;
            self.stream.finish()?;
        }
        Ok(())
    }
}

impl<S: Stream + fmt::Debug, C: Side> fmt::Debug for Tls<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("stream", &self.stream)
            .field("plaintext", &self.plaintext)
            .field("undelivered", &self.undelivered)
            .field("unsent", &self.unsent)
            .field("end", &self.end)
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}

fn truncated() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "ended without close_notify")
}
