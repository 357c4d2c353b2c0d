//! The socket of a client, of whatever kind.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use super::tls::Tls;
use super::{Received, Sent, Stream};

/// The socket of a client: each kind is a [`Stream`] of its own.
#[derive(Debug)]
pub enum Socket {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over one of the others.
    Tls(Box<Tls<Socket>>),
}

impl Stream for Socket {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        match self {
            Self::Tcp(stream) => stream.recv(buffer),
            Self::Unix(stream) => stream.recv(buffer),
            Self::Tls(stream) => stream.recv(buffer),
        }
    }

    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Sent> {
        match self {
            Self::Tcp(stream) => stream.send(slices),
            Self::Unix(stream) => stream.send(slices),
            Self::Tls(stream) => stream.send(slices),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.finish(),
            Self::Unix(stream) => stream.finish(),
            Self::Tls(stream) => stream.finish(),
        }
    }

    fn unread(&self) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.unread(),
            Self::Unix(stream) => stream.unread(),
            Self::Tls(stream) => stream.unread(),
        }
    }

    fn has_unsent(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(stream) => stream.has_unsent(),
            Self::Unix(stream) => stream.has_unsent(),
            Self::Tls(stream) => stream.has_unsent(),
        }
    }

    fn reset_on_drop(&mut self) {
        match self {
            Self::Tcp(stream) => stream.reset_on_drop(),
            Self::Unix(stream) => stream.reset_on_drop(),
            Self::Tls(stream) => stream.reset_on_drop(),
        }
    }

    fn unsent(&self) -> usize {
        match self {
            Self::Tcp(stream) => stream.unsent(),
            Self::Unix(stream) => stream.unsent(),
            Self::Tls(stream) => stream.unsent(),
        }
    }

    fn wants_write(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.wants_write(),
            Self::Unix(stream) => stream.wants_write(),
            Self::Tls(stream) => stream.wants_write(),
        }
    }

    fn held(&self) -> usize {
        match self {
            Self::Tcp(stream) => stream.held(),
            Self::Unix(stream) => stream.held(),
            Self::Tls(stream) => stream.held(),
        }
    }

    fn ends_on_drop(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.ends_on_drop(),
            Self::Unix(stream) => stream.ends_on_drop(),
            Self::Tls(stream) => stream.ends_on_drop(),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.stream().as_fd(),
        }
    }
}

impl Source for Socket {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interests),
            Self::Unix(stream) => stream.register(registry, token, interests),
            Self::Tls(stream) => stream.stream_mut().register(registry, token, interests),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.reregister(registry, token, interests),
            Self::Unix(stream) => stream.reregister(registry, token, interests),
            Self::Tls(stream) => stream.stream_mut().reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.deregister(registry),
            Self::Unix(stream) => stream.deregister(registry),
            Self::Tls(stream) => stream.stream_mut().deregister(registry),
        }
    }
}
