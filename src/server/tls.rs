//! Connections that are let in once their TLS handshake is done.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token};

use super::handshakes::Client;
use crate::address::{PeerAddress, QuotaKey};
use crate::config::{self, Config, FOREVER};
use crate::connection::Ready;
use crate::error::reason;
use crate::tls::server::{Files, Identity};
use crate::tls::{fingerprint, subject};
use crate::transport::tls::Tls;
use crate::transport::{Socket, Stream};
use fair_queue::FairQueue;

mod fair_queue;
#[cfg(test)]
mod tests;

/// How many steps of handshakes are taken in one turn. A step takes a signature at most, some hundreds of microseconds, so
/// a flood of handshakes delays the clients by a few milliseconds.
const STEPS_PER_TURN: usize = 8;

/// How long no handshake makes room for another though there are as many as may be, unless it has taken so long itself: a
/// burst of clients waits its turn, and a flood of silent ones passes on its places.
const PATIENCE: Duration = Duration::from_millis(250);

/// How many bytes of what follows a failed handshake are discarded at once.
const DISCARD: usize = 4 << 10;

/// The connections whose handshake is under way.
pub(super) struct TlsHandshakes {
    identity: Identity,
    fingerprint: Option<String>,
    timeout: Duration,
    /// How many there may be.
    limit: usize,
    /// By number, so the oldest is the first. The token of a connection is its number above `first_token`.
    waiting: BTreeMap<usize, Waiting>,
    /// By address, those that may go on.
    queue: FairQueue,
    /// Those whose end came before they had begun: they cost no signature, and are dropped first.
    hopeless: VecDeque<usize>,
    /// Since when there are about as many as may be and none of them was done.
    full_since: Option<Instant>,
    /// How many steps may still be taken in this turn.
    steps: usize,
    next_number: usize,
    first_token: usize,
    /// Why handshakes failed, for the log.
    failures: Vec<(PeerAddress, String)>,
    /// How many were done, and how many failed.
    totals: (u64, u64),
}

struct Waiting {
    tls: Box<Tls<Socket>>,
    address: PeerAddress,
    since: Instant,
    /// An event told of the end of what the client sends: no other will follow for what is behind the last read.
    read_closed: bool,
    /// Its time is up: what is not done with the next step fails.
    is_final: bool,
    /// It has been sent an alert and our end, and what it still sends is discarded: closing a socket with unread input
    /// could destroy the alert.
    has_failed: bool,
}

/// What became of a connection.
pub(super) enum Step {
    /// Its handshake is done.
    Client(Client),
    /// It is gone.
    Failed(PeerAddress),
    /// It waits.
    Nothing,
}

impl TlsHandshakes {
    /// A table for the connections of a server that listens on `addresses`, if it speaks TLS, with tokens from
    /// `first_token` on.
    ///
    /// # Errors
    ///
    /// One sentence about a certificate or a key that cannot be used.
    pub(super) fn new(config: &Config, addresses: &[SocketAddr], first_token: usize) -> io::Result<Option<Self>> {
        let Some(tls) = &config.tls else { return Ok(None) };
        let client_authority = config.tls_client_ca.clone();
        let (identity, fingerprint) = match tls {
            config::Tls::Files { certificate, key } => {
                let files = Files { certificate: certificate.clone(), key: key.clone(), client_authority };
                (Identity::load(files, Instant::now())?, None)
            }
            config::Tls::SelfSigned => {
                let (identity, certificate) = Identity::self_signed(names(addresses), client_authority.as_deref())?;
                (identity, Some(fingerprint(&certificate)))
            }
        };
        Ok(Some(Self {
            identity,
            fingerprint,
            timeout: config.handshake_timeout.min(FOREVER),
            limit: (config.max_connections / 2).max(1),
            waiting: BTreeMap::new(),
            queue: FairQueue::default(),
            hopeless: VecDeque::new(),
            full_since: None,
            steps: 0,
            next_number: 0,
            first_token,
            failures: Vec::new(),
            totals: (0, 0),
        }))
    }

    /// The SHA-256 of a certificate that was made for this server.
    pub(super) fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// How many handshakes are under way.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of memory that are held for them.
    pub(super) fn held(&self) -> usize {
        self.waiting.values().map(|waiting| size_of_val(&*waiting.tls) + waiting.tls.held()).sum()
    }

    /// Whether a turn can make progress without an event.
    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_idle() || !self.hopeless.is_empty()
    }

    /// When the oldest handshake has taken too long, or the certificate is to be looked at.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let oldest = self.waiting.first_key_value().map(|(_, oldest)| oldest.since + self.timeout);
        oldest.into_iter().chain(self.identity.deadline()).min()
    }

    /// Until when no other connection may be taken in, if that is so.
    pub(super) fn full_until(&self) -> Option<Instant> {
        let full_since = self.full_since.filter(|_| self.waiting.len() >= self.limit)?;
        let next = self.queue.oldest_of_most().and_then(|number| self.waiting.get(&number))?;
        Some(next.since.min(full_since) + PATIENCE)
    }

    /// Loads a new certificate if there is one. Returns the outcome if there is something to tell.
    pub(super) fn renew(&mut self, now: Instant) -> Option<io::Result<()>> {
        self.identity.renew(now).map(|has_changed| has_changed.then_some(())).transpose()
    }

    /// The handshakes that failed since the last call, and why.
    pub(super) fn take_failures(&mut self) -> Vec<(PeerAddress, String)> {
        std::mem::take(&mut self.failures)
    }

    /// How many handshakes were done, and how many failed.
    pub(super) fn totals(&self) -> (u64, u64) {
        self.totals
    }

    /// Notes an event for `token`.
    pub(super) fn on_ready(&mut self, token: usize, ready: Ready) {
        let number = token - self.first_token;
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.read_closed |= ready.read_closed;
        }
        self.schedule(number);
    }

    /// A new turn begins. Gives those up whose time was over at `noted`, unless they are done with their next step.
    pub(super) fn begin_turn(&mut self, noted: Instant) {
        self.steps = STEPS_PER_TURN;
        let is_over = |waiting: &Waiting| waiting.since + self.timeout <= noted;
        let over: Vec<usize> =
            self.waiting.iter().take_while(|(_, oldest)| is_over(oldest)).map(|(at, _)| *at).collect();
        over.into_iter().for_each(|number| self.finish(number));
    }

    /// Lets all of them take one more step, whether or not an event came.
    pub(super) fn retry_all(&mut self) {
        for (number, waiting) in &self.waiting {
            self.queue.schedule(waiting.key(), *number);
        }
    }

    /// Drops all of them.
    pub(super) fn clear(&mut self) {
        (self.queue, self.full_since) = (FairQueue::default(), None);
        self.waiting.clear();
        self.hopeless.clear();
    }

    /// Takes in a connection. If there are as many as may be, another one makes room.
    pub(super) fn begin(&mut self, client: Client, now: Instant, registry: &Registry) -> Step {
        let Client { mut stream, address, registered, .. } = client;
        // So the numbers do not run out, not even where they have 32 bits.
        if self.waiting.is_empty() {
            self.next_number = 0;
        }
        let number = self.next_number;
        let (token, interests) = (Token(self.first_token + number), Interest::READABLE | Interest::WRITABLE);
        let outcome = match registered {
            None => registry.register(&mut stream, token, interests),
            // What has arrived already is told once more.
            Some(_) => registry.reregister(&mut stream, token, interests),
        };
        // Without events it would never be served: dropping it tells the client at once.
        let Ok(tls) = outcome.and_then(|()| Tls::new(stream, self.identity.config())) else {
            return Step::Failed(address);
        };
        self.next_number += 1;
        let tls = Box::new(tls);
        let evicted = self.queue.oldest_of_most().filter(|_| self.waiting.len() >= self.limit);
        let step = evicted.map_or(Step::Nothing, |number| {
            self.note_failure(number, "too many others were under way".to_owned());
            self.give_up(number)
        });
        self.queue.insert(address.into(), number);
        let waiting = Waiting { tls, address, since: now, read_closed: false, is_final: false, has_failed: false };
        self.waiting.insert(number, waiting);
        if self.waiting.len() >= self.limit {
            self.full_since.get_or_insert(now);
        }
        step
    }

    /// Takes the next step of a handshake, if one may go on in this turn.
    pub(super) fn next(&mut self) -> Option<Step> {
        if let Some(number) = self.hopeless.pop_front() {
            return Some(self.reject(number));
        }
        self.steps = self.steps.checked_sub(1)?;
        let number = self.queue.pop()?;
        let waiting = self.waiting.get_mut(&number)?;
        let outcome = waiting.step();
        Some(match outcome {
            Ok(true) => {
                self.totals.0 += 1;
                self.full_since = None;
                self.remove(number).map_or(Step::Nothing, |waiting| Step::Client(waiting.into_client()))
            }
            Ok(false) => self.give_up(number),
            Err(error) => self.advance(number, &error),
        })
    }

    /// What follows from a step that failed or has to wait.
    fn advance(&mut self, number: usize, error: &io::Error) -> Step {
        let Some(waiting) = self.waiting.get_mut(&number) else { return Step::Nothing };
        match error.kind() {
            ErrorKind::WouldBlock if !waiting.is_final => {
                if std::mem::take(&mut waiting.read_closed) {
                    self.schedule(number);
                }
            }
            ErrorKind::Interrupted if !waiting.is_final => self.schedule(number),
            ErrorKind::WouldBlock | ErrorKind::Interrupted => {
                self.note_failure(number, "it took too long".to_owned());
                return self.give_up(number);
            }
            kind => {
                let goes_on = kind == ErrorKind::InvalidData && !waiting.is_final;
                // One that ends before its first byte is a probe.
                if waiting.tls.has_begun() {
                    self.note_failure(number, reason(error));
                }
                match self.waiting.get_mut(&number) {
                    Some(waiting) if goes_on => waiting.fail(),
                    _ => return self.give_up(number),
                }
                self.schedule(number);
            }
        }
        Step::Nothing
    }

    /// Drops a connection whose end came before it had begun.
    fn reject(&mut self, number: usize) -> Step {
        let Some(waiting) = self.waiting.get_mut(&number).filter(|waiting| waiting.is_hopeless()) else {
            return Step::Nothing;
        };
        let error = waiting.tls.reject();
        self.advance(number, &error)
    }

    /// Notes why a handshake failed, once.
    fn note_failure(&mut self, number: usize, reason: String) {
        if let Some(waiting) = self.waiting.get(&number)
            && !waiting.has_failed
        {
            self.totals.1 += 1;
            self.failures.push((waiting.address, reason));
        }
    }

    /// Lets a connection take its last step.
    fn finish(&mut self, number: usize) {
        if let Some(waiting) = self.waiting.get_mut(&number)
            && !std::mem::replace(&mut waiting.is_final, true)
        {
            self.schedule(number);
        }
    }

    fn give_up(&mut self, number: usize) -> Step {
        self.remove(number).map_or(Step::Nothing, |waiting| Step::Failed(waiting.address))
    }

    fn remove(&mut self, number: usize) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        self.queue.remove(waiting.key(), number);
        if self.waiting.len() < self.limit / 2 {
            self.full_since = None;
        }
        Some(waiting)
    }

    /// Lets a connection go on, or drops it if nothing can come of it.
    fn schedule(&mut self, number: usize) {
        match self.waiting.get(&number) {
            Some(waiting) if waiting.is_hopeless() => self.hopeless.push_back(number),
            Some(waiting) => self.queue.schedule(waiting.key(), number),
            None => {}
        }
    }
}

impl Waiting {
    fn key(&self) -> QuotaKey {
        self.address.into()
    }

    /// Whether its end came before it had begun: whatever it sent, it does not read an answer, or not in time.
    fn is_hopeless(&self) -> bool {
        (self.read_closed || self.is_final) && !self.tls.has_begun()
    }

    /// Goes on with the handshake. Returns whether it is done, or, if it had failed, `false` once the client is gone.
    fn step(&mut self) -> io::Result<bool> {
        if !self.has_failed {
            return self.tls.handshake().map(|()| true);
        }
        match self.tls.stream_mut().recv(&mut [0; DISCARD]) {
            Ok(received) if received.count > 0 => Err(ErrorKind::Interrupted.into()),
            Err(error) if is_pause(&error) => Err(error),
            _ => Ok(false),
        }
    }

    /// Ends our side after the alert.
    fn fail(&mut self) {
        // If this fails, the client is gone.
        _ = self.tls.finish();
        self.has_failed = true;
    }

    fn into_client(self) -> Client {
        let certificates = self.tls.connection().peer_certificates();
        // What came with the end of the handshake is not in the socket any more.
        let ready = Ready { readable: self.tls.may_receive(), read_closed: self.read_closed, ..Ready::default() };
        Client {
            subject: certificates.and_then(|chain| chain.first()).map(subject),
            stream: Socket::Tls(self.tls),
            address: self.address,
            is_exempt: false,
            registered: Some(ready),
        }
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// The addresses under which clients reach a server that listens on `addresses`.
fn names(addresses: &[SocketAddr]) -> Vec<IpAddr> {
    let mut names: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).collect();
    if names.len() < addresses.len() {
        names.extend([IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]);
    }
    names.sort();
    names.dedup();
    names
}
