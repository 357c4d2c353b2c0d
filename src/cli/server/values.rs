//! What the options of `echo-server` take.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use crate::address::IPV4_MAPPED;
use crate::config::{ProxyFrom, is_room_name};

/// A size in bytes: `64MiB`, `512k`, `1g`. A prefix without `i` counts in 1024s too.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let bytes = parse_size::Config::new().with_binary().parse_size(text).map_err(|error| error.to_string())?;
    usize::try_from(bytes).map_err(|_| "more than this machine can address".to_owned())
}

/// A network in CIDR notation (RFC 4632), or a single address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => match text.parse().map_err(|_| "not an address or network, such as 10.0.0.0/8 or ::1")? {
            // It would be a network of IPv6 that no IPv4 client is in.
            IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some() && network.prefix_len() < IPV4_MAPPED => {
                Err("in a network of IPv4 clients, write IPv4 addresses, such as 10.0.0.0/8".to_owned())
            }
            network => Ok(network),
        },
    }
}

/// The name of a room.
pub(super) fn room(text: &str) -> Result<String, String> {
    match is_room_name(text) {
        true => Ok(text.to_owned()),
        false => Err("a room's name has letters, digits, - and _".to_owned()),
    }
}

/// A network of proxies, or `unix`.
pub(super) fn proxy_from(text: &str) -> Result<ProxyFrom, String> {
    match text {
        "unix" => Ok(ProxyFrom::Unix),
        _ => Ok(ProxyFrom::Network(network(text)?)),
    }
}

/// An address with a port, or a port of 127.0.0.1.
pub(super) fn admin_address(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        Err(_) => {
            text.parse().map_err(|_| "not a port, or an address and a port, such as 9100 or [::1]:9100".to_owned())
        }
    }
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}
