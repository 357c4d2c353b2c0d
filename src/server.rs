//! The shell: it owns the poll, the listeners, the signals, the clock and the console, and calls the hub.
//!
//! Events only set flags; all work happens in one turn, in a fixed order: wait, note, serve, console, reap,
//! accept. So spurious events do no harm, no edge is lost, a client's log line is written before it sees the
//! end of its connection, and no new connection gets a key for which an old event is still to come.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::io::ioctl_fionread;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;

use crate::access::Access;
use crate::config::Config;
use crate::connection::Stream;
use crate::console::{Console, Counters};
use crate::hub::{Event, Hub};
use crate::listen::{BACKLOG, listen};

/// How many events one wait brings at most; what is more comes with the next.
const EVENTS: usize = 1024;

/// How many connections are accepted in one turn, so that a flood of new ones does not keep the others
/// waiting.
const ACCEPTS_PER_TURN: usize = 256;

/// After so long accept is tried again that failed for want of descriptors or memory. It is also tried
/// whenever a connection of ours ends; this is for those that others free.
const ACCEPT_RETRY: Duration = Duration::from_millis(250);

/// How often connections that were closed on arrival are told of, at most.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);

/// How many clients above the limit are told at the same time that the room is full; further ones wait.
const REFUSALS: usize = 4;

/// The first token that no peer can have: peers have their key in the hub.
const FIRST_LISTENER: usize = usize::MAX / 2;
const CONSOLE: Token = Token(usize::MAX - 3);
const SIGNALS: Token = Token(usize::MAX - 2);
const WAKER: Token = Token(usize::MAX - 1);

/// An echo server that listens. [`run`](Self::run) serves until it is stopped.
///
/// ```
/// use sockets::{Config, Server, config::Log};
///
/// let config = Config { port: 0, log: Log::Off, ..Config::default() };
/// let server = Server::bind(&config)?;
/// let stopper = server.stopper();
/// let thread = std::thread::spawn(move || server.run());
/// stopper.stop()?;
/// thread.join().expect("the server does not panic")?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Server {
    poll: Poll,
    events: Events,
    listeners: Vec<Listener>,
    addresses: Vec<SocketAddr>,
    signals: Option<Signals>,
    waker: Arc<Waker>,
    stop_requested: Arc<AtomicBool>,
    hub: Hub<TcpStream>,
    console: Console,
    access: Access,
    refusals: Refusals,
    messages: u64,
    started: Instant,
    max_connections: usize,
    is_chat: bool,
    grace: Duration,
    /// When the turn began.
    now: Instant,
    /// When to try again to accept, after it failed.
    accept_at: Option<Instant>,
    stopping: Option<Stopping>,
}

#[derive(Clone, Copy, Debug)]
struct Stopping {
    /// Until when what is owed is sent.
    deadline: Instant,
    /// Whether it was `SIGINT` that stopped the server: a terminal shows a `^C` then.
    is_interrupted: bool,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    /// Connections may wait: an event said so, and accept has not yet said that none is left. On an
    /// edge-triggered poll nobody says it twice.
    is_owed: bool,
}

/// Connections that were closed on arrival.
#[derive(Default)]
struct Refusals {
    total: u64,
    /// Those that have not been told yet, and the last of them.
    untold: Option<(u64, SocketAddr)>,
    /// When the next line may tell of them.
    tell_at: Option<Instant>,
}

/// How a server came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop, and did.
    Stopped,
    /// It was interrupted (`SIGINT`) while it was stopping, and gave up at once.
    Interrupted,
}

/// Stops a [`Server`] from another thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    waker: Arc<Waker>,
    stop_requested: Arc<AtomicBool>,
}

impl Stopper {
    /// Tells the server to stop, as `SIGTERM` does; [`Server::run`] returns soon after, within
    /// [`Config::grace`]. Once the server has ended this does nothing.
    ///
    /// # Errors
    ///
    /// The system's, if the server cannot be woken.
    pub fn stop(&self) -> io::Result<()> {
        self.stop_requested.store(true, Ordering::Release);
        self.waker.wake()
    }
}

impl Server {
    /// Listens as `config` says. Clients can connect from now on and are served by [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// An address that cannot be had; the message names it, the port and the reason. Or the system's, if
    /// there are no descriptors.
    pub fn bind(config: &Config) -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry();
        let waker = Arc::new(Waker::new(registry, WAKER)?);
        let console = Console::new(config);
        if let Some(stdout) = console.pollable() {
            // Where it cannot be watched, it is still flushed with every turn.
            _ = registry.register(&mut SourceFd(&stdout.as_raw_fd()), CONSOLE, Interest::WRITABLE);
        }
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for (at, socket) in listen(&config.bind, config.port)?.into_iter().enumerate() {
            addresses.push(socket.local_addr()?);
            let mut socket = TcpListener::from_std(socket);
            registry.register(&mut socket, Token(FIRST_LISTENER + at), Interest::READABLE)?;
            listeners.push(Listener { socket, is_owed: false });
        }
        Ok(Self {
            events: Events::with_capacity(EVENTS),
            listeners,
            addresses,
            signals: None,
            waker,
            stop_requested: Arc::default(),
            hub: Hub::new(config),
            console,
            access: Access::new(config),
            refusals: Refusals::default(),
            messages: 0,
            started: Instant::now(),
            max_connections: config.max_connections,
            is_chat: config.chat,
            grace: config.grace,
            now: Instant::now(),
            accept_at: None,
            stopping: None,
            poll,
        })
    }

    /// Makes `SIGINT`, `SIGTERM` and `SIGHUP` stop this server, and `SIGUSR1` print its [`Counters`]. A
    /// `SIGHUP` that the process was started to ignore, as nohup(1) does, stays ignored.
    ///
    /// # Errors
    ///
    /// The system's, if there are no descriptors.
    pub fn handle_signals(&mut self) -> io::Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
        if !is_ignored(SIGHUP) {
            signals.add_signal(SIGHUP)?;
        }
        self.poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// The first address it listens on, with the port that all of them share.
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// All addresses it listens on.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A way to stop this server from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper { waker: Arc::clone(&self.waker), stop_requested: Arc::clone(&self.stop_requested) }
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    ///
    /// The system's, if waiting for events fails. Nothing that a client does is an error here.
    pub fn run(mut self) -> io::Result<End> {
        let port = self.local_addr().port();
        self.console.started(port);
        let stopping = loop {
            self.wait()?;
            if self.note()
                && let Some(End::Interrupted) = self.obey()
            {
                return Ok(End::Interrupted);
            }
            self.serve();
            self.console.flush(self.now);
            let has_freed_descriptor = self.hub.reap(self.now);
            self.accept(has_freed_descriptor);
            if let Some(stopping) = self.stopping
                && (self.hub.is_empty() || self.now >= stopping.deadline)
            {
                break stopping;
            }
        };
        self.hub.abandon(|event| self.console.event(&event));
        self.console.stopped(port, stopping.is_interrupted);
        self.console.finish(stopping.deadline);
        Ok(End::Stopped)
    }

    /// Waits for events, not at all while there is work without them, else at most until something is due.
    fn wait(&mut self) -> io::Result<()> {
        // What there is to say of new connections must not wait for the next event.
        self.tell_refusals();
        self.console.flush(self.now);
        let can_accept =
            self.accept_at.is_none() && self.has_room() && self.listeners.iter().any(|listener| listener.is_owed);
        let timeout = if can_accept || self.hub.has_work() {
            Some(Duration::ZERO)
        } else {
            let stop = self.stopping.map(|stopping| stopping.deadline);
            let refusals = self.refusals.tell_at.filter(|_| self.refusals.untold.is_some());
            let deadlines = [self.hub.deadline(), self.console.deadline(), self.accept_at, stop, refusals];
            let next = deadlines.into_iter().flatten().min();
            next.map(|deadline| deadline.saturating_duration_since(Instant::now()))
        };
        let outcome = self.poll.poll(&mut self.events, timeout);
        self.now = Instant::now();
        match outcome {
            // A signal came; its own event comes with the next wait.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Turns events into flags. Returns whether somebody told the server something.
    fn note(&mut self) -> bool {
        let mut is_told = false;
        for event in &self.events {
            match event.token() {
                SIGNALS | WAKER => is_told = true,
                // It is flushed in every turn.
                CONSOLE => {}
                Token(token) if token >= FIRST_LISTENER => {
                    if let Some(listener) = self.listeners.get_mut(token - FIRST_LISTENER) {
                        listener.is_owed = true;
                    }
                }
                // What an event says of errors and closed sides is a hint to try both; read and write tell.
                Token(key) => {
                    let read_closed = event.is_read_closed() || event.is_error();
                    let writable = event.is_writable() || event.is_write_closed() || event.is_error();
                    self.hub.on_ready(key, event.is_readable(), writable, read_closed);
                }
            }
        }
        is_told
    }

    /// Lets the hub do its work, and tells what happened.
    fn serve(&mut self) {
        self.hub.turn(self.now, |event| {
            match event {
                Event::Message { .. } => self.messages += 1,
                Event::Room { line } => self.messages += u64::from(line.starts_with('<')),
                Event::Closed { peer, .. } => self.access.leave(peer),
            }
            self.console.event(&event);
        });
    }

    /// Does what signals and [`Stopper`]s say. Returns how the server ends if it ends at once.
    fn obey(&mut self) -> Option<End> {
        let pending: Vec<_> = self.signals.as_mut().map(|signals| signals.pending().collect()).unwrap_or_default();
        if pending.contains(&SIGUSR1) {
            self.console.counters(&self.counters());
        }
        let is_interrupted = pending.contains(&SIGINT);
        let must_stop = self.stop_requested.load(Ordering::Acquire) || pending.iter().any(|signal| *signal != SIGUSR1);
        match self.stopping {
            Some(_) if is_interrupted => return Some(End::Interrupted),
            None if must_stop => self.stop(is_interrupted),
            _ => {}
        }
        None
    }

    fn counters(&self) -> Counters {
        let traffic = self.hub.traffic();
        Counters {
            connections: self.hub.len(),
            connections_total: traffic.connections,
            connections_refused: self.refusals.total,
            messages: self.messages,
            bytes_in: traffic.received,
            bytes_out: traffic.sent,
            bytes_held: self.hub.held(),
            lines_dropped: self.console.dropped(),
            uptime: self.started.elapsed(),
        }
    }

    /// Tells of the connections that were closed on arrival, at most once in [`REFUSAL_INTERVAL`].
    fn tell_refusals(&mut self) {
        if let Some((count, last)) = self.refusals.untold
            && self.refusals.tell_at.is_none_or(|at| at <= self.now)
        {
            self.console.refused(count, last);
            self.refusals.untold = None;
            self.refusals.tell_at = Some(self.now + REFUSAL_INTERVAL);
        }
    }

    fn stop(&mut self, is_interrupted: bool) {
        // Clients that the kernel has connected already are answered too.
        for listener in &mut self.listeners {
            listener.is_owed = true;
        }
        self.accept_up_to(BACKLOG as usize);
        self.listeners.clear();
        self.accept_at = None;
        self.hub.drain();
        self.stopping = Some(Stopping { deadline: self.now + self.grace, is_interrupted });
    }

    /// Takes in the connections that wait. This is the last thing in a turn, because it gives out the keys
    /// that became free in it, and no event of their old owners may be left then.
    fn accept(&mut self, has_freed_descriptor: bool) {
        if has_freed_descriptor || self.accept_at.is_none_or(|at| at <= self.now) {
            self.accept_at = None;
            self.accept_up_to(ACCEPTS_PER_TURN);
        }
    }

    /// Whether another connection can be taken in, be it to tell a client that the room is full.
    fn has_room(&self) -> bool {
        let refusals = if self.is_chat { REFUSALS } else { 0 };
        self.hub.len() < self.max_connections.saturating_add(refusals)
    }

    fn accept_up_to(&mut self, limit: usize) {
        let mut accepted = 0;
        for at in 0..self.listeners.len() {
            while self.listeners[at].is_owed && accepted < limit && self.has_room() {
                accepted += 1;
                match self.listeners[at].socket.accept() {
                    Ok((stream, address)) => self.admit(stream, address),
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock => self.listeners[at].is_owed = false,
                        // That client is gone; others may wait behind it.
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                        // No descriptors or no memory, or what no manual tells of: none of it is the end.
                        _ => {
                            self.accept_at = Some(self.now + ACCEPT_RETRY);
                            return;
                        }
                    },
                }
            }
        }
    }

    fn admit(&mut self, mut stream: TcpStream, address: SocketAddr) {
        if !self.access.enter(address) {
            self.refusals.total += 1;
            let untold = self.refusals.untold.map_or(0, |(count, _)| count);
            self.refusals.untold = Some((untold + 1, address));
            return;
        }
        let key = Token(self.hub.next_key());
        let interests = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut stream, key, interests).is_err() {
            // Without events it would never be served: dropping it tells the client at once.
            self.access.leave(address);
            return;
        }
        self.console.opened(address);
        if self.hub.len() < self.max_connections {
            self.hub.insert(stream, address, self.now);
        } else {
            self.hub.turn_away(stream, address, "* server is full\n", self.now);
        }
    }
}

/// Whether this process was started with `signal` ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

impl Stream for TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn unread(&self) -> io::Result<usize> {
        Ok(usize::try_from(ioctl_fionread(self)?).unwrap_or(usize::MAX))
    }
}
