//! Which addresses share a quota.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The part of an IPv6 address, in bits, that one customer of a provider usually has to itself (RFC 6177 and
/// RFC 7421): the rest is free to choose, so it tells nobody apart.
const IPV6_PREFIX: u8 = 64;

/// The address under which a quota counts `peer`: an IPv4 address by itself, also a v4-mapped one, and an IPv6 address by
/// its /64 network.
pub(crate) fn quota_key(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << (128 - IPV6_PREFIX));
            Ipv6Addr::from_bits(network).into()
        }
        address => address,
    }
}
