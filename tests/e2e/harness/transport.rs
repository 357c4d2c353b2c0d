//! The same tests over Unix sockets: with `E2E_TRANSPORT=unix`, servers listen on one beside their port, and clients
//! use that. The name of the socket follows from the port, which is what tests know of a server.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixStream};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::getuid;

use super::has_ipv6;

/// Whether the tests go over Unix sockets.
pub(crate) fn is_unix() -> bool {
    match std::env::var("E2E_TRANSPORT").as_deref() {
        Ok("unix") => true,
        Ok("tcp") | Err(_) => false,
        Ok(other) => panic!("no such transport: {other}"),
    }
}

/// Whether a test that is about TCP has to be left out; says so then.
pub(crate) fn needs_tcp() -> bool {
    if is_unix() {
        println!("skipped: this is about TCP");
    }
    is_unix()
}

/// The options of a server that listens on a Unix socket as well, unless it is about the networks of proxies.
pub(super) fn with_unix(options: &[&str]) -> Vec<String> {
    let mut options: Vec<String> = options.iter().map(ToString::to_string).collect();
    if !is_unix() || options.iter().any(|option| option == "--proxy-from") {
        return options;
    }
    let Some(at) = options.iter().position(|option| option == "--port") else { return options };
    if options[at + 1] == "0" {
        options[at + 1] = unused_port().to_string();
    }
    let mut bind = vec![format!("unix:{}", name(&options[at + 1]))];
    if !options.iter().any(|option| option == "--bind") {
        bind.push(Ipv4Addr::LOCALHOST.to_string());
        bind.extend(has_ipv6().then(|| "::1".to_owned()));
    }
    options.extend(bind.into_iter().flat_map(|address| ["--bind".to_owned(), address]));
    options
}

/// The host that the client is given to reach a server on this port of 127.0.0.1, with the options for it.
pub(super) fn client_options(port: u16) -> Vec<String> {
    match has_unix(port) {
        true => ["--host".to_owned(), format!("unix:{}", name(port))].into(),
        false => ["--host", "127.0.0.1", "--port", &port.to_string()].map(str::to_owned).into(),
    }
}

/// A connection to the Unix socket beside this address, if there is one. (The type is that of TCP so that tests are the
/// same for both: what it does is the same, except for options and addresses.)
pub(super) fn connect(address: SocketAddr) -> Option<io::Result<TcpStream>> {
    if !is_unix() || address.ip() != Ipv4Addr::LOCALHOST {
        return None;
    }
    let name = net::SocketAddr::from_abstract_name(&name(address.port())[1..]).expect("a name");
    match UnixStream::connect_addr(&name) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => None,
        outcome => Some(outcome.map(|stream| OwnedFd::from(stream).into())),
    }
}

/// What the server calls this client.
pub(crate) fn client_name(stream: &TcpStream) -> String {
    match stream.local_addr() {
        Ok(address) => address.to_string(),
        Err(_) => format!("unix:pid={},uid={}", std::process::id(), getuid().as_raw()),
    }
}

/// What the client calls a server on this port of 127.0.0.1.
pub(crate) fn server_name(port: u16) -> String {
    if has_unix(port) { format!("unix:{}", name(port)) } else { format!("127.0.0.1 port {port}") }
}

/// Expects that the server gave up a client before it had sent the `whole` reply: by a reset, which Unix sockets do not
/// have.
pub(crate) fn expect_loss(stream: &mut TcpStream, whole: usize) {
    match stream.read_to_end(&mut Vec::new()) {
        Ok(length) => assert!(is_unix() && length < whole, "an orderly end means that it has got everything: {length}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// A port that no other test takes meanwhile: below those that the system picks.
fn unused_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let of_this_run = (std::process::id() % 100) as u16 * 100;
    let port = || 20_000 + (of_this_run + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
    std::iter::repeat_with(port).find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok()).expect("a port")
}

fn name(port: impl std::fmt::Display) -> String {
    format!("@echo-e2e-{port}")
}

/// Whether a server listens on the Unix socket beside this port.
fn has_unix(port: u16) -> bool {
    let sockets = || fs::read_to_string("/proc/net/unix").expect("procfs");
    is_unix() && sockets().lines().any(|line| line.ends_with(&format!(" {}", name(port))))
}
