//! What the terminal sends becomes keys.

use std::mem;

/// The most bytes of a paste that are kept; the rest is thrown away. More than any line may have.
const MAX_PASTE: usize = 1 << 20;

/// What ends a paste in a terminal that brackets it.
const PASTE_END: &[u8] = b"\x1b[201~";

/// What a person can ask for, on the keys that shells have taught everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Character(char),
    /// Several lines, perhaps: none of them is sent before Enter.
    Paste(String),
    Enter,
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
    KillWordLeft,
    /// As KillWordLeft, but words are letters and digits, not everything between blanks.
    KillPartLeft,
    KillWordRight,
    Yank,
    Transpose,
    Clear,
    Suspend,
    Interrupt,
}

/// Takes the keys out of a stream of bytes that may be cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    state: State,
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
    Paste(Vec<u8>),
}

impl Decoder {
    /// Calls `press` for each key that `bytes` complete.
    pub(super) fn push(&mut self, bytes: &[u8], mut press: impl FnMut(Key)) {
        for &byte in bytes {
            if let Some(key) = self.advance(byte) {
                press(key);
            }
        }
    }

    fn advance(&mut self, byte: u8) -> Option<Key> {
        match (mem::take(&mut self.state), byte) {
            (State::Paste(mut text), _) => {
                text.push(byte);
                if text.ends_with(PASTE_END) {
                    text.truncate(text.len() - PASTE_END.len());
                    let text = String::from_utf8_lossy(&text).replace("\r\n", "\n").replace('\r', "\n");
                    return Some(Key::Paste(text));
                }
                if text.len() >= MAX_PASTE + PASTE_END.len() {
                    // Room for the next byte, while an end that is under way stays recognizable.
                    text.remove(MAX_PASTE);
                }
                self.state = State::Paste(text);
                None
            }
            // Whatever was under way, an escape begins anew.
            (_, 0x1b) => {
                self.state = State::Escape;
                None
            }
            (State::Escape, b'[') => {
                self.state = State::Sequence(Vec::new());
                None
            }
            (State::Escape, b'O') => {
                self.state = State::Single;
                None
            }
            (State::Escape, _) => match byte {
                b'b' => Some(Key::WordLeft),
                b'f' => Some(Key::WordRight),
                b'd' => Some(Key::KillWordRight),
                0x08 | 0x7f => Some(Key::KillPartLeft),
                // An escape by itself means nothing here, so the next key is what it would be without.
                _ => self.advance(byte),
            },
            (State::Single, _) => cursor_key(byte),
            (State::Sequence(mut parameters), _) => {
                if !(0x40..=0x7e).contains(&byte) {
                    // No terminal sends longer ones.
                    if parameters.len() < 32 {
                        parameters.push(byte);
                        self.state = State::Sequence(parameters);
                    }
                    return None;
                }
                if (&*parameters, byte) == (b"200", b'~') {
                    self.state = State::Paste(Vec::new());
                }
                sequence(&parameters, byte)
            }
            (State::Character(mut bytes), 0x80..) => {
                bytes.push(byte);
                self.character(bytes)
            }
            (State::Ground, 0x80..) => self.character(vec![byte]),
            (State::Ground | State::Character(_), _) => plain(byte),
        }
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
    const H: u8 = ctrl(b'H');
    const K: u8 = ctrl(b'K');
    const L: u8 = ctrl(b'L');
    const N: u8 = ctrl(b'N');
    const P: u8 = ctrl(b'P');
    const T: u8 = ctrl(b'T');
    const U: u8 = ctrl(b'U');
    const W: u8 = ctrl(b'W');
    const Y: u8 = ctrl(b'Y');
    const Z: u8 = ctrl(b'Z');
    Some(match byte {
        b'\r' | b'\n' => Key::Enter,
        b'\t' | b' '..=b'~' => Key::Character(byte.into()),
        A => Key::Home,
        B => Key::Left,
        C => Key::Interrupt,
        D => Key::DeleteOrEnd,
        E => Key::End,
        F => Key::Right,
        H | 0x7f => Key::Backspace,
        K => Key::KillToEnd,
        L => Key::Clear,
        N => Key::Down,
        P => Key::Up,
        T => Key::Transpose,
        U => Key::KillToStart,
        W => Key::KillWordLeft,
        Y => Key::Yank,
        Z => Key::Suspend,
        _ => return None,
    })
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

fn sequence(parameters: &[u8], last: u8) -> Option<Key> {
    match (parameters, last) {
        // With Ctrl or Alt.
        (b"1;5" | b"1;3", b'C') => Some(Key::WordRight),
        (b"1;5" | b"1;3", b'D') => Some(Key::WordLeft),
        (b"1" | b"7", b'~') => Some(Key::Home),
        (b"3", b'~') => Some(Key::Delete),
        (b"4" | b"8", b'~') => Some(Key::End),
        (_, b'~') => None,
        _ => cursor_key(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pieces: &[&[u8]]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        let mut keys = Vec::new();
        for piece in pieces {
            decoder.push(piece, |key| keys.push(key));
        }
        keys
    }

    #[test]
    fn keys_are_the_same_however_their_bytes_are_cut() {
        let bytes = "aé\x1b[D👍\x1bOA\x1b[1;5C\x1b[200~x\r\ny\r\u{1b}[201~\x1b\x7f\x1b[3~\r\x04".as_bytes();
        let expected = [
            Key::Character('a'),
            Key::Character('é'),
            Key::Left,
            Key::Character('👍'),
            Key::Up,
            Key::WordRight,
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
        assert_eq!(keys(&[b"\x1b\x1b[A\x1b\r"]), [Key::Up, Key::Enter]);
    }

    #[test]
    fn a_paste_without_end_is_bounded() {
        let mut decoder = Decoder::default();
        let mut pasted = Vec::new();
        decoder.push(b"\x1b[200~", |_| unreachable!());
        decoder.push(&vec![b'x'; MAX_PASTE + 100], |_| unreachable!());
        decoder.push(PASTE_END, |key| pasted.push(key));
        assert!(pasted == [Key::Paste("x".repeat(MAX_PASTE))]);
    }
}
