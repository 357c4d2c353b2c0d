//! Unix stream sockets.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::Shutdown;

use mio::net::UnixStream;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, SocketAddrUnix, recvmsg};
use socket2::SockRef;

use super::{Received, Sent, Stream, unread_plain, write_plain};
use crate::address::PeerAddress;

/// The address of the socket `name`: a path, or an abstract name behind an `@`.
pub(crate) fn address(name: &str) -> io::Result<SocketAddrUnix> {
    let address = match name.strip_prefix('@') {
        Some("") => return Err(io::Error::new(ErrorKind::InvalidInput, "the name is missing")),
        Some(name) => abstract_address(name.as_bytes()),
        None if name.is_empty() => return Err(io::Error::new(ErrorKind::InvalidInput, "the path is missing")),
        None => SocketAddrUnix::new(name),
    };
    address.map_err(|error| match error {
        Errno::NAMETOOLONG => {
            io::Error::new(ErrorKind::InvalidFilename, "the path is too long for a socket: more than 108 bytes")
        }
        error => error.into(),
    })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_address(name: &[u8]) -> rustix::io::Result<SocketAddrUnix> {
    SocketAddrUnix::new_abstract_name(name)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_address(_: &[u8]) -> rustix::io::Result<SocketAddrUnix> {
    Err(Errno::OPNOTSUPP)
}

/// Sets the options of a socket just accepted, which inherits none from its listener. Returns what is known of its
/// peer.
pub(super) fn prepare(stream: &UnixStream) -> PeerAddress {
    // Where urgent data is not supported, there is none to be kept in its place.
    _ = SockRef::from(stream).set_out_of_band_inline(true);
    peer_address(stream)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn peer_address(stream: &UnixStream) -> PeerAddress {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

    let Ok(credentials) = getsockopt(stream, PeerCredentials) else { return PeerAddress::UNKNOWN_UNIX };
    // The number of a process that is not visible from here is 0.
    let pid = u32::try_from(credentials.pid()).ok().and_then(std::num::NonZeroU32::new);
    PeerAddress::Unix { pid, uid: Some(credentials.uid()) }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn peer_address(_: &UnixStream) -> PeerAddress {
    PeerAddress::UNKNOWN_UNIX
}

impl Stream for UnixStream {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let offered = buffer.len();
        let mut control = RecvAncillaryBuffer::default();
        let message = recvmsg(&*self, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::empty())?;
        // A read also stops short behind a descriptor that the peer sent (unix(7), `SCM_RIGHTS`). It is discarded, and
        // more may wait behind it.
        let is_cut = message.flags.contains(ReturnFlags::CTRUNC);
        Ok(Received { count: message.bytes, is_drained: message.bytes < offered && !is_cut })
    }

    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Sent> {
        write_plain(self, slices)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn unread(&self) -> io::Result<usize> {
        unread_plain(self)
    }

    fn has_unsent(&self) -> io::Result<bool> {
        // What is written is in the peer's queue at once, and stays there when this socket is closed.
        Ok(false)
    }
}
