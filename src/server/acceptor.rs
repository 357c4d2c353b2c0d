//! Where connections come in.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::access::Access;
use crate::config::Config;
use crate::transport::listener::listen;

/// After so long accept is tried again that failed for want of descriptors or memory. It is also tried
/// whenever a connection of ours ends; this is for those that others free.
const RETRY: Duration = Duration::from_millis(250);

/// How often connections that were closed on arrival are told of, at most.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);

/// The listeners, and who is let in.
pub(super) struct Acceptor {
    listeners: Vec<Listener>,
    addresses: Vec<SocketAddr>,
    /// The listener whose turn it is: while there is room for few, no listener may take all of it.
    turn: usize,
    access: Access,
    /// When to try again, after accept failed.
    retry_at: Option<Instant>,
    refused: u64,
    /// Connections closed on arrival that have not been told yet, and the last of them.
    untold: Option<(u64, SocketAddr)>,
    /// When they may be told.
    tell_at: Option<Instant>,
}

struct Listener {
    socket: TcpListener,
    /// Connections may wait: an event said so, and accept has not yet said that none is left. On an
    /// edge-triggered poll nobody says it twice.
    is_owed: bool,
}

impl Acceptor {
    /// Listens as `config` says, with tokens from `first_token` on.
    pub(super) fn open(config: &Config, registry: &Registry, first_token: usize) -> io::Result<Self> {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for (at, socket) in listen(&config.bind, config.port)?.into_iter().enumerate() {
            addresses.push(socket.local_addr()?);
            let mut socket = TcpListener::from_std(socket);
            registry.register(&mut socket, Token(first_token + at), Interest::READABLE)?;
            listeners.push(Listener { socket, is_owed: false });
        }
        let access = Access::new(config);
        Ok(Self { listeners, addresses, turn: 0, access, retry_at: None, refused: 0, untold: None, tell_at: None })
    }

    /// All addresses it listens on.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// An event said that connections wait at listener `at`.
    pub(super) fn on_ready(&mut self, at: usize) {
        if let Some(listener) = self.listeners.get_mut(at) {
            listener.is_owed = true;
        }
    }

    /// Whether [`accept`](Self::accept) may bring something now.
    pub(super) fn is_owed(&self) -> bool {
        self.retry_at.is_none() && self.listeners.iter().any(|listener| listener.is_owed)
    }

    /// When accept is to be tried, or refused connections are to be told of, though no event comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let tell_at = self.tell_at.filter(|_| self.untold.is_some());
        self.retry_at.into_iter().chain(tell_at).min()
    }

    /// Tries again what failed, if it is time or a descriptor has been freed.
    pub(super) fn retry(&mut self, now: Instant, has_freed_descriptor: bool) {
        if has_freed_descriptor || self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
    }

    /// Looks at all listeners once more, whether or not an event came.
    pub(super) fn retry_all(&mut self) {
        self.retry_at = None;
        self.listeners.iter_mut().for_each(|listener| listener.is_owed = true);
    }

    /// The next connection that waits, if there is one.
    pub(super) fn accept(&mut self, now: Instant) -> Option<(TcpStream, SocketAddr)> {
        if self.retry_at.is_some() {
            return None;
        }
        let count = self.listeners.len();
        for at in self.turn..self.turn + count {
            let listener = &mut self.listeners[at % count];
            while listener.is_owed {
                match listener.socket.accept() {
                    Ok(connection) => {
                        self.turn = (at + 1) % count;
                        return Some(connection);
                    }
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock => listener.is_owed = false,
                        // That client is gone; others may wait behind it.
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                        // No descriptors or no memory, or what no manual tells of: none of it is the end.
                        _ => {
                            self.retry_at = Some(now + RETRY);
                            return None;
                        }
                    },
                }
            }
        }
        None
    }

    /// Whether `peer` may come in. If so it is in until it [leaves](Self::leave); if not it is counted.
    pub(super) fn enter(&mut self, peer: SocketAddr) -> bool {
        let is_allowed = self.access.enter(peer);
        if !is_allowed {
            self.refused += 1;
            self.untold = Some((self.untold.map_or(1, |(count, _)| count + 1), peer));
        }
        is_allowed
    }

    /// `peer`, which was let in, is gone.
    pub(super) fn leave(&mut self, peer: SocketAddr) {
        self.access.leave(peer);
    }

    /// How many were not let in.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// How many were not let in since this was last told, and the last of them; at most once in
    /// [`REFUSAL_INTERVAL`].
    pub(super) fn take_untold(&mut self, now: Instant) -> Option<(u64, SocketAddr)> {
        if self.untold.is_none() || self.tell_at.is_some_and(|at| now < at) {
            return None;
        }
        self.tell_at = Some(now + REFUSAL_INTERVAL);
        self.untold.take()
    }

    /// Listens no more.
    pub(super) fn close(&mut self) {
        self.listeners.clear();
        self.retry_at = None;
    }
}
