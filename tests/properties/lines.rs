//! Lines are the same however they come, and a line without an end costs nothing.

use proptest::prelude::*;
use sockets::message::{Line, Lines};

use crate::{any, for_all};

#[test]
fn lines_depend_on_the_bytes_and_the_limit_alone() {
    let limits = prop_oneof![6 => 0..12_usize, 2 => 1000..1050_usize, 1 => Just(usize::MAX), 1 => any::<usize>()];
    for_all((any::cut(any::bytes()), limits), |(pieces, limit)| {
        let mut lines = Lines::default();
        let mut told = Vec::new();
        for piece in &pieces {
            let mut input = &piece[..];
            while let Some(line) = lines.next(&mut input, limit) {
                told.push(owned(line));
            }
            prop_assert!(input.is_empty());
            prop_assert!(lines.held() <= limit.saturating_add(1), "{} bytes held", lines.held());
        }
        told.extend(lines.last(limit).map(owned));
        lines.forget_spent();
        prop_assert_eq!(lines.held(), 0);
        prop_assert_eq!(told, expected(&pieces.concat(), limit));
        Ok(())
    });
}

/// The lines of `bytes`, `None` for one that is too long.
fn expected(bytes: &[u8], limit: usize) -> Vec<Option<Vec<u8>>> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    // What follows the last newline is a line only if there is something.
    lines.pop_if(|line| line.is_empty());
    let text = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    lines.into_iter().map(|line| Some(text(line)).filter(|text| text.len() <= limit)).collect()
}

fn owned(line: Line<'_>) -> Option<Vec<u8>> {
    match line {
        Line::Text(text) => Some(text.to_vec()),
        Line::TooLong => None,
    }
}
