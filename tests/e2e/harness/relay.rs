//! A relay between a raw client and a server that speaks TLS: what a test does to its end of the connection, the relay
//! does to the server's. Ends, resets and pauses pass; a few kilobytes are under way.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, SockRef, Socket, Type};
use sockets::client::{HalfClose, Stream, Tls, Trust, tls_over};

use super::{Certificates, DEADLINE};

/// How much is read at once: more than a connection can have decrypted, so that nothing is left behind that no poll
/// tells of.
const READ: usize = 64 << 10;

/// The addresses that servers see, by those that tests see.
static ADDRESSES: Mutex<Option<HashMap<SocketAddr, SocketAddr>>> = Mutex::new(None);

/// Speaks TLS over `stream`, and returns a stream for what is said. It has a receive buffer of `buffer` bytes, if that is
/// given.
pub(super) fn begin(stream: TcpStream, buffer: Option<usize>) -> TcpStream {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    if let Some(size) = buffer {
        socket.set_recv_buffer_size(size).expect("a size");
    }
    socket.connect(&listener.local_addr().expect("an address").into()).expect("connected");
    let near = TcpStream::from(socket);
    let (inner, _) = listener.accept().expect("accepted");
    if buffer.is_some() {
        // Where it is not asked for, nothing is to wait for acknowledgements.
        SockRef::from(&inner).set_send_buffer_size(4096).expect("a size");
    }
    for stream in [&inner, &stream] {
        stream.set_nodelay(true).expect("no delay");
    }
    let addresses = (near.local_addr().expect("an address"), stream.local_addr().expect("an address"));
    ADDRESSES.lock().expect("no panic").get_or_insert_default().insert(addresses.0, addresses.1);
    thread::spawn(move || {
        let socket = stream.try_clone()?;
        let outcome = match handshake(stream) {
            // A client that is not let in sees the end of the connection. What the system makes a reset, because the server
            // has not read the beginning of the handshake, would be none without TLS.
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return Ok(());
            }
            far => far.and_then(|far| relay(&inner, far)),
        };
        if outcome.is_err() {
            for stream in [&inner, &socket] {
                SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
            }
        }
        outcome
    });
    near
}

/// The address that the server sees, of a client that a test sees at `near`.
pub(super) fn far_address(near: SocketAddr) -> SocketAddr {
    ADDRESSES.lock().expect("no panic").as_ref().and_then(|known| known.get(&near)).copied().unwrap_or(near)
}

fn handshake(stream: TcpStream) -> io::Result<Stream> {
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut tls = Tls::default();
    tls.trust = Trust::Authorities(Certificates::shared().authority.clone().into());
    tls_over(stream, "localhost", &tls)
}

fn relay(near: &TcpStream, mut far: Stream) -> io::Result<()> {
    near.set_nonblocking(true)?;
    rustix::io::ioctl_fionbio(&far, true)?;
    let mut buffer = vec![0; READ];
    let (mut up, mut down) = (Vec::new(), Vec::new());
    // Whether each direction still has input, and has been ended.
    let (mut near_reads, mut far_reads, mut far_ended, mut near_ended) = (true, true, false, false);
    while !(far_ended && near_ended) {
        let far_blocked = ready(far.flush())?.is_none();
        if !up.is_empty()
            && !far_blocked
            && let Some(count) = ready(far.write(&up))?
        {
            up.drain(..count);
        }
        if !down.is_empty()
            && let Some(count) = ready((&mut &*near).write(&down))?
        {
            down.drain(..count);
        }
        if !near_reads && up.is_empty() && !far_ended {
            far_ended = ready(far.finish())?.is_some();
        }
        if !far_reads && down.is_empty() && !near_ended {
            near.shutdown(Shutdown::Write)?;
            near_ended = true;
        }
        if near_reads
            && up.is_empty()
            && let Some(count) = ready((&mut &*near).read(&mut buffer[..4096]))?
        {
            near_reads = count > 0;
            up.extend(&buffer[..count]);
            continue;
        }
        if far_reads
            && down.is_empty()
            && let Some(count) = ready(far.read(&mut buffer))?
        {
            far_reads = count > 0;
            down.extend(&buffer[..count]);
            continue;
        }
        let flags = |reads, writes| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, reads);
            flags.set(PollFlags::OUT, writes);
            flags
        };
        let far_writes = ready(far.flush())?.is_none() || !up.is_empty() || (!near_reads && !far_ended);
        let near_flags = flags(near_reads && up.is_empty(), !down.is_empty());
        let far_flags = flags(far_reads && down.is_empty(), far_writes);
        // Of one that waits for nothing, an error or the end would be told again and again.
        let mut fds = [(near.as_fd(), near_flags), (far.as_fd(), far_flags)].to_vec();
        fds.retain(|(_, flags)| !flags.is_empty());
        let mut fds: Vec<_> = fds.into_iter().map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
        poll(&mut fds, None)?;
    }
    Ok(())
}

/// What a call did, if it did not have to wait.
fn ready<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
