//! Against clients that do not finish what comes before they are let in.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

use mio::Poll;

use super::*;
use crate::config::ProxyFrom;
use crate::tls::server::Identity;

/// How a handshake begins.
const BEGINNING: &[u8] = &[HANDSHAKE, 3, 1, 0, 200, 1];

const HANDSHAKE: u8 = 22;

struct World {
    unfinished: Unfinished,
    settings: Arc<ServerConfig>,
    listener: TcpListener,
    poll: Poll,
    now: Instant,
}

impl World {
    fn new(max_connections: usize) -> Self {
        let proxy_from = vec![ProxyFrom::Network("10.0.0.0/8".parse().unwrap())];
        let config = Config { max_connections, proxy_from, ..Config::default() };
        Self {
            unfinished: Unfinished::new(&config, 0),
            settings: Identity::self_signed([], None).unwrap().0.config(),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            poll: Poll::new().unwrap(),
            now: Instant::now(),
        }
    }

    /// A client that has sent `bytes`, as one from `ip`. If there are too many then, returns what became of another one.
    fn begin(&mut self, ip: &str, bytes: &[u8]) -> (TcpStream, Option<Step>) {
        let mut client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        client.write_all(bytes).unwrap();
        let (stream, address) = self.listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let address = SocketAddr::new(ip.parse().unwrap(), address.port()).into();
        let stream = Socket::Tcp(mio::net::TcpStream::from_std(stream));
        let step = self.unfinished.begin(stream, address, self.now, self.poll.registry());
        self.go_on(step);
        let is_full = self.unfinished.len() > self.unfinished.limit;
        (client, is_full.then(|| self.unfinished.next(self.poll.registry())).flatten())
    }

    /// Lets a client shake hands, whoever it is.
    fn go_on(&mut self, step: Step) {
        if let Step::Identified(client) = step {
            let settings = Arc::clone(&self.settings);
            self.unfinished.begin_handshake(client, settings, self.now, self.poll.registry()).unwrap();
        }
    }

    /// Waits for events, and lets all go on that they are about. Returns what became of them.
    fn turn(&mut self) -> Vec<Step> {
        let mut events = mio::Events::with_capacity(16);
        self.poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
        assert!(!events.is_empty(), "nothing happens any more");
        for event in &events {
            let ready = Ready { readable: event.is_readable(), writable: event.is_writable(), ..Ready::default() };
            self.unfinished.on_ready(event.token().0, ready);
        }
        self.unfinished.begin_turn(self.now);
        std::iter::from_fn(|| self.unfinished.next(self.poll.registry())).collect()
    }

    fn steps(&mut self) -> usize {
        std::iter::from_fn(|| self.unfinished.next(self.poll.registry())).count()
    }
}

fn ip(step: Option<&Step>) -> Option<IpAddr> {
    match step {
        Some(Step::Failed(address) | Step::Refused(address)) => address.ip(),
        _ => None,
    }
}

#[test]
fn there_are_never_more_than_half_of_all_connections() {
    let mut world = World::new(8);
    let clients: Vec<_> = (0..4).map(|_| world.begin("127.0.0.1", b"").0).collect();
    assert_eq!(world.unfinished.full_until(), Some(world.now + PATIENCE));
    for (at, mut client) in clients.into_iter().enumerate() {
        let (other, step) = world.begin(if at == 0 { "127.0.0.2" } else { "127.0.0.1" }, b"");
        assert_eq!((world.unfinished.len(), ip(step.as_ref())), (4, "127.0.0.1".parse().ok()));
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "the oldest of the address with the most makes room");
        drop(other);
    }
}

#[test]
fn headers_and_handshakes_have_their_half_together() {
    let mut world = World::new(8);
    let _shaking = world.begin("127.0.0.1", b"");
    let _announced = world.begin("10.0.0.1", b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n");
    let mut proxied: Vec<_> = (0..3).map(|_| world.begin("10.0.0.1", b"PROXY").0).collect();
    assert_eq!(world.unfinished.len(), 4);
    let end = proxied.remove(0).read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(
        end,
        Err(ErrorKind::ConnectionReset),
        "it is the oldest of the address with the most, and is not waited for"
    );

    // The header of the next one that has to go has come just now, so its handshake makes another one go.
    proxied[0].write_all(b" TCP4 192.0.2.8 192.0.2.1 1 2\r\n").unwrap();
    let (_other, step) = world.begin("10.0.0.1", b"PROXY");
    world.go_on(step.unwrap());
    assert_eq!(
        (world.unfinished.len(), ip(world.unfinished.next(world.poll.registry()).as_ref())),
        (5, "10.0.0.1".parse().ok())
    );
    assert_eq!((world.unfinished.len(), world.unfinished.has_work()), (4, false));
}

#[test]
fn each_kind_has_its_own_time() {
    let mut world = World::new(100);
    world.unfinished.handshake_timeout = 2 * world.unfinished.headers.timeout();
    let _shaking = world.begin("127.0.0.1", b"");
    let _proxied = world.begin("10.0.0.1", b"PROXY");
    for address in ["10.0.0.1", "127.0.0.1"] {
        world.now = world.unfinished.deadline().unwrap();
        world.unfinished.begin_turn(world.now);
        assert_eq!(ip(world.unfinished.next(world.poll.registry()).as_ref()), address.parse().ok());
    }
    assert_eq!((world.unfinished.len(), world.unfinished.deadline()), (0, None));
}

#[test]
fn a_burst_that_makes_progress_is_left_alone_and_a_flood_is_not() {
    let mut world = World::new(8);
    let _clients: Vec<_> = (0..4).map(|_| world.begin("127.0.0.1", b"")).collect();
    let full = world.now;
    assert_eq!(world.unfinished.full_until(), Some(full + PATIENCE));
    world.now += 2 * PATIENCE;
    let _others: Vec<_> = (0..5).map(|_| world.begin("127.0.0.1", b"")).collect();
    // These are young, but no handshake has been done for too long.
    assert_eq!(world.unfinished.full_until(), Some(full + PATIENCE));
    world.unfinished.clear();
    assert_eq!((world.unfinished.len(), world.unfinished.full_until()), (0, None));
}

#[test]
fn patience_begins_anew_once_others_are_gone() {
    for max_connections in 1..=8 {
        let mut world = World::new(max_connections);
        for _ in 0..2 {
            let _clients: Vec<_> = (0..world.unfinished.limit).map(|_| world.begin("127.0.0.1", b"")).collect();
            assert_eq!(world.unfinished.full_until(), Some(world.now + PATIENCE), "of {max_connections}");
            world.now += world.unfinished.handshake_timeout;
            world.unfinished.begin_turn(world.now);
            world.steps();
            assert_eq!(world.unfinished.len(), 0);
        }
    }
}

#[test]
fn clients_that_are_gone_cost_no_step() {
    let mut world = World::new(1000);
    let count = 5 * STEPS_PER_TURN;
    for number in 0..count {
        let (client, _) = world.begin("127.0.0.1", BEGINNING);
        client.shutdown(Shutdown::Write).unwrap();
        world.unfinished.on_ready(number, Ready { readable: true, read_closed: true, ..Ready::default() });
    }
    assert_eq!(world.steps(), count, "no turn has begun, so there are no steps for those that live");
    assert_eq!((world.unfinished.len(), world.unfinished.has_work()), (0, false));
    let failures = world.unfinished.take_failures();
    assert!(failures.len() == count && failures.iter().all(|(_, reason)| reason == "ended without close_notify"));
}

#[test]
fn plain_text_gets_its_alert_though_it_has_ended() {
    let mut world = World::new(1000);
    let (mut client, _) = world.begin("127.0.0.1", b"hello");
    client.shutdown(Shutdown::Write).unwrap();
    world.unfinished.on_ready(0, Ready { readable: true, read_closed: true, ..Ready::default() });
    world.unfinished.begin_turn(world.now);
    world.steps();
    assert_eq!(world.unfinished.take_failures().len(), 1);
    let mut alert = Vec::new();
    client.read_to_end(&mut alert).unwrap();
    assert_eq!(alert[0], 21);
}

#[test]
fn an_address_with_few_handshakes_does_not_wait_for_those_with_many() {
    let mut world = World::new(1000);
    let mut clients: Vec<_> = (0..50).map(|_| world.begin("127.0.0.1", BEGINNING).0).collect();
    clients.push(world.begin("127.0.0.2", b"hello").0);
    (0..51).for_each(|number| world.unfinished.on_ready(number, Ready { readable: true, ..Ready::default() }));
    world.unfinished.begin_turn(world.now);
    world.steps();
    assert_eq!(world.unfinished.take_failures().len(), 1, "it was found out in the first turn");
}

#[test]
fn what_is_over_is_dropped_at_once() {
    let mut world = World::new(1000);
    let count = 5 * STEPS_PER_TURN;
    let _clients: Vec<_> = (0..count).map(|_| world.begin("127.0.0.1", BEGINNING)).collect();
    world.unfinished.begin_turn(world.now + world.unfinished.handshake_timeout);
    world.steps();
    assert_eq!(world.unfinished.len(), 0);
}

/// The client says nothing more until it has the whole certificate.
#[test]
fn a_handshake_goes_on_when_its_socket_takes_more() {
    let mut world = World::new(8);
    let names = (0..3000).map(|number| Ipv6Addr::from(number).into());
    let (identity, certificate) = Identity::self_signed(names, None).unwrap();
    world.settings = identity.config();
    socket2::SockRef::from(&world.listener).set_send_buffer_size(4096).unwrap();
    let (mut client, _) = world.begin("127.0.0.1", b"");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(crate::tls::provider());
    let config = builder.with_protocol_versions(&[&rustls::version::TLS12]).unwrap().with_root_certificates(roots);
    let config = Arc::new(config.with_no_client_auth());
    let mut tls = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let thread = std::thread::spawn(move || tls.complete_io(&mut client).map(|_| client));
    while !world.turn().iter().any(|step| matches!(step, Step::Done(_))) {}
    thread.join().unwrap().unwrap();
}
