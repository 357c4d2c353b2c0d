//! The shell: it owns the poll, the listeners, the signals, the clock and the console, and calls the hub.
//!
//! Events only set flags; all work happens in one turn, in a fixed order: wait, note, serve, console, reap,
//! accept. So spurious events do no harm, no edge is lost, a client's log line is written before it sees the
//! end of its connection, and no new connection gets a key for which an old event is still to come.

mod acceptor;
mod access;
mod admin;
mod admission;
mod manager;
mod metrics;
mod reactor;
mod redis;
mod requests;
mod stopping;
mod tls;
mod unfinished;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Token};

use crate::config::{Config, FOREVER};
use crate::connection::Ready;
use crate::console::{Console, Counters};
use crate::event::{Event, RedisState};
use crate::hub::Hub;
use crate::transport::Socket;
pub use crate::transport::listener::Inherited;
use acceptor::Acceptor;
use admin::{Admin, Status};
use manager::Manager;
use metrics::Snapshot;
use reactor::Reactor;
use redis::SharedLog;
use requests::Requests;
pub use requests::Stopper;
use stopping::Stopping;
use tls::Tls;

/// How many descriptors [`Config::admin`] takes.
#[doc(hidden)]
pub const ADMIN_DESCRIPTORS: usize = admin::DESCRIPTORS;

/// How many sources of events there are at most beside the clients and listeners.
const OTHER_SOURCES: usize = 64;

/// The first token that no peer can have: the token of a peer is its key in the hub.
const FIRST_LISTENER: usize = usize::MAX / 2;
const FIRST_ADMIN: usize = FIRST_LISTENER + (1 << 16);
const FIRST_UNFINISHED: usize = FIRST_ADMIN + (1 << 16);
const REDIS: [Token; 2] = [Token(usize::MAX - 5), Token(usize::MAX - 4)];
const CONSOLE: Token = Token(usize::MAX - 3);
const SIGNALS: Token = Token(usize::MAX - 2);
const WAKER: Token = Token(usize::MAX - 1);

/// Takes the events for an embedding program.
type OnEvent = Box<dyn FnMut(&Event<'_>) + Send>;

/// An echo server that listens. [`run`](Self::run) serves until it is stopped.
///
/// ```
/// use sockets::{Config, Server, config::Log};
///
/// let config = Config::with(|config| (config.port, config.log) = (0, Log::Off));
/// let server = Server::bind(&config)?;
/// let stopper = server.stopper();
/// let thread = std::thread::spawn(move || server.run());
/// stopper.stop()?;
/// thread.join().expect("the server does not panic")?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Server {
    reactor: Reactor,
    acceptor: Acceptor,
    requests: Requests,
    manager: Manager,
    hub: Hub<Socket>,
    /// What the room shares with other servers, if it does.
    log: Option<Box<SharedLog>>,
    console: Console,
    on_event: Option<OnEvent>,
    started: Instant,
    max_connections: usize,
    is_chat: bool,
    /// How many clients were told that the room is full.
    refused_full: u64,
    grace: Duration,
    drain: Duration,
    admin: Option<Admin>,
    /// When the turn began.
    now: Instant,
    /// Until when it goes on serving though it was told to stop.
    draining: Option<Instant>,
    stopping: Option<Stopping>,
}

/// How a server came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop, and did.
    Stopped,
    /// It was interrupted (`SIGINT`) while it was stopping, and gave up at once.
    Interrupted,
}

impl Server {
    /// Listens as `config` says. Clients can connect from now on and are served by [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// An address that cannot be bound; the message names it, the port and the reason. Settings that do not go together
    /// ([`io::ErrorKind::InvalidInput`]). Or the system's, if there are no descriptors.
    pub fn bind(config: &Config) -> io::Result<Self> {
        Self::adopt(config, Inherited::default())
    }

    /// As [`bind`](Self::bind), but listens on `inherited` sockets instead, if there are any. When the server stops,
    /// connections that wait in them are left to the next server.
    ///
    /// # Errors
    ///
    /// Those of [`bind`](Self::bind).
    pub fn adopt(config: &Config, inherited: Inherited) -> io::Result<Self> {
        config.check()?;
        let reactor = Reactor::new()?;
        let registry = reactor.registry();
        let requests = Requests::new(registry, WAKER)?;
        let mut console = Console::new(config);
        // Where it cannot be watched, it is tried now and then.
        let is_watched = console.pollable().is_some_and(|stdout| {
            registry.register(&mut SourceFd(&stdout.as_raw_fd()), CONSOLE, Interest::WRITABLE).is_ok()
        });
        console.set_watched(is_watched);
        let acceptor = Acceptor::open(config, inherited, registry, [FIRST_LISTENER, FIRST_UNFINISHED])?;
        let admin = config.admin.map(|address| Admin::open(address, registry, FIRST_ADMIN)).transpose()?;
        let log = SharedLog::open(config, registry, REDIS)?;
        Ok(Self {
            acceptor,
            requests,
            manager: Manager::default(),
            hub: log.as_ref().map_or_else(|| Hub::new(config), |log| Hub::shared(config, log.id)),
            log,
            console,
            on_event: None,
            started: Instant::now(),
            max_connections: config.max_connections,
            is_chat: config.chat,
            refused_full: 0,
            grace: config.grace.min(FOREVER),
            drain: config.drain.min(FOREVER),
            admin,
            now: Instant::now(),
            draining: None,
            stopping: None,
            reactor,
        })
    }

    /// Passes everything that happens on to `on_event`, beside printing what [`Config::log`] asks for. It is called on the
    /// server's only thread: while it runs, no client is served.
    #[must_use]
    pub fn with_events(mut self, on_event: impl FnMut(&Event<'_>) + Send + 'static) -> Self {
        self.hub.report_messages();
        self.on_event = Some(Box::new(on_event));
        self
    }

    /// Makes `SIGINT`, `SIGTERM` and `SIGHUP` stop this server, `SIGTERM` after [`Config::drain`], and `SIGUSR1` print its
    /// counters. A `SIGHUP` that the process was started to ignore, as nohup(1) does, stays ignored.
    ///
    /// # Errors
    ///
    /// The system's, if there are no descriptors.
    pub fn handle_signals(&mut self) -> io::Result<()> {
        self.requests.handle_signals(self.reactor.registry(), SIGNALS)
    }

    /// Tells the service manager, such as systemd, when this server is ready and when it stops (sd_notify(3)), if there
    /// is one.
    pub fn notify_manager(&mut self) {
        self.manager.is_told = true;
    }

    /// The TCP port that it listens on, the first one if there are several; 0 if there is none.
    pub fn port(&self) -> u16 {
        self.local_addrs().first().map_or(0, SocketAddr::port)
    }

    /// The addresses of its TCP sockets.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        self.acceptor.addresses()
    }

    /// Where it answers requests about its health, if it does.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// The SHA-256, in hex digits, of the certificate that was made for this server, with
    /// [`Tls::SelfSigned`](crate::config::Tls::SelfSigned).
    pub fn fingerprint(&self) -> Option<&str> {
        self.acceptor.tls().and_then(Tls::fingerprint)
    }

    /// A way to stop this server from another thread.
    pub fn stopper(&self) -> Stopper {
        self.requests.stopper()
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    ///
    /// The system's, if waiting for events fails. Nothing that a client does is an error here.
    pub fn run(mut self) -> io::Result<End> {
        let port = self.port();
        self.console.started(port);
        if let Some(address) = self.admin_addr() {
            self.console.admin(address);
        }
        self.manager.ready();
        let stopping = loop {
            if let Err(error) = self.wait() {
                self.give_up();
                return Err(error);
            }
            if self.note()
                && let Some(End::Interrupted) = self.handle_requests()
            {
                self.give_up();
                return Ok(End::Interrupted);
            }
            if self.draining.is_some_and(|until| until <= self.reactor.noted()) {
                self.stop(false);
            }
            self.end_first_bytes();
            self.admit_announced();
            self.serve();
            self.answer_admin();
            self.console.flush(self.now, self.hub.has_settled());
            let has_freed_descriptor = self.hub.reap(self.now);
            self.accept(has_freed_descriptor);
            let has_left = self.has_left();
            if let Some(stopping) = self.stopping
                && ((self.has_no_connections() && has_left) || self.reactor.noted() >= stopping.deadline)
            {
                break stopping;
            }
            if let Some(admin) = &self.admin {
                admin.observe_turn(self.now.elapsed(), self.reactor.events().count());
            }
        };
        self.give_up();
        self.console.stopped(port, stopping.is_interrupted);
        self.console.finish(stopping.deadline);
        Ok(End::Stopped)
    }

    /// Waits for events, not at all while there is work without them, else at most until something is due.
    fn wait(&mut self) -> io::Result<()> {
        // Refused connections are reported now, not only with the next event.
        for event in self.acceptor.take_unreported(self.now) {
            report(&event, &mut self.console, &mut self.on_event);
        }
        self.report_tls();
        self.console.flush(self.now, false);
        let timeout = if self.has_work() {
            Some(Duration::ZERO)
        } else {
            let stop = self.stopping.map(|stopping| stopping.drain_at.unwrap_or(stopping.deadline)).or(self.draining);
            let admin = self.admin.as_ref().and_then(Admin::deadline);
            let log = self.log.as_ref().and_then(|log| log.deadline());
            let deadlines =
                [self.hub.deadline(), log, self.console.deadline(), self.acceptor.deadline(self.now), stop, admin];
            let next = deadlines.into_iter().flatten().min();
            next.map(|deadline| deadline.saturating_duration_since(Instant::now()))
        };
        let sources = self.hub.len() + self.acceptor.sources() + OTHER_SOURCES;
        self.now = self.reactor.wait(timeout, sources)?;
        Ok(())
    }

    /// Tells of TLS handshakes that failed, and looks whether there is a new certificate.
    fn report_tls(&mut self) {
        for (peer, reason) in self.acceptor.unfinished_mut().take_failures() {
            report(&Event::HandshakeFailed { peer, reason: &reason }, &mut self.console, &mut self.on_event);
        }
        if let Some(outcome) = self.acceptor.tls_mut().and_then(|tls| tls.renew(self.now)) {
            let error = outcome.err().map(|error| error.to_string());
            report(&Event::Renewed { error: error.as_deref() }, &mut self.console, &mut self.on_event);
        }
    }

    /// Whether a turn can make progress without an event.
    fn has_work(&self) -> bool {
        self.hub.has_work()
            || self.acceptor.is_pending(self.now, self.has_room())
            || self.admin.as_ref().is_some_and(Admin::has_work)
            || self.log.as_ref().is_some_and(|log| log.has_work())
    }

    /// Turns events into flags. Returns whether a signal or a [`Stopper`] woke the server.
    fn note(&mut self) -> bool {
        let mut is_asked = false;
        for event in self.reactor.events() {
            match event.token() {
                SIGNALS | WAKER => is_asked = true,
                CONSOLE => self.console.on_ready(),
                token if REDIS.contains(&token) => self.log.iter_mut().for_each(|log| log.on_ready(event)),
                Token(token) if token >= FIRST_UNFINISHED => {
                    self.acceptor.unfinished_mut().on_ready(token, ready(event));
                }
                Token(token) if token >= FIRST_ADMIN => {
                    if let Some(admin) = &mut self.admin {
                        admin.on_ready(token);
                    }
                }
                Token(token) if token >= FIRST_LISTENER => self.acceptor.on_ready(token - FIRST_LISTENER),
                Token(key) => self.hub.on_ready(key, ready(event)),
            }
        }
        is_asked
    }

    /// Lets the hub do its work, and tells what happened. In a room that spans servers, what their log says takes effect
    /// first, and what the members do is sent to it then.
    fn serve(&mut self) {
        if let Some(log) = &mut self.log {
            log.read(&mut self.hub, self.now, &mut redis_reporter(&mut self.console, &mut self.on_event));
        }
        self.hub.turn(self.now, self.reactor.noted(), |event| {
            if let Event::Closed { peer, .. } = event {
                self.acceptor.leave(peer);
            }
            report(&event, &mut self.console, &mut self.on_event);
        });
        if let Some(log) = &mut self.log {
            let mut on_change = redis_reporter(&mut self.console, &mut self.on_event);
            log.flush(&mut self.hub, (self.now, self.reactor.noted()), &mut on_change);
        }
    }

    /// Answers requests about the server's health.
    fn answer_admin(&mut self) {
        // It asks the server.
        let Some(mut admin) = self.admin.take() else { return };
        let is_draining = self.draining.is_some() || self.stopping.is_some();
        let status = Status { is_draining, count: &|| self.snapshot() };
        admin.turn(self.now, self.reactor.noted(), &status, self.reactor.registry());
        self.admin = Some(admin);
    }

    fn counters(&self) -> Counters {
        let traffic = self.hub.traffic();
        Counters {
            connections: self.hub.len(),
            connections_total: traffic.connections,
            connections_refused: self.refused().map(|(_, count)| count).sum(),
            messages: traffic.messages,
            bytes_in: traffic.received,
            bytes_out: traffic.sent,
            bytes_held: self.hub.held() + self.acceptor.unfinished().held(),
            lines_dropped: self.console.dropped(),
            uptime: self.started.elapsed(),
            redis: self.log.as_ref().map(|log| log.counters()),
        }
    }

    /// How many connections were refused, with a name for each reason.
    fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.acceptor.refused().chain([("full", self.refused_full)])
    }

    fn snapshot(&self) -> Snapshot {
        let refused = self.refused().collect();
        let members = self.is_chat.then(|| self.hub.members());
        let handshakes = self.acceptor.tls().map(|_| self.acceptor.unfinished().totals());
        Snapshot { counters: self.counters(), refused, members, handshakes }
    }
}

/// What an event says of a stream. What it says of errors and closed sides is a hint to try both; read and write tell.
fn ready(event: &mio::event::Event) -> Ready {
    Ready {
        readable: event.is_readable(),
        writable: event.is_writable() || event.is_write_closed() || event.is_error(),
        // A read stops at urgent data as it does at the end, with more behind it.
        read_closed: event.is_read_closed() || event.is_error() || event.is_priority(),
        error: event.is_error(),
    }
}

/// Prints an event, and passes it on to the embedding program.
fn report(event: &Event<'_>, console: &mut Console, on_event: &mut Option<OnEvent>) {
    console.event(event);
    if let Some(on_event) = on_event {
        on_event(event);
    }
}

/// Reports how the server stands with the Redis of its room.
fn redis_reporter<'a>(
    console: &'a mut Console,
    on_event: &'a mut Option<OnEvent>,
) -> impl FnMut(RedisState, &str, &str) + 'a {
    move |state, address, reason| report(&Event::Redis { state, address, reason }, console, on_event)
}
