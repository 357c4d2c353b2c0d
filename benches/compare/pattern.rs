//! The bytes that are sent and expected back.

use crate::Result;

/// What differs at different places: a cycle of lines of one length, in printable letters drawn from a fixed seed, so
/// that a log of them is what people would see, and a byte that is lost, doubled or swapped is noticed.
pub(crate) struct Pattern {
    /// The cycle, and its beginning once more, so that every piece up to `longest` is in one place.
    bytes: Vec<u8>,
    cycle: usize,
    longest: usize,
}

impl Pattern {
    /// Lines of so many bytes, the newline counted; pieces of them are as long as `longest` at most.
    pub(crate) fn new(line: usize, longest: usize) -> Self {
        // Few enough that they stay in a cache, and enough that neighbours differ.
        let lines = ((256 << 10) / line).max(64) | 1;
        let mut random = fastrand::Rng::with_seed(862);
        let cycle = lines * line;
        let mut bytes: Vec<u8> = (0..cycle).map(|_| random.u8(b'!'..=b'~')).collect();
        bytes.iter_mut().skip(line - 1).step_by(line).for_each(|end| *end = b'\n');
        bytes.extend_from_within(..longest.min(cycle));
        Self { bytes, cycle, longest: longest.min(cycle) }
    }

    /// What follows the position, at most so much, and no more than is in one place.
    pub(crate) fn at(&self, position: u64, length: u64) -> &[u8] {
        let begin = (position % self.cycle as u64) as usize;
        let length = length.min(self.longest as u64) as usize;
        &self.bytes[begin..begin + length]
    }

    /// Fails if this is not what is at the position.
    pub(crate) fn check(&self, mut position: u64, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let expected = self.at(position, bytes.len() as u64);
            let (piece, rest) = bytes.split_at(expected.len());
            if piece != expected {
                let wrong = piece.iter().zip(expected).take_while(|(one, other)| one == other).count();
                return Err(format!("a wrong echo, at byte {} of a stream", position + wrong as u64).into());
            }
            position += piece.len() as u64;
            bytes = rest;
        }
        Ok(())
    }
}
