//! Byte streams to peers, and the sockets that listen for them.

pub(crate) mod listener;
mod tcp;

use std::io::{self, Read, Write};

/// A non-blocking byte stream with a peer at its other end.
pub trait Stream: Read + Write {
    /// Ends our side of the stream (shutdown(2) with `SHUT_WR`): the peer reads to the end of file after
    /// everything written so far.
    fn finish(&mut self) -> io::Result<()>;

    /// How many bytes can be read without waiting (`FIONREAD`, tcp(7)).
    fn unread(&self) -> io::Result<usize>;

    /// Whether the system holds bytes that were written here and that it has not sent yet, as while the peer does not
    /// read. Those that are on their way count as sent: only the ioctl `SIOCOUTQ`, which takes unsafe code, knows more.
    fn has_unsent(&self) -> io::Result<bool>;

    /// Makes the end that follows when the stream is dropped a reset instead of an orderly one (socket(7),
    /// `SO_LINGER`), and gives back what the system holds for it.
    fn break_off(&mut self) {}
}
