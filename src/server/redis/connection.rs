//! One connection to Redis, with the readiness of an edge-triggered poll.

use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::net::SocketAddr;
use std::path::Path;

use mio::event::{Event, Source};
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustls::ClientConnection;
use socket2::SockRef;

use super::tls::{Settings, explained};
use crate::transport::tls::Tls;
use crate::transport::{Socket, Stream};

pub(super) struct Connection {
    link: Link,
    state: State,
    is_readable: bool,
    is_writable: bool,
    /// Reads stop short at the end of the stream, of which no further event will tell.
    is_ending: bool,
}

/// What bytes go through.
enum Link {
    Plain(Socket),
    Tls(Box<Tls<Socket, ClientConnection>>),
}

impl Link {
    fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.stream_mut(),
        }
    }

    fn stream(&mut self) -> &mut dyn Stream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &mut **tls,
        }
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    /// The TLS handshake is under way.
    Handshaking,
    /// It has just been made.
    Connected,
    /// It was made before.
    Open,
}

impl Connection {
    /// Over TLS if there are settings for it.
    pub(super) fn tcp(address: SocketAddr, tls: Option<&Settings>) -> io::Result<Self> {
        let socket = Socket::Tcp(TcpStream::connect(address)?);
        Ok(Self::new(match tls {
            Some(settings) => Link::Tls(Box::new(settings.over(socket)?)),
            None => Link::Plain(socket),
        }))
    }

    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        Ok(Self::new(Link::Plain(Socket::Unix(UnixStream::connect(path)?))))
    }

    fn new(link: Link) -> Self {
        Self { link, state: State::Connecting, is_readable: false, is_writable: false, is_ending: false }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.link.socket().register(registry, token, Interest::READABLE | Interest::WRITABLE)
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

    /// Whether there is something to do without an event.
    pub(super) fn has_work(&self) -> bool {
        matches!(self.state, State::Handshaking | State::Open) && self.is_readable
    }

    /// Looks whether the connection has been made, once an event has said that there is news.
    pub(super) fn advance(&mut self) -> io::Result<State> {
        if self.state == State::Connecting && mem::take(&mut self.is_writable) {
            match established(self.link.socket()) {
                Ok(()) => (self.state, self.is_writable) = (State::Handshaking, true),
                Err(error) if error.kind() == ErrorKind::NotConnected || is_in_progress(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if self.state == State::Handshaking && self.handshake()? {
            self.state = State::Open;
            return Ok(State::Connected);
        }
        Ok(self.state)
    }

    /// Goes on with the TLS handshake, where there is one. Returns whether it is done.
    fn handshake(&mut self) -> io::Result<bool> {
        let Link::Tls(tls) = &mut self.link else { return Ok(true) };
        let has_news = mem::take(&mut self.is_readable) | mem::take(&mut self.is_writable);
        if !has_news {
            return Ok(false);
        }
        loop {
            match tls.handshake() {
                Ok(()) => {
                    (self.is_readable, self.is_writable) = (true, true);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // The end of the stream has been told of, and is still to be read.
                    self.is_readable = self.is_ending;
                    return Ok(false);
                }
                Err(error) => return Err(explained(tls, error)),
            }
        }
    }

    /// Reads once. 0 means that nothing is there for now; the end of the connection is an error.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.link.stream().recv(buffer) {
            Ok(received) if received.count > 0 => {
                self.is_readable = self.is_ending || !received.is_drained;
                Ok(received.count)
            }
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => {
                let outcome = self.pause(error, |connection| &mut connection.is_readable);
                outcome.map_err(|error| match &mut self.link {
                    Link::Plain(_) => error,
                    Link::Tls(tls) => explained(tls, error),
                })
            }
            // Over TLS, Redis says in advance that it closes a connection only where it takes the time to.
            Ok(_) | Err(_) => Err(io::Error::other("it closed the connection")),
        }
    }

    /// Whether something that was sent waits to be written.
    pub(super) fn wants_write(&mut self) -> bool {
        self.link.stream().wants_write()
    }

    /// Writes once. 0 means that nothing is taken for now.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let slices = [IoSlice::new(bytes)];
        match self.link.stream().send(if bytes.is_empty() { &[] } else { &slices }) {
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
