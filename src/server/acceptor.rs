//! Accepts connections, and decides which clients are let in.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token};

use super::access::Access;
use super::tls::Tls;
use super::unfinished::{Client, Step, Unfinished};
use crate::address::PeerAddress;
use crate::config::Config;
use crate::event::{Event, Refusal};
use crate::transport::Socket;
use crate::transport::listener::{self, Inherited, adopt, listen};

/// How long to wait before accept is tried again after it failed for want of descriptors or memory. It is also tried
/// whenever a connection of this server ends; this is for descriptors that others free.
pub(super) const RETRY: Duration = Duration::from_millis(250);

/// The shortest time between two reports of refused connections.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);

/// The listeners, and the rules of who is let in.
pub(super) struct Acceptor {
    listeners: Vec<Listener>,
    /// Whether others keep the listeners open when this server closes them.
    is_inherited: bool,
    addresses: Vec<SocketAddr>,
    /// The listener whose turn it is: while there are few places, no listener may take all of them.
    turn: usize,
    access: Access,
    unfinished: Unfinished,
    /// What connections are served with where TLS is spoken.
    tls: Option<Tls>,
    /// When to try again, after accept failed.
    retry_at: Option<Instant>,
    refusals: [Refusals; 2],
}

/// Connections refused for one reason.
#[derive(Clone, Copy)]
struct Refusals {
    reason: Refusal,
    total: u64,
    /// How many there were since the last report, and the address of the last of them.
    unreported: Option<(u64, PeerAddress)>,
    /// When they may be reported.
    report_at: Option<Instant>,
}

/// What [`Acceptor::accept`] did.
pub(super) enum Accepted {
    /// A client may be let in.
    Client(Client),
    /// A connection was refused or has to wait, and there may be others.
    Other,
    /// There was nothing to do.
    Nothing,
}

struct Listener {
    socket: listener::Listener,
    /// Connections may wait: an event said so, and accept has not yet said that none is left. On an
    /// edge-triggered poll this is said only once.
    is_pending: bool,
}

impl Acceptor {
    /// Listens on `inherited` sockets, or else as `config` says. Of the two tokens, listeners have those from the first one
    /// on, connections that are not let in yet those from the second one on.
    pub(super) fn open(
        config: &Config,
        inherited: Inherited,
        registry: &Registry,
        [first_token, first_unfinished]: [usize; 2],
    ) -> io::Result<Self> {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        let is_inherited = !inherited.is_empty();
        let sockets = if is_inherited { adopt(inherited, config)? } else { listen(config)? };
        for (at, mut socket) in sockets.into_iter().enumerate() {
            addresses.extend(socket.tcp_address()?);
            registry.register(&mut socket, Token(first_token + at), Interest::READABLE)?;
            listeners.push(Listener { socket, is_pending: false });
        }
        let tls = Tls::new(config, &addresses)?;
        let refusals = |reason| Refusals { reason, total: 0, unreported: None, report_at: None };
        Ok(Self {
            listeners,
            is_inherited,
            addresses,
            turn: 0,
            access: Access::new(config),
            unfinished: Unfinished::new(config, first_unfinished),
            tls,
            retry_at: None,
            refusals: [Refusal::Address, Refusal::Header].map(refusals),
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

    /// The connections that are not let in yet.
    pub(super) fn unfinished(&self) -> &Unfinished {
        &self.unfinished
    }

    /// The connections that are not let in yet.
    pub(super) fn unfinished_mut(&mut self) -> &mut Unfinished {
        &mut self.unfinished
    }

    /// What is needed for TLS, where it is spoken.
    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// What is needed for TLS, where it is spoken.
    pub(super) fn tls_mut(&mut self) -> Option<&mut Tls> {
        self.tls.as_mut()
    }

    /// How many sources of events it has.
    pub(super) fn sources(&self) -> usize {
        self.listeners.len() + self.unfinished.len()
    }

    /// Whether [`accept`](Self::accept) may bring something now.
    pub(super) fn is_pending(&self, now: Instant, has_room: bool) -> bool {
        let can_accept = has_room && self.retry_at.is_none() && self.unfinished.full_until().is_none_or(|at| at <= now);
        (can_accept && self.has_pending_listener()) || self.unfinished.has_work()
    }

    /// Whether connections may wait in the system's queue.
    fn has_pending_listener(&self) -> bool {
        self.listeners.iter().any(|listener| listener.is_pending)
    }

    /// When accept is to be tried, or refused connections are to be reported, though no event comes.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let unreported = self.refusals.iter().filter(|refusals| refusals.unreported.is_some());
        let full_until = self.unfinished.full_until().filter(|until| self.has_pending_listener() && *until > now);
        let others = [self.retry_at, self.unfinished.deadline(), self.tls.as_ref().and_then(Tls::deadline), full_until];
        unreported.filter_map(|refusals| refusals.report_at).chain(others.into_iter().flatten()).min()
    }

    /// Tries again what failed, if it is time or a descriptor has been freed, and gives up what has taken too long.
    pub(super) fn retry(&mut self, now: Instant, noted: Instant, has_freed_descriptor: bool) {
        if has_freed_descriptor || self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        self.unfinished.begin_turn(noted);
    }

    /// Prepares for [`close`](Self::close): the connections that wait can be accepted one last time, whether or not an
    /// event told of them, and where the system can, no others come. Those that wait in an inherited socket are left to
    /// the next server.
    pub(super) fn begin_close(&mut self) {
        self.retry_at = None;
        if self.is_inherited {
            self.close();
        }
        for listener in &mut self.listeners {
            listener.socket.remove_file();
            listener.is_pending = true;
        }
        self.unfinished.retry_all();
    }

    /// Takes the next step of a connection that is not let in yet, or accepts one that waits in the system's queue, if there
    /// is room for it.
    pub(super) fn accept(&mut self, now: Instant, has_room: bool, registry: &Registry) -> Accepted {
        let step = match self.unfinished.next(registry) {
            Some(step) => step,
            None if !has_room || self.unfinished.full_until().is_some_and(|until| now < until) => {
                return Accepted::Nothing;
            }
            None => match self.next_in_queue(now) {
                Some((stream, address)) => self.unfinished.begin(stream, address, now, registry),
                None => return Accepted::Nothing,
            },
        };
        match step {
            Step::Identified(client) => return self.decide(client, now, registry),
            Step::Done(client) => return Accepted::Client(client),
            Step::Refused(address) => self.refuse(Refusal::Header, address),
            Step::Failed(address) => self.leave(address),
            Step::Nothing => {}
        }
        Accepted::Other
    }

    /// Applies the rules to a client whose address is known. Where TLS is spoken, its handshake comes next.
    fn decide(&mut self, client: Client, now: Instant, registry: &Registry) -> Accepted {
        let address = client.address;
        if !self.enter(&client) {
            // It sees the end of the connection.
            self.refuse(Refusal::Address, address);
            return Accepted::Other;
        }
        let Some(tls) = &self.tls else { return Accepted::Client(client) };
        // Where that is not possible, dropping it tells the client at once.
        if self.unfinished.begin_handshake(client, tls.config(), now, registry).is_err() {
            self.leave(address);
        }
        Accepted::Other
    }

    /// Whether a client may connect. If so it counts as connected until it [leaves](Self::leave).
    fn enter(&mut self, client: &Client) -> bool {
        if client.is_exempt {
            self.access.enter_exempt(client.address);
            return true;
        }
        self.access.enter(client.address)
    }

    /// The next connection in the system's queue, if there is one.
    fn next_in_queue(&mut self, now: Instant) -> Option<(Socket, PeerAddress)> {
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

    fn refuse(&mut self, reason: Refusal, peer: PeerAddress) {
        for refusals in self.refusals.iter_mut().filter(|refusals| refusals.reason == reason) {
            refusals.total += 1;
            refusals.unreported = Some((refusals.unreported.map_or(1, |(count, _)| count + 1), peer));
        }
    }

    /// `peer`, which was let in, has disconnected.
    pub(super) fn leave(&mut self, peer: PeerAddress) {
        self.access.leave(peer);
    }

    /// How many were refused, with a name for each reason.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.refusals.iter().map(|refusals| {
            let reason = match refusals.reason {
                Refusal::Address => "address",
                Refusal::Header => "header",
            };
            (reason, refusals.total)
        })
    }

    /// How many were refused since the last report, with the last of them, for each reason at most once in
    /// [`REFUSAL_INTERVAL`].
    pub(super) fn take_unreported(&mut self, now: Instant) -> impl Iterator<Item = Event<'static>> {
        self.refusals.iter_mut().filter_map(move |refusals| {
            if refusals.report_at.is_some_and(|at| now < at) {
                return None;
            }
            let (connections, last) = refusals.unreported.take()?;
            refusals.report_at = Some(now + REFUSAL_INTERVAL);
            Some(Event::Refused { reason: refusals.reason, connections, last })
        })
    }

    /// Listens no more. Connections that are accepted already can still be let in.
    pub(super) fn close(&mut self) {
        self.listeners.clear();
        self.retry_at = None;
    }
}
