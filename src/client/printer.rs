//! The reply on standard output.

use std::io::{self, BufWriter, Write};
use std::mem;

use crate::escape::{StreamEscaper, Style};

/// Prints a reply: as a line or as the exact bytes, escaped or not.
pub(super) struct Printer<W: Write> {
    out: BufWriter<W>,
    /// The reply is one line: it is held back until it is complete (or larger than the buffer), so that the lines of
    /// clients that share an output do not mix. It gets a newline if it has none.
    is_line: bool,
    /// Makes the reply safe for a terminal; `None` to print the exact bytes.
    escaper: Option<StreamEscaper>,
    /// The last byte escaped was a carriage return, which is left out if a newline follows.
    holds_return: bool,
    /// The last byte of the reply so far.
    last: Option<u8>,
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, is_line: bool, is_escaped: bool) -> Self {
        let escaper = is_escaped.then(|| StreamEscaper::new(Style::Text));
        Self { out: BufWriter::new(out), is_line, escaper, holds_return: false, last: None }
    }

    /// Prints what was held back, at the end of the reply.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if let Some(escaper) = &mut self.escaper {
            let mut text = String::new();
            if self.holds_return {
                escaper.push(&mut text, b"\r");
            }
            escaper.finish(&mut text);
            self.out.write_all(text.as_bytes())?;
        }
        if self.is_line && self.last != Some(b'\n') {
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }
}

impl<W: Write> Write for Printer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.last = bytes.last().copied().or(self.last);
        match &mut self.escaper {
            None => self.out.write_all(bytes)?,
            Some(escaper) => {
                let mut text = String::new();
                for piece in bytes.split_inclusive(|&byte| matches!(byte, b'\r' | b'\n')) {
                    if mem::take(&mut self.holds_return) && piece != b"\n" {
                        escaper.push(&mut text, b"\r");
                    }
                    self.holds_return = piece.ends_with(b"\r");
                    escaper.push(&mut text, piece.strip_suffix(b"\r").unwrap_or(piece));
                }
                self.out.write_all(text.as_bytes())?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_line { Ok(()) } else { self.out.flush() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(pieces: &[&[u8]], is_line: bool, is_escaped: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, is_line, is_escaped);
        for piece in pieces {
            printer.write_all(piece).unwrap();
            printer.flush().unwrap();
        }
        printer.finish().unwrap();
        out
    }

    #[test]
    fn a_line_ends_in_exactly_the_newlines_it_has_but_at_least_one() {
        let cases: [(&[&[u8]], &[u8]); 5] = [
            (&[], b"\n"),
            (&[b"one"], b"one\n"),
            (&[b"one", b"\n"], b"one\n"),
            (&[b"one\n", b"two"], b"one\ntwo\n"),
            (&[b"one\n\n"], b"one\n\n"),
        ];
        for (pieces, line) in cases {
            assert_eq!(printed(pieces, true, false), line);
            assert_eq!(printed(pieces, true, true), line);
        }
    }

    #[test]
    fn a_stream_stays_as_it_is() {
        assert_eq!(printed(&[], false, false), b"");
        assert_eq!(printed(&[b"\x1b[31m\xff", b"\xe2\x82"], false, false), b"\x1b[31m\xff\xe2\x82");
    }

    #[test]
    fn a_terminal_sees_whole_characters_and_no_controls() {
        assert_eq!(printed(&[b"\x1b[31m\t\xe2", b"\x82", b"\xac\n"], false, true), "\\u{1b}[31m\t€\n".as_bytes());
        assert_eq!(printed(&[b"a\xe2", b"\x82"], true, true), b"a\\xe2\\x82\n");
    }

    #[test]
    fn a_terminal_sees_a_line_ending_of_two_bytes_as_one_newline() {
        for pieces in [&[&b"one\r\ntwo\rthree\r\r\n"[..]][..], &[b"one\r", b"\ntwo", b"\rthree\r", b"\r", b"\n"]] {
            assert_eq!(printed(pieces, false, true), b"one\ntwo\\rthree\\r\n");
            assert_eq!(printed(pieces, false, false), pieces.concat());
        }
        assert_eq!(printed(&[b"one\r"], false, true), b"one\\r");
        assert_eq!(printed(&[b"\xe2\r", b"\n"], false, true), b"\\xe2\n");
    }

    #[test]
    fn a_line_is_written_at_once_and_a_stream_as_it_comes() {
        /// Counts the writes it gets.
        struct Writes(usize);
        impl Write for Writes {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for (is_line, expected) in [(true, 1), (false, 3)] {
            let mut writes = Writes(0);
            let mut printer = Printer::new(&mut writes, is_line, false);
            for piece in [b"one ", b"two ", b"one "] {
                printer.write_all(piece).unwrap();
                printer.flush().unwrap();
            }
            printer.finish().unwrap();
            assert_eq!(writes.0, expected);
        }
    }
}
