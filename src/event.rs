//! What a server tells its operator, or the program that embeds it.

use std::net::SocketAddr;

use crate::connection::Close;
use crate::room::Notice;

/// Something happened on a server.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection was accepted and admitted.
    Opened {
        /// The client's address.
        peer: SocketAddr,
    },
    /// Echo: a client sent a message, and its bytes have been sent back or queued for it.
    Message {
        /// The client's address.
        peer: SocketAddr,
        /// The beginning of the message, as much as was kept: at least [`Config::log_max`](crate::Config::log_max)
        /// bytes and a line ending where the message has that many, fewer only while memory is short.
        text: &'a [u8],
        /// Length of the message in bytes.
        length: u64,
    },
    /// Room: a member joined, left, changed its name, or said a line.
    Room {
        /// The member's address.
        peer: SocketAddr,
        /// What the other members are told.
        notice: Notice<'a>,
    },
    /// A connection ended.
    Closed {
        /// The client's address.
        peer: SocketAddr,
        /// Why it ended.
        close: Close,
        /// Bytes received from the client.
        received: u64,
        /// Bytes written to the client's socket.
        sent: u64,
    },
    /// Connections were refused, because an address may not connect or has too many connections already. Reported
    /// at most once a second.
    Refused {
        /// How many were refused since the last report.
        connections: u64,
        /// The address of the last one.
        last: SocketAddr,
    },
}
