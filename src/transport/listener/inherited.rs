//! Sockets that were opened for this process before it began, as by systemd (sd_listen_fds(3)).

use std::env;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

/// More sockets than anybody hands over to one process.
const MOST: usize = 4096;

/// Listening sockets that whoever started this process has opened, TCP and Unix. Connections queue in them while no
/// server runs.
#[derive(Debug, Default)]
pub struct Inherited {
    pub(super) tcp: Vec<TcpListener>,
    pub(super) unix: Vec<UnixListener>,
}

impl Inherited {
    /// The sockets that the environment tells of: `LISTEN_FDS` of them, from descriptor 3 on, if `LISTEN_PID` is this
    /// process or not set. Both variables are removed, so call this before anything else: before descriptors are
    /// opened, which could be taken for such sockets, and before threads are started, which could read the environment.
    ///
    /// # Errors
    ///
    /// A socket that is neither of TCP nor a Unix stream socket, or that does not listen.
    pub fn from_env() -> io::Result<Self> {
        check_count()?;
        let mut descriptors = ListenFd::from_env();
        let mut inherited = Self::default();
        let count = descriptors.len();
        for at in 0..count {
            let invalid = |reason| {
                let sentence = format!("cannot use inherited socket {} of {count}: {reason}", at + 1);
                io::Error::new(ErrorKind::InvalidInput, sentence)
            };
            let is_listening = if let Ok(Some(socket)) = descriptors.take_tcp_listener(at) {
                inherited.tcp.push(socket);
                inherited.tcp.last().is_some_and(is_listening)
            } else if let Ok(Some(socket)) = descriptors.take_unix_listener(at) {
                inherited.unix.push(socket);
                inherited.unix.last().is_some_and(is_listening)
            } else {
                return Err(invalid("it is not a stream socket of TCP or Unix"));
            };
            if !is_listening {
                return Err(invalid("it does not listen (systemd needs Accept=no)"));
            }
        }
        Ok(inherited)
    }

    /// How many sockets there are.
    pub fn len(&self) -> usize {
        self.tcp.len() + self.unix.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(not(target_vendor = "apple"))]
fn is_listening(socket: &impl AsFd) -> bool {
    rustix::net::sockopt::socket_acceptconn(socket) == Ok(true)
}

/// This system does not tell.
#[cfg(target_vendor = "apple")]
fn is_listening(_: &impl AsFd) -> bool {
    true
}

/// Refuses a number of sockets that cannot be, for which the memory would not suffice.
fn check_count() -> io::Result<()> {
    let Ok(count) = env::var("LISTEN_FDS") else { return Ok(()) };
    if count.parse().is_ok_and(|count: usize| count <= MOST) {
        return Ok(());
    }
    Err(io::Error::new(ErrorKind::InvalidInput, format!("LISTEN_FDS is {count}, which is not a number of sockets")))
}
