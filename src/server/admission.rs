//! Which connections are taken in, and when.

use mio::{Interest, Token};

use super::acceptor::Accepted;
use super::unfinished::Client;
use super::{Server, report};
use crate::event::Event;

/// How many connections are accepted in one turn, so that a flood of new ones does not keep the others
/// waiting.
const ACCEPTS_PER_TURN: usize = 256;

/// How many clients above the limit are told at the same time that the room is full; further ones wait.
const REFUSALS: usize = 4;

/// Which events are registered for each client. Urgent data is only reported where the system can.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLIENT_INTERESTS: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLIENT_INTERESTS: Interest = Interest::READABLE.add(Interest::WRITABLE);

impl Server {
    /// Takes in the connections that wait. This is the last thing in a turn, because it gives out the keys
    /// that became free in it, and no event of their old owners may be left then.
    pub(super) fn accept(&mut self, has_freed_descriptor: bool) {
        self.acceptor.retry(self.now, self.reactor.noted(), has_freed_descriptor);
        // In a flood of connections that each say something, more would come than can be served.
        if !self.hub.is_congested() {
            self.accept_up_to(ACCEPTS_PER_TURN);
        }
    }

    /// Takes in the clients whose PROXY header has come, so that they have their turn at once.
    pub(super) fn admit_announced(&mut self) {
        if !self.hub.is_congested() {
            self.take_in(ACCEPTS_PER_TURN, |_| false);
        }
    }

    pub(super) fn accept_up_to(&mut self, limit: usize) {
        self.take_in(limit, Self::has_room);
    }

    /// Takes in clients whose PROXY header has come and, while there `is_room`, others.
    fn take_in(&mut self, limit: usize, is_room: impl Fn(&Self) -> bool) {
        for _ in 0..limit {
            match self.acceptor.accept(self.now, is_room(self), self.reactor.registry()) {
                Accepted::Client(client) => self.admit(client),
                Accepted::Other => {}
                Accepted::Nothing => return,
            }
        }
    }

    /// Whether another connection can be taken in, be it to tell a client that the room is full.
    pub(super) fn has_room(&self) -> bool {
        let refusals = if self.is_chat { REFUSALS } else { 0 };
        self.hub.len() + self.acceptor.unfinished().len() < self.max_connections.saturating_add(refusals)
    }

    /// Whether another client can be served. Those that were refused and have not gone yet take no place.
    fn has_place(&self) -> bool {
        self.hub.len() - self.hub.refused() < self.max_connections
    }

    fn admit(&mut self, client: Client) {
        let Client { mut stream, address, subject, registered, .. } = client;
        let (registry, key) = (self.reactor.registry(), self.hub.next_key());
        let outcome = match registered {
            None => registry.register(&mut stream, Token(key), CLIENT_INTERESTS),
            Some(_) => registry.reregister(&mut stream, Token(key), CLIENT_INTERESTS),
        };
        if outcome.is_err() {
            // Without events it would never be served: dropping it tells the client at once.
            self.acceptor.leave(address);
            return;
        }
        let opened = Event::Opened { peer: address, subject: subject.as_deref() };
        report(&opened, &mut self.console, &mut self.on_event);
        if self.has_place() {
            self.hub.insert(stream, address, self.now);
        } else {
            self.refused_full += 1;
            self.hub.refuse(stream, address, "* server is full\n", self.now);
        }
        // The system tells it once more, but with the next events.
        if let Some(ready) = registered {
            self.hub.on_ready(key, ready);
        }
    }
}
