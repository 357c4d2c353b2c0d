//! Connects again while the session goes on.

use std::io;
use std::mem;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::super::{Error, Options, Peer, connect};

/// The pause before the first attempt, and the longest one: each failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Attempts to connect, one after the other. A thread makes them, because resolving a name blocks.
pub(super) struct Reconnect {
    options: Options,
    pause: Duration,
    attempt: Attempt,
}

enum Attempt {
    Due(Instant),
    Running {
        /// Is closed by the thread when it has finished.
        done: UnixStream,
        thread: JoinHandle<Result<Peer<TcpStream>, Error>>,
    },
}

impl Reconnect {
    pub(super) fn new(options: Options) -> Self {
        Self { options, pause: FIRST_PAUSE, attempt: Attempt::Due(Instant::now() + FIRST_PAUSE) }
    }

    /// When the next attempt is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.attempt {
            Attempt::Due(when) => Some(when),
            Attempt::Running { .. } => None,
        }
    }

    /// Becomes readable when an attempt has ended.
    pub(super) fn done(&self) -> Option<BorrowedFd<'_>> {
        match &self.attempt {
            Attempt::Due(_) => None,
            Attempt::Running { done, .. } => Some(done.as_fd()),
        }
    }

    /// Begins an attempt if one is due.
    pub(super) fn begin(&mut self) {
        if self.deadline().is_some_and(|when| when <= Instant::now()) {
            self.attempt = self.start().unwrap_or_else(|_| Attempt::Due(Instant::now() + self.pause));
        }
    }

    /// Takes the connection of an attempt that has ended, if it succeeded.
    pub(super) fn take(&mut self) -> Option<TcpStream> {
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        match mem::replace(&mut self.attempt, Attempt::Due(Instant::now() + self.pause)) {
            Attempt::Running { thread, .. } => Some(thread.join().ok()?.ok()?.reader),
            Attempt::Due(_) => None,
        }
    }

    fn start(&self) -> io::Result<Attempt> {
        let (done, finished) = UnixStream::pair()?;
        let options = self.options.clone();
        let thread = thread::Builder::new().spawn(move || {
            let outcome = connect(&options.host, options.port, options.timeouts);
            drop(finished);
            outcome
        })?;
        Ok(Attempt::Running { done, thread })
    }
}
