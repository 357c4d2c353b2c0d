//! Where Redis is, with the addresses of its name.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver};
use std::{mem, thread};

use super::connection::Connection;
use super::tls::Trust;
use crate::config::RedisAddress;

/// The place of a Redis. The addresses of a name may change, as when another Redis takes over, so they are looked up again
/// whenever a connection is made anew: by a thread of its own, because that may take long. Until it is done the
/// addresses that are known are tried.
pub(super) struct Place {
    address: RedisAddress,
    /// Which certificates are accepted, over TLS.
    trust: Option<Trust>,
    known: Vec<SocketAddr>,
    /// Which of the known addresses is tried next.
    next: usize,
    /// Why there is no address.
    error: Option<io::Error>,
    lookup: Option<Receiver<io::Result<Vec<SocketAddr>>>>,
    is_new: bool,
}

impl Place {
    /// Looks the addresses up, and waits for them.
    pub(super) fn new(address: RedisAddress, trust: Option<Trust>) -> Self {
        let mut place = Self { address, trust, known: Vec::new(), next: 0, error: None, lookup: None, is_new: true };
        if let RedisAddress::Tcp { host, port } = &place.address {
            place.note(look_up(host, *port));
        }
        place
    }

    /// Begins to connect. With `is_first`, this is the first connection of two to the same place.
    pub(super) fn connect(&mut self, is_first: bool) -> io::Result<Connection> {
        if let RedisAddress::Unix(path) = &self.address {
            return Connection::unix(path);
        }
        if is_first {
            self.take_lookup();
            if !mem::take(&mut self.is_new) {
                self.look_up_again();
            }
        }
        match self.known.get(self.next % self.known.len().max(1)) {
            Some(address) => Connection::tcp(*address, self.trust.as_ref()),
            None => Err(self.error.take().unwrap_or_else(|| ErrorKind::NotFound.into())),
        }
    }

    /// How many times an address could not be connected to.
    #[cfg(test)]
    pub(super) fn next(&self) -> usize {
        self.next
    }

    /// The address could not be connected to: the next one is tried.
    pub(super) fn failed(&mut self) {
        self.next = self.next.wrapping_add(1);
    }

    fn take_lookup(&mut self) {
        if let Some(outcome) = self.lookup.as_ref().and_then(|lookup| lookup.try_recv().ok()) {
            self.lookup = None;
            self.note(outcome);
        }
    }

    fn note(&mut self, outcome: io::Result<Vec<SocketAddr>>) {
        match outcome {
            Ok(addresses) => self.known = addresses,
            Err(error) => self.error = Some(error),
        }
    }

    fn look_up_again(&mut self) {
        let RedisAddress::Tcp { host, port } = &self.address else { return };
        if self.lookup.is_some() || host.parse::<IpAddr>().is_ok() {
            return;
        }
        let (host, port) = (host.clone(), *port);
        let (sender, receiver) = mpsc::channel();
        let look_up = move || {
            // If nobody waits for it any more, the server is ending.
            _ = sender.send(look_up(&host, port));
        };
        // Without a thread the known addresses have to do.
        if thread::Builder::new().name("resolver".to_owned()).spawn(look_up).is_ok() {
            self.lookup = Some(receiver);
        }
    }
}

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}
