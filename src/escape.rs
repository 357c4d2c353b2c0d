//! Turns untrusted bytes into one safe, readable line.
//!
//! What a peer sends may be shown on a terminal or in a log file. There, control characters move the cursor,
//! forge lines and change colours, and bidirectional controls reorder what is read. Those are escaped; everything
//! else stays as it was typed: combining marks, emoji sequences and all scripts. (`{:?}` would
//! escape some of these, and the result of `from_utf8_lossy` cannot be turned back into the bytes.)

use std::fmt::{self, Write};

/// How newline, tab and backslash are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Escaped, for a log: the text stays on one physical line and can be turned back into the exact bytes.
    Log,
    /// As they are, for a terminal.
    Text,
}

/// Appends `bytes` to `out`, escaped.
///
/// * C0 and C1 controls and DEL: `\n`, `\r`, `\t`, all others as `\u{1b}`;
/// * bidirectional controls (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069), the line and
///   paragraph separators U+2028 and U+2029, and U+FEFF: as `\u{202e}`;
/// * bytes that are not UTF-8: `\xff` each;
/// * in [`Style::Log`] a backslash: `\\`.
///
/// ```
/// use sockets::escape::{Style, escape};
///
/// let mut line = String::new();
/// escape(&mut line, b"one\ntwo \x1b[31m\xff", Style::Log);
/// assert_eq!(line, r"one\ntwo \u{1b}[31m\xff");
/// ```
pub fn escape(out: &mut String, bytes: &[u8], style: Style) {
    // Writing to a string never fails.
    _ = write_escaped(out, bytes, style);
}

/// Writes `bytes` to `out` as [`escape`] does, without a copy in between: what needs no escape is passed on in the
/// longest possible pieces.
///
/// # Errors
///
/// Those of `out`.
pub fn write_escaped(out: &mut impl Write, bytes: &[u8], style: Style) -> fmt::Result {
    // Checking everything at once is much faster than looking for chunks.
    if let Ok(text) = str::from_utf8(bytes) {
        return write_text(out, text, style);
    }
    for chunk in bytes.utf8_chunks() {
        write_text(out, chunk.valid(), style)?;
        for &byte in chunk.invalid() {
            write_byte(out, byte)?;
        }
    }
    Ok(())
}

/// Escapes a byte stream that arrives in pieces. A character that is split between two pieces stays whole.
#[derive(Debug)]
pub struct StreamEscaper {
    style: Style,
    /// The beginning of a character whose end has not arrived yet: at most three bytes.
    incomplete: Vec<u8>,
}

impl StreamEscaper {
    /// Creates an escaper for the beginning of a stream.
    pub fn new(style: Style) -> Self {
        Self { style, incomplete: Vec::new() }
    }

    /// Appends the next piece to `out`, escaped. An incomplete character at its end waits for the next piece.
    pub fn push(&mut self, out: &mut String, piece: &[u8]) {
        let joined;
        let bytes = if self.incomplete.is_empty() {
            piece
        } else {
            joined = [&self.incomplete, piece].concat();
            &joined
        };
        let whole = bytes.len() - incomplete_tail(bytes);
        escape(out, &bytes[..whole], self.style);
        self.incomplete = bytes[whole..].to_vec();
    }

    /// Ends the stream: an incomplete character will stay so, and its bytes are not UTF-8.
    pub fn finish(&mut self, out: &mut String) {
        escape(out, &std::mem::take(&mut self.incomplete), self.style);
    }
}

/// The number of bytes at the end of `bytes`, 0 to 3, that are the beginning of a UTF-8 character and may still be
/// completed. Bytes that are invalid whatever follows are not counted.
pub fn incomplete_tail(bytes: &[u8]) -> usize {
    let is_continuation = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
    let last_four = &bytes[bytes.len().saturating_sub(4)..];
    let Some(lead) = last_four.iter().rposition(|&byte| !is_continuation(byte)) else {
        return 0;
    };
    match str::from_utf8(&last_four[lead..]) {
        Err(error) if error.error_len().is_none() => last_four.len() - lead - error.valid_up_to(),
        _ => 0,
    }
}

/// Bytes that are looked at together.
const BLOCK: usize = 32;

fn write_text(out: &mut impl Write, text: &str, style: Style) -> fmt::Result {
    let bytes = text.as_bytes();
    let (mut written, mut at) = (0, 0);
    while at < bytes.len() {
        at += plain_blocks(&bytes[at..]);
        let end = bytes.len().min(at + BLOCK);
        while at < end {
            // A continuation byte is never a candidate, so a candidate is the beginning of a character.
            if !IS_CANDIDATE[usize::from(bytes[at])] {
                at += 1;
                continue;
            }
            let Some(character) = text[at..].chars().next() else { break };
            let next = at + character.len_utf8();
            if needs_escape(character, style) {
                if written < at {
                    out.write_str(&text[written..at])?;
                }
                write_character(out, character)?;
                written = next;
            }
            at = next;
        }
    }
    out.write_str(&text[written..])
}

/// The length of the blocks at the beginning of `bytes` in which nothing needs an escape. All bytes of a block are
/// treated alike, without an early exit, so that compilers use instructions that process many bytes at once.
fn plain_blocks(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let is_ascii_text = |block: &[u8; BLOCK]| {
        block.iter().fold(true, |all, &byte| all & (byte.wrapping_sub(b' ') <= b'~' - b' ') & (byte != b'\\'))
    };
    let has_candidate = |block: &[u8; BLOCK]| block.iter().fold(false, |any, &byte| any | is_candidate(byte));
    BLOCK * blocks.iter().take_while(|block| is_ascii_text(block) || !has_candidate(block)).count()
}

/// Whether a character that starts with `byte` may [need an escape](needs_escape). Few others start with these bytes.
const fn is_candidate(byte: u8) -> bool {
    // C2: U+0080 to U+00BF. D8: U+0600 to U+063F. E2: U+2000 to U+2FFF. EF: U+F000 to U+FFFF.
    // Not `matches!` and `||`, which exit early.
    (byte < b' ') | (byte == b'\\') | (byte == 0x7f) | (byte == 0xc2) | (byte == 0xd8) | (byte == 0xe2) | (byte == 0xef)
}

/// [`is_candidate`] for a single byte at a time.
const IS_CANDIDATE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_candidate(byte as u8);
        byte += 1;
    }
    table
};

fn needs_escape(character: char, style: Style) -> bool {
    match character {
        '\n' | '\t' | '\\' => style == Style::Log,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => true,
        _ => character.is_control(),
    }
}

fn write_character(out: &mut impl Write, character: char) -> fmt::Result {
    match character {
        '\\' => out.write_str(r"\\"),
        '\0'..' ' => out.write_str(C0_CONTROLS[character as usize]),
        _ => write!(out, "{}", character.escape_unicode()),
    }
}

fn write_byte(out: &mut impl Write, byte: u8) -> fmt::Result {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.write_str(r"\x")?;
    out.write_char(HEX[usize::from(byte >> 4)].into())?;
    out.write_char(HEX[usize::from(byte & 15)].into())
}

/// The escapes of U+0000 to U+001F. A table, so that a peer that sends nothing else costs little.
#[rustfmt::skip]
const C0_CONTROLS: [&str; 32] = [
    r"\u{0}", r"\u{1}", r"\u{2}", r"\u{3}", r"\u{4}", r"\u{5}", r"\u{6}", r"\u{7}",
    r"\u{8}", r"\t", r"\n", r"\u{b}", r"\u{c}", r"\r", r"\u{e}", r"\u{f}",
    r"\u{10}", r"\u{11}", r"\u{12}", r"\u{13}", r"\u{14}", r"\u{15}", r"\u{16}", r"\u{17}",
    r"\u{18}", r"\u{19}", r"\u{1a}", r"\u{1b}", r"\u{1c}", r"\u{1d}", r"\u{1e}", r"\u{1f}",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(bytes: &[u8], style: Style) -> String {
        let mut out = String::new();
        escape(&mut out, bytes, style);
        out
    }

    #[test]
    fn every_character_is_escaped_exactly_if_it_is_listed() {
        let mut buffer = [0; 4];
        for character in '\0'..=char::MAX {
            let code = u32::from(character);
            let listed = code < 0x20
                || (0x7f..=0x9f).contains(&code)
                || [0x61c, 0x200e, 0x200f, 0x2028, 0x2029, 0xfeff].contains(&code)
                || (0x202a..=0x202e).contains(&code)
                || (0x2066..=0x2069).contains(&code);
            let text = character.encode_utf8(&mut buffer);
            let log = match character {
                '\n' => "\\n".into(),
                '\r' => "\\r".into(),
                '\t' => "\\t".into(),
                '\\' => "\\\\".into(),
                _ if listed => format!("\\u{{{code:x}}}"),
                _ => text.to_string(),
            };
            assert_eq!(escaped(text.as_bytes(), Style::Log), log);
            let kept = matches!(character, '\n' | '\t' | '\\');
            assert_eq!(escaped(text.as_bytes(), Style::Text), if kept { &*text } else { &log });
        }
    }

    /// Text is looked at in blocks: an escape must be found wherever it lies in one, also across two of them.
    #[test]
    fn an_escape_is_found_at_every_position() {
        for (dangerous, shown) in [(&b"\x1b"[..], r"\u{1b}"), ("\u{feff}".as_bytes(), r"\u{feff}"), (b"\xff", r"\xff")]
        {
            for plain in ["a", "é", "字"] {
                for count in 0..3 * BLOCK {
                    let (before, after) = (plain.repeat(count), plain.repeat(BLOCK));
                    let bytes = [before.as_bytes(), dangerous, after.as_bytes()].concat();
                    assert_eq!(escaped(&bytes, Style::Text), [&before, shown, &after].concat());
                }
            }
        }
    }

    #[test]
    fn text_of_all_scripts_stays_readable() {
        for text in ["Grüße", "नमस्ते", "สวัสดี", "e\u{301}", "👨‍👩‍👧‍👦", "می‌خواهم", "日本語"]
        {
            assert_eq!(escaped(text.as_bytes(), Style::Log), text);
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_shown_one_by_one() {
        assert_eq!(escaped(b"a\xff\xc3(\xe2\x82", Style::Log), r"a\xff\xc3(\xe2\x82");
        assert_eq!(escaped(b"\xed\xa0\x80", Style::Log), r"\xed\xa0\x80");
    }

    #[test]
    fn a_stream_is_escaped_the_same_however_it_is_cut() {
        let stream = "a\u{1b}é\u{202e}👨‍👩\n".as_bytes();
        let stream = [stream, b"\xf0\x9f\xff\xe2\x82"].concat();
        let whole = escaped(&stream, Style::Text);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let mut escaper = StreamEscaper::new(Style::Text);
                let mut out = String::new();
                for piece in [&stream[..first], &stream[first..second], &stream[second..]] {
                    escaper.push(&mut out, piece);
                }
                escaper.finish(&mut out);
                assert_eq!(out, whole, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn only_a_tail_that_can_be_completed_is_incomplete() {
        for character in ["é", "€", "👍"] {
            for cut in 1..character.len() {
                let bytes = [b"text", &character.as_bytes()[..cut]].concat();
                assert_eq!(incomplete_tail(&bytes), cut);
            }
        }
        for bytes in [&b""[..], b"text", "text👍".as_bytes(), b"\x80\x80\x80\x80", b"\xff", b"\xed\xa0", b"\xe2(\x82"]
        {
            assert_eq!(incomplete_tail(bytes), 0, "{bytes:?}");
        }
    }
}
