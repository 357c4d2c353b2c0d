//! The PROXY header: what is accepted is what another parser reads, in however many pieces it arrives.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use ppp::{v1, v2};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use sockets::PeerAddress;
use sockets::transport::proxy::{Header, MAX_HEADER, Malformed, parse};

use crate::for_all;

/// What another parser makes of input that begins with a whole header: how long it is, and whom it announces.
fn oracle(input: &[u8]) -> Option<Header> {
    if let Ok(header) = v2::Header::try_from(input) {
        let source = match (header.command, header.addresses, header.protocol) {
            (v2::Command::Local, ..) => None,
            (_, v2::Addresses::Unspecified, v2::Protocol::Unspecified) => None,
            (_, v2::Addresses::IPv4(ip), v2::Protocol::Stream) => Some(address(ip.source_address, ip.source_port)),
            (_, v2::Addresses::IPv6(ip), v2::Protocol::Stream) => Some(address(ip.source_address, ip.source_port)),
            (_, v2::Addresses::Unix(_), v2::Protocol::Stream) => Some(PeerAddress::UNKNOWN_UNIX),
            _ => return None,
        };
        let length = u16::try_from(header.len()).ok().filter(|length| usize::from(*length) <= MAX_HEADER)?;
        return Some(Header { length, source });
    }
    let header = v1::Header::try_from(input).ok()?;
    let source = match header.addresses {
        v1::Addresses::Tcp4(ip) => Some(address(ip.source_address, ip.source_port)),
        v1::Addresses::Tcp6(ip) => Some(address(ip.source_address, ip.source_port)),
        v1::Addresses::Unknown => None,
    };
    Some(Header { length: u16::try_from(header.header.len()).ok()?, source })
}

/// Whether the other parser is stricter than it has to be. What a LOCAL header says of addresses has to be ignored, and so
/// has what follows UNKNOWN; the other parser wants both in order. And it wants no zero at the beginning of a port.
fn is_lenient(input: &[u8]) -> bool {
    let is_local = input.get(12) == Some(&0x20) && input.starts_with(b"\r\n");
    let has_zero = input.split(|byte| b" \r".contains(byte)).skip(4).take(2).any(|port| port.starts_with(b"0"));
    is_local || input.starts_with(b"PROXY UNKNOWN") || input.starts_with(b"PROXY TCP") && has_zero
}

fn address(ip: impl Into<std::net::IpAddr>, port: u16) -> PeerAddress {
    SocketAddr::new(ip.into(), port).into()
}

fn pair() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = any::<(SocketAddrV4, SocketAddrV4)>().prop_map(|(one, other)| (one.into(), other.into()));
    let v6 = any::<(SocketAddrV6, SocketAddrV6)>().prop_map(|(one, other)| (one.into(), other.into()));
    prop_oneof![v4, v6]
}

/// A header of version 1, or what is nearly one.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let line = |(source, destination): (SocketAddr, SocketAddr)| {
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (from, to) = (source.ip(), destination.ip());
        format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
    };
    let unknown = "[ -~]{0,120}".prop_map(|rest| format!("PROXY UNKNOWN {rest}\r\n").into_bytes());
    prop_oneof![4 => pair().prop_map(line), 1 => unknown, 1 => Just(b"PROXY UNKNOWN\r\n".to_vec())]
}

/// A header of version 2 with all kinds of fields, which need not fit together.
fn binary() -> impl Strategy<Value = Vec<u8>> {
    let command = prop_oneof![8 => Just(0x21), 4 => Just(0x20), 1 => any::<u8>()];
    let family = prop_oneof![8 => select(vec![0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32]), 1 => any::<u8>()];
    let length = select(vec![0, 1, 11, 12, 35, 36, 100, 215, 216, 500, MAX_HEADER - 16, MAX_HEADER - 15, 65_535]);
    (command, family, length, any::<u8>()).prop_map(|(command, family, length, fill)| {
        let content: Vec<u8> = (0..length).map(|at| fill.wrapping_add(at as u8)).collect();
        let length = u16::try_from(length).expect("16 bits").to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, &content].concat()
    })
}

/// Headers, some of them damaged, and garbage, each with something behind it.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let header = prop_oneof![text(), binary()].boxed();
    let damaged = (header.clone(), any::<Index>(), any::<u8>()).prop_map(|(mut header, at, byte)| {
        let at = at.index(header.len().min(120));
        header[at] = byte;
        header
    });
    let garbage = vec(any::<u8>(), 0..200);
    let beginning = prop_oneof![4 => header, 2 => damaged, 1 => garbage.clone()];
    (beginning, garbage).prop_map(|(beginning, rest)| [beginning, rest].concat())
}

#[test]
fn what_is_accepted_is_what_another_parser_reads() {
    for_all(input(), |input| {
        let seen = &input[..input.len().min(MAX_HEADER)];
        let (ours, theirs) = (parse(seen), oracle(&input));
        match (ours, theirs) {
            (Ok(Some(_)), None) => prop_assert!(is_lenient(&input), "accepted: {}", input.escape_ascii()),
            (Ok(ours), theirs) => prop_assert_eq!(ours, theirs),
            (Err(Malformed), theirs) => prop_assert_eq!(None, theirs),
        }
        Ok(())
    });
}

/// What is certain does not change with what follows, and until then there is nothing to be decided.
#[test]
fn a_header_may_arrive_in_any_pieces() {
    for_all(input(), |input| {
        let whole = parse(&input[..input.len().min(MAX_HEADER)]);
        let mut is_certain = false;
        for at in 0..input.len().min(MAX_HEADER) {
            let part = parse(&input[..at]);
            if is_certain {
                prop_assert_eq!(part, whole);
            }
            is_certain = part != Ok(None);
            if let Ok(Some(header)) = part {
                prop_assert_eq!(at, usize::from(header.length), "not as soon as it was whole");
                prop_assert_eq!(part, whole);
                break;
            }
        }
        // No more bytes than these are ever needed.
        if input.len() >= MAX_HEADER {
            prop_assert_ne!(whole, Ok(None));
        }
        Ok(())
    });
}

#[test]
fn every_pair_of_addresses_is_announced_in_both_versions() {
    for_all((pair(), vec(any::<u8>(), 0..100)), |((source, destination), rest)| {
        use proxy_header::{ProxiedAddress, ProxyHeader};
        let header = ProxyHeader::with_address(ProxiedAddress::stream(source, destination));
        let (mut text, mut binary) = (Vec::new(), Vec::new());
        header.encode_v1(&mut text).expect("a header");
        header.encode_v2(&mut binary).expect("a header");
        for mut bytes in [text, binary] {
            let length = bytes.len() as u16;
            bytes.extend(&rest);
            let source = Some(address(source.ip(), source.port()));
            prop_assert_eq!(parse(&bytes), Ok(Some(Header { length, source })));
        }
        Ok(())
    });
}
