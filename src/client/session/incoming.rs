//! What comes from the peer, as a person reads it: line by line, safe, with names in colour.

use super::super::room::GREETING;
use crate::escape::{Style, escape, incomplete_tail};

/// The most bytes that wait for the end of their line.
const MAX_HELD: usize = 256 << 10;

/// Red, green, yellow, magenta, cyan and bright blue: the colours that can be read on a dark and on a light ground.
const COLOURS: [u8; 6] = [31, 32, 33, 35, 36, 94];

const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// How lines are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The very bytes.
    Raw,
    /// Escaped.
    Plain,
    /// Escaped, and coloured if the peer is a room.
    Coloured,
}

/// Turns what is received into what is shown.
#[derive(Debug)]
pub(super) struct Incoming {
    look: Look,
    /// A line whose end has not come yet.
    line: Vec<u8>,
    /// The beginning of that line has been shown already.
    is_continued: bool,
    /// Known from the first line on.
    is_room: Option<bool>,
}

impl Incoming {
    pub(super) fn new(look: Look) -> Self {
        Self { look, line: Vec::new(), is_continued: false, is_room: None }
    }

    /// Whether the peer has greeted as a room does.
    pub(super) fn is_room(&self) -> bool {
        self.is_room == Some(true)
    }

    /// Whether the beginning of a line waits for the rest.
    pub(super) fn has_part(&self) -> bool {
        !self.line.is_empty()
    }

    /// Appends to `out` the lines that `bytes` complete. What is in `out` ends in a newline, always.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.finish_line(out);
            } else if self.line.len() > MAX_HELD {
                self.push_part(out);
            }
        }
    }

    /// Appends what waits for the end of its line, but for a character that is not whole yet.
    pub(super) fn push_part(&mut self, out: &mut Vec<u8>) {
        let rest = self.line.split_off(self.line.len() - incomplete_tail(&self.line));
        if !self.line.is_empty() {
            self.show_line(out);
            self.is_continued = true;
        }
        self.line = rest;
    }

    /// Nothing more comes: appends all that waits.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if !self.line.is_empty() {
            self.show_line(out);
        }
    }

    fn finish_line(&mut self, out: &mut Vec<u8>) {
        self.line.pop();
        if self.look != Look::Raw && self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        // A newline alone may be all that was missing of a line that is there already.
        if !(self.line.is_empty() && self.is_continued) {
            self.show_line(out);
        }
        self.is_continued = false;
    }

    fn show_line(&mut self, out: &mut Vec<u8>) {
        let is_room = *self.is_room.get_or_insert_with(|| self.line.starts_with(GREETING));
        if self.look == Look::Raw {
            out.append(&mut self.line);
        } else {
            let mut text = String::new();
            escape(&mut text, &self.line, Style::Text);
            if self.look == Look::Coloured && is_room && !self.is_continued {
                text = coloured(&text);
            }
            out.extend_from_slice(text.as_bytes());
            self.line.clear();
        }
        out.push(b'\n');
    }
}

/// A line of the room with the names in their colours, and what the room itself says dimmed.
fn coloured(line: &str) -> String {
    if let Some(notice) = line.strip_prefix("* ") {
        return coloured_notice(notice);
    }
    let Some(inner) = line.strip_prefix('<') else { return line.to_owned() };
    // Names have no blanks, but they may have hyphens.
    let words: Vec<&str> = inner.splitn(4, ' ').collect();
    let names = match words[..] {
        [from, _, ..] if from.ends_with('>') => from,
        [from, "->", to, _] if to.ends_with('>') => &inner[..from.len() + " -> ".len() + to.len()],
        _ => return line.to_owned(),
    };
    let (names, text) = inner.split_at(names.len() - 1);
    let names: Vec<String> = names.split(" -> ").map(|name| in_colour(name, "")).collect();
    format!("<{}{text}", names.join(" -> "))
}

/// What the room says: `ann joined`, `ann left (too slow)`, `ann is now bob`, or something without a name.
fn coloured_notice(notice: &str) -> String {
    let words: Vec<&str> = notice.split(' ').collect();
    let is_name = |at: usize| match words[..] {
        [_, "joined" | "left", ..] => at == 0,
        [_, "is", "now", _] => at == 0 || at == 3,
        _ => false,
    };
    let words: Vec<String> = words
        .iter()
        .enumerate()
        .map(|(at, word)| if is_name(at) { in_colour(word, DIM) } else { (*word).to_owned() })
        .collect();
    format!("{DIM}* {}{RESET}", words.join(" "))
}

/// A name in its colour, and then back to `style`.
fn in_colour(name: &str, style: &str) -> String {
    format!("{RESET}\x1b[{}m{name}{RESET}{style}", colour(name))
}

/// The colour of a name: the same in every session, on every machine. (The hash is FNV-1a.)
fn colour(name: &str) -> u8 {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    COLOURS[(hash % COLOURS.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(look: Look, pieces: &[&[u8]]) -> String {
        let mut incoming = Incoming::new(look);
        let mut out = Vec::new();
        for piece in pieces {
            incoming.push(&mut out, piece);
        }
        incoming.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let bytes = "* welcome, x; here: ann\n<ann> é👍\x1b[2J\r\n* ann left\nrest\u{202e}".as_bytes();
        for look in [Look::Raw, Look::Plain, Look::Coloured] {
            let whole = shown(look, &[bytes]);
            for cut in 0..=bytes.len() {
                assert_eq!(shown(look, &[&bytes[..cut], &bytes[cut..]]), whole);
            }
        }
        let plain = "* welcome, x; here: ann\n<ann> é👍\\u{1b}[2J\n* ann left\nrest\\u{202e}\n";
        assert_eq!(shown(Look::Plain, &[bytes]), plain);
        assert_eq!(shown(Look::Raw, &[bytes]).as_bytes(), [bytes, b"\n"].concat());
    }

    #[test]
    fn a_part_of_a_line_is_shown_in_whole_characters() {
        let mut incoming = Incoming::new(Look::Plain);
        let mut out = Vec::new();
        incoming.push(&mut out, b"name? \xe2\x82");
        assert!(out.is_empty() && incoming.has_part());
        incoming.push_part(&mut out);
        incoming.push_part(&mut out);
        assert_eq!(out, b"name? \n");
        incoming.push(&mut out, b"\xac\nnext\npart");
        incoming.push_part(&mut out);
        incoming.push(&mut out, b"\n\n");
        assert_eq!(out, "name? \n€\nnext\npart\n\n".as_bytes());
        assert!(!incoming.has_part());
    }

    #[test]
    fn a_line_without_end_is_not_held_for_ever() {
        let mut incoming = Incoming::new(Look::Plain);
        let mut out = Vec::new();
        for _ in 0..100 {
            incoming.push(&mut out, &[b'x'; 10_000]);
            assert!(incoming.line.len() <= MAX_HELD);
        }
        incoming.finish(&mut out);
        assert_eq!(out.iter().filter(|&&byte| byte == b'x').count(), 1_000_000);
    }

    #[test]
    fn names_have_their_colours_in_a_room() {
        let ann = format!("{RESET}\x1b[{}mann{RESET}", colour("ann"));
        let bob = format!("{RESET}\x1b[{}mbob{RESET}", colour("bob"));
        assert_eq!(coloured("<ann> hello <x> y"), format!("<{ann}> hello <x> y"));
        assert_eq!(coloured("<ann -> bob> psst"), format!("<{ann} -> {bob}> psst"));
        assert_eq!(coloured("<ann> -> bob> psst"), format!("<{ann}> -> bob> psst"));
        for line in ["<ann>", "<ann -> bob>", "<ann -> bob psst", "<ann hello", "< >", ""] {
            assert_eq!(coloured(line), line);
        }
        assert_eq!(coloured("* ann joined"), format!("{DIM}* {ann}{DIM} joined{RESET}"));
        assert_eq!(coloured("* ann left (too slow)"), format!("{DIM}* {ann}{DIM} left (too slow){RESET}"));
        assert_eq!(coloured("* ann is now bob"), format!("{DIM}* {ann}{DIM} is now {bob}{DIM}{RESET}"));
        assert_eq!(coloured("* ann is taken"), format!("{DIM}* ann is taken{RESET}"));
        assert_eq!(coloured("no name"), "no name");
    }

    #[test]
    fn only_a_room_is_coloured() {
        let line = "<ann> hello\n";
        assert_eq!(shown(Look::Coloured, &[line.as_bytes()]), line);
        assert_eq!(
            shown(Look::Coloured, &[b"hello\n", GREETING, b"x\n", line.as_bytes()]),
            "hello\n* welcome, x\n".to_owned() + line
        );
        assert!(
            shown(Look::Coloured, &[GREETING, b"x\n", line.as_bytes()]).ends_with(&(coloured("<ann> hello") + "\n"))
        );
    }

    #[test]
    fn different_names_have_different_colours_mostly() {
        let names: Vec<String> = (0..600).map(|number| format!("user{number}")).collect();
        for wanted in COLOURS {
            let count = names.iter().filter(|name| colour(name) == wanted).count();
            assert!((60..140).contains(&count), "{wanted}: {count}");
        }
        assert_eq!(colour("ann"), colour("ann"));
    }
}
