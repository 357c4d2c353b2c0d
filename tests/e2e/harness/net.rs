//! Raw clients, and the content they send.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use fastrand::Rng;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockRef, Socket, Type};

use super::{DEADLINE, is_unix, relay, transport};

/// A client that gives up after the deadline, in each of connecting, reading and writing.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let outcome = transport::connect(address).unwrap_or_else(|| TcpStream::connect_timeout(&address, DEADLINE));
    let stream = outcome.unwrap_or_else(|error| panic!("{address}: {error}"));
    prepared(if transport::has_tls(address.port()) { relay::begin(stream, None) } else { stream })
}

/// A client for which the system holds little that it has not read: the rest is the server's.
pub(crate) fn hesitant(address: SocketAddr) -> TcpStream {
    connect_from(1, address, Some(4096)).expect("connected")
}

/// A client at 127.0.0.`source`, with a receive buffer of this size if one is given.
pub(crate) fn connect_from(source: u8, address: SocketAddr, buffer: Option<usize>) -> io::Result<TcpStream> {
    if let Some(outcome) = transport::connect(address) {
        return outcome.map(prepared);
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, source), 0)).into())?;
    if let Some(size) = buffer {
        socket.set_recv_buffer_size(size)?;
    }
    socket.connect_timeout(&address.into(), DEADLINE)?;
    let stream = socket.into();
    Ok(prepared(if transport::has_tls(address.port()) { relay::begin(stream, buffer) } else { stream }))
}

/// Waits until there is something to read, or to accept.
pub(crate) fn wait_for_input(source: &impl AsFd) {
    let timeout = Timespec::try_from(DEADLINE).expect("a short time");
    let ready = poll(&mut [PollFd::new(source, PollFlags::IN)], Some(&timeout)).expect("poll");
    assert_ne!(ready, 0, "nothing came in time");
}

/// A server that the test plays itself, and its port.
pub(crate) fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    (listener, port)
}

/// The next connection of such a server.
pub(crate) fn accept_in_time(listener: &TcpListener) -> TcpStream {
    wait_for_input(listener);
    prepared(listener.accept().expect("a connection").0)
}

/// Sends `message` and expects it back, while the connection stays open.
pub(crate) fn round_trip(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).expect("sent");
    let mut echo = vec![0; message.len()];
    stream.read_exact(&mut echo).expect("the whole echo");
    assert_same(&echo, message);
}

/// Sends `message`, half-closes, and returns all that comes back.
pub(crate) fn exchange(mut stream: TcpStream, message: &[u8]) -> Vec<u8> {
    stream.write_all(message).expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    let mut echo = Vec::new();
    stream.read_to_end(&mut echo).expect("the echo and its end");
    echo
}

/// Expects the server's end of the connection, and nothing before it.
pub(crate) fn expect_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an orderly end");
    assert_same(&rest, b"");
}

/// Ends a connection with a reset instead of an orderly close.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("lingering");
}

/// `assert_eq!` for content too long to print.
#[track_caller]
pub(crate) fn assert_same(actual: &[u8], expected: &[u8]) {
    if actual != expected {
        let at = actual.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(actual.len().min(expected.len()));
        let part = |bytes: &[u8]| String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 40)]).into_owned();
        panic!(
            "{} bytes instead of {}; the first difference is at {at}: {:?} instead of {:?}",
            actual.len(),
            expected.len(),
            part(actual),
            part(expected),
        );
    }
}

/// Randomness from a printed seed, or from `E2E_SEED`.
pub(crate) fn rng() -> Rng {
    let seed = std::env::var("E2E_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    println!("E2E_SEED={seed}");
    Rng::with_seed(seed)
}

pub(crate) fn random_bytes(rng: &mut Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes);
    bytes
}

/// Whether this machine has ::1; says so where it has not.
pub(crate) fn has_ipv6() -> bool {
    let outcome = TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
    if let Err(error) = &outcome {
        println!("skipped for ::1: this machine has none ({error})");
    }
    outcome.is_ok()
}

fn prepared(stream: TcpStream) -> TcpStream {
    // A Unix socket knows no delay.
    assert!(stream.set_nodelay(true).is_ok() || is_unix(), "no delay");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
    stream
}
