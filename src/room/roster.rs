//! Who is in the room under which name, and what the lines that members send mean.
//!
//! It knows nothing of connections: it is told who comes, what they send and who goes, and tells a [`Delivery`] who is to
//! hear what.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};

use super::names::{MAX_NAME, forms, is_reserved, is_well_formed};
use super::notice::{Excerpt, Notice};
use crate::escape::{Style, escape, incomplete_tail};

/// How many names a list shows before it only counts the rest.
const NAMES_SHOWN: usize = 20;

const HELP: &str = "* /name NEW, /who, /msg NAME TEXT, /me ACTION, /help, /quit; //text says /text\n";

/// Brings lines to the members that are to hear them.
pub trait Delivery<Id> {
    /// Sends `notice` to all members but its author, and shows it to the operator.
    fn publish(&mut self, author: Id, notice: Notice<'_>);

    /// Sends a line, which ends in a newline, to the member whose own line it answers.
    fn answer(&mut self, member: Id, line: &str);

    /// Sends a private line, which ends in a newline, to another member. Returns whether that member takes it.
    fn whisper(&mut self, member: Id, line: &str) -> bool;
}

/// What becomes of a member after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The member stays.
    Stay,
    /// The member asked to leave: [`Roster::leave`] is to follow.
    Leave,
}

/// The members and their names. Members are named by an `Id` that grows in the order in which they join.
///
/// A member that joins is a newcomer at first: the others do not hear of it until it is [announced](Self::announce) or
/// does something that they hear of.
#[derive(Debug)]
pub struct Roster<Id> {
    /// The names of the members that have been announced.
    members: BTreeMap<Id, String>,
    newcomers: HashMap<Id, String>,
    /// The holder of each form that two names must not share.
    taken: HashMap<String, Id>,
    /// The number in the newest name that the server gave. A number is only given again if its newcomer left without
    /// having been announced, and no later one was given.
    newest: u64,
}

impl<Id: Copy + Ord + std::hash::Hash> Roster<Id> {
    /// A room without members.
    pub fn new() -> Self {
        Self { members: BTreeMap::new(), newcomers: HashMap::new(), taken: HashMap::new(), newest: 0 }
    }

    /// `id` joins, and gets the next name: `user1`, `user2`, and so on.
    pub fn join(&mut self, id: Id, delivery: &mut impl Delivery<Id>) {
        self.newest += 1;
        let name = format!("user{}", self.newest);
        if self.members.is_empty() {
            delivery.answer(id, &format!("* welcome, {name}; nobody else is here\n"));
        } else {
            delivery.answer(id, &format!("* welcome, {name}; here: {}\n", self.list(None)));
        }
        self.claim(id, &name);
        self.newcomers.insert(id, name);
    }

    /// Tells the others of a newcomer; does nothing for other members.
    pub fn announce(&mut self, id: Id, delivery: &mut impl Delivery<Id>) {
        if let Some(name) = self.newcomers.remove(&id) {
            delivery.publish(id, Notice::Joined { name: &name });
            self.members.insert(id, name);
        }
    }

    /// `id` has left, for a reason that is told if there is one. Nobody hears of a newcomer that leaves.
    pub fn leave(&mut self, id: Id, reason: Option<&'static str>, delivery: &mut impl Delivery<Id>) {
        if let Some(name) = self.members.remove(&id) {
            self.release(&name);
            delivery.publish(id, Notice::Left { name: &name, reason });
        } else if let Some(name) = self.newcomers.remove(&id) {
            self.release(&name);
            self.newest -= u64::from(name == format!("user{}", self.newest));
        }
    }

    /// `id` sent a line: something to say, or a command.
    pub fn handle_line(&mut self, id: Id, text: &[u8], delivery: &mut impl Delivery<Id>) -> Reaction {
        let Some(command) = text.strip_prefix(b"/") else {
            if !text.is_empty() {
                self.say(id, text, delivery);
            }
            return Reaction::Stay;
        };
        if command.starts_with(b"/") {
            self.say(id, command, delivery);
            return Reaction::Stay;
        }
        let (word, rest) = split_word(command);
        match word {
            b"name" | b"nick" => self.rename(id, rest, delivery),
            b"who" | b"names" => delivery.answer(id, &format!("* here: {}\n", self.list(self.newcomers.get(&id)))),
            b"msg" => self.whisper(id, rest, delivery),
            b"me" => self.act(id, rest, delivery),
            b"help" => delivery.answer(id, HELP),
            b"quit" => return Reaction::Leave,
            _ => delivery.answer(id, &about("* no such command: /", word, "; try /help\n")),
        }
        Reaction::Stay
    }

    /// A line of `id` was longer than `limit` bytes.
    pub fn refuse_line(&mut self, id: Id, limit: usize, delivery: &mut impl Delivery<Id>) {
        delivery.answer(id, &format!("* line too long (limit {}), not sent\n", Size(limit)));
    }

    fn say(&mut self, id: Id, text: &[u8], delivery: &mut impl Delivery<Id>) {
        self.announce(id, delivery);
        if let Some(name) = self.members.get(&id) {
            delivery.publish(id, Notice::Said { name, text });
        }
    }

    /// Shows what a member does as something that it says: `/me waves` as `<ann> *waves*`. So no action can be taken for a
    /// notice of the server, whatever it is.
    fn act(&mut self, id: Id, action: &[u8], delivery: &mut impl Delivery<Id>) {
        match action.trim_ascii_end() {
            b"" => delivery.answer(id, "* /me ACTION\n"),
            action => self.say(id, &[b"*", action, b"*"].concat(), delivery),
        }
    }

    fn rename(&mut self, id: Id, wish: &[u8], delivery: &mut impl Delivery<Id>) {
        let Some(old) = self.name(id).cloned() else { return };
        let Some(new) = str::from_utf8(wish.trim_ascii_end()).ok().filter(|name| is_well_formed(name)) else {
            delivery.answer(id, "* a name has 1 to 32 letters, digits, - or _\n");
            return;
        };
        if !self.may_take(id, new) {
            delivery.answer(id, &format!("* {new} is taken\n"));
            return;
        }
        if new == old {
            delivery.answer(id, &format!("* you are {new} already\n"));
            return;
        }
        self.release(&old);
        self.claim(id, new);
        delivery.answer(id, &format!("* {old} is now {new}\n"));
        // The others never knew a newcomer's old name.
        let notice = match self.newcomers.remove(&id) {
            Some(_) => Notice::Joined { name: new },
            None => Notice::Renamed { from: &old, to: new },
        };
        self.members.insert(id, new.to_owned());
        delivery.publish(id, notice);
    }

    fn whisper(&mut self, id: Id, rest: &[u8], delivery: &mut impl Delivery<Id>) {
        let (addressee, text) = split_word(rest);
        if addressee.is_empty() || text.is_empty() {
            delivery.answer(id, "* /msg NAME TEXT\n");
            return;
        }
        // The forms of a text of any length would take long.
        let name = str::from_utf8(addressee).ok().filter(|name| is_well_formed(name));
        let Some(receiver) = name.and_then(|name| self.holder(name)) else {
            delivery.answer(id, &about("* nobody is called ", addressee, "\n"));
            return;
        };
        // It can be answered only if the others know the name.
        self.announce(id, delivery);
        let (Some(from), Some(to)) = (self.name(id), self.name(receiver)) else { return };
        let head = format!("<{from} -> {to}> ");
        let mut line = head.clone();
        escape(&mut line, text, Style::Text);
        line.push('\n');
        if !delivery.whisper(receiver, &line) {
            delivery.answer(id, &format!("* {to} is not reading; your line was not sent\n"));
        } else if receiver != id {
            // As the addressee sees it, but a long line need not travel back as a whole.
            delivery.answer(id, &format!("{head}{}\n", Excerpt(text)));
        }
    }

    /// Whether `name` is neither another member's nor the server's. A member may write its own name in another
    /// way, also the one that the server gave it.
    fn may_take(&self, id: Id, name: &str) -> bool {
        forms(name).iter().all(|form| match self.taken.get(form) {
            Some(holder) => *holder == id,
            None => !is_reserved(form),
        })
    }

    fn claim(&mut self, id: Id, name: &str) {
        self.taken.extend(forms(name).map(|form| (form, id)));
    }

    fn release(&mut self, name: &str) {
        for form in forms(name) {
            self.taken.remove(&form);
        }
    }

    /// The member whose name this is, or, if there is none, whose name looks like it.
    fn holder(&self, name: &str) -> Option<Id> {
        forms(name).iter().find_map(|form| self.taken.get(form)).copied()
    }

    fn name(&self, id: Id) -> Option<&String> {
        self.members.get(&id).or_else(|| self.newcomers.get(&id))
    }

    /// Who is here, the member that has been here longest first, and last the newcomer who asks.
    fn list(&self, newcomer: Option<&String>) -> String {
        let names = self.members.values().chain(newcomer);
        let count = self.members.len() + usize::from(newcomer.is_some());
        let shown: Vec<&str> = names.take(NAMES_SHOWN).map(String::as_str).collect();
        let mut list = shown.join(", ");
        if count > shown.len() {
            _ = write!(list, " and {} more", count - shown.len());
        }
        list
    }
}

impl<Id: Copy + Ord + std::hash::Hash> Default for Roster<Id> {
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

/// An answer that repeats the beginning of a word: all of it if it may be a name.
fn about(before: &str, word: &[u8], after: &str) -> String {
    let beginning = match word.get(..4 * MAX_NAME) {
        Some(beginning) => &beginning[..beginning.len() - incomplete_tail(beginning)],
        None => word,
    };
    let mut answer = before.to_owned();
    escape(&mut answer, beginning, Style::Text);
    answer.push_str(after);
    answer
}
