//! Whatever a client sends instead of a handshake, the server takes few steps, holds little, and fails.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::{for_all, handshake};

/// What a client says first.
fn greeting() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.expect("versions").with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("good settings");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("memory takes everything");
    bytes
}

#[test]
fn no_bytes_are_a_handshake_or_do_harm() {
    let greeting = greeting();
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let changed =
        (changes, any::<prop::sample::Index>(), vec(any::<u8>(), 0..300)).prop_map(move |(changes, cut, rest)| {
            let mut bytes = greeting.clone();
            for (at, byte) in changes {
                *at.get_mut(&mut bytes) = byte;
            }
            // Half of them are whole, and all are followed by something.
            bytes.truncate(cut.index(2 * greeting.len()));
            bytes.extend(rest);
            bytes
        });
    let records = vec((20..24_u8, vec(any::<u8>(), 0..200)), 0..40).prop_map(|records| {
        let record = |(kind, body): &(u8, Vec<u8>)| [&[*kind, 3, 3, 0, body.len() as u8], &body[..]].concat();
        records.iter().flat_map(record).collect::<Vec<u8>>()
    });
    let bytes = prop_oneof![vec(any::<u8>(), 0..2000), changed, records];
    for_all((any::<u8>(), bytes), |(length, bytes)| {
        handshake::play(&[&[length], &bytes[..]].concat());
        Ok(())
    });
}

/// A message of several records is not waited for.
#[test]
fn a_long_message_is_refused() {
    // Greetings of 16 MiB and of 60,000 bytes: the first is too long for rustls as well.
    for greeting in [[1, 255, 255, 255], [1, 0, 0xea, 0x60]] {
        let mut bytes = vec![255];
        let mut body = vec![0; 16384];
        body[..4].copy_from_slice(&greeting);
        for _ in 0..3 {
            bytes.extend([&[22, 3, 1, 64, 0], &body[..]].concat());
            body.fill(0);
        }
        handshake::play(&bytes);
    }
}
