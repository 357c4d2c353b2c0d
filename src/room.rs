//! The room: names, commands, and what everyone is told.
//!
//! It knows nothing of connections: it is told who comes, what they say and who goes, and tells a [`Hall`]
//! who has to hear what.

pub(crate) mod names;
mod notice;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};

use crate::escape::{Style, escape, incomplete_tail};
pub use names::MAX_NAME;
use names::{is_given_by_server, is_well_formed, unmistakable};
pub use notice::Notice;

/// How many names a list shows before it only counts the rest.
const NAMES_SHOWN: usize = 20;

const HELP: &str = "* /name NEW, /who, /msg NAME TEXT, /help, /quit; //text says /text";

/// Carries what is said to those who have to hear it.
pub trait Hall<Id> {
    /// Tells `line`, which ends in a newline, to all members but `except`.
    fn tell_others(&mut self, except: Id, line: &str);
    /// Tells `line`, which ends in a newline, to one member.
    fn tell(&mut self, member: Id, line: &str);
    /// Shows the operator what the members are told.
    fn show(&mut self, notice: Notice<'_>);
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
        self.publish(id, Notice::Joined { name: &name }, hall);
        self.taken.insert(unmistakable(&name), id);
        self.names.insert(id, name);
    }

    /// `id` has left, for a reason that is told if there is one. Who is not in the room is ignored.
    pub fn leave(&mut self, id: Id, reason: Option<&'static str>, hall: &mut impl Hall<Id>) {
        let Some(name) = self.names.remove(&id) else { return };
        self.taken.remove(&unmistakable(&name));
        self.publish(id, Notice::Left { name: &name, reason }, hall);
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
        let Some(name) = self.names.get(&id).cloned() else { return };
        self.publish(id, Notice::Said { name: &name, text }, hall);
    }

    /// Gives a line to all but `id`, and to the operator.
    fn publish(&mut self, id: Id, notice: Notice<'_>, hall: &mut impl Hall<Id>) {
        self.line.clear();
        _ = writeln!(self.line, "{notice}");
        hall.show(notice);
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
        self.publish(id, Notice::Renamed { from: &old, to: new }, hall);
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
