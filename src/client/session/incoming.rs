//! What comes from the server, as a person reads it: line by line, safe for the terminal, with names in colour.

use std::mem;

use anstyle::{AnsiColor, Style};
use chrono::Local;

use super::super::room::GREETING;
use super::clock::Clock;
use super::names::Names;
use super::screen::Prompt;
use crate::escape::{self, escape, incomplete_tail};

/// The most bytes that wait for the end of their line.
const MAX_HELD: usize = 256 << 10;

/// The colours that can be read on a dark and on a light background.
const COLOURS: [AnsiColor; 6] =
    [AnsiColor::Red, AnsiColor::Green, AnsiColor::Yellow, AnsiColor::Magenta, AnsiColor::Cyan, AnsiColor::BrightBlue];

const DIM: Style = Style::new().dimmed();
const MENTION: Style = Style::new().bold();

/// How lines are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The very bytes.
    Raw,
    /// Escaped.
    Plain,
    /// Escaped, and coloured if the server is a room.
    Coloured,
}

/// How the lines of a session are to be shown.
#[derive(Debug)]
pub(super) struct Appearance {
    pub(super) look: Look,
    /// Ring the bell when the person is mentioned.
    pub(super) has_bell: bool,
    /// Show the time of each line.
    pub(super) has_time: bool,
}

/// Turns what is received into what is shown. What it appends ends in a newline, always.
#[derive(Debug)]
pub(super) struct Incoming {
    /// As in `localhost port 8888`.
    peer: String,
    appearance: Appearance,
    clock: Clock,
    names: Names,
    /// A line whose end has not come yet.
    line: Vec<u8>,
    /// The beginning of that line has been shown already.
    is_continued: bool,
    /// `None` until the server has said something or was silent for too long.
    is_room: Option<bool>,
    is_introduced: bool,
}

impl Incoming {
    pub(super) fn new(peer: String, appearance: Appearance) -> Self {
        let (clock, names) = (Clock::default(), Names::default());
        Self {
            peer,
            appearance,
            clock,
            names,
            line: Vec::new(),
            is_continued: false,
            is_room: None,
            is_introduced: false,
        }
    }

    /// Whether the server has greeted as a room does; `None` as long as it may still do so.
    pub(super) fn is_room(&self) -> Option<bool> {
        self.is_room
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// Whether the beginning of a line waits for the rest.
    pub(super) fn has_part(&self) -> bool {
        !self.line.is_empty()
    }

    /// What stands before the input, and before the person's own lines.
    pub(super) fn prompt(&self) -> Prompt {
        match self.names.own() {
            Some(own) => {
                let style = self.style(colour(own));
                Prompt { text: format!("<{own}> "), styled: 1..1 + own.len(), style }
            }
            None => Prompt::plain("> ".to_owned()),
        }
    }

    /// Appends the lines that `bytes` complete.
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

    /// Expects the greeting of a new connection. Who is in the room is known until it comes.
    pub(super) fn restart(&mut self) {
        self.line.clear();
        (self.is_continued, self.is_room, self.is_introduced) = (false, None, false);
    }

    /// Appends a notice of the client itself.
    pub(super) fn tell(&mut self, out: &mut Vec<u8>, notice: &str) {
        self.push_stamp(out);
        let dim = self.style(DIM);
        out.extend_from_slice(format!("{dim}{notice}{dim:#}\n").as_bytes());
    }

    /// Decides whether the server is a room, and appends where the session is.
    pub(super) fn settle(&mut self, out: &mut Vec<u8>, is_room: bool) {
        self.is_room = Some(is_room);
        self.introduce(out);
    }

    /// Appends where the session is and how to leave it, once, as far as that is known by now.
    pub(super) fn introduce(&mut self, out: &mut Vec<u8>) {
        if !mem::replace(&mut self.is_introduced, true) {
            let is_room = self.is_room == Some(true);
            let (kind, help) = if is_room { (", a room", ", /help lists commands") } else { ("", "") };
            self.tell(out, &format!("connected to {}{kind}: Enter sends{help}, Ctrl-D ends", self.peer));
        }
    }

    /// Appends the time, if it is to be shown.
    pub(super) fn push_stamp(&mut self, out: &mut Vec<u8>) {
        if !self.appearance.has_time {
            return;
        }
        let dim = self.style(DIM);
        let (new_day, time) = self.clock.stamp(Local::now());
        if let Some(new_day) = new_day {
            out.extend_from_slice(format!("{dim}{new_day}{dim:#}\n").as_bytes());
        }
        out.extend_from_slice(format!("{dim}{time}{dim:#}").as_bytes());
    }

    fn finish_line(&mut self, out: &mut Vec<u8>) {
        self.line.pop();
        if self.appearance.look != Look::Raw && self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        // A newline alone may be all that was missing of a line that is shown already.
        if !(self.line.is_empty() && self.is_continued) {
            self.show_line(out);
        }
        self.is_continued = false;
    }

    fn show_line(&mut self, out: &mut Vec<u8>) {
        if self.is_room.is_none() {
            self.settle(out, self.line.starts_with(GREETING));
        }
        if self.line.starts_with(GREETING)
            && !self.is_continued
            && self.is_room == Some(false)
            && self.names.own().is_none()
        {
            // The room may have been slow to greet.
            self.is_room = Some(true);
        }
        let mut text = String::new();
        escape(&mut text, &self.line, escape::Style::Text);
        let is_line_of_room = self.is_room == Some(true) && !self.is_continued;
        if is_line_of_room {
            self.names.note(&text);
        }
        let rings = is_line_of_room && self.appearance.has_bell && self.is_mentioned(&text);
        self.push_stamp(out);
        match self.appearance.look {
            Look::Raw => out.append(&mut self.line),
            Look::Coloured if is_line_of_room => out.extend_from_slice(self.coloured(&text).as_bytes()),
            _ => out.extend_from_slice(text.as_bytes()),
        }
        self.line.clear();
        if rings {
            out.push(0x07);
        }
        out.push(b'\n');
    }

    /// Whether somebody says the person's name, or says something to the person alone.
    fn is_mentioned(&self, line: &str) -> bool {
        parse(line).is_some_and(|(author, recipient, text)| {
            Some(author) != self.names.own() && (recipient.is_some() || !self.names.mentions(text).is_empty())
        })
    }

    /// A line of the room with the names in their colours, the person's own name in bold, and what the room itself
    /// says dimmed.
    fn coloured(&self, line: &str) -> String {
        if let Some(notice) = line.strip_prefix("* ") {
            return coloured_notice(notice);
        }
        let Some((author, recipient, text)) = parse(line) else { return line.to_owned() };
        let mut shown = format!("<{}", in_colour(author));
        if let Some(recipient) = recipient {
            shown += &format!(" -> {}", in_colour(recipient));
        }
        shown.push_str("> ");
        let mut at = 0;
        for mention in self.names.mentions(text) {
            shown += &text[at..mention.start];
            shown += &format!("{MENTION}{}{MENTION:#}", &text[mention.clone()]);
            at = mention.end;
        }
        shown + &text[at..]
    }

    fn style(&self, style: Style) -> Style {
        if self.appearance.look == Look::Plain { Style::new() } else { style }
    }
}

/// Author, recipient if there is one, and text of something said. Names have no blanks, but they may have hyphens.
fn parse(line: &str) -> Option<(&str, Option<&str>, &str)> {
    let inner = line.strip_prefix('<')?;
    let (first, rest) = inner.split_once(' ')?;
    if let Some(author) = first.strip_suffix('>') {
        return Some((author, None, rest));
    }
    let (recipient, text) = rest.strip_prefix("-> ")?.split_once(' ')?;
    Some((first, Some(recipient.strip_suffix('>')?), text))
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
        .map(|(at, word)| if is_name(at) { format!("{DIM:#}{}{DIM}", in_colour(word)) } else { (*word).to_owned() })
        .collect();
    format!("{DIM}* {}{DIM:#}", words.join(" "))
}

fn in_colour(name: &str) -> String {
    let style = colour(name);
    format!("{style}{name}{style:#}")
}

/// The colour of a name: the same in every session, on every machine. (The hash is FNV-1a.)
fn colour(name: &str) -> Style {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    Style::new().fg_color(Some(COLOURS[(hash % COLOURS.len() as u64) as usize].into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(look: Look) -> Incoming {
        let appearance = Appearance { look, has_bell: true, has_time: false };
        let mut incoming = Incoming::new("localhost port 1".to_owned(), appearance);
        incoming.settle(&mut Vec::new(), false);
        incoming
    }

    /// In a room, as `me`.
    fn room() -> Incoming {
        let mut incoming = incoming(Look::Coloured);
        incoming.push(&mut Vec::new(), b"* welcome, me; nobody else is here\n");
        incoming
    }

    fn shown(look: Look, pieces: &[&[u8]]) -> String {
        let mut incoming = incoming(look);
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
        let mut incoming = incoming(Look::Plain);
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
        let mut incoming = incoming(Look::Plain);
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
        let (room, ann, bob) = (room(), in_colour("ann"), in_colour("bob"));
        assert_eq!(room.coloured("<ann> hello <x> y"), format!("<{ann}> hello <x> y"));
        assert_eq!(room.coloured("<ann -> bob> psst"), format!("<{ann} -> {bob}> psst"));
        assert_eq!(room.coloured("<ann> -> bob> psst"), format!("<{ann}> -> bob> psst"));
        for line in ["<ann>", "<ann -> bob>", "<ann -> bob psst", "<ann hello", "< ", ""] {
            assert_eq!(room.coloured(line), line);
        }
        let dim = |text: &str| format!("{DIM}{text}{DIM:#}");
        assert_eq!(room.coloured("* ann joined"), format!("{}{ann}{}", dim("* "), dim(" joined")));
        assert_eq!(room.coloured("* ann left (too slow)"), format!("{}{ann}{}", dim("* "), dim(" left (too slow)")));
        assert_eq!(room.coloured("* ann is now bob"), format!("{}{ann}{}{bob}{}", dim("* "), dim(" is now "), dim("")));
        assert_eq!(room.coloured("* ann is taken"), dim("* ann is taken"));
        assert_eq!(room.coloured("no name"), "no name");
    }

    #[test]
    fn only_a_room_is_coloured() {
        let line = "<ann> hello\n";
        assert_eq!(shown(Look::Coloured, &[line.as_bytes()]), line);
        let in_room = shown(Look::Coloured, &[GREETING, b"x\n", line.as_bytes()]);
        assert!(in_room.ends_with(&format!("<{}> hello\n", in_colour("ann"))), "{in_room:?}");
    }

    #[test]
    fn the_first_line_says_where_the_session_is() {
        for (line, first) in [
            ("* welcome, x; nobody else is here\n", ", a room: Enter sends, /help lists commands, Ctrl-D ends\n"),
            ("* welcome\n", ": Enter sends, Ctrl-D ends\n"),
        ] {
            let mut incoming = incoming(Look::Plain);
            (incoming.is_room, incoming.is_introduced) = (None, false);
            let mut out = Vec::new();
            incoming.push(&mut out, line.as_bytes());
            assert_eq!(String::from_utf8_lossy(&out), format!("connected to localhost port 1{first}{line}"));
        }
    }

    #[test]
    fn a_mention_is_bold_and_rings_the_bell() {
        let mut room = room();
        let mut shown = |line: &str| {
            let mut out = Vec::new();
            room.push(&mut out, format!("{line}\n").as_bytes());
            String::from_utf8_lossy(&out).into_owned()
        };
        let ann = in_colour("ann");
        assert_eq!(shown("<ann> hello Me!"), format!("<{ann}> hello {MENTION}Me{MENTION:#}!\x07\n"));
        assert!(shown("<ann -> me> psst").ends_with("psst\x07\n"));
        for line in ["<ann> some", "* me joined", "<me> me", "me"] {
            assert!(!shown(line).contains('\x07'), "{line:?}");
        }
        room.appearance.has_bell = false;
        let mut out = Vec::new();
        room.push(&mut out, b"<ann> me\n");
        assert!(!out.contains(&0x07));
    }

    #[test]
    fn the_prompt_shows_the_name_and_follows_it() {
        let mut room = room();
        assert_eq!(room.prompt().text, "<me> ");
        room.push(&mut Vec::new(), b"* me is now ann\n");
        let prompt = room.prompt();
        assert_eq!((&*prompt.text, &prompt.text[prompt.styled.clone()]), ("<ann> ", "ann"));
        assert_eq!(incoming(Look::Plain).prompt().text, "> ");
    }

    #[test]
    fn different_names_have_different_colours_mostly() {
        let names: Vec<String> = (0..600).map(|number| format!("user{number}")).collect();
        for wanted in COLOURS {
            let count = names.iter().filter(|name| colour(name).get_fg_color() == Some(wanted.into())).count();
            assert!((60..140).contains(&count), "{wanted:?}: {count}");
        }
        assert_eq!(colour("ann"), colour("ann"));
    }
}
