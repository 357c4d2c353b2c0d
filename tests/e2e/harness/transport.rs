//! The same tests over other transports.
//!
//! With `E2E_TRANSPORT=unix`, servers listen on a Unix socket beside their port, and clients use that. The name of the
//! socket follows from the port, which is what tests know of a server.
//!
//! With `E2E_TRANSPORT=tls`, servers speak TLS, and so do clients: raw ones by a [relay](super::relay) of their own.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixStream};
use std::sync::Mutex;

use rustix::process::getuid;

use super::{Certificates, free_port, has_ipv6, relay};

/// Ports on which servers speak TLS because the tests go over it.
static TLS_PORTS: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

fn chosen() -> String {
    std::env::var("E2E_TRANSPORT").unwrap_or_else(|_| "tcp".to_owned())
}

/// Whether the tests go over Unix sockets.
pub(crate) fn is_unix() -> bool {
    let chosen = chosen();
    assert!(["tcp", "unix", "tls"].contains(&&*chosen), "no such transport: {chosen}");
    chosen == "unix"
}

/// Whether the tests go over TLS.
pub(crate) fn is_tls() -> bool {
    chosen() == "tls"
}

/// Whether the server on this port speaks TLS because the tests go over it.
pub(super) fn has_tls(port: u16) -> bool {
    TLS_PORTS.lock().expect("no panic").contains(&port)
}

/// The options of a server that speaks TLS.
fn with_tls(mut options: Vec<String>) -> Vec<String> {
    let Some(at) = options.iter().position(|option| option == "--port") else { return options };
    if options.iter().any(|option| option.starts_with("--tls")) {
        return options;
    }
    if options[at + 1] == "0" {
        options[at + 1] = free_port().to_string();
    }
    let Ok(port) = options[at + 1].parse() else { return options };
    TLS_PORTS.lock().expect("no panic").insert(port);
    options.extend(Certificates::shared().server_options().map(str::to_owned));
    options
}

/// Whether a test that is about TCP has to be left out; says so then.
pub(crate) fn needs_tcp() -> bool {
    if is_unix() {
        println!("skipped: this is about TCP");
    }
    is_unix()
}

/// Whether this run goes over TLS, where a test is left out for this reason; says so then.
pub(crate) fn skipped_over_tls(reason: &str) -> bool {
    let skipped = is_tls();
    if skipped {
        println!("skipped over TLS: {reason}");
    }
    skipped
}

/// The options of a server on the chosen transport.
pub(super) fn server_options(options: &[&str]) -> Vec<String> {
    let options: Vec<String> = options.iter().map(ToString::to_string).collect();
    match &*chosen() {
        // Proxies connect over TCP, and their headers come before anything else.
        _ if options.iter().any(|option| option == "--proxy-from") => options,
        "unix" => with_unix(options),
        "tls" => with_tls(options),
        _ => options,
    }
}

/// The options of a server that listens on a Unix socket as well.
fn with_unix(mut options: Vec<String>) -> Vec<String> {
    let Some(at) = options.iter().position(|option| option == "--port") else { return options };
    if options[at + 1] == "0" {
        options[at + 1] = free_port().to_string();
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
        false => {
            let tls: &[&str] = if has_tls(port) { &Certificates::shared().client_options() } else { &[] };
            [&["--host", "127.0.0.1", "--port", &port.to_string()], tls]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect()
        }
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
        Ok(address) => relay::far_address(address).to_string(),
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

fn name(port: impl std::fmt::Display) -> String {
    format!("@echo-e2e-{port}")
}

/// Whether a server listens on the Unix socket beside this port.
fn has_unix(port: u16) -> bool {
    let sockets = || fs::read_to_string("/proc/net/unix").expect("procfs");
    is_unix() && sockets().lines().any(|line| line.ends_with(&format!(" {}", name(port))))
}
