//! Connections that have been accepted and are not let in yet: those of proxies until their PROXY header has arrived, and
//! where TLS is spoken all of them until their handshake is done. A connection with both begins with the header.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token};
use rustls::ServerConfig;

use crate::address::PeerAddress;
use crate::config::{Config, FOREVER};
use crate::connection::Ready;
use crate::error::reason;
use crate::transport::Socket;
use crate::transport::tls::Tls;
use fair_queue::FairQueue;
use headers::{Headers, Look};
use waiting::{Stage, Waiting};

mod fair_queue;
mod headers;
#[cfg(test)]
mod tests;
mod waiting;

/// How many steps of handshakes are taken in one turn. A step takes a signature at most, some hundreds of microseconds, so
/// a flood of handshakes delays the clients by a few milliseconds.
const STEPS_PER_TURN: usize = 8;

/// How long no handshake makes room for another though there are as many as may be, unless it has taken so long itself: a
/// burst of clients waits its turn, and a flood of silent ones passes on its places. Proxies send their header with the
/// connection, so one that waits for it makes room at once.
const PATIENCE: Duration = Duration::from_millis(250);

/// The connections that are not let in yet.
pub(super) struct Unfinished {
    headers: Headers,
    handshake_timeout: Duration,
    /// How many there may be. One more makes the oldest of those of one address go with the next step.
    limit: usize,
    /// By number: a younger one has a higher number. The token of a connection is its number above `first_token`.
    waiting: BTreeMap<usize, Waiting>,
    /// When the time of each is over.
    deadlines: BTreeSet<(Instant, usize)>,
    /// By address, those that may go on.
    queue: FairQueue,
    /// Those whose end came before their handshake had begun: they cost no signature, and are dropped first.
    ended: VecDeque<usize>,
    /// Since when there are about as many as may be and no handshake was done.
    full_since: Option<Instant>,
    /// How many steps of handshakes may still be taken in this turn.
    steps: usize,
    next_number: usize,
    first_token: usize,
    /// Why handshakes failed, for the log.
    failures: Vec<(PeerAddress, String)>,
    /// How many handshakes were done, and how many failed.
    totals: (u64, u64),
}

/// A client that is let in, or may be.
pub(super) struct Client {
    pub(super) stream: Socket,
    pub(super) address: PeerAddress,
    /// The subject of its certificate, if it has presented one.
    pub(super) subject: Option<String>,
    /// It came through a proxy that does not say from where, so the access rules do not apply to it.
    pub(super) is_exempt: bool,
    /// What is known of its stream, if that is registered already, with a token that is not the hub's.
    pub(super) registered: Option<Ready>,
}

/// What became of a connection.
pub(super) enum Step {
    /// Its address is known: the rules decide about it.
    Identified(Client),
    /// Its handshake is done.
    Done(Client),
    /// Its header is malformed or missing.
    Refused(PeerAddress),
    /// It had been let in by the rules, and is gone.
    Failed(PeerAddress),
    /// It waits for more, or it ended before its first byte, as probes do.
    Nothing,
}

impl Unfinished {
    /// An empty table, with tokens from `first_token` on.
    pub(super) fn new(config: &Config, first_token: usize) -> Self {
        Self {
            headers: Headers::new(config),
            handshake_timeout: config.handshake_timeout.min(FOREVER),
            limit: (config.max_connections / 2).max(1),
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            queue: FairQueue::default(),
            ended: VecDeque::new(),
            full_since: None,
            steps: STEPS_PER_TURN,
            next_number: 0,
            first_token,
            failures: Vec::new(),
            totals: (0, 0),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of memory that are held for them.
    pub(super) fn held(&self) -> usize {
        self.waiting.values().map(|waiting| waiting.stage.held()).sum()
    }

    /// Whether a turn can make progress without an event.
    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_idle() || !self.ended.is_empty() || self.waiting.len() > self.limit
    }

    /// When the next one has taken too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Until when no other connection may be accepted, if that is so.
    pub(super) fn full_until(&self) -> Option<Instant> {
        let full_since = self.full_since.filter(|_| self.waiting.len() >= self.limit)?;
        let next = self.queue.oldest_of_most().and_then(|number| self.waiting.get(&number))?;
        (!next.stage.is_header()).then(|| next.since.min(full_since) + PATIENCE)
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
        while let Some((_, number)) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= noted) {
            self.deadlines.pop_first();
            if let Some(waiting) = self.waiting.get_mut(&number) {
                waiting.is_final = true;
            }
            self.schedule(number);
        }
    }

    /// Lets all of them take one more step, whether or not an event came.
    pub(super) fn retry_all(&mut self) {
        for (number, waiting) in &self.waiting {
            self.queue.schedule(waiting.key(), *number);
        }
    }

    /// Drops all of them.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.deadlines.clear();
        self.ended.clear();
        (self.queue, self.full_since) = (FairQueue::default(), None);
    }

    /// Takes in a connection just accepted. If it comes from a proxy, its header has to come first.
    pub(super) fn begin(
        &mut self,
        mut stream: Socket,
        address: PeerAddress,
        now: Instant,
        registry: &Registry,
    ) -> Step {
        if !self.headers.is_proxy(address) {
            return Step::Identified(Client { stream, address, subject: None, is_exempt: false, registered: None });
        }
        // The header of a connection that has waited in the system's queue is there already.
        match self.headers.look(&stream) {
            Look::Partial => {}
            look => return self.headers.conclude(stream, address, look, None),
        }
        // Without events it would never be served: dropping it tells the proxy at once.
        if registry.register(&mut stream, self.next_token(), Interest::READABLE).is_ok() {
            self.insert(Stage::Header(stream), address, now, self.headers.timeout());
        }
        Step::Nothing
    }

    /// Begins the handshake of a client that the rules let in.
    ///
    /// # Errors
    ///
    /// The system's, if it can have no events, or that of settings that allow no connection.
    pub(super) fn begin_handshake(
        &mut self,
        client: Client,
        config: Arc<ServerConfig>,
        now: Instant,
        registry: &Registry,
    ) -> io::Result<()> {
        let Client { mut stream, address, registered, .. } = client;
        let token = self.next_token();
        match registered {
            None => registry.register(&mut stream, token, Interest::READABLE)?,
            // What has arrived already is told once more.
            Some(_) => registry.reregister(&mut stream, token, Interest::READABLE)?,
        }
        let tls = Box::new(Tls::new(stream, config)?);
        self.insert(Stage::Handshake { tls, has_failed: false }, address, now, self.handshake_timeout);
        if self.waiting.len() >= self.limit {
            self.full_since.get_or_insert(now);
        }
        Ok(())
    }

    /// Takes the next step of a connection, if one may go on in this turn.
    pub(super) fn next(&mut self, registry: &Registry) -> Option<Step> {
        if self.waiting.len() > self.limit
            && let Some(number) = self.queue.oldest_of_most()
        {
            return Some(self.evict(number));
        }
        if let Some(number) = self.ended.pop_front() {
            return Some(self.reject(number, registry));
        }
        if self.steps == 0 {
            return None;
        }
        let number = self.queue.pop()?;
        let waiting = self.waiting.get_mut(&number)?;
        let Some(outcome) = waiting.stage.step() else { return Some(self.look(number)) };
        self.steps -= 1;
        Some(match outcome {
            Ok(true) => {
                self.totals.0 += 1;
                self.full_since = None;
                self.remove(number).map_or(Step::Nothing, Waiting::into_step)
            }
            Ok(false) => self.give_up(number),
            Err(error) => self.advance(number, &error, registry),
        })
    }

    /// Looks for the header of a connection.
    fn look(&mut self, number: usize) -> Step {
        let Some(waiting) = self.waiting.get(&number) else { return Step::Nothing };
        let Stage::Header(stream) = &waiting.stage else { return Step::Nothing };
        let look = self.headers.look(stream);
        if matches!(look, Look::Partial) && !waiting.read_closed && !waiting.is_final {
            return Step::Nothing;
        }
        match self.remove(number) {
            Some(Waiting { stage: Stage::Header(stream), address, read_closed, .. }) => {
                let ready = Ready { readable: true, read_closed, ..Ready::default() };
                self.headers.conclude(stream, address, look, Some(ready))
            }
            _ => Step::Nothing,
        }
    }

    /// Ends a connection to make room for others, unless its header has just come.
    fn evict(&mut self, number: usize) -> Step {
        match self.waiting.get_mut(&number) {
            Some(waiting) if waiting.stage.is_header() => {
                waiting.is_final = true;
                self.look(number)
            }
            _ => {
                self.note_failure(number, "too many others were under way".to_owned());
                self.give_up(number)
            }
        }
    }

    /// What follows from a step of a handshake that failed or has to wait.
    fn advance(&mut self, number: usize, error: &io::Error, registry: &Registry) -> Step {
        let Some(waiting) = self.waiting.get_mut(&number) else { return Step::Nothing };
        match error.kind() {
            ErrorKind::WouldBlock if !waiting.is_final => {
                // Where it cannot be told of that, it ends by its timeout.
                _ = waiting.stage.await_writable(registry, Token(self.first_token + number));
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
                if waiting.stage.has_begun() {
                    self.note_failure(number, reason(error));
                }
                match self.waiting.get_mut(&number) {
                    Some(waiting) if goes_on => waiting.stage.fail(),
                    _ => return self.give_up(number),
                }
                self.schedule(number);
            }
        }
        Step::Nothing
    }

    /// Drops a connection whose end came before its handshake had begun.
    fn reject(&mut self, number: usize, registry: &Registry) -> Step {
        let Some(waiting) = self.waiting.get_mut(&number).filter(|waiting| waiting.has_ended_early()) else {
            return Step::Nothing;
        };
        let Stage::Handshake { tls, .. } = &mut waiting.stage else { return Step::Nothing };
        let error = tls.reject();
        self.advance(number, &error, registry)
    }

    /// Notes why a handshake failed, once.
    fn note_failure(&mut self, number: usize, reason: String) {
        if let Some(Waiting { stage: Stage::Handshake { has_failed: false, .. }, address, .. }) =
            self.waiting.get(&number)
        {
            self.totals.1 += 1;
            self.failures.push((*address, reason));
        }
    }

    fn give_up(&mut self, number: usize) -> Step {
        self.remove(number).map_or(Step::Nothing, |waiting| Step::Failed(waiting.address))
    }

    /// The token of the connection that is inserted next.
    fn next_token(&mut self) -> Token {
        // So the numbers do not run out, not even where they have 32 bits.
        if self.waiting.is_empty() {
            self.next_number = 0;
        }
        Token(self.first_token + self.next_number)
    }

    fn insert(&mut self, stage: Stage, address: PeerAddress, now: Instant, timeout: Duration) {
        let (number, deadline) = (self.next_number, now + timeout);
        self.next_number += 1;
        let waiting = Waiting { stage, address, since: now, deadline, read_closed: false, is_final: false };
        self.queue.insert(waiting.key(), number);
        self.deadlines.insert((deadline, number));
        self.waiting.insert(number, waiting);
    }

    fn remove(&mut self, number: usize) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        self.queue.remove(waiting.key(), number);
        self.deadlines.remove(&(waiting.deadline, number));
        if self.waiting.len() < self.limit.div_ceil(2) {
            self.full_since = None;
        }
        Some(waiting)
    }

    /// Lets a connection go on, or drops it if nothing can come of it.
    fn schedule(&mut self, number: usize) {
        match self.waiting.get(&number) {
            Some(waiting) if waiting.has_ended_early() => self.ended.push_back(number),
            Some(waiting) => self.queue.schedule(waiting.key(), number),
            None => {}
        }
    }
}
