//! Untrusted bytes become one safe, readable line.
//!
//! Whatever a peer sends may end up on somebody's terminal or in a log file, where control characters
//! move the cursor, forge lines and change colours, and bidirectional controls reorder what is read.
//! Those are escaped; everything else stays as it was typed, combining marks, emoji sequences and all
//! scripts included. (`{:?}` is not used because it escapes those too; `from_utf8_lossy` is not because
//! it cannot be reversed.)

/// Which of the harmless characters are escaped as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// For a log: newline, tab and backslash are escaped too, so that the line stays one physical line
    /// and can be turned back into the exact bytes.
    Log,
    /// For a person's terminal: newline, tab and backslash stay.
    Text,
}

/// Appends `bytes` to `out`, escaped.
///
/// * C0 and C1 controls and DEL: `\n`, `\r`, `\t`, all others as `\u{1b}`;
/// * bidirectional controls (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069), the line and
///   paragraph separators U+2028 and U+2029, and U+FEFF: as `\u{202e}`;
/// * bytes that are no UTF-8: `\xff` each;
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
    // What is all UTF-8 is found out several bytes at a time.
    if let Ok(text) = str::from_utf8(bytes) {
        return escape_str(out, text, style);
    }
    for chunk in bytes.utf8_chunks() {
        escape_str(out, chunk.valid(), style);
        for &byte in chunk.invalid() {
            push_byte(out, byte);
        }
    }
}

/// Escapes a byte stream that comes in pieces: a character cut between two pieces stays whole.
#[derive(Debug)]
pub struct StreamEscaper {
    style: Style,
    /// The beginning of a character whose end has not come yet: at most three bytes.
    incomplete: Vec<u8>,
}

impl StreamEscaper {
    /// An escaper at the beginning of its stream.
    pub fn new(style: Style) -> Self {
        Self { style, incomplete: Vec::new() }
    }

    /// Appends the next piece to `out`, escaped, holding back a character that is not whole yet.
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

    /// The stream is over: what was held back can only be bytes that are no UTF-8.
    pub fn finish(&mut self, out: &mut String) {
        escape(out, &std::mem::take(&mut self.incomplete), self.style);
    }
}

/// How many bytes at the end of `bytes` are the beginning of a UTF-8 character that may still become
/// whole: 0 to 3. Bytes that no continuation can mend are not counted.
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

fn escape_str(out: &mut String, text: &str, style: Style) {
    let (mut copied, mut at) = (0, 0);
    loop {
        at += plain_prefix(&text.as_bytes()[at..]);
        let Some(character) = text[at..].chars().next() else { break };
        if needs_escape(character, style) {
            out.push_str(&text[copied..at]);
            push_character(out, character);
            copied = at + character.len_utf8();
        }
        at += character.len_utf8();
    }
    out.push_str(&text[copied..]);
}

/// How many bytes there are before one that may need an escape. Looks at blocks in which all bytes are treated
/// alike, which compilers turn into instructions for many bytes at once.
fn plain_prefix(bytes: &[u8]) -> usize {
    const BLOCK: usize = 16;
    let is_plain = |block: &&[u8]| !block.iter().fold(false, |any, &byte| any | may_need_escape(byte));
    let at = BLOCK * bytes.chunks_exact(BLOCK).take_while(is_plain).count();
    let rest = &bytes[at..];
    at + rest.iter().position(|&byte| may_need_escape(byte)).unwrap_or(rest.len())
}

/// A cheap first look at single bytes: every character that [`needs_escape`] starts with one of these,
/// and almost no other does.
fn may_need_escape(byte: u8) -> bool {
    // C2: U+0080 to U+00BF. D8: U+0600 to U+063F. E2: U+2000 to U+2FFF. EF: U+F000 to U+FFFF.
    const OTHERS: [u8; 6] = [b'\\', 0x7f, 0xc2, 0xd8, 0xe2, 0xef];
    // Not `any`, which stops at the first: to look at all is what can be done to many bytes at once.
    OTHERS.iter().fold(byte < b' ', |may, &other| may | (byte == other))
}

fn needs_escape(character: char, style: Style) -> bool {
    match character {
        '\n' | '\t' | '\\' => style == Style::Log,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => true,
        _ => character.is_control(),
    }
}

fn push_character(out: &mut String, character: char) {
    match character {
        '\n' | '\r' | '\t' | '\\' => out.extend(character.escape_default()),
        _ => out.extend(character.escape_unicode()),
    }
}

fn push_byte(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push_str("\\x");
    out.push(HEX[usize::from(byte >> 4)].into());
    out.push(HEX[usize::from(byte & 15)].into());
}

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

    #[test]
    fn text_of_all_scripts_stays_readable() {
        for text in ["Grüße", "नमस्ते", "สวัสดี", "e\u{301}", "👨‍👩‍👧‍👦", "می‌خواهم", "日本語"]
        {
            assert_eq!(escaped(text.as_bytes(), Style::Log), text);
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_are_shown_one_by_one() {
        assert_eq!(escaped(b"a\xff\xc3(\xe2\x82", Style::Log), r"a\xff\xc3(\xe2\x82");
        assert_eq!(escaped(b"\xed\xa0\x80", Style::Log), r"\xed\xa0\x80");
    }

    #[test]
    fn a_stream_is_escaped_alike_however_it_is_cut() {
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
    fn only_a_tail_that_may_become_a_character_is_incomplete() {
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
