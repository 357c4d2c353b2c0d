//! Thousands of clients in one thread: a poll, and an [`Actor`] for each connection.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use socket2::SockRef;

/// How long clients may take to come to an end, however slow the machine is.
const LONGEST: Duration = Duration::from_secs(300);

/// One client: what it does with its connection.
pub(crate) trait Actor {
    /// Does all it can and wants to do now: the poll is edge-triggered. Called when the connection is there,
    /// with every event, and when the time has come that it asked for.
    fn act(&mut self, stream: &mut TcpStream, stage: &mut Stage) -> io::Result<Next>;

    /// Sets what it wants of its socket, which is about to connect.
    fn prepare(&self, _socket: &SockRef<'_>) {}

    /// The connection could not be made, or broke. Those who do not mind say nothing.
    fn on_error(&mut self, error: io::Error) -> Result<(), String> {
        Err(error.to_string())
    }
}

/// What comes next for an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// An event.
    Wait,
    /// This time, or an event before it.
    WakeAt(Instant),
    /// The next round: see [`Engine::next_round`].
    Rest,
    /// The end of the connection.
    Leave,
    /// Its end with a reset.
    Reset,
}

/// What actors share.
pub(crate) struct Stage {
    pub(crate) now: Instant,
    pub(crate) random: Rng,
    /// For reading and writing; what is in it is anybody's.
    pub(crate) scratch: Box<[u8]>,
    /// How long each round trip took of those who measure.
    pub(crate) times: Vec<Duration>,
    /// How many rounds have begun, for those who rest between them.
    pub(crate) round: usize,
    /// Whether those who go on until they are told are to come to an end.
    pub(crate) is_over: bool,
    /// How many bytes came back and were what they should be.
    pub(crate) checked: u64,
}

/// Makes a client in the place of one that has left: `None` where nobody is to come any more.
pub(crate) type Successor<'a> = dyn FnMut(usize, &mut Stage) -> Option<(SocketAddr, Box<dyn Actor>)> + 'a;

pub(crate) struct Engine {
    poll: Poll,
    events: Events,
    clients: Slab<Client>,
    serial: u64,
    timers: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    /// How many clients rest.
    resting: usize,
    /// Those who act without an event.
    roused: Vec<usize>,
    pub(crate) stage: Stage,
}

struct Client {
    stream: TcpStream,
    actor: Box<dyn Actor>,
    /// Tells it from those who had its key before.
    serial: u64,
    is_connected: bool,
    is_resting: bool,
    /// When it is to be woken.
    wake_at: Option<Instant>,
    /// To which group its successor belongs.
    group: usize,
}

impl Engine {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            poll: Poll::new().expect("a poll"),
            events: Events::with_capacity(1024),
            clients: Slab::new(),
            serial: 0,
            timers: BinaryHeap::new(),
            resting: 0,
            roused: Vec::new(),
            stage: Stage {
                now: Instant::now(),
                random: Rng::with_seed(seed),
                scratch: vec![0; 128 << 10].into_boxed_slice(),
                times: Vec::new(),
                round: 1,
                is_over: false,
                checked: 0,
            },
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn connect(&mut self, group: usize, address: SocketAddr, actor: Box<dyn Actor>) {
        let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        _ = stream.set_nodelay(true);
        actor.prepare(&SockRef::from(&stream));
        let entry = self.clients.vacant_entry();
        let interests = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(entry.key()), interests).expect("registered");
        self.serial += 1;
        let serial = self.serial;
        entry.insert(Client { stream, actor, serial, is_connected: false, is_resting: false, wake_at: None, group });
    }

    /// Begins the next round for those who rest.
    pub(crate) fn next_round(&mut self) {
        self.stage.round += 1;
        self.resting = 0;
        for (key, client) in &mut self.clients {
            client.is_resting = false;
            self.roused.push(key);
        }
    }

    /// Lets the clients act until none is left that does not rest, or `until` has come. Those who left are followed by
    /// whom `successor` names for their group. Fails with what a client finds wrong, or if nothing happens
    /// for `patience`.
    pub(crate) fn run(&mut self, until: Instant, patience: Duration, successor: &mut Successor<'_>) {
        let mut last_event = Instant::now();
        while self.clients.len() > self.resting {
            let now = Instant::now();
            if now >= until {
                return;
            }
            assert!(now - last_event < patience, "nothing happened; {} clients wait", self.clients.len());
            let timer = self.timers.peek().map_or(until, |Reverse((at, ..))| *at).min(until);
            let mut timeout = timer.saturating_duration_since(now).min(Duration::from_millis(100));
            if !self.roused.is_empty() {
                timeout = Duration::ZERO;
            }
            if let Err(error) = self.poll.poll(&mut self.events, Some(timeout)) {
                assert_eq!(error.kind(), io::ErrorKind::Interrupted, "{error}");
                continue;
            }
            self.stage.now = Instant::now();
            let mut due = mem::take(&mut self.roused);
            due.extend(self.events.iter().map(|event| event.token().0));
            while let Some(&Reverse((at, serial, key))) = self.timers.peek()
                && at <= self.stage.now
            {
                self.timers.pop();
                let client = self.clients.get_mut(key).filter(|client| client.serial == serial);
                if let Some(client) = client.filter(|client| client.wake_at == Some(at)) {
                    client.wake_at = None;
                    due.push(key);
                }
            }
            if !due.is_empty() {
                last_event = self.stage.now;
            }
            let mut gone = Vec::new();
            for key in due {
                if let Some(client) = self.clients.get_mut(key) {
                    self.resting -= usize::from(mem::take(&mut client.is_resting));
                    match client.act(&mut self.stage) {
                        Next::Wait => {}
                        Next::WakeAt(at) => {
                            if client.wake_at != Some(at) {
                                client.wake_at = Some(at);
                                self.timers.push(Reverse((at, client.serial, key)));
                            }
                        }
                        Next::Rest => {
                            client.is_resting = true;
                            self.resting += 1;
                        }
                        Next::Leave => gone.push(self.clients.remove(key).group),
                        Next::Reset => {
                            let client = self.clients.remove(key);
                            _ = SockRef::from(&client.stream).set_linger(Some(Duration::ZERO));
                            gone.push(client.group);
                        }
                    }
                }
            }
            // Not before all events of the old owners of the keys have been seen.
            for group in gone {
                if let Some((address, actor)) = successor(group, &mut self.stage) {
                    self.connect(group, address, actor);
                }
            }
        }
    }

    /// Lets the clients act until none is left that does not rest, and nobody follows them.
    pub(crate) fn run_to_end(&mut self, patience: Duration) {
        self.run(Instant::now() + LONGEST, patience, &mut |_, _| None);
        assert!(self.clients.len() == self.resting, "after {LONGEST:?} {} clients are still there", self.clients.len());
    }
}

impl Client {
    fn act(&mut self, stage: &mut Stage) -> Next {
        let outcome = self.connected().and_then(|is_connected| match is_connected {
            true => self.actor.act(&mut self.stream, stage),
            false => Ok(Next::Wait),
        });
        outcome.unwrap_or_else(|error| {
            self.actor.on_error(error).unwrap_or_else(|failure| panic!("a client failed: {failure}"));
            Next::Leave
        })
    }

    fn connected(&mut self) -> io::Result<bool> {
        if !self.is_connected {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            self.is_connected = match self.stream.peer_addr() {
                Ok(_) => true,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => false,
                Err(error) => return Err(error),
            };
        }
        Ok(self.is_connected)
    }
}

/// Tells clients in another thread to stop, also where a test fails.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a read or write brought, with those that would have to wait as `None`.
pub(crate) fn ready(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(0)),
        Err(error) => Err(error),
    }
}
