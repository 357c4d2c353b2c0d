//! Accepts connections, and decides which clients are let in.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token};

use super::access::Access;
use crate::address::PeerAddress;
use crate::config::Config;
use crate::transport::Socket;
use crate::transport::listener::{self, listen};

/// How long to wait before accept is tried again after it failed for want of descriptors or memory. It is also tried
/// whenever a connection of this server ends; this is for descriptors that others free.
const RETRY: Duration = Duration::from_millis(250);

/// The shortest time between two reports of refused connections.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);

/// The listeners, and the rules of who is let in.
pub(super) struct Acceptor {
    listeners: Vec<Listener>,
    addresses: Vec<SocketAddr>,
    /// The listener whose turn it is: while there are few places, no listener may take all of them.
    turn: usize,
    access: Access,
    /// When to try again, after accept failed.
    retry_at: Option<Instant>,
    refused: u64,
    /// Connections refused since the last report, and the address of the last of them.
    unreported: Option<(u64, PeerAddress)>,
    /// When they may be reported.
    report_at: Option<Instant>,
}

struct Listener {
    socket: listener::Listener,
    /// Connections may wait: an event said so, and accept has not yet said that none is left. On an
    /// edge-triggered poll this is said only once.
    is_pending: bool,
}

impl Acceptor {
    /// Listens as `config` says, with tokens from `first_token` on.
    pub(super) fn open(config: &Config, registry: &Registry, first_token: usize) -> io::Result<Self> {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for (at, mut socket) in listen(config)?.into_iter().enumerate() {
            addresses.extend(socket.tcp_address()?);
            registry.register(&mut socket, Token(first_token + at), Interest::READABLE)?;
            listeners.push(Listener { socket, is_pending: false });
        }
        let access = Access::new(config);
        Ok(Self {
            listeners,
            addresses,
            turn: 0,
            access,
            retry_at: None,
            refused: 0,
            unreported: None,
            report_at: None,
        })
    }

    /// The addresses of its TCP sockets.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// An event said that connections wait at listener `at`.
    pub(super) fn on_ready(&mut self, at: usize) {
        if let Some(listener) = self.listeners.get_mut(at) {
            listener.is_pending = true;
        }
    }

    /// Whether [`accept`](Self::accept) may bring something now.
    pub(super) fn is_pending(&self) -> bool {
        self.retry_at.is_none() && self.listeners.iter().any(|listener| listener.is_pending)
    }

    /// When accept is to be tried, or refused connections are to be reported, though no event comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let report_at = self.report_at.filter(|_| self.unreported.is_some());
        self.retry_at.into_iter().chain(report_at).min()
    }

    /// Tries again what failed, if it is time or a descriptor has been freed.
    pub(super) fn retry(&mut self, now: Instant, has_freed_descriptor: bool) {
        if has_freed_descriptor || self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
    }

    /// Prepares for [`close`](Self::close): the connections that wait can be accepted one last time, whether or not an
    /// event told of them, and where the system can, no others come.
    pub(super) fn begin_close(&mut self) {
        self.retry_at = None;
        for listener in &mut self.listeners {
            listener.socket.remove_file();
            listener.is_pending = true;
        }
    }

    /// The next connection that waits, if there is one.
    pub(super) fn accept(&mut self, now: Instant) -> Option<(Socket, PeerAddress)> {
        if self.retry_at.is_some() {
            return None;
        }
        let count = self.listeners.len();
        for at in self.turn..self.turn + count {
            let listener = &mut self.listeners[at % count];
            while listener.is_pending {
                match listener.socket.accept() {
                    Ok(connection) => {
                        self.turn = (at + 1) % count;
                        return Some(connection);
                    }
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock => listener.is_pending = false,
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

    /// Whether `peer` may connect. If so it counts as connected until it [leaves](Self::leave); if not it is counted as
    /// refused.
    pub(super) fn enter(&mut self, peer: PeerAddress) -> bool {
        let is_allowed = self.access.enter(peer);
        if !is_allowed {
            self.refused += 1;
            self.unreported = Some((self.unreported.map_or(1, |(count, _)| count + 1), peer));
        }
        is_allowed
    }

    /// `peer`, which was let in, has disconnected.
    pub(super) fn leave(&mut self, peer: PeerAddress) {
        self.access.leave(peer);
    }

    /// How many were refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// How many were refused since the last report, and the last of them; at most once in
    /// [`REFUSAL_INTERVAL`].
    pub(super) fn take_unreported(&mut self, now: Instant) -> Option<(u64, PeerAddress)> {
        if self.unreported.is_none() || self.report_at.is_some_and(|at| now < at) {
            return None;
        }
        self.report_at = Some(now + REFUSAL_INTERVAL);
        self.unreported.take()
    }

    /// Listens no more.
    pub(super) fn close(&mut self) {
        self.listeners.clear();
        self.retry_at = None;
    }
}
