//! What the service manager, such as systemd, is told: one datagram for each change (sd_notify(3)). It is sent here,
//! because a crate that sends it waits for as long as the manager does not read, and with it the whole server.

use std::env;
use std::ffi::OsStr;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::{SendFlags, sendto};

use crate::error::reason;
use crate::transport::unix::address;

/// The environment variable that names the manager's socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// How long a manager that does not read may hold the server up.
const PATIENCE: Duration = Duration::from_millis(200);

/// The service manager of this process, if it has one and it is to be told.
#[derive(Debug, Default)]
pub(super) struct Manager {
    pub(super) is_told: bool,
}

impl Manager {
    /// The server listens.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The server has begun to stop.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// A server that cannot tell goes on, but a person is to know why its manager takes it for one that did not start.
    fn tell(&self, state: &str) {
        let Some(name) = self.is_told.then(|| env::var_os(SOCKET)).flatten().filter(|name| !name.is_empty()) else {
            return;
        };
        if let Err(error) = send(&name, state) {
            let (name, reason) = (name.display(), reason(&error));
            _ = writeln!(io::stderr(), "echo-server: cannot send {state} to the service manager at {name}: {reason}");
        }
    }
}

fn send(name: &OsStr, state: &str) -> io::Result<()> {
    let address = address(name.to_str().ok_or(ErrorKind::InvalidFilename)?)?;
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    // A signal interrupts a call with a time limit, even where others are begun again (signal(7)).
    retry_on_intr(|| sendto(&socket, state.as_bytes(), SendFlags::NOSIGNAL, &address))?;
    Ok(())
}
