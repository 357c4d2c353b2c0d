//! Waiting for events, and knowing until when all of them have been noted.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Registry};

/// How many events one wait brings at most; further ones come with the next.
const EVENTS: usize = 1024;

/// How many events one source can have waiting at once: on some systems one for reading and one for writing.
const EVENTS_PER_SOURCE: usize = 2;

/// The poll, with the events of the last wait.
pub(super) struct Reactor {
    poll: Poll,
    events: Events,
    noted: Instant,
    /// When the last wait ended.
    last: Instant,
    /// Waits in a row that brought as many events as fit: when the first of them was, and how many events came since.
    full: Option<(Instant, usize)>,
}

impl Reactor {
    pub(super) fn new() -> io::Result<Self> {
        let events = Events::with_capacity(EVENTS);
        let now = Instant::now();
        Ok(Self { poll: Poll::new()?, events, noted: now, last: now, full: None })
    }

    pub(super) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Waits for events, without end where there is no `timeout`. `sources` is how many there are that may have some.
    /// Returns the time.
    pub(super) fn wait(&mut self, timeout: Option<Duration>, sources: usize) -> io::Result<Instant> {
        let outcome = self.poll.poll(&mut self.events, timeout);
        let now = Instant::now();
        match outcome {
            Ok(()) => self.count(sources),
            // A signal came, whose own event comes with the next wait; the events that waited are not here yet.
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            Err(error) => return Err(error),
        }
        self.last = now;
        Ok(now)
    }

    /// The events of the last wait.
    pub(super) fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }

    /// All events that came until then were in this wait or in earlier ones.
    pub(super) fn noted(&self) -> Instant {
        self.noted
    }

    /// A wait brings the events that came before it began. Whether it brought later ones is not known: the process may be
    /// stopped (SIGSTOP) between the end of the wait and the reading of the clock, for long.
    ///
    /// A wait that brings as many events as fit leaves others behind. epoll returns ready sources round-robin, so after more
    /// events than the sources could have had waiting at the first of such waits, all of those have come.
    fn count(&mut self, sources: usize) {
        let count = self.events.iter().count();
        if count < EVENTS {
            (self.noted, self.full) = (self.last, None);
            return;
        }
        let (since, seen) = self.full.get_or_insert((self.last, 0));
        *seen += count;
        if *seen > EVENTS_PER_SOURCE * sources {
            self.noted = *since;
            self.full = None;
        }
    }
}
