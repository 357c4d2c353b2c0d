//! The listening sockets.

mod tcp;

use std::io;
use std::net::SocketAddr;

use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};

use super::{Socket, unix};
use crate::address::PeerAddress;
use crate::config::Config;

/// How many connections the kernel keeps for us until they are accepted. With the usual 128, a burst of 150
/// clients costs some of them a second, until their first packet is sent again. The kernel takes at most
/// `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;

/// `TCP_NOTSENT_LOWAT` in a room, in bytes: what waits for a slow member waits here, where it is shared, and its progress
/// shows soon. Measured with a member that reads nothing: the kernel then holds 250 KiB for it instead of 3.8 MiB.
const ROOM_NOTSENT_LOWAT: u32 = 128 << 10;

/// A non-blocking socket that listens.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Listens as `config` says.
///
/// # Errors
///
/// The first address that cannot be bound, with the system's reason and kind.
pub(crate) fn listen(config: &Config) -> io::Result<Vec<Listener>> {
    let notsent_lowat = config.chat.then_some(ROOM_NOTSENT_LOWAT);
    let listeners = tcp::listen(&config.bind, config.port, notsent_lowat)?;
    Ok(listeners.into_iter().map(|listener| Listener::Tcp(TcpListener::from_std(listener))).collect())
}

impl Listener {
    /// The address of a TCP socket.
    pub(crate) fn tcp_address(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            Self::Unix(_) => Ok(None),
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
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                let address = unix::prepare(&stream);
                Ok((Socket::Unix(stream), address))
            }
        }
    }
}

impl Source for Listener {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.register(registry, token, interests),
            Self::Unix(listener) => listener.register(registry, token, interests),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.reregister(registry, token, interests),
            Self::Unix(listener) => listener.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.deregister(registry),
            Self::Unix(listener) => listener.deregister(registry),
        }
    }
}
