//! Plain TCP.

use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::SockRef;

use super::{Received, Sent, Stream, unread_plain, write_plain};

impl Stream for TcpStream {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let count = self.read(buffer)?;
        Ok(Received::plain(count, buffer.len()))
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

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn has_unsent(&self) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        // With this mark, a socket can be written to only while nothing is unsent.
        SockRef::from(self).set_tcp_notsent_lowat(1)?;
        let mut sockets = [PollFd::new(self, PollFlags::OUT)];
        poll(&mut sockets, Some(&Timespec::default()))?;
        Ok(!sockets[0].revents().contains(PollFlags::OUT))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn has_unsent(&self) -> io::Result<bool> {
        // There is no way to tell.
        Ok(true)
    }

    fn reset_on_drop(&mut self) {
        // If this fails, the connection closes normally: there is nothing else to be done.
        _ = SockRef::from(&*self).set_linger(Some(Duration::ZERO));
    }
}
