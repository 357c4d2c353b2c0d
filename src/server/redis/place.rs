//! Where Redis is, with the addresses of its name, and how TLS is spoken with it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver};
use std::{mem, thread};

use super::connection::Connection;
use super::tls::{Files, Settings};
use crate::config::RedisAddress;

/// The place of a Redis. The addresses of a name may change, as when another Redis takes over, and certificates are renewed,
/// so names are looked up and files are loaded again whenever a connection is made anew: by a thread of its own, because
/// that may take long. Until it is done, and where it fails, what is known is tried.
pub(super) struct Place {
    address: RedisAddress,
    /// With which files TLS is spoken, if it is.
    files: Option<Files>,
    tls: Option<Settings>,
    known: Vec<SocketAddr>,
    /// Which of the known addresses is tried next.
    next: usize,
    /// Why there is no address.
    error: Option<io::Error>,
    /// What the thread finds.
    news: Option<Receiver<News>>,
    is_new: bool,
}

/// What may have changed.
struct News {
    addresses: io::Result<Vec<SocketAddr>>,
    tls: Option<io::Result<Settings>>,
}

impl Place {
    /// Looks the addresses up and loads the files, and waits for both. The error names a file and what is wrong with it.
    pub(super) fn new(address: RedisAddress, files: Option<Files>) -> io::Result<Self> {
        let tls = files.as_ref().map(Files::load).transpose()?;
        let (known, next, error, news, is_new) = (Vec::new(), 0, None, None, true);
        let mut place = Self { address, files, tls, known, next, error, news, is_new };
        if let RedisAddress::Tcp { host, port } = &place.address {
            place.note(look_up(host, *port));
        }
        Ok(place)
    }

    /// Begins to connect. With `is_first`, this is the first connection of two to the same place.
    pub(super) fn connect(&mut self, is_first: bool) -> io::Result<Connection> {
        if let RedisAddress::Unix(path) = &self.address {
            return Connection::unix(path);
        }
        if is_first {
            self.take_news();
            if !mem::take(&mut self.is_new) {
                self.look_again();
            }
        }
        match self.known.get(self.next % self.known.len().max(1)) {
            Some(address) => Connection::tcp(*address, self.tls.as_ref()),
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

    fn take_news(&mut self) {
        let Some(News { addresses, tls }) = self.news.as_ref().and_then(|news| news.try_recv().ok()) else { return };
        self.news = None;
        self.note(addresses);
        if let Some(Ok(settings)) = tls {
            self.tls = Some(settings);
        }
    }

    fn note(&mut self, outcome: io::Result<Vec<SocketAddr>>) {
        match outcome {
            Ok(addresses) => self.known = addresses,
            Err(error) => self.error = Some(error),
        }
    }

    fn look_again(&mut self) {
        let RedisAddress::Tcp { host, port } = &self.address else { return };
        let can_change = self.files.is_some() || host.parse::<IpAddr>().is_err();
        if self.news.is_some() || !can_change {
            return;
        }
        let (host, port, files) = (host.clone(), *port, self.files.clone());
        let (sender, receiver) = mpsc::channel();
        let look = move || {
            let news = News { addresses: look_up(&host, port), tls: files.as_ref().map(Files::load) };
            // If nobody waits for it any more, the server is ending.
            _ = sender.send(news);
        };
        // Without a thread, what is known has to do.
        if thread::Builder::new().name("resolver".to_owned()).spawn(look).is_ok() {
            self.news = Some(receiver);
        }
    }
}

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}
