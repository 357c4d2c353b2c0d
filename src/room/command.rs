//! What the lines that members send mean, and what is answered to those that mean nothing.

use std::borrow::Cow;
use std::fmt;

use crate::escape::{Style, escape, incomplete_tail};
use crate::names::{MAX_NAME, is_well_formed};

/// The answer to `/help`.
pub(super) const HELP: &str = "* /name NEW, /who, /msg NAME TEXT, /me ACTION, /help, /quit; //text says /text\n";

/// What a member wishes to do with a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// To say something.
    Say(Cow<'a, [u8]>),
    /// To have another name. It is well-formed.
    Rename(&'a str),
    /// To know who is here.
    List,
    /// To say something to the member that has this name, as it was written.
    Whisper { addressee: &'a [u8], text: &'a [u8] },
    /// To know the commands.
    Help,
    /// To leave.
    Quit,
    /// Nothing: the line is empty, or is a command that cannot be understood, with what is answered to it.
    Nothing(Cow<'static, str>),
}

impl<'a> Command<'a> {
    /// Takes a line apart.
    pub(super) fn parse(line: &'a [u8]) -> Self {
        let Some(command) = line.strip_prefix(b"/") else {
            return if line.is_empty() { Self::Nothing("".into()) } else { Self::Say(line.into()) };
        };
        if command.starts_with(b"/") {
            return Self::Say(command.into());
        }
        let (word, rest) = split_word(command);
        match word {
            b"name" | b"nick" => Self::rename(rest),
            b"who" | b"names" => Self::List,
            b"msg" => Self::whisper(rest),
            b"me" => Self::act(rest),
            b"help" => Self::Help,
            b"quit" => Self::Quit,
            _ => Self::Nothing(about("* no such command: /", word, "; try /help\n").into()),
        }
    }

    fn rename(wish: &'a [u8]) -> Self {
        match well_formed(wish.trim_ascii_end()) {
            Some(name) => Self::Rename(name),
            None => Self::Nothing("* a name has 1 to 32 letters, digits, - or _\n".into()),
        }
    }

    fn whisper(rest: &'a [u8]) -> Self {
        match split_word(rest) {
            (b"", _) | (_, b"") => Self::Nothing("* /msg NAME TEXT\n".into()),
            (addressee, text) => Self::Whisper { addressee, text },
        }
    }

    /// Shows what a member does as something that it says: `/me waves` as `<ann> *waves*`. So no action can be taken for a
    /// notice of the server, whatever it is.
    fn act(action: &'a [u8]) -> Self {
        match action.trim_ascii_end() {
            b"" => Self::Nothing("* /me ACTION\n".into()),
            action => Self::Say([b"*", action, b"*"].concat().into()),
        }
    }
}

/// The text as a name, if it can be one.
pub(super) fn well_formed(text: &[u8]) -> Option<&str> {
    str::from_utf8(text).ok().filter(|name| is_well_formed(name))
}

/// The answer to a line of more than `limit` bytes.
pub(super) fn too_long(limit: usize) -> String {
    format!("* line too long (limit {}), not sent\n", Size(limit))
}

/// An answer that repeats the beginning of a word: all of it if it may be a name.
pub(super) fn about(before: &str, word: &[u8], after: &str) -> String {
    let beginning = match word.get(..4 * MAX_NAME) {
        Some(beginning) => &beginning[..beginning.len() - incomplete_tail(beginning)],
        None => word,
    };
    let mut answer = before.to_owned();
    escape(&mut answer, beginning, Style::Text);
    answer.push_str(after);
    answer
}

/// The first word and what follows it, without the spaces between them.
fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_ascii_start())
}

/// A size as people write it: `64 KiB`.
struct Size(usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes % (1 << 20) == 0 => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes > 0 && bytes % (1 << 10) == 0 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}
