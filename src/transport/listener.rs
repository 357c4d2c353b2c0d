//! The listening sockets.

mod inherited;
mod tcp;
mod unix;

use std::fmt;
use std::io;
use std::net::SocketAddr;

use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::{Socket, unix::prepare};
use crate::address::PeerAddress;
use crate::config::Config;
use crate::error::reason;
pub use inherited::Inherited;
use unix::SocketFile;

/// How many connections the kernel keeps for us until they are accepted. With the usual 128, a burst of 150
/// clients costs some of them a second, until their first packet is sent again. The kernel takes at most
/// `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;

/// `TCP_NOTSENT_LOWAT` in a room, in bytes: what waits for a slow member waits here, where it is shared, and its progress
/// shows soon. Measured with a member that reads nothing: the kernel then holds 250 KiB for it instead of 3.8 MiB.
const ROOM_NOTSENT_LOWAT: u32 = 128 << 10;

/// What an address to listen on begins with if it is that of a Unix socket.
pub(crate) const UNIX_PREFIX: &str = "unix:";

/// A non-blocking socket that listens.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// The file is that of a path that this server has bound.
    Unix {
        file: Option<SocketFile>,
        socket: UnixListener,
    },
}

/// Listens as `config` says.
///
/// # Errors
///
/// The first address that cannot be bound, with the system's reason and kind.
pub(crate) fn listen(config: &Config) -> io::Result<Vec<Listener>> {
    let (mut hosts, mut names) = (Vec::new(), Vec::new());
    for address in &config.bind {
        match address.strip_prefix(UNIX_PREFIX) {
            Some(name) if names.contains(&name) => {}
            Some(name) => names.push(name),
            None => hosts.push(address.as_str()),
        }
    }
    let mut listeners = Vec::new();
    if !hosts.is_empty() || names.is_empty() {
        let sockets = tcp::listen(&hosts, config.port, options(config))?;
        listeners.extend(sockets.into_iter().map(|socket| Listener::Tcp(TcpListener::from_std(socket))));
    }
    for name in names {
        let (socket, file) = unix::listen(name)?;
        listeners.push(Listener::Unix { file, socket: UnixListener::from_std(socket) });
    }
    Ok(listeners)
}

/// Listens on inherited sockets, with the same options as on others. Their backlog is left as it is.
///
/// # Errors
///
/// The system's.
pub(crate) fn adopt(inherited: Inherited, config: &Config) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for socket in inherited.tcp {
        tcp::prepare(SockRef::from(&socket), options(config))?;
        listeners.push(Listener::Tcp(TcpListener::from_std(socket)));
    }
    for socket in inherited.unix {
        socket.set_nonblocking(true)?;
        listeners.push(Listener::Unix { file: None, socket: UnixListener::from_std(socket) });
    }
    Ok(listeners)
}

fn options(config: &Config) -> tcp::Options {
    tcp::Options { notsent_lowat: config.chat.then_some(ROOM_NOTSENT_LOWAT), reuse_port: config.reuse_port }
}

impl Listener {
    /// The address of a TCP socket.
    pub(crate) fn tcp_address(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            Self::Unix { .. } => Ok(None),
        }
    }

    /// Removes the file of its own, so that nobody connects any more; those that wait can still be accepted. TCP has no
    /// such thing.
    pub(crate) fn remove_file(&mut self) {
        if let Self::Unix { file, .. } = self {
            *file = None;
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(listener) => listener,
            Self::Unix { socket, .. } => socket,
        }
    }

    /// The next connection that waits, and where it comes from.
    ///
    /// # Errors
    ///
    /// The system's; [`io::ErrorKind::WouldBlock`] means that none waits.
    pub(crate) fn accept(&self) -> io::Result<(Socket, PeerAddress)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                Ok((Socket::Tcp(stream), address.into()))
            }
            Self::Unix { socket, .. } => {
                let (stream, _) = socket.accept()?;
                let address = prepare(&stream);
                Ok((Socket::Unix(stream), address))
            }
        }
    }
}

impl Source for Listener {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}

/// The same error with a sentence that says `what` failed.
fn explain(error: &io::Error, what: fmt::Arguments<'_>) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {}", reason(error)))
}
