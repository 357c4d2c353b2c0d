//! The socket of a client, of whatever kind.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::os::fd::{AsFd, BorrowedFd};

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use super::proxy::MAX_HEADER;
use super::tls::Tls;
use super::{Received, Sent, Stream};

/// The socket of a client: each kind is a [`Stream`] of its own.
#[derive(Debug)]
pub enum Socket {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TCP, where so many bytes of a PROXY header are still to be read before those of the client. They have arrived, with
    /// some of the client's behind them, so one read takes both.
    Announced {
        /// The stream.
        stream: TcpStream,
        /// The length of what is left of the header.
        header: u16,
    },
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over one of the others.
    Tls(Box<Tls<Socket>>),
}

impl Stream for Socket {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        match self {
            Self::Tcp(stream) => stream.recv(buffer),
            Self::Announced { stream, header } => recv_behind(header, stream, buffer),
            Self::Unix(stream) => stream.recv(buffer),
            Self::Tls(stream) => stream.recv(buffer),
        }
    }

    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Sent> {
        match self {
            Self::Tcp(stream) | Self::Announced { stream, .. } => stream.send(slices),
            Self::Unix(stream) => stream.send(slices),
            Self::Tls(stream) => stream.send(slices),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) | Self::Announced { stream, .. } => stream.finish(),
            Self::Unix(stream) => stream.finish(),
            Self::Tls(stream) => stream.finish(),
        }
    }

    fn unread(&self) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.unread(),
            Self::Announced { stream, header } => Ok(stream.unread()?.saturating_sub(usize::from(*header))),
            Self::Unix(stream) => stream.unread(),
            Self::Tls(stream) => stream.unread(),
        }
    }

    fn has_unsent(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(stream) | Self::Announced { stream, .. } => stream.has_unsent(),
            Self::Unix(stream) => stream.has_unsent(),
            Self::Tls(stream) => stream.has_unsent(),
        }
    }

    fn reset_on_drop(&mut self) {
        match self {
            Self::Tcp(stream) | Self::Announced { stream, .. } => stream.reset_on_drop(),
            Self::Unix(stream) => stream.reset_on_drop(),
            Self::Tls(stream) => stream.reset_on_drop(),
        }
    }

    fn unsent(&self) -> usize {
        match self {
            Self::Tcp(stream) | Self::Announced { stream, .. } => stream.unsent(),
            Self::Unix(stream) => stream.unsent(),
            Self::Tls(stream) => stream.unsent(),
        }
    }

    fn wants_write(&self) -> bool {
        match self {
            Self::Tcp(stream) | Self::Announced { stream, .. } => stream.wants_write(),
            Self::Unix(stream) => stream.wants_write(),
            Self::Tls(stream) => stream.wants_write(),
        }
    }

    fn held(&self) -> usize {
        match self {
            Self::Tcp(stream) | Self::Announced { stream, .. } => stream.held(),
            Self::Unix(stream) => stream.held(),
            Self::Tls(stream) => stream.held(),
        }
    }

    fn ends_on_drop(&self) -> bool {
        match self {
            Self::Tcp(stream) | Self::Announced { stream, .. } => stream.ends_on_drop(),
            Self::Unix(stream) => stream.ends_on_drop(),
            Self::Tls(stream) => stream.ends_on_drop(),
        }
    }
}

/// Reads what is behind the header.
fn recv_behind(header: &mut u16, stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Received> {
    while *header > 0 {
        let mut skipped = [0; MAX_HEADER];
        let skipped = &mut skipped[..usize::from(*header)];
        let mut slices = [IoSliceMut::new(skipped), IoSliceMut::new(&mut *buffer)];
        let count = stream.read_vectored(&mut slices)?;
        match count.checked_sub(usize::from(*header)) {
            Some(count @ 1..) => {
                *header = 0;
                return Ok(Received::plain(count, buffer.len()));
            }
            _ if count == 0 => return Ok(Received { count: 0, is_drained: true }),
            _ => *header -= count as u16,
        }
    }
    stream.recv(buffer)
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) | Self::Announced { stream, .. } => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.stream().as_fd(),
        }
    }
}

impl Source for Socket {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) | Self::Announced { stream, .. } => stream.register(registry, token, interests),
            Self::Unix(stream) => stream.register(registry, token, interests),
            Self::Tls(stream) => stream.stream_mut().register(registry, token, interests),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) | Self::Announced { stream, .. } => stream.reregister(registry, token, interests),
            Self::Unix(stream) => stream.reregister(registry, token, interests),
            Self::Tls(stream) => stream.stream_mut().reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(stream) | Self::Announced { stream, .. } => stream.deregister(registry),
            Self::Unix(stream) => stream.deregister(registry),
            Self::Tls(stream) => stream.stream_mut().deregister(registry),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn a_header_is_skipped_however_little_is_read_at_once() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"headerhello").unwrap();
        // This one blocks.
        let stream = TcpStream::from_std(listener.accept().unwrap().0);
        let mut socket = Socket::Announced { stream, header: 6 };
        assert_eq!(socket.unread().unwrap(), 5);
        let mut buffer = [0; 3];
        assert_eq!(socket.recv(&mut buffer).unwrap(), Received { count: 3, is_drained: false });
        assert_eq!(&buffer, b"hel");
        assert_eq!(socket.unread().unwrap(), 2);
        assert_eq!(socket.recv(&mut buffer).unwrap(), Received { count: 2, is_drained: true });
        assert_eq!(&buffer[..2], b"lo");
        drop(client);
        assert_eq!(socket.recv(&mut buffer).unwrap().count, 0);
    }
}
