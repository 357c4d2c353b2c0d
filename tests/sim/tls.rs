//! A client that speaks TLS against the echo, over a network that cuts what it sends anywhere.
//!
//! The certificate and the secrets are new each time, but not their lengths, so that a seed makes the same cuts again.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use fastrand::Rng;
use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use sockets::config::RESERVE;
use sockets::connection::Ready;
use sockets::hub::Hub;
use sockets::tls::server::Identity;
use sockets::transport::tls::Tls;
use sockets::transport::{Received, Stream};
use sockets::{Close, Config, Event};

use crate::socket::{Client, Nature, ReplyEnd, Socket, connection};
use crate::world::{Poll, World};

/// After so many rounds a simulation is taken to be stuck in a circle.
const MOST_ROUNDS: usize = 100_000;

/// What a connection holds beyond what is queued for it: encrypted bytes that wait to be written, an unfinished record,
/// and the rest of one that did not fit into a read.
const HELD_BY_TLS: usize = (64 << 10) + (24 << 10) + (17 << 10);

/// Everything that is drawn once for a simulation.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    nature: Nature,
    poll: Poll,
    is_tls12: bool,
    /// The most plaintext in a record, if that is limited.
    record: Option<usize>,
    length: usize,
    /// How many bytes are sent, and how many are received, at once.
    bites: (usize, usize),
    /// Whether the client reads nothing until it has written everything.
    reads_late: bool,
    /// One in so many writes is followed by a key update; 0 for none.
    key_updates: usize,
    leaving: Leaving,
    max_pending: usize,
}

/// How a client ends what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// With `close_notify`, and the connection stays.
    Notify,
    /// With `close_notify` and FIN.
    NotifyAndFinish,
    /// With FIN alone.
    Truncate,
    /// With bytes that are no TLS.
    Garbage,
    Reset,
    /// It does not: the server stops.
    Stop,
}

impl Plan {
    pub(crate) fn draw(random: &mut Rng) -> Self {
        let length = [0, random.usize(..100), random.usize(..5000), random.usize(..300_000)][random.usize(..4)];
        let (receive_buffer, send_buffer) = (random.usize(1..100_000), random.usize(1..100_000));
        let is_slow = length < 1000 && random.bool();
        let most = if is_slow { 10 } else { 50_000 };
        let max_pending = [64 << 20, 64 << 20, 0][random.usize(..3)];
        Self {
            nature: Nature {
                receive_buffer,
                send_buffer,
                wakes_at: random.usize(1..=send_buffer),
                interrupts: [0, 0, 3][random.usize(..3)],
                reset_keeps_arrived: random.bool(),
                seed: random.u64(..),
            },
            poll: [Poll::Genuine, Poll::Late, Poll::Spurious][random.usize(..3)],
            is_tls12: random.u8(..4) == 0,
            record: [None, Some(random.usize(32..200)), Some(random.usize(200..16_000))][random.usize(..3)],
            length,
            // A record for each byte of a long message would take millions of rounds.
            bites: (random.usize(1 + length / 1000..=most), random.usize(1..=most)),
            // Who writes more than the server may hold has to read.
            reads_late: max_pending > 0 && random.bool(),
            key_updates: [0, 0, 2][random.usize(..3)],
            leaving: [
                Leaving::Notify,
                Leaving::NotifyAndFinish,
                Leaving::NotifyAndFinish,
                Leaving::Truncate,
                Leaving::Truncate,
                Leaving::Garbage,
                Leaving::Reset,
                Leaving::Stop,
            ][random.usize(..8)],
            max_pending,
        }
    }
}

/// Plays the simulation of one seed, and panics where a promise is broken.
pub(crate) fn simulate(plan: Plan, mut random: Rng) {
    let config = Config::with(|config| config.max_pending = plan.max_pending);
    let mut world = World::with(Hub::new(&config), plan.poll, random.fork(), Instant::now());
    let (socket, wire) = connection(plan.nature.clone());
    let mut peer = Peer::new(&plan, wire);
    let mut tls = Tls::new(socket, SERVER.0.clone()).expect("the settings are good");
    handshake(&mut tls, &mut peer);

    let readable = tls.may_receive();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1)).into();
    let key = world.admit(tls, address, peer.wire.clone());
    world.hub.on_ready(key, Ready { readable, writable: true, ..Ready::default() });
    let (mut is_stopping, mut close) = (false, None);
    for round in 0.. {
        assert!(round < MOST_ROUNDS, "no end after {MOST_ROUNDS} rounds");
        let has_acted = peer.act(&mut random);
        let is_woken = world.poll();
        if is_woken {
            world.turn(|event| {
                if let Event::Closed { close: reason, received, sent, .. } = event {
                    assert!(close.replace((reason, received, sent)).is_none(), "closed twice");
                }
            });
            assert!(world.hub.held() <= plan.max_pending.max(RESERVE) + HELD_BY_TLS, "too much is held");
        }
        if world.hub.is_empty() && !peer.act(&mut random) {
            break;
        }
        if has_acted || is_woken || !world.is_idle() {
            continue;
        }
        if plan.leaving == Leaving::Stop && peer.has_sent_all() && !is_stopping {
            is_stopping = true;
            world.hub.drain();
        } else {
            peer.leave_if_told();
            assert!(world.sleep() || peer.has_left, "{peer:?} waits for ever");
        }
    }
    assert_eq!(world.hub.held(), 0);
    peer.judge(close.expect("it was closed"));
}

/// Both ends of a connection whose handshake is done, with a message that the client sent at once.
fn established(message: &[u8]) -> (Tls<Socket>, Peer) {
    let mut plan = Plan::draw(&mut Rng::with_seed(0));
    (plan.is_tls12, plan.record, plan.bites, plan.reads_late) = (false, None, (1 << 16, 1 << 16), false);
    plan.nature = Nature { receive_buffer: 1 << 16, send_buffer: 1 << 16, wakes_at: 1, interrupts: 0, ..plan.nature };
    plan.nature.reset_keeps_arrived = true;
    let (socket, wire) = connection(plan.nature.clone());
    let mut peer = Peer::new(&plan, wire);
    let mut tls = Tls::new(socket, SERVER.0.clone()).expect("the settings are good");
    peer.move_bytes();
    assert!(tls.handshake().is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    peer.move_bytes();
    peer.tls.writer().write_all(message).expect("the client's side is done");
    peer.move_bytes();
    tls.handshake().expect("done");
    (tls, peer)
}

/// A message that comes with the end of the handshake ends where its bytes end, as it would without TLS.
#[test]
fn what_comes_with_the_end_of_the_handshake_is_whole() {
    let (mut tls, _peer) = established(b"hello");
    assert!(tls.may_receive());
    let mut buffer = [0; 100];
    assert_eq!(tls.recv(&mut buffer).expect("a message"), Received { count: 5, is_drained: true });
    assert_eq!(&buffer[..5], b"hello");
}

/// The system tells of a reset once, and behind what had arrived.
#[test]
fn a_reset_behind_decrypted_bytes_is_a_reset() {
    let (mut tls, peer) = established(&[7; 3000]);
    peer.wire.reset();
    let mut buffer = [0; 2000];
    assert_eq!(tls.recv(&mut buffer).expect("what had arrived").count, 2000);
    assert_eq!(tls.recv(&mut buffer).expect("the rest").count, 1000);
    let error = tls.recv(&mut buffer).expect_err("a reset").kind();
    assert!(matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
}

/// The tickets with which a client can come again are written together with the first echo, if that follows at once.
#[test]
fn what_ends_the_handshake_goes_out_with_the_first_echo() {
    for message in [&b"hello"[..], b""] {
        let (tls, mut peer) = established(message);
        let before = peer.wire.record().writes;
        let hub = Hub::new(&Config::default());
        let mut world = World::with(hub, Poll::Genuine, Rng::with_seed(0), Instant::now());
        let (readable, address) = (tls.may_receive(), SocketAddr::from((Ipv4Addr::LOCALHOST, 1)).into());
        let key = world.admit(tls, address, peer.wire.clone());
        world.hub.on_ready(key, Ready { readable, ..Ready::default() });
        world.turn(|_| {});
        assert_eq!(peer.wire.record().writes, before + 1);
        peer.move_bytes();
        assert_eq!(peer.reply, message);
        assert!(peer.tls.tls13_tickets_received() > 0);
    }
}

/// The handshake, which the connection does before the hub sees it.
fn handshake(tls: &mut Tls<Socket>, peer: &mut Peer) {
    for round in 0.. {
        assert!(round < MOST_ROUNDS, "no end of the handshake");
        peer.move_bytes();
        match tls.handshake() {
            Ok(()) => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                peer.wire.take_edge();
            }
        }
    }
}

/// The client.
struct Peer {
    plan: Plan,
    tls: ClientConnection,
    wire: Client,
    /// What is sent, and how much of it TLS has taken.
    payload: Vec<u8>,
    taken: usize,
    /// Encrypted bytes that the network has not taken yet.
    outgoing: Vec<u8>,
    reply: Vec<u8>,
    /// Whether the server has said that its reply is complete.
    has_reply_end: bool,
    has_left: bool,
}

impl Peer {
    fn new(plan: &Plan, wire: Client) -> Self {
        let mut config = SERVER.1[usize::from(plan.is_tls12)].clone();
        config.max_fragment_size = plan.record;
        let name = "localhost".try_into().expect("a name");
        let mut tls = ClientConnection::new(Arc::new(config), name).expect("the settings are good");
        tls.set_buffer_limit(None);
        let mut random = Rng::with_seed(plan.nature.seed);
        let payload = (0..plan.length).map(|_| random.u8(..)).collect();
        let (taken, outgoing, reply) = (0, Vec::new(), Vec::new());
        let plan = plan.clone();
        Self { plan, tls, wire, payload, taken, outgoing, reply, has_reply_end: false, has_left: false }
    }

    /// Moves what the network takes and has. Returns whether there was something.
    fn move_bytes(&mut self) -> bool {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.outgoing).expect("memory takes everything");
        }
        let bite = self.plan.bites.0.min(self.outgoing.len());
        let sent = if bite > 0 { self.wire.send(&self.outgoing[..bite]) } else { 0 };
        self.outgoing.drain(..sent);
        if self.plan.reads_late && !self.tls.is_handshaking() && !self.has_sent_all() {
            return sent > 0;
        }
        let received = self.wire.receive(self.plan.bites.1);
        let mut input = &received[..];
        while !input.is_empty() {
            if self.tls.read_tls(&mut input).expect("there is room") == 0 {
                break;
            }
            let state = match self.tls.process_new_packets() {
                Err(rustls::Error::AlertReceived(_)) if self.plan.leaving == Leaving::Garbage => break,
                outcome => outcome.expect("the server keeps the protocol"),
            };
            let mut buffer = vec![0; state.plaintext_bytes_to_read()];
            self.tls.reader().read_exact(&mut buffer).expect("so many are there");
            self.reply.extend(buffer);
            self.has_reply_end |= state.peer_has_closed();
        }
        sent > 0 || !received.is_empty()
    }

    /// Says a little more, or leaves. Returns whether something happened.
    fn act(&mut self, random: &mut Rng) -> bool {
        let is_over = self.wire.is_reset() || self.wire.record().is_dropped;
        if self.taken < self.payload.len() && self.outgoing.is_empty() && !is_over {
            let rest = &self.payload[self.taken..];
            let bite = random.usize(1..=rest.len().min(self.plan.bites.0));
            self.taken += self.tls.writer().write(&rest[..bite]).expect("it is not over");
            if self.plan.key_updates > 0 && !self.plan.is_tls12 && random.usize(..self.plan.key_updates) == 0 {
                self.tls.refresh_traffic_keys().expect("TLS 1.3 has them");
            }
        }
        let has_moved = self.move_bytes();
        if !self.has_left && self.has_sent_all() && self.plan.leaving != Leaving::Stop {
            self.leave();
            return true;
        }
        has_moved
    }

    fn has_sent_all(&self) -> bool {
        // With TLS 1.2 the client's side of the handshake ends after the server's.
        let is_talking = self.tls.is_handshaking() || self.tls.wants_write() || !self.outgoing.is_empty();
        self.taken == self.payload.len() && !is_talking
    }

    fn leave(&mut self) {
        match self.plan.leaving {
            Leaving::Notify | Leaving::NotifyAndFinish if !self.is_saying_goodbye() => {
                self.tls.send_close_notify();
                self.tls.write_tls(&mut self.outgoing).expect("memory takes everything");
                self.plan.key_updates = usize::MAX;
                return;
            }
            Leaving::Notify | Leaving::Stop => {}
            Leaving::Garbage if !self.is_saying_goodbye() => {
                self.outgoing.extend([7; 40]);
                self.plan.key_updates = usize::MAX;
                return;
            }
            Leaving::NotifyAndFinish | Leaving::Truncate | Leaving::Garbage => self.wire.finish(),
            Leaving::Reset => self.wire.reset(),
        }
        self.has_left = true;
    }

    fn is_saying_goodbye(&self) -> bool {
        self.plan.key_updates == usize::MAX
    }

    /// A client that has been told of the end ends its side too.
    fn leave_if_told(&mut self) {
        if self.has_reply_end {
            self.wire.finish();
            self.has_left = true;
        }
    }

    /// Whether all went as was promised.
    fn judge(&self, (close, received, sent): (Close, u64, u64)) {
        let reply = (self.reply.len() as u64, self.reply == self.payload);
        match self.plan.leaving {
            Leaving::Notify | Leaving::NotifyAndFinish | Leaving::Truncate => {
                let expected = if self.plan.leaving == Leaving::Truncate { Close::Truncated } else { Close::Finished };
                assert_eq!(close, expected);
                assert!(reply.1, "{} of {} bytes came back: {self:?}", reply.0, self.payload.len());
                assert!(self.has_reply_end, "the reply ended without close_notify");
                assert_eq!((received, sent), (self.payload.len() as u64, reply.0));
                assert_eq!(self.wire.reply_end(), Some(ReplyEnd::Clean));
            }
            Leaving::Stop => {
                assert_eq!(close, Close::Stopping);
                assert!(
                    reply.1 && self.has_reply_end,
                    "{} of {} bytes came back: {self:?}",
                    reply.0,
                    self.payload.len()
                );
            }
            Leaving::Garbage | Leaving::Reset => {
                assert!(matches!(close, Close::Broken(_) | Close::Truncated), "{close:?}");
                assert!(self.payload.starts_with(&self.reply), "what came back is not what was sent");
            }
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("wire", &self.wire)
            .field("taken", &self.taken)
            .field("outgoing", &self.outgoing.len())
            .field("reply", &self.reply.len())
            .field("has_reply_end", &self.has_reply_end)
            .field("has_left", &self.has_left)
            .finish_non_exhaustive()
    }
}

/// The server's settings, and the client's: for TLS 1.3, and for TLS 1.2.
static SERVER: LazyLock<(Arc<ServerConfig>, [ClientConfig; 2])> = LazyLock::new(|| {
    let (identity, certificate) = Identity::self_signed([], None).expect("it can be made");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let roots = Arc::new(roots);
    let client = |version| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[version]).expect("a version");
        let mut config = builder.with_root_certificates(Arc::clone(&roots)).with_no_client_auth();
        config.resumption = Resumption::disabled();
        config
    };
    (identity.config(), [client(&rustls::version::TLS13), client(&rustls::version::TLS12)])
});
