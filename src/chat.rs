//! The room: names, commands, and what everyone is told.
//!
//! It knows nothing of connections: it is told who comes, what they say and who goes, and tells a [`Hall`]
//! who has to hear what.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::escape::{Style, escape, incomplete_tail};

/// The most characters in a name.
pub const MAX_NAME: usize = 32;

/// How many names a list shows before it only counts the rest.
const NAMES_SHOWN: usize = 20;

const HELP: &str = "* /name NEW, /who, /msg NAME TEXT, /help, /quit; //text says /text";

/// Carries what is said to those who have to hear it.
pub trait Hall<Id> {
    /// Tells `line`, which ends in a newline, to all members but `except`.
    fn tell_others(&mut self, except: Id, line: &str);
    /// Tells `line`, which ends in a newline, to one member.
    fn tell(&mut self, member: Id, line: &str);
    /// Shows `line`, which has no newline, to the operator, and what it is about.
    fn show(&mut self, what: Happening, line: &str);
}

/// What a member does that all hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It has come.
    Joined,
    /// It has another name now.
    Renamed,
    /// It has said something.
    Said,
    /// It has gone.
    Left,
}

/// What becomes of a member after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The member stays.
    Stay,
    /// The member asked to leave: [`Room::leave`] is to follow.
    Leave,
}

/// Who is in the room, and under which name. Members are named by an `Id` that grows in the order in which
/// they join.
#[derive(Debug)]
pub struct Room<Id> {
    names: BTreeMap<Id, String>,
    /// By the form that two names must not share.
    taken: HashMap<String, Id>,
    /// How many have ever joined: the names that the server gives are never given twice.
    joined: u64,
    /// Where lines are composed.
    line: String,
}

impl<Id: Copy + Ord> Room<Id> {
    /// A room with nobody in it.
    pub fn new() -> Self {
        Self { names: BTreeMap::new(), taken: HashMap::new(), joined: 0, line: String::new() }
    }

    /// `id` joins, and gets the next name: `user1`, `user2`, and so on.
    pub fn join(&mut self, id: Id, hall: &mut impl Hall<Id>) {
        self.joined += 1;
        let name = format!("user{}", self.joined);
        if self.names.is_empty() {
            hall.tell(id, &format!("* welcome, {name}; nobody else is here\n"));
        } else {
            hall.tell(id, &format!("* welcome, {name}; here: {}\n", self.list()));
        }
        self.announce(id, Happening::Joined, format_args!("* {name} joined"), hall);
        self.taken.insert(unmistakable(&name), id);
        self.names.insert(id, name);
    }

    /// `id` has left, for a reason that is told if there is one. Who is not in the room is ignored.
    pub fn leave(&mut self, id: Id, reason: Option<&str>, hall: &mut impl Hall<Id>) {
        let Some(name) = self.names.remove(&id) else { return };
        self.taken.remove(&unmistakable(&name));
        match reason {
            Some(reason) => self.announce(id, Happening::Left, format_args!("* {name} left ({reason})"), hall),
            None => self.announce(id, Happening::Left, format_args!("* {name} left"), hall),
        }
    }

    /// `id` sent a line: something said, or a command.
    pub fn hear(&mut self, id: Id, text: &[u8], hall: &mut impl Hall<Id>) -> Reaction {
        let Some(command) = text.strip_prefix(b"/") else {
            if !text.is_empty() {
                self.say(id, text, hall);
            }
            return Reaction::Stay;
        };
        if command.starts_with(b"/") {
            self.say(id, command, hall);
            return Reaction::Stay;
        }
        let (word, rest) = split_word(command);
        match word {
            b"name" => self.rename(id, rest, hall),
            b"who" => {
                let answer = format!("* here: {}\n", self.list());
                hall.tell(id, &answer);
            }
            b"msg" => self.whisper(id, rest, hall),
            b"help" => hall.tell(id, &format!("{HELP}\n")),
            b"quit" => return Reaction::Leave,
            _ => {
                let mut answer = "* no such command: /".to_owned();
                escape(&mut answer, beginning(word), Style::Text);
                answer.push_str("; try /help\n");
                hall.tell(id, &answer);
            }
        }
        Reaction::Stay
    }

    /// A line of `id` was longer than `limit` bytes.
    pub fn refuse_line(&mut self, id: Id, limit: usize, hall: &mut impl Hall<Id>) {
        hall.tell(id, &format!("* line too long (limit {}), not sent\n", Size(limit)));
    }

    fn say(&mut self, id: Id, text: &[u8], hall: &mut impl Hall<Id>) {
        let Some(name) = self.names.get(&id) else { return };
        self.line.clear();
        _ = write!(self.line, "<{name}> ");
        escape(&mut self.line, text, Style::Text);
        self.publish(id, Happening::Said, hall);
    }

    fn announce(&mut self, id: Id, what: Happening, text: fmt::Arguments<'_>, hall: &mut impl Hall<Id>) {
        self.line.clear();
        _ = self.line.write_fmt(text);
        self.publish(id, what, hall);
    }

    /// Gives the composed line to all but `id`, and to the operator.
    fn publish(&mut self, id: Id, what: Happening, hall: &mut impl Hall<Id>) {
        hall.show(what, &self.line);
        self.line.push('\n');
        hall.tell_others(id, &self.line);
    }

    fn rename(&mut self, id: Id, wish: &[u8], hall: &mut impl Hall<Id>) {
        let Some(old) = self.names.get(&id).cloned() else { return };
        let Some(new) = str::from_utf8(wish.trim_ascii_end()).ok().filter(|name| is_well_formed(name)) else {
            hall.tell(id, "* a name has 1 to 32 letters, digits, - or _\n");
            return;
        };
        let form = unmistakable(new);
        let holder = self.taken.get(&form);
        if holder.is_some_and(|holder| *holder != id) || (holder.is_none() && is_given_by_server(&form)) {
            hall.tell(id, &format!("* {new} is taken\n"));
            return;
        }
        if new == old {
            hall.tell(id, &format!("* you are {new} already\n"));
            return;
        }
        self.taken.remove(&unmistakable(&old));
        self.taken.insert(form, id);
        self.names.insert(id, new.to_owned());
        hall.tell(id, &format!("* {old} is now {new}\n"));
        self.announce(id, Happening::Renamed, format_args!("* {old} is now {new}"), hall);
    }

    fn whisper(&mut self, id: Id, rest: &[u8], hall: &mut impl Hall<Id>) {
        let (addressee, text) = split_word(rest);
        if addressee.is_empty() || text.is_empty() {
            hall.tell(id, "* /msg NAME TEXT\n");
            return;
        }
        let form = str::from_utf8(addressee).ok().map(unmistakable);
        let Some(&receiver) = form.and_then(|form| self.taken.get(&form)) else {
            let mut answer = "* nobody is called ".to_owned();
            escape(&mut answer, beginning(addressee), Style::Text);
            answer.push('\n');
            hall.tell(id, &answer);
            return;
        };
        if let (Some(from), Some(to)) = (self.names.get(&id), self.names.get(&receiver)) {
            self.line.clear();
            _ = write!(self.line, "<{from} -> {to}> ");
            escape(&mut self.line, text, Style::Text);
            self.line.push('\n');
            hall.tell(receiver, &self.line);
        }
    }

    /// Who is here, the longest first.
    fn list(&self) -> String {
        let shown: Vec<&str> = self.names.values().take(NAMES_SHOWN).map(String::as_str).collect();
        let mut list = shown.join(", ");
        if self.names.len() > shown.len() {
            _ = write!(list, " and {} more", self.names.len() - shown.len());
        }
        list
    }
}

impl<Id: Copy + Ord> Default for Room<Id> {
    fn default() -> Self {
        Self::new()
    }
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

/// The first word and what follows it, without the spaces between them.
fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_ascii_start())
}

/// As much of a word as an answer repeats: what may be a name is repeated whole.
fn beginning(word: &[u8]) -> &[u8] {
    let Some(beginning) = word.get(..4 * MAX_NAME) else { return word };
    &beginning[..beginning.len() - incomplete_tail(beginning)]
}

/// Letters and digits of any script, `-` and `_`. The marks with which many scripts write their vowels may
/// follow a letter; characters that show nothing may not, or two names could look the same.
fn is_well_formed(name: &str) -> bool {
    let is_letter = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_');
    let mut characters = name.chars();
    (1..=MAX_NAME).contains(&name.chars().count())
        && characters.next().is_some_and(|first| is_letter(first) && !is_combining_mark(first))
        && characters.all(|character| is_letter(character) || is_combining_mark(character))
        && !name.contains(is_invisible)
}

/// The letters and marks that are displayed as nothing: Unicode's `Default_Ignorable_Code_Point`, and the blanks
/// and fillers of two scripts.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{13441}'..='\u{13442}' | '\u{16fe4}' | '\u{e0100}'..='\u{e01ef}')
}

/// What two names that people would take for the same have in common: upper and lower case, and the
/// different encodings of a character (Unicode Standard Annex 15, NFKC). By way of lower case and upper case,
/// because some letters have two upper ones, such as the sharp s, and some two lower ones, such as the sigma.
fn unmistakable(name: &str) -> String {
    let lower = name.nfkc().flat_map(char::to_lowercase);
    lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect()
}

/// `user7` is the server's to give, even if nobody has it yet or any more.
fn is_given_by_server(form: &str) -> bool {
    form.strip_prefix("user").is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}
