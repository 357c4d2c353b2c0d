//! Accepts connections, and decides which clients are let in.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token};

use super::access::Access;
use super::handshakes::{Client, Handshakes, Outcome};
use super::tls::{Step, TlsHandshakes};
use crate::address::PeerAddress;
use crate::config::Config;
use crate::connection::Ready;
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
    /// Connections of proxies whose header has not come yet; `None` where there are no proxies.
    handshakes: Option<Handshakes>,
    /// Connections whose TLS handshake is under way; `None` without TLS.
    tls: Option<TlsHandshakes>,
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
    /// Listens on `inherited` sockets, or else as `config` says. Of the three tokens, listeners have those from the first one
    /// on, connections that are not let in yet those from the second one on, and from the third one on during the handshake
    /// of TLS.
    pub(super) fn open(
        config: &Config,
        inherited: Inherited,
        registry: &Registry,
        [first_token, first_header, first_tls]: [usize; 3],
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
        let tls = TlsHandshakes::new(config, &addresses, first_tls)?;
        let refusals = |reason| Refusals { reason, total: 0, unreported: None, report_at: None };
        Ok(Self {
            listeners,
            is_inherited,
            addresses,
            turn: 0,
            access: Access::new(config),
            handshakes: Handshakes::new(config, first_header),
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

    /// Notes an event for `token`, that of a connection that is not let in yet.
    pub(super) fn on_handshake_ready(&mut self, token: usize, ready: Ready) {
        if let Some(handshakes) = &mut self.handshakes {
            handshakes.on_ready(token, ready);
        }
    }

    /// Notes an event for `token`, that of a connection whose TLS handshake is under way.
    pub(super) fn on_tls_ready(&mut self, token: usize, ready: Ready) {
        if let Some(tls) = &mut self.tls {
            tls.on_ready(token, ready);
        }
    }

    /// The TLS handshakes, where TLS is spoken.
    pub(super) fn tls(&self) -> Option<&TlsHandshakes> {
        self.tls.as_ref()
    }

    /// The TLS handshakes, where TLS is spoken.
    pub(super) fn tls_mut(&mut self) -> Option<&mut TlsHandshakes> {
        self.tls.as_mut()
    }

    /// Until when connections wait in the system's queue, or with their PROXY header, because too many TLS handshakes have just begun, if they do.
    fn full_until(&self) -> Option<Instant> {
        self.tls.as_ref().and_then(TlsHandshakes::full_until)
    }

    /// How many connections are accepted and not let in yet.
    pub(super) fn handshakes(&self) -> usize {
        self.handshakes.as_ref().map_or(0, Handshakes::len) + self.tls.as_ref().map_or(0, TlsHandshakes::len)
    }

    /// How many sources of events it has.
    pub(super) fn sources(&self) -> usize {
        self.listeners.len() + self.handshakes()
    }

    /// Whether [`accept`](Self::accept) may bring something now.
    pub(super) fn is_pending(&self, now: Instant, has_room: bool) -> bool {
        let can_accept = has_room && self.retry_at.is_none();
        let has_next = (can_accept && self.listeners.iter().any(|listener| listener.is_pending))
            || self.handshakes.as_ref().is_some_and(Handshakes::has_work);
        (has_next && self.full_until().is_none_or(|until| until <= now))
            || self.tls.as_ref().is_some_and(TlsHandshakes::has_work)
    }

    /// When accept is to be tried, or refused connections are to be reported, though no event comes.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let unreported = self.refusals.iter().filter(|refusals| refusals.unreported.is_some());
        let handshakes = self.handshakes.as_ref().and_then(Handshakes::deadline);
        let tls = self.tls.as_ref().and_then(TlsHandshakes::deadline);
        let is_pending = self.listeners.iter().any(|listener| listener.is_pending)
            || self.handshakes.as_ref().is_some_and(Handshakes::has_work);
        let tls = tls.into_iter().chain(self.full_until().filter(|until| is_pending && *until > now));
        unreported.filter_map(|refusals| refusals.report_at).chain(self.retry_at).chain(handshakes).chain(tls).min()
    }

    /// Tries again what failed, if it is time or a descriptor has been freed, and gives up what has taken too long.
    pub(super) fn retry(&mut self, now: Instant, noted: Instant, has_freed_descriptor: bool) {
        if has_freed_descriptor || self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if let Some(handshakes) = &mut self.handshakes {
            handshakes.expire(noted);
        }
        if let Some(tls) = &mut self.tls {
            tls.begin_turn(noted);
        }
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
        if let Some(handshakes) = &mut self.handshakes {
            handshakes.retry_all();
        }
        if let Some(tls) = &mut self.tls {
            tls.retry_all();
        }
    }

    /// Takes the next step: a TLS handshake, a connection that waits for its header, or, if there is room for it, one that
    /// waits in the system's queue.
    pub(super) fn accept(&mut self, now: Instant, has_room: bool, registry: &Registry) -> Accepted {
        if let Some(step) = self.tls.as_mut().and_then(TlsHandshakes::next) {
            return self.go_on(step);
        }
        if self.full_until().is_some_and(|until| now < until) {
            return Accepted::Nothing;
        }
        if let Some(outcome) = self.handshakes.as_mut().and_then(Handshakes::next) {
            return self.conclude(outcome, now, registry);
        }
        if !has_room {
            return Accepted::Nothing;
        }
        let Some((stream, address)) = self.next_in_queue(now) else { return Accepted::Nothing };
        let outcome = match &mut self.handshakes {
            Some(handshakes) if handshakes.is_proxy(address) => handshakes.begin(stream, address, now, registry),
            _ => Outcome::Client(Client { stream, address, subject: None, is_exempt: false, registered: None }),
        };
        self.conclude(outcome, now, registry)
    }

    /// Applies the rules to what is known of a client.
    fn conclude(&mut self, outcome: Outcome, now: Instant, registry: &Registry) -> Accepted {
        match outcome {
            Outcome::Client(client) if self.enter(&client) => {
                let step = match &mut self.tls {
                    Some(tls) => tls.begin(client, now, registry),
                    None => Step::Client(client),
                };
                return self.go_on(step);
            }
            // It sees the end of the connection.
            Outcome::Client(client) => self.refuse(Refusal::Address, client.address),
            Outcome::Refused(address) => self.refuse(Refusal::Header, address),
            Outcome::Nothing => {}
        }
        Accepted::Other
    }

    /// Lets a client in whose handshake is done.
    fn go_on(&mut self, step: Step) -> Accepted {
        match step {
            Step::Client(client) => return Accepted::Client(client),
            Step::Failed(address) => self.leave(address),
            Step::Nothing => {}
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

    /// How many were refused.
    pub(super) fn refused(&self) -> u64 {
        self.refusals.iter().map(|refusals| refusals.total).sum()
    }

    /// How many were refused, with a name for each reason.
    pub(super) fn refused_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
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

    /// Drops the connections that are not let in yet.
    pub(super) fn end_handshakes(&mut self) {
        if let Some(handshakes) = &mut self.handshakes {
            handshakes.clear();
        }
        if let Some(tls) = &mut self.tls {
            tls.clear();
        }
    }
}
