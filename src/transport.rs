//! Byte streams to peers, the sockets that listen for them, and the header by which a proxy announces a client.

pub(crate) mod listener;
pub mod proxy;
mod socket;
mod tcp;
pub mod tls;
pub(crate) mod unix;

use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;

use rustix::io::ioctl_fionread;

pub use socket::Socket;

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes read; 0 is the end of the stream.
    pub count: usize,
    /// Whether nothing more can be read until an event says so.
    pub is_drained: bool,
}

/// What one write took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Bytes written.
    pub count: usize,
    /// Whether nothing more can be written until an event says so.
    pub is_blocked: bool,
}

/// A non-blocking byte stream with a peer at its other end.
///
/// Whether a short read means "drained" and a short write means "full" depends on what is below: it holds for plain
/// sockets, and not where a layer such as TLS buffers in between. So each call reports the verdict of its transport.
pub trait Stream {
    /// Reads once into `buffer`, which is not empty.
    ///
    /// # Errors
    ///
    /// The system's; [`io::ErrorKind::WouldBlock`] means that the stream is drained.
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Received>;

    /// Writes once from `slices`, which are not empty, unless the stream [wants to write](Self::wants_write) what it has
    /// taken before.
    ///
    /// # Errors
    ///
    /// The system's; [`io::ErrorKind::WouldBlock`] means that the stream is blocked.
    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Sent>;

    /// Ends our side of the stream (shutdown(2) with `SHUT_WR`): the peer reads to the end of file after
    /// everything written so far. It is done once the stream does not [want to write](Self::wants_write).
    fn finish(&mut self) -> io::Result<()>;

    /// Bytes that can be read without waiting (`FIONREAD`, tcp(7)), or a few more: the stream is drained after that.
    fn unread(&self) -> io::Result<usize>;

    /// Whether the system holds bytes that were written here and that it has not sent yet, as while the peer does not
    /// read. Those that are on their way count as sent: only the ioctl `SIOCOUTQ`, which takes unsafe code, knows more.
    fn has_unsent(&self) -> io::Result<bool>;

    /// Makes dropping the stream send a reset instead of a normal close (socket(7), `SO_LINGER`), and give back what the
    /// system holds for it. A Unix socket knows no such thing: its peer reads to the end of what was written, and sees a
    /// reset behind it only if it has sent something that was not read.
    fn reset_on_drop(&mut self) {}

    /// Bytes that [`send`](Self::send) took and that are not written yet.
    fn unsent(&self) -> usize {
        0
    }

    /// Whether something waits to be written, be it only of the stream's own protocol.
    fn wants_write(&self) -> bool {
        false
    }

    /// Bytes of memory that are held for what is neither written nor [received](Self::recv).
    fn held(&self) -> usize {
        0
    }

    /// Whether dropping the stream is enough to tell the peer that it has got everything.
    fn ends_on_drop(&self) -> bool {
        true
    }
}

impl Received {
    /// The verdict of a plain socket: on epoll and kqueue a read that does not fill the buffer has drained it,
    /// because whatever comes later is a new event (epoll(7), questions and answers).
    pub fn plain(count: usize, offered: usize) -> Self {
        Self { count, is_drained: count < offered }
    }
}

impl Sent {
    /// The verdict of a plain socket: a write that takes less than it is offered has filled it, and an event follows
    /// when there is room again, as after a write that is refused: the kernel notes both alike (`SOCK_NOSPACE`).
    pub fn plain(count: usize, offered: usize) -> Self {
        Self { count, is_blocked: count < offered }
    }
}

/// How many bytes can be read from a plain socket without waiting.
fn unread_plain(socket: &impl AsFd) -> io::Result<usize> {
    Ok(usize::try_from(ioctl_fionread(socket)?).unwrap_or(usize::MAX))
}

/// Writes once to a plain socket.
fn write_plain(socket: &mut impl Write, slices: &[IoSlice<'_>]) -> io::Result<Sent> {
    // One slice goes out by write(2), which costs less than writev(2).
    let (count, offered) = match slices {
        [one] => (socket.write(one)?, one.len()),
        _ => (socket.write_vectored(slices)?, slices.iter().map(|slice| slice.len()).sum()),
    };
    Ok(Sent::plain(count, offered))
}
