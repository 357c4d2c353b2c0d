//! The PROXY headers with which connections of proxies begin.
//!
//! A header is looked at where it is, in the system's buffer, and left there until it is whole, or is read together with
//! what follows it. So a connection that waits holds no memory for it.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::{Client, Step};
use crate::address::{PeerAddress, unmapped};
use crate::config::{Config, FOREVER, ProxyFrom};
use crate::connection::Ready;
use crate::transport::proxy::{self, Header, MAX_HEADER};
use crate::transport::{Socket, Stream};

/// Who sends headers, and how they are read.
pub(super) struct Headers {
    networks: Vec<IpNet>,
    has_unix: bool,
    timeout: Duration,
    /// Where they are looked at.
    buffer: Box<[u8; MAX_HEADER]>,
}

/// What is there of a header.
pub(super) enum Look {
    Whole {
        header: Header,
        /// Whether something behind it has arrived too.
        is_followed: bool,
    },
    Partial,
    Malformed,
    /// The connection ended before its first byte.
    Ended,
}

impl Headers {
    /// Those of the proxies of `config`.
    pub(super) fn new(config: &Config) -> Self {
        let network = |proxies: &ProxyFrom| match *proxies {
            ProxyFrom::Network(network) => Some(unmapped(network)),
            ProxyFrom::Unix => None,
        };
        Self {
            networks: config.proxy_from.iter().filter_map(network).collect(),
            has_unix: config.proxy_from.contains(&ProxyFrom::Unix),
            timeout: config.proxy_timeout.min(FOREVER),
            buffer: Box::new([0; MAX_HEADER]),
        }
    }

    /// Whether connections from `address` begin with a header.
    pub(super) fn is_proxy(&self, address: PeerAddress) -> bool {
        let contains = |address: IpAddr| self.networks.iter().any(|network| network.contains(&address));
        address.ip().map_or(self.has_unix, contains)
    }

    /// How long one may take to come.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Looks at what has arrived without taking it. A header in several pieces is looked at as often as they come: each of
    /// them is a new event, also where an earlier one was left where it is.
    pub(super) fn look(&mut self, stream: &Socket) -> Look {
        match recv(stream, &mut *self.buffer, RecvFlags::PEEK) {
            Ok((0, _)) => Look::Ended,
            Ok((count, _)) => match proxy::parse(&self.buffer[..count]) {
                Ok(Some(header)) => Look::Whole { header, is_followed: count > usize::from(header.length) },
                Ok(None) => Look::Partial,
                Err(proxy::Malformed) => Look::Malformed,
            },
            Err(Errno::AGAIN | Errno::INTR) => Look::Partial,
            Err(_) => Look::Ended,
        }
    }

    /// What becomes of a connection for which nothing more is to be waited for.
    pub(super) fn conclude(
        &mut self,
        mut stream: Socket,
        address: PeerAddress,
        look: Look,
        registered: Option<Ready>,
    ) -> Step {
        let Look::Whole { header: Header { length, source }, is_followed } = look else {
            if let Look::Ended = look {
                return Step::Nothing;
            }
            stream.reset_on_drop();
            return Step::Refused(address);
        };
        let stream = match stream {
            Socket::Tcp(stream) if is_followed => Socket::Announced { stream, header: length },
            stream => {
                // If this fails, so will the next read.
                _ = recv(&stream, &mut self.buffer[..usize::from(length)], RecvFlags::empty());
                stream
            }
        };
        let (is_exempt, address) = (source.is_none(), source.unwrap_or(address));
        Step::Identified(Client { stream, address, subject: None, is_exempt, registered })
    }
}
