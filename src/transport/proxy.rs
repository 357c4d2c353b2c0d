//! The header by which a proxy announces the client that it connects: versions 1 and 2 of HAProxy's PROXY protocol.
//!
//! What is done here is to find the end of a header that arrives in pieces, and to refuse what is not for a stream; the
//! crate `proxy_header` reads it.

use memchr::memchr;
use proxy_header::{ParseConfig, Protocol, ProxyHeader};

use crate::address::PeerAddress;

/// The longest header that is accepted, in bytes. The addresses of version 2 take at most 232; what follows are
/// extensions (TLVs), which are ignored.
pub const MAX_HEADER: usize = 4096;

/// The longest header of version 1, in bytes, as the specification has it.
const MAX_V1: usize = 107;

/// How a header of version 1 begins.
const V1_PREFIX: &[u8] = b"PROXY ";

/// How a header of version 2 begins.
const V2_PREFIX: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The length of the part of version 2 that every header has, in bytes.
const V2_FIXED: usize = 16;

/// The version and the command of a header of version 2 in which the proxy speaks for itself.
const V2_LOCAL: u8 = 0x20;

/// The address families of version 2 in which no IP address is announced: none at all, and stream sockets of Unix.
const V2_UNSPECIFIED: u8 = 0x00;
const V2_UNIX_STREAM: u8 = 0x31;

/// A header that has arrived whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many bytes it has. What follows is the client's.
    pub length: u16,
    /// The address of the client, or `None` if the proxy speaks for itself (LOCAL) or does not know it (UNKNOWN).
    pub source: Option<PeerAddress>,
}

/// The input does not begin with a header that is accepted, whatever follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The header that `input` begins with, or `None` if it may become one. [`MAX_HEADER`] bytes are always enough.
///
/// # Errors
///
/// [`Malformed`], as soon as the beginning or the length shows it.
pub fn parse(input: &[u8]) -> Result<Option<Header>, Malformed> {
    if may_begin_with(input, V2_PREFIX) {
        parse_v2(input)
    } else if may_begin_with(input, V1_PREFIX) {
        parse_v1(input)
    } else {
        Err(Malformed)
    }
}

fn may_begin_with(input: &[u8], prefix: &[u8]) -> bool {
    let length = input.len().min(prefix.len());
    input[..length] == prefix[..length]
}

fn parse_v1(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let input = &input[..input.len().min(MAX_V1)];
    match memchr(b'\n', input) {
        Some(end) => read(&input[..=end]).map(|source| Some(Header { length: end as u16 + 1, source })),
        None if input.len() < MAX_V1 => Ok(None),
        None => Err(Malformed),
    }
}

fn parse_v2(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some(&[.., command, family, high, low]) = input.first_chunk::<V2_FIXED>() else { return Ok(None) };
    let length = u16::from_be_bytes([high, low]).saturating_add(V2_FIXED as u16);
    if usize::from(length) > MAX_HEADER {
        return Err(Malformed);
    }
    let Some(header) = input.get(..usize::from(length)) else { return Ok(None) };
    // Whatever else a LOCAL header says has to be ignored.
    if command == V2_LOCAL {
        return Ok(Some(Header { length, source: None }));
    }
    let source = match (read(header)?, family) {
        (None, V2_UNSPECIFIED) => None,
        (None, V2_UNIX_STREAM) => Some(PeerAddress::UNKNOWN_UNIX),
        (None, _) => return Err(Malformed),
        (source, _) => source,
    };
    Ok(Some(Header { length, source }))
}

/// The address that a whole header announces, if it is an IP address.
fn read(header: &[u8]) -> Result<Option<PeerAddress>, Malformed> {
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(header, config) {
        Ok((parsed, length)) if length == header.len() => match parsed.proxied_address() {
            Some(address) if address.protocol == Protocol::Datagram => Err(Malformed),
            address => Ok(address.map(|address| address.source.into())),
        },
        _ => Err(Malformed),
    }
}
