//! Who is in the room under which name, and who is to hear what.
//!
//! It knows nothing of connections: it is told who comes, what they send and who goes, and tells a [`Delivery`] who is to
//! hear what.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use super::command::{Command, HELP, about, too_long, well_formed};
use super::notice::{Excerpt, Notice};
use crate::escape::{Style, escape};
use crate::names::{forms, is_reserved};

/// How many names a list shows before it only counts the rest.
const NAMES_SHOWN: usize = 20;

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
    /// The member stays, and its next line is not to be taken before this one has been answered.
    Wait,
    /// The member asked to leave: [`Roster::leave`] is to follow.
    Leave,
}

/// What a member does with a line that concerns others.
#[derive(Debug)]
pub(super) enum Action<'a, Id> {
    /// Nothing: what the line asks is answered.
    Nothing,
    Say(Cow<'a, [u8]>),
    /// It may have this name, as far as is known.
    Rename(&'a str),
    Whisper {
        to: Id,
        text: &'a [u8],
    },
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
        self.welcome(id, format!("user{}", self.newest), delivery);
    }

    /// `id` joins under this name.
    pub(super) fn welcome(&mut self, id: Id, name: String, delivery: &mut impl Delivery<Id>) {
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
            self.release(id, &name);
            delivery.publish(id, Notice::Left { name: &name, reason });
        } else if let Some(name) = self.newcomers.remove(&id) {
            self.release(id, &name);
            self.newest -= u64::from(name == format!("user{}", self.newest));
        }
    }

    /// `id` sent a line: something to say, or a command. What it changes takes effect at once.
    pub fn handle_line(&mut self, id: Id, text: &[u8], delivery: &mut impl Delivery<Id>) -> Reaction {
        match self.interpret(id, text, delivery) {
            Action::Nothing => {}
            Action::Say(text) => self.say(id, &text, delivery),
            Action::Rename(name) => self.rename(id, name, delivery),
            Action::Whisper { to, text } => _ = self.whisper(id, to, text, delivery),
            Action::Leave => return Reaction::Leave,
        }
        Reaction::Stay
    }

    /// A line of `id` was longer than `limit` bytes.
    pub fn refuse_line(&mut self, id: Id, limit: usize, delivery: &mut impl Delivery<Id>) {
        delivery.answer(id, &too_long(limit));
    }

    /// Finds out what `id` does with a line, and answers what concerns nobody else.
    pub(super) fn interpret<'a>(&self, id: Id, line: &'a [u8], delivery: &mut impl Delivery<Id>) -> Action<'a, Id> {
        let answer: Cow<'_, str> = match Command::parse(line) {
            Command::Say(text) => return Action::Say(text),
            Command::Quit => return Action::Leave,
            Command::Rename(name) if !self.may_take(id, name) => format!("* {name} is taken\n").into(),
            Command::Rename(name) if self.name(id).is_some_and(|own| own == name) => {
                format!("* you are {name} already\n").into()
            }
            Command::Rename(name) => return Action::Rename(name),
            // The forms of a text of any length would take long.
            Command::Whisper { addressee, text } => match well_formed(addressee).and_then(|name| self.holder(name)) {
                Some(to) => return Action::Whisper { to, text },
                None => about("* nobody is called ", addressee, "\n").into(),
            },
            Command::List => format!("* here: {}\n", self.list(self.newcomers.get(&id))).into(),
            Command::Help => HELP.into(),
            Command::Nothing(answer) if answer.is_empty() => return Action::Nothing,
            Command::Nothing(answer) => answer,
        };
        delivery.answer(id, &answer);
        Action::Nothing
    }

    /// `id` says something.
    pub(super) fn say(&mut self, id: Id, text: &[u8], delivery: &mut impl Delivery<Id>) {
        self.announce(id, delivery);
        if let Some(name) = self.members.get(&id) {
            delivery.publish(id, Notice::Said { name, text });
        }
    }

    /// `id` gets another name, which nobody else has.
    pub(super) fn rename(&mut self, id: Id, new: &str, delivery: &mut impl Delivery<Id>) {
        let Some(old) = self.name(id).cloned() else { return };
        self.release(id, &old);
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

    /// `id` says something to one member alone. Returns whether that member takes it.
    pub(super) fn whisper(&mut self, id: Id, to: Id, text: &[u8], delivery: &mut impl Delivery<Id>) -> bool {
        // It can be answered only if the others know the name.
        self.announce(id, delivery);
        let (Some(from), Some(receiver)) = (self.name(id), self.name(to)) else { return false };
        let head = format!("<{from} -> {receiver}> ");
        let mut line = head.clone();
        escape(&mut line, text, Style::Text);
        line.push('\n');
        let is_taken = delivery.whisper(to, &line);
        if !is_taken {
            self.tell_unread(to, id, delivery);
        } else if to != id {
            // As the addressee sees it, but a long line need not travel back as a whole.
            delivery.answer(id, &format!("{head}{}\n", Excerpt(text)));
        }
        is_taken
    }

    /// Tells `author` that `id` does not read what is sent to it alone.
    pub(super) fn tell_unread(&self, id: Id, author: Id, delivery: &mut impl Delivery<Id>) {
        if let Some(name) = self.name(id) {
            delivery.answer(author, &format!("* {name} is not reading; your line was not sent\n"));
        }
    }

    /// `id` is here under this name, in place of its earlier one if it had one. Nobody is told.
    pub(super) fn set(&mut self, id: Id, name: &str, is_announced: bool) {
        self.remove(id);
        self.claim(id, name);
        match is_announced {
            true => _ = self.members.insert(id, name.to_owned()),
            false => _ = self.newcomers.insert(id, name.to_owned()),
        }
    }

    /// `id` is here no more. Nobody is told.
    pub(super) fn remove(&mut self, id: Id) {
        if let Some(name) = self.members.remove(&id).or_else(|| self.newcomers.remove(&id)) {
            self.release(id, &name);
        }
    }

    /// All who are here, newcomers last.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id> {
        self.members.keys().chain(self.newcomers.keys()).copied()
    }

    /// The members whose names look like this one.
    pub(super) fn holders(&self, name: &str) -> impl Iterator<Item = Id> {
        forms(name).into_iter().filter_map(|form| self.taken.get(&form).copied())
    }

    /// The name of a member of which the others have heard.
    pub(super) fn announced(&self, id: Id) -> Option<&str> {
        self.members.get(&id).map(String::as_str)
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

    fn release(&mut self, id: Id, name: &str) {
        for form in forms(name) {
            if self.taken.get(&form) == Some(&id) {
                self.taken.remove(&form);
            }
        }
    }

    /// The member whose name this is, or, if there is none, whose name looks like it.
    fn holder(&self, name: &str) -> Option<Id> {
        forms(name).iter().find_map(|form| self.taken.get(form)).copied()
    }

    /// The name of a member or newcomer.
    pub(super) fn name(&self, id: Id) -> Option<&String> {
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
