//! What a server reports to its operator, or to the program that embeds it.

use serde::Serialize;

use crate::address::PeerAddress;
use crate::connection::Close;
use crate::room::notice::Notice;

/// How a server stands with the Redis by which servers share a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RedisState {
    /// The server is in the room.
    Connected,
    /// Redis cannot be reached, or refuses to serve: new lines wait.
    Away,
    /// Redis has lost data, or the server was too slow for it: lines may be missing. The server is in the room.
    Gap,
}

/// Something that happened on a server.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection was accepted, also one that is only told that the server is full.
    Opened {
        /// The client's address.
        peer: PeerAddress,
        /// The subject of the client's certificate, `CN=ann,O=Example` (RFC 4514), if it has presented one. Control
        /// characters are escaped.
        subject: Option<&'a str>,
    },
    /// A TLS handshake failed, and its connection was ended.
    HandshakeFailed {
        /// The client's address.
        peer: PeerAddress,
        /// Why, in words.
        reason: &'a str,
    },
    /// There are new files for TLS. They are used from now on, unless something is wrong with them.
    Renewed {
        /// What is wrong with them.
        error: Option<&'a str>,
    },
    /// Echo: a client sent a message, and its bytes have been sent back or queued for it.
    Message {
        /// The client's address.
        peer: PeerAddress,
        /// The beginning of the message. It is at least as long as the log shows, with
        /// [`Config::log_max`](crate::Config::log_max), unless the message is shorter or memory is short.
        text: &'a [u8],
        /// The length of the whole message in bytes.
        length: u64,
    },
    /// Room: a member joined, left, changed its name, or said something. In a room that spans servers each server reports
    /// its own members, when the room's log has told it.
    Room {
        /// The member's address.
        peer: PeerAddress,
        /// What the other members hear.
        notice: Notice<'a>,
    },
    /// A connection ended.
    Closed {
        /// The client's address.
        peer: PeerAddress,
        /// Why it ended.
        close: Close,
        /// Bytes received from the client.
        received: u64,
        /// Bytes written to the client's socket.
        sent: u64,
    },
    /// Room that spans servers: how the server stands with their Redis has changed.
    Redis {
        /// What it is now.
        state: RedisState,
        /// Where that Redis is: a URL without user and password.
        address: &'a str,
        /// Why, if it is out of reach or lines may be missing; perhaps in Redis' or the system's words.
        reason: &'a str,
    },
    /// Connections were refused. This is reported at most once a second for each reason.
    Refused {
        /// Why they were refused.
        reason: Refusal,
        /// The number of refused connections since the last report.
        connections: u64,
        /// The address of the last one.
        last: PeerAddress,
    },
}

/// Why connections are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Refusal {
    /// Their address may not connect, or has too many connections.
    Address,
    /// They came from a proxy, without a valid PROXY protocol header.
    Header,
}
