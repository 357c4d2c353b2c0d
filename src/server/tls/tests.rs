//! Against clients that do not finish their handshakes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use mio::Poll;

use super::*;

/// How a handshake begins.
const BEGINNING: &[u8] = &[HANDSHAKE, 3, 1, 0, 200, 1];

const HANDSHAKE: u8 = 22;

struct World {
    handshakes: TlsHandshakes,
    listener: TcpListener,
    poll: Poll,
    now: Instant,
}

impl World {
    fn new(max_connections: usize) -> Self {
        let config = Config { tls: Some(config::Tls::SelfSigned), max_connections, ..Config::default() };
        Self {
            handshakes: TlsHandshakes::new(&config, &[], 0).unwrap().unwrap(),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            poll: Poll::new().unwrap(),
            now: Instant::now(),
        }
    }

    /// A client that has sent `bytes`, as one from `ip`.
    fn begin(&mut self, ip: &str, bytes: &[u8]) -> (TcpStream, Step) {
        let mut client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        client.write_all(bytes).unwrap();
        let (stream, address) = self.listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let address = SocketAddr::new(ip.parse().unwrap(), address.port()).into();
        let stream = Socket::Tcp(mio::net::TcpStream::from_std(stream));
        let client_of_server = Client { stream, address, subject: None, is_exempt: false, registered: None };
        (client, self.handshakes.begin(client_of_server, self.now, self.poll.registry()))
    }

    fn steps(&mut self) -> usize {
        std::iter::from_fn(|| self.handshakes.next()).count()
    }
}

fn ip(step: &Step) -> Option<IpAddr> {
    match step {
        Step::Failed(address) => address.ip(),
        _ => None,
    }
}

#[test]
fn there_are_never_more_than_half_of_all_connections() {
    let mut world = World::new(8);
    let clients: Vec<_> = (0..4).map(|_| world.begin("127.0.0.1", b"").0).collect();
    assert_eq!(world.handshakes.full_until(), Some(world.now + PATIENCE));
    for (at, mut client) in clients.into_iter().enumerate() {
        let (other, step) = world.begin(if at == 0 { "127.0.0.2" } else { "127.0.0.1" }, b"");
        assert_eq!((world.handshakes.len(), ip(&step)), (4, "127.0.0.1".parse().ok()));
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "the oldest of the address with the most makes room");
        drop(other);
    }
}

#[test]
fn a_burst_that_makes_progress_is_left_alone_and_a_flood_is_not() {
    let mut world = World::new(8);
    let _clients: Vec<_> = (0..4).map(|_| world.begin("127.0.0.1", b"")).collect();
    let full = world.now;
    assert_eq!(world.handshakes.full_until(), Some(full + PATIENCE));
    world.now += 2 * PATIENCE;
    let _others: Vec<_> = (0..5).map(|_| world.begin("127.0.0.1", b"")).collect();
    // These are young, but no handshake has been done for too long.
    assert_eq!(world.handshakes.full_until(), Some(full + PATIENCE));
    world.handshakes.clear();
    assert_eq!((world.handshakes.len(), world.handshakes.full_until()), (0, None));
}

#[test]
fn clients_that_are_gone_cost_no_step() {
    let mut world = World::new(1000);
    let count = 5 * STEPS_PER_TURN;
    for number in 0..count {
        let (client, _) = world.begin("127.0.0.1", BEGINNING);
        client.shutdown(Shutdown::Write).unwrap();
        world.handshakes.on_ready(number, Ready { readable: true, read_closed: true, ..Ready::default() });
    }
    assert_eq!(world.steps(), count, "no turn has begun, so there are no steps for those that live");
    assert_eq!((world.handshakes.len(), world.handshakes.has_work()), (0, false));
    let failures = world.handshakes.take_failures();
    assert!(failures.len() == count && failures.iter().all(|(_, reason)| reason == "ended without close_notify"));
}

#[test]
fn plain_text_gets_its_alert_though_it_has_ended() {
    let mut world = World::new(1000);
    let (mut client, _) = world.begin("127.0.0.1", b"hello");
    client.shutdown(Shutdown::Write).unwrap();
    world.handshakes.on_ready(0, Ready { readable: true, read_closed: true, ..Ready::default() });
    world.handshakes.begin_turn(world.now);
    world.steps();
    assert_eq!(world.handshakes.take_failures().len(), 1);
    let mut alert = Vec::new();
    client.read_to_end(&mut alert).unwrap();
    assert_eq!(alert[0], 21);
}

#[test]
fn an_address_with_few_handshakes_does_not_wait_for_those_with_many() {
    let mut world = World::new(1000);
    let mut clients: Vec<_> = (0..50).map(|_| world.begin("127.0.0.1", BEGINNING).0).collect();
    clients.push(world.begin("127.0.0.2", b"hello").0);
    (0..51).for_each(|number| world.handshakes.on_ready(number, Ready { readable: true, ..Ready::default() }));
    world.handshakes.begin_turn(world.now);
    world.steps();
    assert_eq!(world.handshakes.take_failures().len(), 1, "it was found out in the first turn");
}

#[test]
fn what_is_over_is_dropped_at_once() {
    let mut world = World::new(1000);
    let count = 5 * STEPS_PER_TURN;
    let _clients: Vec<_> = (0..count).map(|_| world.begin("127.0.0.1", BEGINNING)).collect();
    world.handshakes.begin_turn(world.now + world.handshakes.timeout);
    world.steps();
    assert_eq!(world.handshakes.len(), 0);
}
