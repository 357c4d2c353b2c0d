//! One connection to Redis, with the readiness of an edge-triggered poll.

use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::net::SocketAddr;
use std::path::Path;

use mio::event::{Event, Source};
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use socket2::SockRef;

use crate::transport::{Socket, Stream};

pub(super) struct Connection {
    socket: Socket,
    state: State,
    is_readable: bool,
    is_writable: bool,
    /// Reads stop short at the end of the stream, of which no further event will tell.
    is_ending: bool,
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

impl Connection {
    pub(super) fn tcp(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::new(Socket::Tcp(TcpStream::connect(address)?)))
    }

    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        Ok(Self::new(Socket::Unix(UnixStream::connect(path)?)))
    }

    fn new(socket: Socket) -> Self {
        Self { socket, state: State::Connecting, is_readable: false, is_writable: false, is_ending: false }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket.register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Notes what an event says; what it says too much does no harm.
    pub(super) fn on_ready(&mut self, event: &Event) {
        self.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.is_writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        self.is_ending |= event.is_read_closed() || event.is_error();
    }

    /// Whether the connection has been made.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    pub(super) fn is_readable(&self) -> bool {
        self.state == State::Open && self.is_readable
    }

    pub(super) fn is_writable(&self) -> bool {
        self.state == State::Open && self.is_writable
    }

    /// Looks whether the connection has been made, once an event has said that there is news.
    pub(super) fn connect_on(&mut self) -> io::Result<State> {
        if self.state == State::Open || !mem::take(&mut self.is_writable) {
            return Ok(self.state);
        }
        match established(&self.socket) {
            Ok(()) => {
                (self.state, self.is_writable) = (State::Open, true);
                Ok(State::Connected)
            }
            Err(error) if error.kind() == ErrorKind::NotConnected || is_in_progress(&error) => Ok(State::Connecting),
            Err(error) => Err(error),
        }
    }

    /// Reads once. 0 means that nothing is there for now; the end of the connection is an error.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.socket.recv(buffer) {
            Ok(received) if received.count == 0 => Err(io::Error::other("it closed the connection")),
            Ok(received) => {
                self.is_readable = self.is_ending || !received.is_drained;
                Ok(received.count)
            }
            Err(error) => self.pause(error, |connection| &mut connection.is_readable),
        }
    }

    /// Writes once. 0 means that nothing is taken for now.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.socket.send(&[IoSlice::new(bytes)]) {
            Ok(sent) => {
                self.is_writable = !sent.is_blocked;
                Ok(sent.count)
            }
            Err(error) => self.pause(error, |connection| &mut connection.is_writable),
        }
    }

    fn pause(&mut self, error: io::Error, flag: fn(&mut Self) -> &mut bool) -> io::Result<usize> {
        match error.kind() {
            ErrorKind::WouldBlock => *flag(self) = false,
            ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
        Ok(0)
    }
}

/// Whether the connection has been made; if it is on its way the error says so.
fn established(socket: &Socket) -> io::Result<()> {
    let socket_ref = SockRef::from(socket);
    if let Some(error) = socket_ref.take_error()? {
        return Err(error);
    }
    let peer = socket_ref.peer_addr()?;
    if let Socket::Tcp(stream) = socket {
        // Where nobody listens on a port of the range from which ports are given out, a socket may connect to itself.
        if peer.as_socket() == Some(stream.local_addr()?) {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        stream.set_nodelay(true)?;
    }
    Ok(())
}

fn is_in_progress(error: &io::Error) -> bool {
    error.raw_os_error().map(Errno::from_raw_os_error) == Some(Errno::INPROGRESS)
}
