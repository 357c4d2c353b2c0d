//! The addresses of clients, and which of them share a quota.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use ipnet::{IpNet, Ipv4Net};
use serde::{Serialize, Serializer};

/// The part of an IPv6 address, in bits, that one customer of a provider usually has to itself (RFC 6177 and
/// RFC 7421): the rest is free to choose, so it tells nobody apart.
const IPV6_PREFIX: u8 = 64;

/// The part of an IPv6 address, in bits, that is before the IPv4 address in a v4-mapped one.
pub(crate) const IPV4_MAPPED: u8 = 96;

/// The address of a client, displayed as `127.0.0.1:4711`, `[::1]:4711` or `unix:pid=4711,uid=1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PeerAddress {
    /// The client is connected by TCP.
    Ip(SocketAddr),
    /// The client is connected by a Unix socket, which has no address of its own. What is not known of the client is
    /// left out when this is displayed: `unix:` if nothing is.
    Unix {
        /// The process that connected. It is not known if it is in another PID namespace.
        pid: Option<NonZeroU32>,
        /// The user that connected.
        uid: Option<u32>,
    },
}

impl PeerAddress {
    /// A client of a Unix socket of which nothing is known.
    pub const UNKNOWN_UNIX: Self = Self::Unix { pid: None, uid: None };

    /// The IP address of a client that is connected by TCP.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Unix { .. } => None,
        }
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        // A socket for both versions reports IPv4 clients as v4-mapped ones (RFC 4291, 2.5.5.2).
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Self::Ip((ip, address.port()).into()),
            IpAddr::V6(_) => Self::Ip(address),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Unix { pid: Some(pid), uid: Some(uid) } => write!(f, "unix:pid={pid},uid={uid}"),
            Self::Unix { pid: Some(pid), uid: None } => write!(f, "unix:pid={pid}"),
            Self::Unix { pid: None, uid: Some(uid) } => write!(f, "unix:uid={uid}"),
            Self::Unix { pid: None, uid: None } => f.write_str("unix:"),
        }
    }
}

impl Serialize for PeerAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The network as clients are compared with it: one of v4-mapped addresses is one of IPv4.
pub(crate) fn unmapped(network: IpNet) -> IpNet {
    match network {
        IpNet::V6(v6) if v6.prefix_len() >= IPV4_MAPPED => match v6.network().to_ipv4_mapped() {
            Some(address) => Ipv4Net::new_assert(address, v6.prefix_len() - IPV4_MAPPED).into(),
            None => network,
        },
        _ => network,
    }
}

/// What a quota counts clients by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum QuotaKey {
    /// An IPv4 address, also a v4-mapped one, or the /64 network of an IPv6 address.
    Ip(IpAddr),
    /// The user of a Unix socket. Those that are not known share one quota.
    Unix(Option<u32>),
}

impl From<PeerAddress> for QuotaKey {
    fn from(peer: PeerAddress) -> Self {
        match peer {
            PeerAddress::Ip(address) => address.ip().into(),
            PeerAddress::Unix { uid, .. } => Self::Unix(uid),
        }
    }
}

impl From<IpAddr> for QuotaKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() & (u128::MAX << (128 - IPV6_PREFIX));
                Self::Ip(Ipv6Addr::from_bits(network).into())
            }
            address => Self::Ip(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_as_small_as_one_of_tcp() {
        assert_eq!(size_of::<PeerAddress>(), size_of::<SocketAddr>());
    }

    #[test]
    fn v4_mapped_addresses_are_those_of_ipv4() {
        assert_eq!(PeerAddress::from("[::ffff:10.0.0.1]:7".parse::<SocketAddr>().unwrap()).to_string(), "10.0.0.1:7");
        let mapped = |network: &str| unmapped(network.parse().unwrap()).to_string();
        assert_eq!(mapped("::ffff:10.0.0.0/104"), "10.0.0.0/8");
        assert_eq!(mapped("::ffff:10.0.0.1/128"), "10.0.0.1/32");
        assert_eq!(mapped("::ffff:0:0/96"), "0.0.0.0/0");
        assert_eq!(mapped("::/0"), "::/0");
        assert_eq!(mapped("::fffe:0:0/95"), "::fffe:0:0/95");
        assert_eq!(mapped("2001:db8::/32"), "2001:db8::/32");
    }

    #[test]
    fn what_is_not_known_of_a_client_is_left_out() {
        let unix = |pid, uid| PeerAddress::Unix { pid: NonZeroU32::new(pid), uid }.to_string();
        assert_eq!(unix(4711, Some(1000)), "unix:pid=4711,uid=1000");
        assert_eq!(unix(0, Some(0)), "unix:uid=0");
        assert_eq!(unix(1, None), "unix:pid=1");
        assert_eq!(PeerAddress::UNKNOWN_UNIX.to_string(), "unix:");
        assert_eq!(PeerAddress::from(SocketAddr::from(([127, 0, 0, 1], 4711))).to_string(), "127.0.0.1:4711");
    }

    #[test]
    fn clients_of_unix_sockets_share_the_quota_of_their_user() {
        let key = |pid, uid| QuotaKey::from(PeerAddress::Unix { pid: NonZeroU32::new(pid), uid });
        assert_eq!(key(1, Some(7)), key(2, Some(7)));
        assert_ne!(key(1, Some(7)), key(1, Some(8)));
        assert_ne!(key(1, Some(0)), key(1, None));
    }
}
