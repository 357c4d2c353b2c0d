//! The socket of a client, of whatever kind.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use super::{Received, Sent, Stream};

/// The socket of a client: each kind is a [`Stream`] of its own.
#[derive(Debug)]
pub enum Socket {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Stream for Socket {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        match self {
            Self::Tcp(stream) => stream.recv(buffer),
            Self::Unix(stream) => stream.recv(buffer),
        }
    }

    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Sent> {
        match self {
            Self::Tcp(stream) => stream.send(slices),
            Self::Unix(stream) => stream.send(slices),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.finish(),
            Self::Unix(stream) => stream.finish(),
        }
    }

    fn unread(&self) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.unread(),
            Self::Unix(stream) => stream.unread(),
        }
    }

    fn has_unsent(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(stream) => stream.has_unsent(),
            Self::Unix(stream) => stream.has_unsent(),
        }
    }

    fn reset_on_drop(&mut self) {
        match self {
            Self::Tcp(stream) => stream.reset_on_drop(),
            Self::Unix(stream) => stream.reset_on_drop(),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Source for Socket {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interests),
            Self::Unix(stream) => stream.register(registry, token, interests),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.reregister(registry, token, interests),
            Self::Unix(stream) => stream.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.deregister(registry),
            Self::Unix(stream) => stream.deregister(registry),
        }
    }
}
