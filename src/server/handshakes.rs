//! Connections that have been accepted and have still to say who they are: those of proxies, until their PROXY header has
//! arrived.
//!
//! The header is looked at where it is, in the system's buffer, and left there until it is whole, or is read together with
//! what follows it. So a connection that waits holds no memory for it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::address::PeerAddress;
use crate::config::{Config, FOREVER, ProxyFrom};
use crate::connection::Ready;
use crate::transport::proxy::{self, Header, MAX_HEADER};
use crate::transport::{Socket, Stream};

/// The connections that wait for their header.
pub(super) struct Handshakes {
    networks: Vec<IpNet>,
    has_unix: bool,
    timeout: Duration,
    /// How many there may be.
    limit: usize,
    /// By number, so the oldest is the first. The token of a connection is its number above `first_token`.
    waiting: BTreeMap<usize, Waiting>,
    /// Those that are to be looked at.
    ready: VecDeque<usize>,
    next_number: usize,
    first_token: usize,
    /// Where headers are looked at.
    buffer: Box<[u8; MAX_HEADER]>,
}

struct Waiting {
    stream: Socket,
    /// The proxy's address.
    address: PeerAddress,
    deadline: Instant,
    is_ready: bool,
    /// Nothing more will come, or not in time: a header that is not whole by now is missing.
    is_final: bool,
}

/// A client that can be let in.
pub(super) struct Client {
    pub(super) stream: Socket,
    pub(super) address: PeerAddress,
    /// The subject of its certificate, if it has presented one.
    pub(super) subject: Option<String>,
    /// It came through a proxy that does not say from where, so that no rule is about it.
    pub(super) is_exempt: bool,
    /// What is known of its stream, if that is registered already, with a token that is not the hub's.
    pub(super) registered: Option<Ready>,
}

/// What became of a connection.
pub(super) enum Outcome {
    /// Its header has come.
    Client(Client),
    /// Its header is malformed or missing.
    Refused(PeerAddress),
    /// It waits for more, or it ended before its first byte, as probes do.
    Nothing,
}

/// What is there of a header.
enum Look {
    Whole {
        header: Header,
        /// Whether something behind it has arrived too.
        is_followed: bool,
    },
    Partial,
    Malformed,
    /// The connection ended before its first byte.
    Ended,
}

impl Handshakes {
    /// A table for the proxies of `config`, if there are any, with tokens from `first_token` on.
    pub(super) fn new(config: &Config, first_token: usize) -> Option<Self> {
        if config.proxy_from.is_empty() {
            return None;
        }
        let network = |proxies: &ProxyFrom| match *proxies {
            ProxyFrom::Network(network) => Some(network),
            ProxyFrom::Unix => None,
        };
        Some(Self {
            networks: config.proxy_from.iter().filter_map(network).collect(),
            has_unix: config.proxy_from.contains(&ProxyFrom::Unix),
            timeout: config.proxy_timeout.min(FOREVER),
            limit: (config.max_connections / 2).max(1),
            waiting: BTreeMap::new(),
            ready: VecDeque::new(),
            next_number: 0,
            first_token,
            buffer: Box::new([0; MAX_HEADER]),
        })
    }

    /// Whether connections from `address` begin with a header.
    pub(super) fn is_proxy(&self, address: PeerAddress) -> bool {
        let contains = |address: IpAddr| self.networks.iter().any(|network| network.contains(&address));
        address.ip().map_or(self.has_unix, |address| contains(address.to_canonical()))
    }

    /// How many connections wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether [`next`](Self::next) may bring something.
    pub(super) fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the oldest connection has waited too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(_, oldest)| oldest.deadline)
    }

    /// Notes an event for `token`.
    pub(super) fn on_ready(&mut self, token: usize, ready: Ready) {
        let number = token - self.first_token;
        if ready.read_closed {
            self.finish(number);
        } else {
            self.schedule(number);
        }
    }

    /// Gives those up whose time was over at `noted`, unless their header is there.
    pub(super) fn expire(&mut self, noted: Instant) {
        let is_over = |waiting: &Waiting| waiting.deadline <= noted;
        let over: Vec<usize> =
            self.waiting.iter().take_while(|(_, oldest)| is_over(oldest)).map(|(at, _)| *at).collect();
        over.into_iter().for_each(|number| self.finish(number));
    }

    /// Looks at all of them once more, whether or not an event came.
    pub(super) fn retry_all(&mut self) {
        let all: Vec<usize> = self.waiting.keys().copied().collect();
        all.into_iter().for_each(|number| self.schedule(number));
    }

    /// Drops all of them.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.ready.clear();
    }

    /// Takes in a connection just accepted. If there are as many as may be, the oldest makes room. Returns what became of
    /// that, or of this one.
    pub(super) fn begin(
        &mut self,
        mut stream: Socket,
        address: PeerAddress,
        now: Instant,
        registry: &Registry,
    ) -> Outcome {
        // The header of a connection that has waited in the system's queue is there already.
        match self.look(&stream) {
            Look::Partial => {}
            look => return self.conclude(stream, address, look, None),
        }
        // So the numbers do not run out, not even where they have 32 bits.
        if self.waiting.is_empty() {
            self.next_number = 0;
        }
        let number = self.next_number;
        // Without events it would never be served: dropping it tells the proxy at once.
        if registry.register(&mut stream, Token(self.first_token + number), Interest::READABLE).is_err() {
            return Outcome::Nothing;
        }
        self.next_number += 1;
        let deadline = now + self.timeout;
        let is_full = self.waiting.len() >= self.limit;
        let oldest = if is_full { self.waiting.pop_first() } else { None };
        self.waiting.insert(number, Waiting { stream, address, deadline, is_ready: false, is_final: false });
        match oldest {
            Some((_, oldest)) => self.take_last_look(oldest),
            None => Outcome::Nothing,
        }
    }

    /// Looks at the next connection that may have its header, if there is one.
    pub(super) fn next(&mut self) -> Option<Outcome> {
        let number = self.ready.pop_front()?;
        let mut waiting = self.waiting.remove(&number)?;
        match self.look(&waiting.stream) {
            Look::Partial if !waiting.is_final => {
                waiting.is_ready = false;
                self.waiting.insert(number, waiting);
                Some(Outcome::Nothing)
            }
            look => Some(self.conclude_waiting(waiting, look)),
        }
    }

    fn take_last_look(&mut self, waiting: Waiting) -> Outcome {
        let look = self.look(&waiting.stream);
        self.conclude_waiting(waiting, look)
    }

    fn conclude_waiting(&mut self, waiting: Waiting, look: Look) -> Outcome {
        let ready = Ready { readable: true, read_closed: waiting.is_final, ..Ready::default() };
        self.conclude(waiting.stream, waiting.address, look, Some(ready))
    }

    /// Looks at what has arrived without taking it. A header in several pieces is looked at as often as they come: each of
    /// them is a new event, also where an earlier one was left where it is.
    fn look(&mut self, stream: &Socket) -> Look {
        match recv(stream, &mut *self.buffer, RecvFlags::PEEK) {
            Ok((0, _)) => Look::Ended,
            Ok((count, _)) => match proxy::parse(&self.buffer[..count]) {
                Ok(Some(header)) => Look::Whole { header, is_followed: count > usize::from(header.length) },
                Ok(None) => Look::Partial,
                Err(proxy::Malformed) => Look::Malformed,
            },
            Err(Errno::AGAIN | Errno::INTR) => Look::Partial,
            Err(_) => Look::Ended,
        }
    }

    /// What becomes of a connection for which nothing more is to be waited for.
    fn conclude(&mut self, mut stream: Socket, address: PeerAddress, look: Look, registered: Option<Ready>) -> Outcome {
        let Look::Whole { header: Header { length, source }, is_followed } = look else {
            if let Look::Ended = look {
                return Outcome::Nothing;
            }
            stream.reset_on_drop();
            return Outcome::Refused(address);
        };
        let stream = match stream {
            Socket::Tcp(stream) if is_followed => Socket::Announced { stream, header: length },
            stream => {
                // If this fails, so will the next read.
                _ = recv(&stream, &mut self.buffer[..usize::from(length)], RecvFlags::empty());
                stream
            }
        };
        let (is_exempt, address) = (source.is_none(), source.unwrap_or(address));
        Outcome::Client(Client { stream, address, subject: None, is_exempt, registered })
    }

    /// Has a connection looked at for the last time.
    fn finish(&mut self, number: usize) {
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.is_final = true;
            self.schedule(number);
        }
    }

    fn schedule(&mut self, number: usize) {
        if let Some(waiting) = self.waiting.get_mut(&number)
            && !waiting.is_ready
        {
            waiting.is_ready = true;
            self.ready.push_back(number);
        }
    }
}
