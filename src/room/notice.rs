//! The lines that all members of a room hear.

use std::fmt::{self, Write};

use crate::escape::{Style, incomplete_tail, write_escaped};

/// The largest chunk that [`Notice::write_chunks`] hands out, in bytes.
const CHUNK: usize = 64 << 10;

/// How much of a text an [`Excerpt`] shows, in bytes before they are escaped.
const MAX_EXCERPT: usize = 1024;

/// A line for the members of a room. Its display form is what they hear, without the newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// `* ann joined`
    Joined {
        /// The member's name.
        name: &'a str,
    },
    /// `* ann is now bob`
    Renamed {
        /// The old name.
        from: &'a str,
        /// The new name.
        to: &'a str,
    },
    /// `<ann> hello`
    Said {
        /// The author's name.
        name: &'a str,
        /// The line as it was sent, without its line ending. It is displayed escaped.
        text: &'a [u8],
    },
    /// `* ann left` or `* ann left (idle)`
    Left {
        /// The member's name.
        name: &'a str,
        /// Why the server ended the connection, if it did.
        reason: Option<&'static str>,
    },
}

impl Notice<'_> {
    /// Writes the line with its newline, in chunks of at most 64 KiB that are composed in `buffer` and handed to
    /// `take`. So even a line of many MiB, which escapes may make six times as long, is never held as a whole.
    /// `buffer` is empty afterwards.
    pub fn write_chunks(&self, buffer: &mut String, take: impl FnMut(&str)) {
        buffer.clear();
        let mut chunks = Chunks { buffer, take };
        // Chunks take everything.
        _ = writeln!(chunks, "{self}");
        chunks.hand_over();
    }
}

impl fmt::Display for Notice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Joined { name } => write!(f, "* {name} joined"),
            Self::Renamed { from, to } => write!(f, "* {from} is now {to}"),
            Self::Said { name, text } => {
                write!(f, "<{name}> ")?;
                write_escaped(f, text, Style::Text)
            }
            Self::Left { name, reason: None } => write!(f, "* {name} left"),
            Self::Left { name, reason: Some(reason) } => write!(f, "* {name} left ({reason})"),
        }
    }
}

/// What a member said, where the beginning of a long text is enough: `hello`, or `aaaa… (1024 of 65536 bytes)`. It is
/// displayed escaped.
pub(super) struct Excerpt<'a>(pub(super) &'a [u8]);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text) = self;
        let Some(beginning) = text.get(..MAX_EXCERPT).filter(|_| text.len() > MAX_EXCERPT) else {
            return write_escaped(f, text, Style::Text);
        };
        let shown = &beginning[..beginning.len() - incomplete_tail(beginning)];
        write_escaped(f, shown, Style::Text)?;
        write!(f, "… ({} of {} bytes)", shown.len(), text.len())
    }
}

/// Gathers text in a buffer and hands it over whenever the buffer is full.
struct Chunks<'a, F> {
    buffer: &'a mut String,
    take: F,
}

impl<F: FnMut(&str)> Chunks<'_, F> {
    fn hand_over(&mut self) {
        (self.take)(self.buffer);
        self.buffer.clear();
    }
}

impl<F: FnMut(&str)> Write for Chunks<'_, F> {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        while self.buffer.len() + text.len() > CHUNK {
            let (fitting, rest) = text.split_at(text.floor_char_boundary(CHUNK - self.buffer.len()));
            self.buffer.push_str(fitting);
            self.hand_over();
            text = rest;
        }
        self.buffer.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_bounded_and_make_up_the_whole_line() {
        let mut texts = vec![b"hello".to_vec(), vec![0x1b; 100_000], vec![b'x'; CHUNK - 7], vec![b'x'; CHUNK - 6]];
        texts.extend((0..4).map(|offset| [&b"123"[..offset], &"👍".as_bytes().repeat(50_000)].concat()));
        let mut buffer = String::new();
        for text in texts {
            let notice = Notice::Said { name: "ann", text: &text };
            let mut line = String::new();
            notice.write_chunks(&mut buffer, |chunk| {
                assert!((1..=CHUNK).contains(&chunk.len()));
                line.push_str(chunk);
            });
            assert_eq!(line, format!("{notice}\n"));
            assert!(buffer.is_empty() && buffer.capacity() <= 2 * CHUNK);
        }
    }
}
