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
    /// TCP from a proxy: what is left of the PROXY header comes before the client's bytes. It has arrived, with some of the
    /// client's bytes behind it, so one read takes both.
    Announced {
        /// The stream.
        stream: TcpStream,
        /// What is left of the header, in bytes.
        header: u16,
    },
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over one of the others.
    Tls(Box<Tls<Socket>>),
}

/// Does the same with each kind of stream.
macro_rules! each {
    ($socket:expr, $stream:ident => $work:expr) => {
        match $socket {
            Socket::Tcp($stream) | Socket::Announced { stream: $stream, .. } => $work,
            Socket::Unix($stream) => $work,
            Socket::Tls($stream) => $work,
        }
    };
}

impl Socket {
    /// Where the events come from.
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) | Self::Announced { stream, .. } => stream,
            Self::Unix(stream) => stream,
            Self::Tls(stream) => stream.stream_mut(),
        }
    }
}

impl Stream for Socket {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        match self {
            Self::Announced { stream, header } => recv_behind(header, stream, buffer),
            socket => each!(socket, stream => stream.recv(buffer)),
        }
    }

    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Sent> {
        each!(self, stream => stream.send(slices))
    }

    fn finish(&mut self) -> io::Result<()> {
        each!(self, stream => stream.finish())
    }

    fn unread(&self) -> io::Result<usize> {
        match self {
            Self::Announced { stream, header } => Ok(stream.unread()?.saturating_sub(usize::from(*header))),
            socket => each!(socket, stream => stream.unread()),
        }
    }

    fn has_unsent(&self) -> io::Result<bool> {
        each!(self, stream => stream.has_unsent())
    }

    fn reset_on_drop(&mut self) {
        each!(self, stream => stream.reset_on_drop())
    }

    fn unsent(&self) -> usize {
        each!(self, stream => stream.unsent())
    }

    fn wants_write(&self) -> bool {
        each!(self, stream => stream.wants_write())
    }

    fn held(&self) -> usize {
        each!(self, stream => stream.held())
    }

    fn ends_on_drop(&self) -> bool {
        each!(self, stream => stream.ends_on_drop())
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
        self.source().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
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
