//! How a server comes to its end: it may drain first, then it stops.

use std::time::{Duration, Instant};

use super::{End, Server, report};
use crate::transport::listener::BACKLOG;

/// How long a stopping server goes on with clients that have sent nothing yet. Over a network, the first bytes come a round
/// trip after the connection.
const FIRST_BYTES: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug)]
pub(super) struct Stopping {
    /// When it gives up sending what is pending.
    pub(super) deadline: Instant,
    /// When clients that had sent nothing are given up.
    pub(super) drain_at: Option<Instant>,
    /// Whether it was `SIGINT` that stopped the server: a terminal shows a `^C` then.
    pub(super) is_interrupted: bool,
}

impl Server {
    /// Does what signals and [`Stopper`](super::Stopper)s say. Returns how the server ends if it ends at once.
    pub(super) fn handle_requests(&mut self) -> Option<End> {
        let asked = self.requests.take();
        if asked.counters {
            self.console.counters(&self.counters());
        }
        match (self.stopping, self.draining) {
            (Some(_), _) if asked.is_interrupted => return Some(End::Interrupted),
            (Some(_), _) => {}
            (None, None) if asked.drain && !asked.stop && !self.drain.is_zero() => self.start_draining(),
            (None, _) if asked.drain || asked.stop => self.stop(asked.is_interrupted),
            (None, _) => {}
        }
        None
    }

    /// Goes on serving for a while, and reports that it is draining.
    fn start_draining(&mut self) {
        self.manager.stopping();
        self.draining = Some(self.now + self.drain);
        self.console.draining(self.drain);
    }

    pub(super) fn stop(&mut self, is_interrupted: bool) {
        if self.draining.take().is_none() {
            self.manager.stopping();
        }
        // Clients that the kernel has connected already are answered too, as far as there is room.
        self.acceptor.begin_close();
        self.accept_up_to(BACKLOG as usize + self.acceptor.unfinished().len());
        self.acceptor.close();
        let deadline = self.now + self.grace;
        let has_new = self.hub.begin_drain();
        if self.is_chat {
            self.acceptor.unfinished_mut().clear();
        }
        let waits = has_new || self.acceptor.unfinished().len() > 0;
        let drain_at = waits.then(|| deadline.min(self.now + FIRST_BYTES));
        self.stopping = Some(Stopping { deadline, drain_at, is_interrupted });
    }

    /// Gives up the clients that have sent nothing, or no PROXY header, for too long since the stop began.
    pub(super) fn end_first_bytes(&mut self) {
        if let Some(stopping) = &mut self.stopping
            && stopping.drain_at.is_some_and(|at| at <= self.reactor.noted())
        {
            stopping.drain_at = None;
            self.acceptor.unfinished_mut().clear();
            self.hub.drain();
        }
    }

    /// Ends the connections that are left. A client for which something was pending sees that by a reset.
    pub(super) fn give_up(&mut self) {
        let abandoned = self.hub.abandon(self.now, |event| report(&event, &mut self.console, &mut self.on_event));
        self.console.flush(self.now, true);
        drop(abandoned);
    }

    /// Says goodbye to the other servers of the room, if it is to stop and everything has been said. Returns whether that
    /// is done, or cannot be.
    pub(super) fn has_left(&mut self) -> bool {
        let Some(log) = &mut self.log else { return true };
        self.stopping.is_some() && self.hub.log_side().is_none_or(|room| room.is_over()) && log.leave()
    }

    pub(super) fn has_no_connections(&self) -> bool {
        self.hub.is_empty() && self.acceptor.unfinished().len() == 0
    }
}
