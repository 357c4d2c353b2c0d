//! Listening on TCP ports.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::{BACKLOG, explain};

/// The silence after which the kernel asks whether the peer is still there (tcp(7), `TCP_KEEPIDLE`).
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How often a port that the system picked is looked for anew, when it is not free on all addresses.
const PORT_ATTEMPTS: usize = 16;

/// What a listening socket is to do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    /// The kernel takes no more for a connection while that many bytes wait to be sent there (tcp(7),
    /// `TCP_NOTSENT_LOWAT`), where it knows such a limit.
    pub(super) notsent_lowat: Option<u32>,
    /// Other processes may listen on the same port (socket(7), `SO_REUSEPORT`).
    pub(super) reuse_port: bool,
}

/// One `--bind` argument: an address, or a name with several.
struct Target {
    addresses: Vec<SocketAddr>,
    /// Whether addresses that this machine does not have are left out, as long as one is left.
    is_partial: bool,
}

/// Listens on every address of `hosts` with the same `port`; without hosts on 127.0.0.1, and on ::1 where
/// the machine has it. With port 0 the system picks one that is free on all of them.
///
/// A host that is a name stands for all its addresses that this machine has. `::` takes IPv4 connections
/// too, unless an IPv4 address is asked for beside it.
///
/// # Errors
///
/// The first address that cannot be bound, with the system's reason and kind.
pub(super) fn listen(hosts: &[&str], port: u16, options: Options) -> io::Result<Vec<TcpListener>> {
    let targets = targets(hosts, port)?;
    for _ in 1..PORT_ATTEMPTS {
        match listen_on_all(&targets, options) {
            Err(error) if port == 0 && error.kind() == ErrorKind::AddrInUse => {}
            outcome => return outcome,
        }
    }
    listen_on_all(&targets, options)
}

fn targets(hosts: &[&str], port: u16) -> io::Result<Vec<Target>> {
    if hosts.is_empty() {
        let addresses = vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()];
        return Ok(vec![Target { addresses, is_partial: true }]);
    }
    let target = |host: &&str| {
        // [::1] is how IPv6 addresses are written beside a port.
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let addresses = match (bare, port).to_socket_addrs() {
            Ok(addresses) => addresses.collect(),
            Err(error) => return Err(explain(&error, format_args!("cannot look up {host}"))),
        };
        Ok(Target { addresses, is_partial: bare.parse::<std::net::IpAddr>().is_err() })
    };
    hosts.iter().map(target).collect()
}

fn listen_on_all(targets: &[Target], options: Options) -> io::Result<Vec<TcpListener>> {
    let has_ipv4 = targets.iter().flat_map(|target| &target.addresses).any(SocketAddr::is_ipv4);
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut taken: Vec<SocketAddr> = Vec::new();
    for target in targets {
        let mut missing = None;
        let mut is_there = false;
        for &wanted in &target.addresses {
            let mut address = wanted;
            if let Some(first) = taken.first() {
                address.set_port(first.port());
            }
            if taken.contains(&address) {
                is_there = true;
                continue;
            }
            let is_picked = address.port() != wanted.port();
            match listen_on(address, is_picked, has_ipv4, options) {
                Ok(listener) => {
                    taken.push(listener.local_addr()?);
                    listeners.push(listener);
                    is_there = true;
                }
                Err(error) if target.is_partial && is_missing(&error) => missing = Some((address, error)),
                Err(error) => return Err(cannot_listen(address, &error)),
            }
        }
        if let Some((address, error)) = missing
            && !is_there
        {
            return Err(cannot_listen(address, &error));
        }
    }
    Ok(listeners)
}

/// Listens on one address. A port that `is_picked` for another address must be free here as well, and is not shared.
fn listen_on(address: SocketAddr, is_picked: bool, is_ipv6_only: bool, options: Options) -> io::Result<TcpListener> {
    if is_picked && options.reuse_port {
        bind(address, is_ipv6_only, false)?;
    }
    let socket = bind(address, is_ipv6_only, options.reuse_port)?;
    prepare(SockRef::from(&socket), options)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind(address: SocketAddr, is_ipv6_only: bool, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(is_ipv6_only)?;
    }
    // A server that is started again must not wait until its old connections are forgotten.
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true).map_err(|error| explain(&error, format_args!("cannot share a port")))?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Sets the options of a listening socket.
pub(super) fn prepare(socket: SockRef<'_>, options: Options) -> io::Result<()> {
    // On Linux accepted sockets inherit these, which saves two system calls for each of them.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    // Urgent data stays in the stream, in its place (RFC 6093): every byte comes back.
    socket.set_out_of_band_inline(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(bytes) = options.notsent_lowat {
        socket.set_tcp_notsent_lowat(bytes)?;
    }
    socket.set_nonblocking(true)
}

/// Whether an address cannot be bound because this machine does not have it, or its kind.
fn is_missing(error: &io::Error) -> bool {
    let family_not_supported = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(family_not_supported)
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> io::Error {
    explain(error, format_args!("cannot listen on {} port {}", address.ip(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_get_the_port_that_the_system_picks() {
        let listeners = listen(&["127.0.0.1", "127.0.0.2", "127.0.0.3"], 0, Options::default()).unwrap();
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        assert_eq!(ports.len(), 3);
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }

    #[test]
    fn an_address_asked_for_twice_is_listened_on_once() {
        assert_eq!(listen(&["127.0.0.1", "127.0.0.1"], 0, Options::default()).unwrap().len(), 1);
    }

    #[test]
    fn a_name_stands_for_the_addresses_that_the_machine_has() {
        let listeners = listen(&["localhost"], 0, Options::default()).unwrap();
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap().ip().is_loopback()));
        assert!(!listeners.is_empty());
    }

    #[test]
    fn all_addresses_of_both_families_go_together() {
        if TcpListener::bind("[::]:0").is_err() {
            eprintln!("skipped: this machine has no IPv6");
            return;
        }
        assert_eq!(listen(&["0.0.0.0", "::"], 0, Options::default()).unwrap().len(), 2);
    }

    #[test]
    fn a_port_is_shared_by_those_that_ask_for_it() {
        let sharing = Options { reuse_port: true, ..Options::default() };
        let first = listen(&["127.0.0.1"], 0, sharing).unwrap();
        let address = first[0].local_addr().unwrap();
        listen(&["127.0.0.1"], address.port(), sharing).unwrap();
        let error = listen(&["127.0.0.1"], address.port(), Options::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        // A port that the system has picked for another address was not asked for.
        assert_eq!(listen_on(address, true, true, sharing).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn what_cannot_be_had_is_an_error_that_names_it() {
        let taken = listen(&["127.0.0.1"], 0, Options::default()).unwrap();
        let port = taken[0].local_addr().unwrap().port();
        let error = listen(&["127.0.0.1"], port, Options::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert_eq!(error.to_string(), format!("cannot listen on 127.0.0.1 port {port}: Address already in use"));

        let error = listen(&["192.0.2.1"], 0, Options::default()).unwrap_err();
        assert!(error.to_string().contains("192.0.2.1 port 0"), "{error}");
        let error = listen(&["no-such-host.invalid"], 0, Options::default()).unwrap_err();
        assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    }
}
