//! What comes from the server, as a person reads it: line by line, safe for the terminal, with names in colour.

use std::mem;

use anstyle::{AnsiColor, Style};
use chrono::Local;

use super::super::room::is_greeting;
use super::clock::Clock;
use super::names::Names;
use super::screen::Prompt;
use crate::escape::{self, escape, incomplete_tail};

#[cfg(test)]
mod tests;

/// The most bytes that wait for the end of their line.
const MAX_HELD: usize = 256 << 10;

/// How the lines of a room begin that were said before the person came.
const EARLIER: &str = "| ";

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
    /// A line of the server has been shown.
    has_spoken: bool,
    /// The line that says where the session is has been shown.
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
            has_spoken: false,
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

    /// What the person sends, as others hear it: what a room's member does comes in asterisks.
    pub(super) fn as_heard(&self, text: &str) -> String {
        let heard = |line: &str| match action(line).filter(|_| self.is_room == Some(true)) {
            Some(action) => format!("*{action}*"),
            None => line.to_owned(),
        };
        text.split('\n').map(heard).collect::<Vec<_>>().join("\n")
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

    /// Expects the greeting of a new connection. The names of the members stay known until it comes.
    pub(super) fn restart(&mut self) {
        self.line.clear();
        (self.is_continued, self.is_room, self.has_spoken, self.is_introduced) = (false, None, false, false);
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
        if !mem::replace(&mut self.has_spoken, true) {
            // The first line tells, also when a slow room has been taken for an echo server meanwhile.
            self.settle(out, is_greeting(&self.line));
        }
        let mut text = String::new();
        escape(&mut text, &self.line, escape::Style::Text);
        let is_line_of_room = self.is_room == Some(true) && !self.is_continued;
        if is_line_of_room {
            self.names.note(&text);
        }
        let is_earlier = is_line_of_room && text.starts_with(EARLIER);
        let rings = is_line_of_room && self.appearance.has_bell && self.is_mentioned(&text);
        match is_earlier && self.appearance.has_time {
            // When it was said is not known.
            true => out.extend_from_slice(Clock::BLANK.as_bytes()),
            false => self.push_stamp(out),
        }
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

    /// A line of the room with the names in their colours and the person's own name in bold. What the room itself says is
    /// dimmed, and what was said before the person came.
    fn coloured(&self, line: &str) -> String {
        if let Some(notice) = line.strip_prefix("* ") {
            return coloured_notice(notice);
        }
        if line.starts_with(EARLIER) {
            return format!("{DIM}{line}{DIM:#}");
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

/// What a line to a room says that its author does.
fn action(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("/me").filter(|rest| rest.starts_with(|first: char| first.is_ascii_whitespace()))?;
    Some(rest.trim_ascii()).filter(|action| !action.is_empty())
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
