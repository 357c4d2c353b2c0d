//! Standard output, written to without waiting and without touching the flags that it shares with the shell.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{SendFlags, send};
use rustix::stdio::stdout;
use rustix::termios::isatty;

/// What a pipe takes at once when it says that it is writable (pipe(7), `PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// Standard output by the way in which it can be written to without waiting.
#[derive(Debug)]
pub(super) enum Sink {
    /// A pipe or terminal, opened anew: the new description is our own and can be non-blocking.
    Reopened(File),
    /// A socket, such as the journal's: it is asked not to wait with each write.
    Socket(OwnedFd),
    /// A pipe or terminal that cannot be opened anew: it is asked before each write.
    Asked(File),
    /// A file, or a device that is none: it never waits for a reader.
    Direct(File),
    /// Nobody reads.
    Closed,
}

impl Sink {
    /// The standard output of this process.
    pub(super) fn stdout() -> Self {
        let Ok(duplicate) = fcntl_dupfd_cloexec(stdout(), 0) else { return Sink::Closed };
        let Ok(status) = fstat(&duplicate) else { return Sink::Closed };
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Socket => Sink::Socket(duplicate),
            FileType::Fifo => Self::reopened(duplicate),
            FileType::CharacterDevice if isatty(&duplicate) => Self::reopened(duplicate),
            _ => Sink::Direct(duplicate.into()),
        }
    }

    fn reopened(duplicate: OwnedFd) -> Self {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match open("/dev/stdout", flags, Mode::empty()) {
            Ok(own) => Sink::Reopened(own.into()),
            Err(_) => Sink::Asked(duplicate.into()),
        }
    }

    /// The descriptor whose writable events tell that it takes more, where there is such a thing.
    pub(super) fn pollable(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Sink::Reopened(file) | Sink::Asked(file) => Some(file.as_fd()),
            Sink::Socket(socket) => Some(socket.as_fd()),
            Sink::Direct(_) | Sink::Closed => None,
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Sink::Reopened(file) | Sink::Asked(file) if isatty(file))
    }

    /// Writes some of `bytes`, or fails with [`io::ErrorKind::WouldBlock`] rather than wait.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Reopened(file) | Sink::Direct(file) => file.write(bytes),
            Sink::Socket(socket) => Ok(send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?),
            Sink::Asked(file) => {
                let mut asked = [PollFd::new(file, PollFlags::OUT)];
                if poll(&mut asked, Some(&Timespec::default()))? == 0 {
                    return Err(Errno::AGAIN.into());
                }
                file.write(&bytes[..bytes.len().min(PIPE_BUF)])
            }
            Sink::Closed => Ok(bytes.len()),
        }
    }

    /// Waits until it may take more, for at most `timeout`.
    pub(super) fn wait(&self, timeout: Duration) {
        if let (Some(descriptor), Ok(timeout)) = (self.pollable(), Timespec::try_from(timeout)) {
            _ = poll(&mut [PollFd::new(&descriptor, PollFlags::OUT)], Some(&timeout));
        }
    }
}
