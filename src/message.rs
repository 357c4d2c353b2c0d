//! Where messages end in a byte stream.
//!
//! TCP has no messages, so this is the definition for an echo: a message ends where the client half-closes
//! or closes, where everything that had arrived has been read and what was read since the last message
//! [looks whole](looks_whole), or after [`PAUSE`] in which nothing more came.

use std::time::{Duration, Instant};

use crate::escape::incomplete_tail;

/// After so long without a byte, what came is a message.
pub const PAUSE: Duration = Duration::from_millis(50);

/// What is at least so many bytes long is taken for a part of a longer message unless a newline ends it.
pub const SHORT: u64 = 1024;

/// Whether what was read since the last message can be taken for a whole one, once nothing more is there to
/// be read: it is shorter than [`SHORT`] or ends in a newline, and does not end in the middle of a character.
///
/// `ending` is all that was read, or at least its last four bytes.
pub fn looks_whole(length: u64, ending: &[u8]) -> bool {
    (length < SHORT || ending.ends_with(b"\n")) && incomplete_tail(ending) == 0
}

/// A message whose end has not come yet.
#[derive(Debug)]
pub struct Unfinished {
    text: Vec<u8>,
    length: u64,
    ending: [u8; 4],
    last_arrival: Instant,
}

impl Unfinished {
    /// A message of which nothing has come yet.
    pub fn new(now: Instant) -> Self {
        Self { text: Vec::new(), length: 0, ending: [0; 4], last_arrival: now }
    }

    /// Adds what came at `now`, keeping at most `room` bytes of it for the text.
    pub fn push(&mut self, bytes: &[u8], room: usize, now: Instant) {
        // Only a text without a gap is worth keeping.
        if self.text.len() as u64 == self.length {
            self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        self.length += bytes.len() as u64;
        let ending = &bytes[bytes.len().saturating_sub(4)..];
        self.ending.rotate_left(ending.len());
        self.ending[4 - ending.len()..].copy_from_slice(ending);
        self.last_arrival = now;
    }

    /// The beginning of the message, as far as it was kept.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// How many bytes the message has, kept or not.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether it [looks whole](looks_whole).
    pub fn looks_whole(&self) -> bool {
        looks_whole(self.length, &self.ending)
    }

    /// When the last byte so far came.
    pub fn last_arrival(&self) -> Instant {
        self.last_arrival
    }

    /// Forgets what is kept of the text beyond `len` bytes and gives the memory back.
    pub fn shorten(&mut self, len: usize) {
        self.text.truncate(len);
        self.text.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_messages_and_lines_look_whole() {
        assert!(looks_whole(1023, b"text"));
        assert!(!looks_whole(1024, b"text"));
        assert!(looks_whole(1024, b"ext\n"));
        assert!(!looks_whole(4, b"tex\xc3"));
        assert!(looks_whole(5, "texé".as_bytes()));
    }

    #[test]
    fn the_ending_is_found_however_the_message_is_cut() {
        let message = "aé👍".as_bytes();
        for end in 1..=message.len() {
            for cut in 0..=end {
                for second in cut..=end {
                    let mut unfinished = Unfinished::new(Instant::now());
                    for piece in [&message[..cut], &message[cut..second], &message[second..end]] {
                        unfinished.push(piece, usize::MAX, Instant::now());
                    }
                    assert_eq!(unfinished.looks_whole(), str::from_utf8(&message[..end]).is_ok());
                    assert_eq!(unfinished.text(), &message[..end]);
                }
            }
        }
    }

    #[test]
    fn a_text_is_kept_without_gaps() {
        let mut unfinished = Unfinished::new(Instant::now());
        for (piece, room) in [(&b"abc"[..], 9), (b"def", 1), (b"ghi", 9)] {
            unfinished.push(piece, room, Instant::now());
        }
        assert_eq!((unfinished.text(), unfinished.length()), (&b"abcd"[..], 9));
        unfinished.shorten(2);
        assert_eq!((unfinished.text(), unfinished.length()), (&b"ab"[..], 9));
    }
}
