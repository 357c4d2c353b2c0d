//! Clients that a proxy announces by a PROXY header, and connections that claim to be such.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use proxy_header::{ProxiedAddress, ProxyHeader};
use rustix::process::Signal;

use crate::harness::{
    Member, Server, assert_same, clean_command, connect_from, exchange, expect_end, random_bytes, rng, round_trip, run,
    scratch_file, shown,
};

const V2_PREFIX: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
pub(crate) const PROXY: u8 = 0x21;
pub(crate) const LOCAL: u8 = 0x20;
/// A time that no test waits for.
pub(crate) const LONG: &str = "20s";

/// A server that takes 127.0.0.1 for a proxy.
pub(crate) fn start(options: &[&str]) -> Server {
    Server::start(&[&["--proxy-from", "127.0.0.1"], options].concat())
}

/// A connection of another client, which is no proxy.
fn stranger(server: &Server) -> TcpStream {
    connect_from(9, server.address(), None).expect("connected")
}

/// Waits until the server has seen everything that was sent before.
pub(crate) fn wait_until_seen(server: &Server) {
    round_trip(&mut stranger(server), b"seen");
}

pub(crate) fn v1(source: &str) -> Vec<u8> {
    let mut header = Vec::new();
    announcing(source).encode_v1(&mut header).expect("a header");
    header
}

pub(crate) fn v2(source: &str) -> Vec<u8> {
    let mut header = Vec::new();
    announcing(source).encode_v2(&mut header).expect("a header");
    header
}

fn announcing(source: &str) -> ProxyHeader<'static> {
    let source: SocketAddr = source.parse().expect("an address");
    let destination = if source.is_ipv4() { "192.0.2.1:7" } else { "[2001:db8::1]:7" };
    ProxyHeader::with_address(ProxiedAddress::stream(source, destination.parse().expect("an address")))
}

/// A header of version 2 with a content of any kind.
pub(crate) fn raw_v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("16 bits").to_be_bytes();
    [V2_PREFIX, &[command, family], &length, content].concat()
}

/// Sends all this at once.
pub(crate) fn send(server: &Server, parts: &[&[u8]]) -> TcpStream {
    let mut stream = server.connect();
    stream.write_all(&parts.concat()).expect("sent");
    stream
}

/// Expects a reset, and nothing before it.
#[track_caller]
pub(crate) fn expect_reset(mut stream: TcpStream) {
    let error = stream.read(&mut [0]).expect_err("not refused");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// The numbers of connections: now, in total, refused.
pub(crate) fn connections(server: &Server) -> String {
    let counters = |lines: &[String]| -> Vec<String> {
        lines.iter().filter_map(|line| Some(line.split_once("] Connections: ")?.1.to_owned())).collect()
    };
    let before = server.console.wait_until(|lines| Some(counters(lines).len()));
    server.process.signal(Signal::USR1);
    let line = server.console.wait_until(|lines| counters(lines).get(before).cloned());
    line.split_once(';').expect("the connections").0.to_owned()
}

/// Sends `header` and a message, half-closes at once, and expects the whole echo and these peers in the log.
#[track_caller]
fn expect_served_as(server: &Server, header: &[u8], peer: Option<&str>) {
    let message = b"Who am I?";
    let stream = server.connect();
    let real = stream.local_addr().expect("an address").to_string();
    let opened = format!("Opened: {}", peer.unwrap_or(&real));
    assert_same(&exchange(stream, &[header, message].concat()), message);
    server.console.wait_until(|lines| lines.iter().any(|line| line.ends_with(&opened)).then_some(()));
    let closed = format!("Closed: {}, 9 bytes in, 9 bytes out: the client finished", peer.unwrap_or(&real));
    server.console.wait_until(|lines| lines.iter().any(|line| line.ends_with(&closed)).then_some(()));
}

#[test]
fn the_announced_address_is_the_one_that_is_shown() {
    let server = start(&["--verbose"]);
    let unix = |kind| raw_v2(PROXY, kind, &[b'/'; 216]);
    for (header, peer) in [
        (v1("203.0.113.7:4711"), Some("203.0.113.7:4711")),
        (v1("[2001:db8::7]:4712"), Some("[2001:db8::7]:4712")),
        (v2("203.0.113.7:4713"), Some("203.0.113.7:4713")),
        (v2("[2001:db8::7]:4714"), Some("[2001:db8::7]:4714")),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN 2001:db8::7 2001:db8::1 4711 7\r\n".to_vec(), None),
        (raw_v2(LOCAL, 0x00, b""), None),
        (raw_v2(LOCAL, 0xff, b"whatever this is"), None),
        (raw_v2(PROXY, 0x00, b""), None),
        (unix(0x31), Some("unix:")),
    ] {
        expect_served_as(&server, &header, peer);
    }
    server.stop();
}

#[test]
fn a_header_may_be_split_at_every_byte() {
    let server = start(&["--quiet"]);
    for header in [v1("203.0.113.7:4711"), v2("[2001:db8::7]:4711")] {
        for at in 0..=header.len() {
            let (mut one, mut two) = (server.connect(), server.connect());
            let (first, rest) = header.split_at(at);
            one.write_all(first).expect("sent");
            two.write_all(first).expect("sent");
            wait_until_seen(&server);
            // Once with what follows, and the end, right behind it, once without.
            assert_same(&exchange(one, &[rest, b"hello"].concat()), b"hello");
            two.write_all(rest).expect("sent");
            wait_until_seen(&server);
            round_trip(&mut two, b"hello");
        }
        let mut slow = server.connect();
        for byte in &header {
            slow.write_all(&[*byte]).expect("sent");
            wait_until_seen(&server);
        }
        assert_same(&exchange(slow, b"hello"), b"hello");
    }
    server.stop_by(Signal::TERM);
}

#[test]
fn from_others_a_header_is_a_message_like_any_other() {
    let server = start(&["--verbose"]);
    let stream = stranger(&server);
    let address = stream.local_addr().expect("an address");
    let header = v2("203.0.113.7:4711");
    assert_same(&exchange(stream, &header), &header);
    let lines = server.stop_by(Signal::TERM);
    assert_eq!(shown(&lines)[0], format!("Opened: {address}"));
    assert!(!lines.iter().any(|line| line.contains("203.0.113.7")), "{lines:?}");
}

/// The rest of the read is what the client sent, however much it is.
#[test]
fn what_follows_the_header_is_echoed() {
    let server = start(&["--quiet"]);
    let message = random_bytes(&mut rng(), 64 << 10);
    for header in [v1("203.0.113.7:4711"), v2("203.0.113.7:4711"), raw_v2(PROXY, 0x31, &[0; 4080])] {
        assert_same(&exchange(server.connect(), &[&*header, &message].concat()), &message);
        assert_same(&exchange(server.connect(), &header), b"");
    }
    server.stop_by(Signal::TERM);
}

#[test]
fn what_is_no_header_is_refused_as_soon_as_that_is_certain() {
    let server = start(&["--proxy-timeout", LONG]);
    let too_long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
    let malformed: Vec<Vec<u8>> = vec![
        b"hello".to_vec(),
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        b"PROXI".to_vec(),
        b"PROXY TCP4 203.0.113.7 192.0.2.1 4711\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.700 192.0.2.1 4711 7\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 70000\r\n".to_vec(),
        b"PROXY TCP6 203.0.113.7 192.0.2.1 4711 7\r\n".to_vec(),
        b"PROXY UDP4 203.0.113.7 192.0.2.1 4711 7\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 7\n".to_vec(),
        too_long[..107].to_vec(),
        [&too_long[..107], b"\r\n"].concat(),
        b"\r\n\r\n\0\r\nQUIT!".to_vec(),
        // UDP and SOCK_DGRAM, an unknown family, version and command, addresses that do not fit.
        raw_v2(PROXY, 0x12, &[0; 12]),
        raw_v2(PROXY, 0x22, &[0; 36]),
        raw_v2(PROXY, 0x32, &[0; 216]),
        raw_v2(PROXY, 0x10, &[0; 12]),
        raw_v2(PROXY, 0x41, &[0; 12]),
        raw_v2(0x31, 0x11, &[0; 12]),
        raw_v2(0x22, 0x11, &[0; 12]),
        raw_v2(PROXY, 0x11, &[0; 11]),
        raw_v2(PROXY, 0x31, &[0; 215]),
        // One byte more than is accepted, and the longest that can be written; their content does not have to come.
        raw_v2(PROXY, 0x11, &[0; 4081])[..16].to_vec(),
        raw_v2(LOCAL, 0x00, &[0; 65_535])[..16].to_vec(),
    ];
    for input in &malformed {
        println!("{}", input[..input.len().min(80)].escape_ascii());
        expect_reset(send(&server, &[input]));
    }
    // One that ends within its header can only be missing the rest.
    for header in [&v1("203.0.113.7:4711"), &v2("203.0.113.7:4711")] {
        for at in [1, 5, header.len() - 1] {
            let stream = send(&server, &[&header[..at]]);
            stream.shutdown(Shutdown::Write).expect("half-closed");
            expect_reset(stream);
        }
    }
    assert_eq!(connections(&server), format!("0 now, 0 in total, {} refused", malformed.len() + 6));
    assert_eq!(server.stop_by(Signal::TERM).len(), 1, "without --verbose there is no line for them");
}

#[test]
fn a_room_says_nothing_before_the_header() {
    let server = start(&["--chat", "--max-connections", "4"]);
    let mut silent = send(&server, &[b"PROXY "]);
    wait_until_welcomed(&server);
    silent.set_nonblocking(true).expect("non-blocking");
    let error = silent.read(&mut [0]).expect_err("nothing is said");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    silent.set_nonblocking(false).expect("blocking");
    silent.write_all(&v1("203.0.113.7:4711")["PROXY ".len()..]).expect("sent");
    assert!(Member::over(silent).line().starts_with("* welcome, "));
    server.stop_by(Signal::TERM);
}

fn wait_until_welcomed(server: &Server) {
    assert!(Member::over(stranger(server)).line().starts_with("* welcome, "));
}

#[test]
fn a_full_room_says_so_behind_the_header() {
    let server = start(&["--chat", "--max-connections", "2"]);
    let member = |source| Member::over(send(&server, &[&v1(source)]));
    let (mut ann, mut bob) = (member("203.0.113.7:1"), member("203.0.113.7:2"));
    assert!(ann.line().starts_with("* welcome, ") && bob.line().starts_with("* welcome, "));
    for _ in 0..10 {
        let mut full = member("203.0.113.7:3");
        full.hears(&["* server is full"]);
        full.leaves();
    }
    server.stop_by(Signal::TERM);
}

#[test]
fn who_had_sent_a_header_before_the_stop_is_served() {
    let server = start(&["--grace", LONG, "--quiet"]);
    let silent = server.connect();
    let (mut partial, mut early) = (send(&server, &[b"PROXY"]), server.connect());
    wait_until_seen(&server);
    server.process.suspend();
    early.write_all(&[&*v1("203.0.113.7:4711"), b"hello"].concat()).expect("sent");
    // The server has not accepted these yet.
    let mut late = send(&server, &[&v2("203.0.113.7:4711"), b"hello"]);
    let (late_silent, mut later) = (server.connect(), server.connect());
    let begin = Instant::now();
    server.process.signal(Signal::TERM);
    server.process.signal(Signal::CONT);
    // The first bytes of this one come a moment after the connection, as over a network.
    server.wait_until_it_refuses();
    _ = later.write_all(&[&*v2("203.0.113.7:4711"), b"hello"].concat());
    // The server waits for half a second. A machine under load may take longer to come this far.
    let is_in_time = begin.elapsed() < Duration::from_millis(400);
    for stream in [&mut early, &mut late].into_iter().chain(is_in_time.then_some(&mut later)) {
        let mut echo = Vec::new();
        stream.read_to_end(&mut echo).expect("the echo and an orderly end");
        assert_same(&echo, b"hello");
    }
    for mut stream in [silent, late_silent] {
        expect_end(&mut stream);
    }
    _ = partial.read(&mut [0]);
    drop((early, late, later));
    server.expect_stopped();
}

#[test]
fn a_proxy_may_come_by_a_unix_socket() {
    let path = scratch_file("proxy.sock");
    let bind = format!("unix:{}", path.display());
    let server = Server::start(&["--bind", "127.0.0.1", "--bind", &bind, "--proxy-from", "unix", "--verbose"]);
    // By TCP there is no proxy.
    assert_same(&exchange(server.connect(), b"PROXY UNKNOWN\r\n"), b"PROXY UNKNOWN\r\n");
    let own = format!("unix:pid={},uid={}", std::process::id(), rustix::process::getuid().as_raw());
    let (v1, local) = (v1("203.0.113.7:4711"), raw_v2(LOCAL, 0, b""));
    for (header, peer) in [(&v1, "203.0.113.7:4711"), (&local, &*own)] {
        for at in 0..=header.len() {
            let mut stream = UnixStream::connect(&path).expect("connected");
            stream.write_all(&header[..at]).expect("sent");
            round_trip(&mut server.connect(), b"seen");
            stream.write_all(&[&header[at..], b"hello"].concat()).expect("sent");
            stream.shutdown(Shutdown::Write).expect("half-closed");
            let mut echo = Vec::new();
            stream.read_to_end(&mut echo).expect("the echo and its end");
            assert_same(&echo, b"hello");
        }
        let closed = format!("Closed: {peer}, 5 bytes in, 5 bytes out: the client finished");
        let count = |lines: &[String]| lines.iter().filter(|line| line.ends_with(&closed)).count();
        server.console.wait_until(|lines| (count(lines) == header.len() + 1).then_some(()));
    }
    server.stop_by(Signal::TERM);
}

#[test]
fn a_wrong_network_is_wrong_usage() {
    for wrong in ["--proxy-from=", "--proxy-from=localhost", "--proxy-from=10.0.0.0/33", "--proxy-timeout=0s"] {
        let mut command = clean_command(env!("CARGO_BIN_EXE_echo-server"));
        command.args(["--port", "0", wrong]);
        let output = run(command, Stdio::null());
        assert_eq!(output.code, Some(2), "{wrong}: {}", output.stderr);
    }
}
