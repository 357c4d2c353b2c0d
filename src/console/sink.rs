//! Writes to standard output without waiting, and without changing the flags that it shares with other processes.

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

/// What a pipe that is writable takes without blocking (pipe(7), `PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// Standard output, by how it can be written to without waiting.
#[derive(Debug)]
pub(super) enum Sink {
    /// A pipe or terminal that was opened again: the new description is our own and non-blocking.
    Reopened(File),
    /// A socket, such as the journal's: each write has a flag not to block.
    Socket(OwnedFd),
    /// A pipe or terminal that cannot be opened again: each write is preceded by a poll.
    Polled(File),
    /// A regular file or another device: it has no reader to wait for.
    Direct(File),
    /// There is no reader, or none any more.
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
            Err(_) => Sink::Polled(duplicate.into()),
        }
    }

    /// The descriptor whose writable events tell that the reader has read, if there is a reader.
    pub(super) fn pollable(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Sink::Reopened(file) | Sink::Polled(file) => Some(file.as_fd()),
            Sink::Socket(socket) => Some(socket.as_fd()),
            Sink::Direct(_) | Sink::Closed => None,
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Sink::Reopened(file) | Sink::Polled(file) if isatty(file))
    }

    /// Writes some of `bytes`; fails with [`io::ErrorKind::WouldBlock`] instead of waiting.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Reopened(file) | Sink::Direct(file) => file.write(bytes),
            Sink::Socket(socket) => Ok(send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?),
            Sink::Polled(file) => {
                let mut polled = [PollFd::new(file, PollFlags::OUT)];
                if poll(&mut polled, Some(&Timespec::default()))? == 0 {
                    return Err(Errno::AGAIN.into());
                }
                file.write(&bytes[..bytes.len().min(PIPE_BUF)])
            }
            Sink::Closed => Ok(bytes.len()),
        }
    }

    /// Waits until a write may succeed, for at most `timeout`.
    pub(super) fn wait(&self, timeout: Duration) {
        if let (Some(descriptor), Ok(timeout)) = (self.pollable(), Timespec::try_from(timeout)) {
            _ = poll(&mut [PollFd::new(&descriptor, PollFlags::OUT)], Some(&timeout));
        }
    }
}
