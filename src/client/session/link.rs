//! The connection, and what it still has to send.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::super::{HalfClose, Stream};

/// The most bytes that wait to be sent. A line that would go beyond waits in the input.
const MAX_UNSENT: usize = 4 << 20;

/// How many of the last lines are kept to tell which of them may not have arrived.
const MAX_RECENT: usize = 20;

/// What the server sends so much later than a line was sent, it sent after that line had arrived.
const ROUND_TRIP: Duration = Duration::from_secs(1);

/// A connection that does not block.
pub(super) struct Link {
    stream: Stream,
    unsent: Vec<u8>,
    /// The last lines, and when each was given to be sent.
    recent: VecDeque<(Instant, String)>,
    /// When the server was last heard.
    last_heard: Instant,
    /// Why nothing more can be sent.
    failure: Option<io::Error>,
    /// No more lines follow: the half-close comes after what is unsent.
    is_closing: bool,
}

impl Link {
    pub(super) fn new(stream: Stream) -> io::Result<Self> {
        stream.socket.set_nonblocking(true)?;
        Ok(Self {
            stream,
            unsent: Vec::new(),
            recent: VecDeque::new(),
            last_heard: Instant::now(),
            failure: None,
            is_closing: false,
        })
    }

    /// Whether the server accepts too little for another line.
    pub(super) fn is_full(&self) -> bool {
        self.unsent.len() >= MAX_UNSENT
    }

    pub(super) fn push_line(&mut self, line: &str) {
        if self.recent.len() == MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((Instant::now(), line.to_owned()));
        self.unsent.extend_from_slice(line.as_bytes());
        self.unsent.push(b'\n');
    }

    /// Puts a line before all that is unsent.
    pub(super) fn push_first(&mut self, line: &str) {
        self.unsent.splice(..0, line.bytes().chain([b'\n']));
    }

    /// Nothing more will be sent.
    pub(super) fn close(&mut self) {
        self.is_closing = true;
    }

    /// Whether all was sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.unsent.is_empty() && !self.stream.wants_write()
    }

    /// What to wait for in order to send.
    pub(super) fn interest(&self) -> PollFlags {
        let wants_write = !self.is_flushed() && self.failure.is_none();
        if wants_write { PollFlags::OUT } else { PollFlags::empty() }
    }

    /// Sends what the server accepts, and after the last byte the half-close. Returns whether it accepted any.
    pub(super) fn flush(&mut self) -> bool {
        let before = self.unsent.len();
        while self.failure.is_none() && !self.is_flushed() {
            let outcome = match self.unsent[..] {
                [] => self.stream.flush().map(|()| 0),
                _ => self.stream.write(&self.unsent),
            };
            match outcome {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // What the server sent before it went can still be read.
                Err(error) => self.failure = Some(error),
            }
        }
        if self.is_closing && (self.is_flushed() || self.failure.is_some()) {
            // If this fails otherwise the connection is gone, and reading tells how.
            let outcome = self.stream.finish();
            self.is_closing = outcome.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        }
        self.unsent.len() < before
    }

    /// Reads what has come; `None` if nothing has.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.read(buffer) {
            Ok(length) => {
                if length > 0 {
                    self.last_heard = Instant::now();
                }
                Ok(Some(length))
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => Ok(None),
            Err(error) => Err(self.failure.take().unwrap_or(error)),
        }
    }

    /// The lines that may not have arrived, because nothing was heard from the server long enough after them.
    pub(super) fn doubtful(&self) -> impl Iterator<Item = &str> {
        let is_doubtful = |sent: Instant| sent + ROUND_TRIP > self.last_heard;
        self.recent.iter().filter(move |(sent, _)| is_doubtful(*sent)).map(|(_, line)| line.as_str())
    }

    /// Why sending failed, if it did.
    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
