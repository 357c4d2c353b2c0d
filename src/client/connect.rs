//! From a host name to a connection.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{Errno, retry_on_intr};
use rustix::net;
use socket2::{Domain, Socket, TcpKeepalive, Type};

use super::tls::{Settings, Tls};
use super::{Error, Peer, Stream, peer_name};
use crate::transport::listener::UNIX_PREFIX;
use crate::transport::unix;

/// How long the connection may be silent until the system asks whether the server is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How late a stream with a deadline may notice that the deadline has passed.
const DEADLINE_TICK: Duration = Duration::from_millis(50);

/// How long to wait for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// For the connection, at each address of the name, with the handshake of TLS. Default: 5 s.
    pub connect: Duration,
    /// For any progress of an exchange that waits only for the peer, see [`Peer::timeout`]. Default: 30 s.
    pub progress: Duration,
    /// For everything, from the name resolution to the end of the reply. Default: no limit.
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), progress: Duration::from_secs(30), total: None }
    }
}

impl Timeouts {
    /// When the total time is up, counted from now.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.total.and_then(|total| Instant::now().checked_add(total))
    }
}

/// Connects to the first address of `host` that answers. Small writes are sent without delay (`TCP_NODELAY`).
///
/// A `host` such as `unix:/run/echo.sock` is a Unix socket, which has no port; `unix:@name` is an abstract name.
///
/// # Errors
///
/// [`Error::Resolve`] if the name has no address, [`Error::Connect`] if no address answers within
/// `timeouts.connect` or the total time is up. The reason is that of the first address, which is the one that the
/// system prefers.
pub fn connect(host: &str, port: u16, timeouts: Timeouts) -> Result<Peer<Stream>, Error> {
    open_peer(host, port, timeouts, None)
}

/// Does what [`connect()`] does, and speaks TLS with the server.
///
/// # Errors
///
/// Those of [`connect()`], and [`Error::Tls`] if the files of `tls` cannot be used, or the server does not speak TLS or
/// is not accepted.
pub fn connect_tls(host: &str, port: u16, timeouts: Timeouts, tls: &Tls) -> Result<Peer<Stream>, Error> {
    let failed = |reason| Error::Tls { peer: peer_name(host, port), reason };
    open_peer(host, port, timeouts, Some(&tls.load(host).map_err(failed)?))
}

fn open_peer(host: &str, port: u16, timeouts: Timeouts, tls: Option<&Settings>) -> Result<Peer<Stream>, Error> {
    let name = peer_name(host, port);
    let deadline = timeouts.deadline();
    let failed = |address, reason| Error::Connect { peer: name.clone(), address, reason };

    let (socket, address, handshake_by) = match host.strip_prefix(UNIX_PREFIX) {
        Some(path) => {
            let patience = patience(timeouts, deadline);
            let handshake_by = Instant::now().checked_add(patience);
            match open_unix(path, patience) {
                Err(_) if is_over(deadline) => return Err(failed(None, late())),
                outcome => (outcome.map_err(|reason| failed(None, reason))?, None, handshake_by),
            }
        }
        None => open_any(host, port, timeouts, deadline, failed)?,
    };
    let tls = tls.map(|tls| tls.connect(&socket, handshake_by)).transpose();
    let tls = tls.map_err(|reason| Error::Tls { peer: name.clone(), reason })?;
    let halves = prepare(&socket, timeouts).and_then(|()| Stream::pair(socket, tls.as_ref()));
    let (reader, writer) = halves.map_err(|reason| failed(address, reason))?;
    Ok(Peer { name, timeout: timeouts.progress, deadline, reader, writer })
}

/// A connection, to which address, and by when a handshake over it has to be done.
type Opened = (Socket, Option<SocketAddr>, Option<Instant>);

/// Connects to the first address of `host` that answers.
fn open_any(
    host: &str,
    port: u16,
    timeouts: Timeouts,
    deadline: Option<Instant>,
    failed: impl Fn(Option<SocketAddr>, io::Error) -> Error,
) -> Result<Opened, Error> {
    let owned_host = host.to_owned();
    let resolve = move || (owned_host.as_str(), port).to_socket_addrs().map(Vec::from_iter);
    let addresses = done_by(deadline, resolve).map_err(|reason| failed(None, reason))?;
    let addresses = addresses.map_err(|reason| Error::Resolve { host: host.to_owned(), reason })?;

    let mut first_failure = None;
    for address in addresses {
        let patience = patience(timeouts, deadline);
        let handshake_by = Instant::now().checked_add(patience);
        match open(address, patience) {
            Ok(socket) => return Ok((socket, Some(address), handshake_by)),
            Err(_) if is_over(deadline) => return Err(failed(None, late())),
            Err(reason) => _ = first_failure.get_or_insert((address, reason)),
        }
    }
    Err(match first_failure {
        Some((address, reason)) => failed(Some(address), reason),
        None => Error::Resolve { host: host.to_owned(), reason: io::Error::other("the name has no address") },
    })
}

/// How long to wait for the next connection.
fn patience(timeouts: Timeouts, deadline: Option<Instant>) -> Duration {
    let remaining = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    remaining.map_or(timeouts.connect, |remaining| timeouts.connect.min(remaining))
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}

/// Does `work`, if there is a deadline on a thread of its own. If the work is not done by then, this is an error of the
/// kind `TimedOut`, and the thread is left behind, because nothing interrupts a name resolution or a write to a
/// blocked pipe.
pub(super) fn done_by<T: Send + 'static>(
    deadline: Option<Instant>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let Some(deadline) = deadline else { return Ok(work()) };
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || sender.send(work()))?;
    receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(|_| late())
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the deadline has passed")
}

fn open(address: SocketAddr, timeout: Duration) -> io::Result<Socket> {
    let stream = TcpStream::connect_timeout(&address, timeout)?;
    // If nobody listens on a high port of this machine, the system may pick that very port as ours and connect the
    // socket to itself, which echoes perfectly.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(Errno::CONNREFUSED.into());
    }
    let socket = Socket::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    Ok(socket)
}

fn open_unix(name: &str, timeout: Duration) -> io::Result<Socket> {
    let address = unix::address(name)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // While its queue is full, connecting waits as a write does (unix(7)). The system accepts no timeout of zero.
    socket.set_write_timeout(Some(timeout.max(Duration::from_millis(1))))?;
    match retry_on_intr(|| net::connect(&socket, &address)) {
        Err(Errno::AGAIN) => Err(io::Error::new(io::ErrorKind::TimedOut, "connection timed out")),
        outcome => outcome.map(|()| socket).map_err(io::Error::from),
    }
}

/// Makes a read or write return now and then, so that an exchange can look at its timeout and its deadline.
fn prepare(socket: &Socket, timeouts: Timeouts) -> io::Result<()> {
    // Four looks in each timeout end a stalled exchange at most a quarter late.
    let tick = timeouts.total.map_or(timeouts.progress / 4, |_| DEADLINE_TICK.min(timeouts.progress / 4));
    // The system accepts no timeout of zero.
    let tick = Some(tick.max(Duration::from_millis(1)));
    socket.set_read_timeout(tick)?;
    socket.set_write_timeout(tick)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_does_not_end_is_left_behind_at_the_deadline() {
        let (_held, hold) = mpsc::channel::<()>();
        let begin = Instant::now();
        let limit = Duration::from_millis(20);
        let error = done_by(begin.checked_add(limit), move || hold.recv()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() >= limit);
        assert_eq!(done_by(None, || 1).unwrap(), 1);
        assert_eq!(done_by(begin.checked_add(Duration::from_secs(60)), || 1).unwrap(), 1);
    }
}
