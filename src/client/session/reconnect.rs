//! Connects again while the session goes on.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::super::{Error, Options, Peer, Stream};

/// The pause before the first attempt, and the longest one: each attempt doubles it. Only a connection that has lasted
/// longer than that makes it short again, so a server that is full is not asked all the time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Attempts to connect, one after the other, while there is no connection. A thread makes them, because resolving a
/// name blocks.
pub(super) struct Reconnect {
    options: Options,
    /// Before the next attempt.
    pause: Duration,
    state: State,
}

enum State {
    /// There has been a connection since then.
    Connected(Instant),
    /// The next attempt is due then.
    Due(Instant),
    /// An attempt is under way.
    Running {
        /// Is closed by the thread when it has finished.
        done: UnixStream,
        thread: JoinHandle<Result<Peer<Stream>, Error>>,
    },
}

impl Reconnect {
    /// For a connection that has just been made.
    pub(super) fn new(options: &Options) -> Self {
        Self { options: options.clone(), pause: FIRST_PAUSE, state: State::Connected(Instant::now()) }
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected(_))
    }

    /// The connection is gone.
    pub(super) fn go_away(&mut self) {
        if let State::Connected(since) = self.state
            && since.elapsed() > LONGEST_PAUSE
        {
            self.pause = FIRST_PAUSE;
        }
        self.postpone();
    }

    /// When the next attempt is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Due(when) => Some(when),
            State::Connected(_) | State::Running { .. } => None,
        }
    }

    /// Becomes readable when an attempt has ended.
    pub(super) fn done(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Running { done, .. } => Some(done.as_fd()),
            State::Connected(_) | State::Due(_) => None,
        }
    }

    /// Begins an attempt if one is due.
    pub(super) fn begin(&mut self) {
        if self.deadline().is_some_and(|when| when <= Instant::now()) {
            match self.start() {
                Ok(running) => self.state = running,
                Err(_) => self.postpone(),
            }
        }
    }

    /// Takes the outcome of an attempt that has ended.
    pub(super) fn take(&mut self) -> Option<Result<Stream, Error>> {
        let state = mem::replace(&mut self.state, State::Connected(Instant::now()));
        let outcome = match state {
            State::Running { thread, .. } => thread.join().ok(),
            State::Connected(_) | State::Due(_) => None,
        };
        if !matches!(outcome, Some(Ok(_))) {
            self.postpone();
        }
        outcome.map(|outcome| outcome.map(|peer| peer.reader))
    }

    fn postpone(&mut self) {
        self.state = State::Due(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn start(&self) -> io::Result<State> {
        let (done, finished) = UnixStream::pair()?;
        let options = self.options.clone();
        let thread = thread::Builder::new().spawn(move || {
            let outcome = options.connect();
            drop(finished);
            outcome
        })?;
        Ok(State::Running { done, thread })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_also_if_a_connection_ends_at_once() {
        let mut reconnect = Reconnect::new(&Options::default());
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let now = Instant::now();
            reconnect.go_away();
            pauses.push((reconnect.deadline().unwrap() - now).as_millis() / 250 * 250);
            reconnect.state = State::Connected(now);
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        if let Some(long_ago) = Instant::now().checked_sub(LONGEST_PAUSE * 2) {
            reconnect.state = State::Connected(long_ago);
            reconnect.go_away();
            assert!(reconnect.deadline().unwrap() <= Instant::now() + FIRST_PAUSE);
        }
    }
}
