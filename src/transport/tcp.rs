//! What the core asks of a real socket.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use mio::net::TcpStream;
use rustix::io::ioctl_fionread;
use socket2::SockRef;

use super::Stream;

impl Stream for TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn unread(&self) -> io::Result<usize> {
        Ok(usize::try_from(ioctl_fionread(self)?).unwrap_or(usize::MAX))
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

    fn break_off(&mut self) {
        // Where this fails, the end is an orderly one: there is nothing else to be done.
        _ = SockRef::from(&*self).set_linger(Some(Duration::ZERO));
    }
}
