//! Where messages end in a byte stream.
//!
//! TCP has no messages, so this is the definition. For an echo a message ends where the client half-closes
//! or closes, where everything that had arrived has been read and what was read since the last message
//! [looks whole](looks_whole), or after [`PAUSE`] in which nothing more came. In a room a message is a
//! [line](Lines).

use std::mem;
use std::time::{Duration, Instant};

use crate::escape::incomplete_tail;

/// The silence after which a message has ended.
pub const PAUSE: Duration = Duration::from_millis(50);

/// From this length on, in bytes, what was read is taken for a part of a longer message unless a newline ends it.
pub const SHORT: u64 = 1024;

/// Whether what was read since the last message can be taken for a whole one, once nothing more is there to
/// be read: it is shorter than [`SHORT`] or ends in a newline, and does not end in the middle of a character.
///
/// `ending` is all that was read, or at least its last four bytes.
pub fn looks_whole(length: u64, ending: &[u8]) -> bool {
    (length < SHORT || ending.ends_with(b"\n")) && incomplete_tail(ending) == 0
}

/// Where a client is in the messages that it sends.
#[derive(Debug, Default)]
pub(crate) enum Message {
    /// Between two messages.
    #[default]
    Between,
    /// Inside a message of which nothing is remembered, because messages are not reported.
    Inside,
    /// Inside a message whose text is wanted.
    Kept(Box<Unfinished>),
}

impl Message {
    /// Bytes of memory that its text takes.
    pub(crate) fn held(&self) -> usize {
        if let Self::Kept(unfinished) = self { unfinished.text.capacity() } else { 0 }
    }

    /// When the last byte of an unfinished message came, if that matters.
    pub(crate) fn last_arrival(&self) -> Option<Instant> {
        if let Self::Kept(unfinished) = self { Some(unfinished.last_arrival) } else { None }
    }
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

    /// Adds what came at `now`. At most `limit` bytes are kept as its text, which grows by at most `room` bytes of memory,
    /// and by nothing where the system refuses memory.
    pub fn push(&mut self, bytes: &[u8], limit: usize, room: usize, now: Instant) {
        // Only a text without a gap is worth keeping.
        if self.text.len() as u64 == self.length {
            let most = (self.text.capacity() - self.text.len()).saturating_add(room);
            let most = most.min(limit.saturating_sub(self.text.len()));
            let kept = &bytes[..bytes.len().min(most)];
            // Grown by a quarter, so that a trickle of single bytes is not copied with each of them.
            let more = kept.len().max(self.text.len() / 4).min(most);
            let spare = self.text.capacity() - self.text.len();
            if more <= spare || self.text.try_reserve_exact(more).is_ok() {
                self.text.extend_from_slice(kept);
            }
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

    /// Length of the message in bytes, kept or not.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// When the last byte so far came.
    pub fn last_arrival(&self) -> Instant {
        self.last_arrival
    }

    /// Whether it [looks whole](looks_whole).
    pub fn looks_whole(&self) -> bool {
        looks_whole(self.length, &self.ending)
    }

    /// Forgets what is kept of the text beyond `len` bytes and gives the memory back.
    pub fn shorten(&mut self, len: usize) {
        self.text.truncate(len);
        self.text.shrink_to_fit();
    }
}

/// Cuts a byte stream that comes in pieces into lines.
///
/// A line ends in LF or CRLF, which is not part of it. One that is longer than the limit is skipped up to its
/// end, so that no client can make the server hold more than that. No byte is looked at twice.
#[derive(Debug, Default)]
pub struct Lines {
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    /// The line in `partial` has been handed out.
    is_spent: bool,
    /// What comes up to the next line ending belongs to a line that is too long.
    is_skipping: bool,
}

/// What a client sent as one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line, without its ending.
    Text(&'a [u8]),
    /// A line that is longer than the limit, or for which there is no memory, reported once, as soon as that is certain.
    TooLong,
}

impl Lines {
    /// The next line, taken off the front of `input`; `None` once the input is used up. `limit` is the
    /// greatest length of a line in bytes.
    pub fn next<'line, 'input: 'line>(&'line mut self, input: &mut &'input [u8], limit: usize) -> Option<Line<'line>> {
        self.forget_spent();
        // One byte more, because the last may be the CR of the line ending.
        let longest = limit.saturating_add(1);
        loop {
            let Some(end) = memchr::memchr(b'\n', input) else {
                let rest = mem::take(input);
                if self.is_skipping {
                    return None;
                }
                if self.partial.len() + rest.len() > longest || !self.append(rest, longest) {
                    self.partial = Vec::new();
                    self.is_skipping = true;
                    return Some(Line::TooLong);
                }
                return None;
            };
            let piece = &input[..end];
            *input = &input[end + 1..];
            if mem::take(&mut self.is_skipping) {
                continue;
            }
            if self.partial.is_empty() {
                return Some(line(piece, limit));
            }
            self.is_spent = true;
            if self.partial.len() + piece.len() > longest || !self.append(piece, longest) {
                return Some(Line::TooLong);
            }
            return Some(line(&self.partial, limit));
        }
    }

    /// The last line, which the end of the stream has ended. `None` if there is nothing left.
    pub fn last(&mut self, limit: usize) -> Option<Line<'_>> {
        self.forget_spent();
        self.is_spent = true;
        (!self.partial.is_empty()).then(|| line(&self.partial, limit))
    }

    /// Bytes of memory that a line without an end takes.
    pub fn held(&self) -> usize {
        self.partial.capacity()
    }

    /// Adds to the line whose end has not come yet. Its memory grows by a quarter, so that a trickle of single bytes
    /// is not copied with each of them, and never beyond what the longest line takes. Returns whether the system gave the
    /// memory; otherwise nothing is added.
    fn append(&mut self, bytes: &[u8], longest: usize) -> bool {
        if self.partial.capacity() - self.partial.len() < bytes.len() {
            let growth = (self.partial.len() / 4).min(longest.saturating_sub(self.partial.len()));
            if self.partial.try_reserve_exact(bytes.len().max(growth)).is_err() {
                return false;
            }
        }
        self.partial.extend_from_slice(bytes);
        true
    }

    /// Gives back the memory of the last line that was taken.
    pub fn forget_spent(&mut self) {
        if mem::take(&mut self.is_spent) {
            self.partial = Vec::new();
        }
    }
}

fn line(bytes: &[u8], limit: usize) -> Line<'_> {
    let text = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if text.len() > limit { Line::TooLong } else { Line::Text(text) }
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
                        unfinished.push(piece, usize::MAX, usize::MAX, Instant::now());
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
        for (piece, room) in [(&b"abc"[..], 3), (b"def", 1), (b"ghi", 9)] {
            unfinished.push(piece, usize::MAX, room, Instant::now());
        }
        assert_eq!((unfinished.text(), unfinished.length()), (&b"abcd"[..], 9));
        unfinished.shorten(2);
        assert_eq!((unfinished.text(), unfinished.length()), (&b"ab"[..], 9));
    }

    /// All lines of a stream that comes in `pieces`, `!` for one that is longer than `limit`.
    fn lines(pieces: &[&[u8]], limit: usize) -> Vec<Vec<u8>> {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        let own = |line: Line<'_>| match line {
            Line::Text(text) => text.to_vec(),
            Line::TooLong => b"!".to_vec(),
        };
        for piece in pieces {
            let mut input = *piece;
            while let Some(line) = lines.next(&mut input, limit) {
                all.push(own(line));
            }
        }
        all.extend(lines.last(limit).map(own));
        all
    }

    #[test]
    fn lines_are_the_same_however_the_stream_is_cut() {
        let stream = b"one\r\n\n12345\r\n123456\na\rb\n1234567\r\nend";
        let expected: [&[u8]; 8] = [b"one", b"", b"12345", b"!", b"a\rb", b"!", b"end", b""];
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(lines(&pieces, 5), expected[..7], "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn there_need_not_be_a_limit() {
        assert_eq!(lines(&[b"on", b"e\ntw", b"o"], usize::MAX), [b"one", b"two"]);
    }

    #[test]
    fn a_line_without_end_is_told_once_and_not_held() {
        let mut lines = Lines::default();
        let mut told = 0;
        for _ in 0..1000 {
            let mut input = &[b'x'; 100][..];
            while let Some(line) = lines.next(&mut input, 150) {
                assert_eq!(line, Line::TooLong);
                told += 1;
            }
            assert!(lines.held() <= 150);
        }
        assert_eq!(told, 1);
        assert_eq!(lines.last(150), None);
    }
}
