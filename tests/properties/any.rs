//! Inputs of all kinds.

use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes as clients send them, and as nobody should: text of all scripts, line endings, characters that must
/// not reach a terminal, long runs, and what is no UTF-8.
pub(crate) fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(piece(), 0..20).prop_map(|pieces| pieces.concat())
}

/// The same without a newline, which never is in a line.
pub(crate) fn line() -> impl Strategy<Value = Vec<u8>> {
    bytes().prop_map(|mut bytes| {
        bytes.retain(|byte| *byte != b'\n');
        bytes
    })
}

/// `bytes` cut into pieces, none of them empty.
pub(crate) fn cut(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<Vec<u8>>> {
    (bytes, vec(prop_oneof![3 => 1..6_usize, 1 => 1..3000_usize], 0..40)).prop_map(|(bytes, lengths)| {
        let mut rest = &bytes[..];
        let mut pieces = Vec::new();
        for length in lengths {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            pieces.push(piece.to_vec());
            rest = after;
        }
        pieces.push(rest.to_vec());
        pieces.retain(|piece| !piece.is_empty());
        pieces
    })
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let character = prop_oneof![
        prop::char::range('\0', '\u{ff}'),
        prop::char::range('\u{600}', '\u{640}'),
        prop::char::range('\u{2000}', '\u{2070}'),
        prop::char::range('\u{fe00}', '\u{ffff}'),
        any::<char>(),
    ];
    prop_oneof![
        4 => "[a-zA-Z0-9 /<>*]{0,10}".prop_map(String::into_bytes),
        2 => Just(b"\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => prop::sample::select(vec!['\\', '\r', '\t', '\'', '{', '\u{1b}']).prop_map(|c| vec![c as u8]),
        4 => character.prop_map(|character| String::from(character).into_bytes()),
        2 => vec(0x80..=0xff_u8, 1..4),
        2 => vec(any::<u8>(), 1..4),
        1 => (any::<u8>(), prop_oneof![0..2000_usize, 1020..1030_usize]).prop_map(|(byte, count)| vec![byte; count]),
    ]
}
