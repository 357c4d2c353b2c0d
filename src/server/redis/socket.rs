//! One socket to Redis.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::SocketAddr;
use std::path::Path;

use mio::event::{Event, Source};
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;

/// A non-blocking socket with the readiness of an edge-triggered poll.
pub(super) struct Socket {
    stream: Stream,
    is_connected: bool,
    is_readable: bool,
    is_writable: bool,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    /// It has just been made.
    Connected,
    /// It was made before.
    Open,
}

impl Socket {
    pub(super) fn tcp(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::new(Stream::Tcp(TcpStream::connect(address)?)))
    }

    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        Ok(Self::new(Stream::Unix(UnixStream::connect(path)?)))
    }

    fn new(stream: Stream) -> Self {
        Self { stream, is_connected: false, is_readable: false, is_writable: false }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interests = Interest::READABLE | Interest::WRITABLE;
        match &mut self.stream {
            Stream::Tcp(stream) => stream.register(registry, token, interests),
            Stream::Unix(stream) => stream.register(registry, token, interests),
        }
    }

    /// Notes what an event says; what it says too much does no harm.
    pub(super) fn on_ready(&mut self, event: &Event) {
        self.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.is_writable |= event.is_writable() || event.is_write_closed() || event.is_error();
    }

    pub(super) fn is_readable(&self) -> bool {
        self.is_connected && self.is_readable
    }

    pub(super) fn is_writable(&self) -> bool {
        self.is_connected && self.is_writable
    }

    /// Looks whether the connection has been made, once an event has said that there is news.
    pub(super) fn connect_on(&mut self) -> io::Result<State> {
        if self.is_connected {
            return Ok(State::Open);
        }
        if !mem::take(&mut self.is_writable) {
            return Ok(State::Connecting);
        }
        match self.established() {
            Ok(()) => {
                (self.is_connected, self.is_writable) = (true, true);
                Ok(State::Connected)
            }
            Err(error) if error.kind() == ErrorKind::NotConnected || is_in_progress(&error) => Ok(State::Connecting),
            Err(error) => Err(error),
        }
    }

    fn established(&mut self) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => {
                if let Some(error) = stream.take_error()? {
                    return Err(error);
                }
                // Where nobody listens on a port of the range from which ports are given out, a socket may connect to itself.
                if stream.peer_addr()? == stream.local_addr()? {
                    return Err(ErrorKind::ConnectionRefused.into());
                }
                stream.set_nodelay(true)
            }
            Stream::Unix(stream) => {
                if let Some(error) = stream.take_error()? {
                    return Err(error);
                }
                stream.peer_addr().map(|_| ())
            }
        }
    }

    /// Reads once. 0 means that nothing is there for now; the end of the connection is an error.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let outcome = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        };
        match outcome {
            Ok(0) => Err(io::Error::other("it closed the connection")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.is_readable = false;
                Ok(0)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            outcome => outcome,
        }
    }

    /// Writes once. 0 means that nothing is taken for now.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = match &mut self.stream {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        };
        match outcome {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.is_writable = false;
                Ok(0)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            outcome => outcome,
        }
    }
}

fn is_in_progress(error: &io::Error) -> bool {
    error.raw_os_error().map(Errno::from_raw_os_error) == Some(Errno::INPROGRESS)
}
