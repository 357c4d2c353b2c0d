//! Turns the bytes that a terminal sends into keys.
//!
//! (Of the libraries, only termina's parser takes bytes without reading a terminal itself. It does not know rxvt's
//! Ctrl-Left, takes Escape before an arrow and an APC reply for text, and keeps a paste of any size.)

use std::mem;
use std::time::{Duration, Instant};

/// The most bytes of a paste. One more byte is kept, so that the editor can tell that a paste is too long.
pub(super) const MAX_PASTE: usize = 1 << 20;

/// What ends a paste in a terminal that brackets it.
const PASTE_END: &[u8] = b"\x1b[201~";

/// The longest escape sequence, in bytes, but for a terminal's replies, whose end is looked for.
const MAX_SEQUENCE: usize = 32;

/// A terminal sends the bytes of a key or of a reply without a pause. So a sequence that is not whole by then was a
/// key of its own: Escape, or Alt with a letter that also begins sequences.
const SEQUENCE_TIME: Duration = Duration::from_millis(100);

/// A key of a line editor, by what it means in shells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Character(char),
    /// One line or several.
    Paste(String),
    Enter,
    /// Alt-Enter: a newline in the input.
    Newline,
    Tab,
    Backspace,
    Delete,
    /// Ctrl-D: the end on an empty line, otherwise Delete.
    DeleteOrEnd,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    KillToEnd,
    KillToStart,
    /// Words are what stands between blanks.
    KillWordLeft,
    /// Words are letters and digits.
    KillPartLeft,
    KillWordRight,
    Yank,
    Transpose,
    Undo,
    Search,
    /// Ctrl-G: leaves a search or a question.
    Cancel,
    Clear,
    Suspend,
    Interrupt,
}

/// Takes the keys out of a stream of bytes that may be cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    state: State,
    /// When bytes came last.
    last: Option<Instant>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Ground,
    /// The beginning of a character.
    Character(Vec<u8>),
    Escape,
    /// Escape and `O`: the next byte is the key.
    Single,
    /// Escape and `[`, and what has come of the sequence since.
    Sequence(Vec<u8>),
    /// The Linux console's Escape `[[`: the next byte is a function key.
    Function,
    /// The terminal's reply to a query, up to a control character.
    Reply,
    Paste(Vec<u8>),
}

impl Decoder {
    /// Calls `press` for each key that `bytes` complete, which came at `now`.
    pub(super) fn push(&mut self, bytes: &[u8], now: Instant, mut press: impl FnMut(Key)) {
        let is_late = self.last.is_some_and(|last| now - last > SEQUENCE_TIME);
        if is_late && !matches!(self.state, State::Paste(_) | State::Character(_)) {
            self.state = State::Ground;
        }
        self.last = Some(now);
        for &byte in bytes {
            if let Some(key) = self.advance(byte) {
                press(key);
            }
        }
    }

    fn advance(&mut self, byte: u8) -> Option<Key> {
        match (mem::take(&mut self.state), byte) {
            (State::Paste(text), _) => return self.paste(text, byte),
            // Whatever was under way, an escape begins anew. (That also ends a reply, whose last two bytes are an
            // escape and a backslash.)
            (_, 0x1b) => self.state = State::Escape,
            (State::Escape, _) => return self.after_escape(byte),
            (State::Single, _) => return single(byte),
            (State::Function, _) => {}
            (State::Reply, b' '..=0xff) => self.state = State::Reply,
            (State::Reply, 0x07) => {}
            (State::Reply, _) => return plain(byte),
            (State::Sequence(parameters), b'[') if parameters.is_empty() => self.state = State::Function,
            (State::Sequence(parameters), b'~') if parameters == b"200" => self.state = State::Paste(Vec::new()),
            (State::Sequence(parameters), 0x40..=0x7e) => return sequence(&parameters, byte),
            (State::Sequence(mut parameters), b' '..=b'?') if parameters.len() < MAX_SEQUENCE => {
                parameters.push(byte);
                self.state = State::Sequence(parameters);
            }
            (State::Character(mut bytes), 0x80..) => {
                bytes.push(byte);
                return self.character(bytes);
            }
            (State::Ground, 0x80..) => return self.character(vec![byte]),
            (State::Ground | State::Character(_) | State::Sequence(_), _) => return plain(byte),
        }
        None
    }

    fn after_escape(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'[' => self.state = State::Sequence(Vec::new()),
            b'O' => self.state = State::Single,
            // OSC, DCS, SOS, PM and APC.
            b']' | b'P' | b'X' | b'^' | b'_' => self.state = State::Reply,
            b'b' => return Some(Key::WordLeft),
            b'f' => return Some(Key::WordRight),
            b'd' => return Some(Key::KillWordRight),
            0x08 | 0x7f => return Some(Key::KillPartLeft),
            b'\r' | b'\n' => return Some(Key::Newline),
            // Alt with a key that means nothing here.
            b' '..=b'~' => {}
            _ => return self.advance(byte),
        }
        None
    }

    fn paste(&mut self, mut text: Vec<u8>, byte: u8) -> Option<Key> {
        text.push(byte);
        if text.ends_with(PASTE_END) {
            text.truncate(text.len() - PASTE_END.len());
            let text = String::from_utf8_lossy(&text).replace("\r\n", "\n").replace('\r', "\n");
            return Some(Key::Paste(text));
        }
        if text.len() > MAX_PASTE + PASTE_END.len() {
            // Makes room for the next byte, while an end that is under way stays recognizable.
            text.remove(MAX_PASTE + 1);
        }
        self.state = State::Paste(text);
        None
    }

    fn character(&mut self, bytes: Vec<u8>) -> Option<Key> {
        match str::from_utf8(&bytes) {
            Ok(text) => text.chars().next().map(Key::Character),
            Err(error) if error.error_len().is_none() => {
                self.state = State::Character(bytes);
                None
            }
            // Was it cut short by the beginning of another one?
            Err(_) => match *bytes {
                [_, .., last] => self.character(vec![last]),
                _ => None,
            },
        }
    }
}

fn plain(byte: u8) -> Option<Key> {
    const fn ctrl(letter: u8) -> u8 {
        letter & 0x1f
    }
    const A: u8 = ctrl(b'A');
    const B: u8 = ctrl(b'B');
    const C: u8 = ctrl(b'C');
    const D: u8 = ctrl(b'D');
    const E: u8 = ctrl(b'E');
    const F: u8 = ctrl(b'F');
    const G: u8 = ctrl(b'G');
    const H: u8 = ctrl(b'H');
    const K: u8 = ctrl(b'K');
    const L: u8 = ctrl(b'L');
    const N: u8 = ctrl(b'N');
    const P: u8 = ctrl(b'P');
    const R: u8 = ctrl(b'R');
    const T: u8 = ctrl(b'T');
    const U: u8 = ctrl(b'U');
    const W: u8 = ctrl(b'W');
    const Y: u8 = ctrl(b'Y');
    const Z: u8 = ctrl(b'Z');
    const UNDERSCORE: u8 = ctrl(b'_');
    Some(match byte {
        b'\r' | b'\n' => Key::Enter,
        b'\t' => Key::Tab,
        b' '..=b'~' => Key::Character(byte.into()),
        A => Key::Home,
        B => Key::Left,
        C => Key::Interrupt,
        D => Key::DeleteOrEnd,
        E => Key::End,
        F => Key::Right,
        G => Key::Cancel,
        H | 0x7f => Key::Backspace,
        K => Key::KillToEnd,
        L => Key::Clear,
        N => Key::Down,
        P => Key::Up,
        R => Key::Search,
        T => Key::Transpose,
        U => Key::KillToStart,
        W => Key::KillWordLeft,
        Y => Key::Yank,
        Z => Key::Suspend,
        UNDERSCORE => Key::Undo,
        _ => return None,
    })
}

/// The key of Escape, `O` and `last`.
fn single(last: u8) -> Option<Key> {
    match last {
        // rxvt's arrows with Ctrl.
        b'c' => Some(Key::WordRight),
        b'd' => Some(Key::WordLeft),
        // Enter on the keypad.
        b'M' => Some(Key::Enter),
        _ => cursor_key(last),
    }
}

fn cursor_key(last: u8) -> Option<Key> {
    match last {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        b'C' => Some(Key::Right),
        b'D' => Some(Key::Left),
        b'F' => Some(Key::End),
        b'H' => Some(Key::Home),
        _ => None,
    }
}

/// The key of Escape, `[`, `parameters` and `last`.
fn sequence(parameters: &[u8], last: u8) -> Option<Key> {
    match (parameters, last) {
        // With Ctrl or Alt.
        (b"1;5" | b"1;3", b'C') => Some(Key::WordRight),
        (b"1;5" | b"1;3", b'D') => Some(Key::WordLeft),
        (b"1" | b"7", b'~') => Some(Key::Home),
        (b"3", b'~') => Some(Key::Delete),
        (b"4" | b"8", b'~') => Some(Key::End),
        // Not the replies that end like arrows do.
        (b"", _) => cursor_key(last),
        ([b'1', b';', b'2'..=b'9'], _) => cursor_key(last),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pieces: &[&[u8]]) -> Vec<Key> {
        let (mut decoder, now) = (Decoder::default(), Instant::now());
        let mut keys = Vec::new();
        for piece in pieces {
            decoder.push(piece, now, |key| keys.push(key));
        }
        keys
    }

    #[test]
    fn keys_are_the_same_however_their_bytes_are_cut() {
        let bytes = "aé\x1b[D👍\x1bOA\x1b[1;5C\x1bOd\x1b]11;rgb:0/0/0\x1b\\\x1b\r\x1b[200~x\r\ny\r\u{1b}[201~\x1b\x7f\x1b[3~\r\x04".as_bytes();
        let expected = [
            Key::Character('a'),
            Key::Character('é'),
            Key::Left,
            Key::Character('👍'),
            Key::Up,
            Key::WordRight,
            Key::WordLeft,
            Key::Newline,
            Key::Paste("x\ny\n".to_owned()),
            Key::KillPartLeft,
            Key::Delete,
            Key::Enter,
            Key::DeleteOrEnd,
        ];
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                assert_eq!(keys(&[&bytes[..first], &bytes[first..second], &bytes[second..]]), expected);
            }
        }
    }

    #[test]
    fn what_is_no_key_is_passed_over() {
        assert_eq!(keys(&[b"\x1b[999;5u\x00\xff\x1b[5~a"]), [Key::Character('a')]);
        assert_eq!(keys(&[b"\xe2\x82a"]), [Key::Character('a')]);
        assert_eq!(keys(&[b"\xe2\xc3\xa9"]), [Key::Character('é')]);
        assert_eq!(keys(&[b"\x1b\x1b[A\x1b\r"]), [Key::Up, Key::Newline]);
    }

    #[test]
    fn function_keys_alt_and_replies_are_no_text() {
        for key in ["[[A", "[[E", "OP", "[11~", "[15;5~", "[24~", "a", "z", "A", "Z", "1", "/", "?"] {
            assert_eq!(keys(&[format!("\x1b{key}x").as_bytes()]), [Key::Character('x')], "{key:?}");
        }
        let replies =
            ["]11;rgb:ffff/ffff/ffff\x07", "]0;title\x1b\\", "P>|tmux 3.3a\x1b\\", "_G\x1b\\", "[?62;4c", "[1;1R"];
        for reply in replies {
            assert_eq!(keys(&[format!("\x1b{reply}x").as_bytes()]), [Key::Character('x')], "{reply:?}");
        }
        // A reply without an end takes no keys but characters.
        assert_eq!(keys(&[b"\x1b]11;abc\x03"]), [Key::Interrupt]);
    }

    #[test]
    fn what_comes_after_a_pause_belongs_to_no_sequence() {
        for begun in ["\x1b", "\x1b[", "\x1b[1", "\x1b[[", "\x1bO", "\x1bP", "\x1b]"] {
            let (mut decoder, now) = (Decoder::default(), Instant::now());
            let mut keys = Vec::new();
            decoder.push(begun.as_bytes(), now, |key| keys.push(key));
            decoder.push(b"A", now + SEQUENCE_TIME * 2, |key| keys.push(key));
            assert_eq!(keys, [Key::Character('A')], "{begun:?}");
        }
    }

    #[test]
    fn a_paste_without_end_is_bounded_and_known_to_be_too_long() {
        let (mut decoder, now) = (Decoder::default(), Instant::now());
        let mut pasted = Vec::new();
        decoder.push(b"\x1b[200~", now, |_| unreachable!());
        decoder.push(&vec![b'x'; MAX_PASTE + 100], now, |_| unreachable!());
        decoder.push(PASTE_END, now, |key| pasted.push(key));
        assert!(pasted == [Key::Paste("x".repeat(MAX_PASTE + 1))]);
    }
}
