//! The names that a room's lines mention, and which of them is the person's own.

use std::collections::BTreeSet;
use std::ops::Range;

use unicode_normalization::char::is_combining_mark;

use super::super::room::WELCOME;

/// How many names are remembered. Of a larger room not all names are known anyway.
const MAX_NAMES: usize = 10_000;

/// The longest name, in characters.
const MAX_NAME: usize = 64;

/// Who is in the room, as far as its lines tell.
#[derive(Debug, Default)]
pub(super) struct Names {
    own: Option<String>,
    others: BTreeSet<String>,
}

impl Names {
    /// The person's name in the room.
    pub(super) fn own(&self) -> Option<&str> {
        self.own.as_deref()
    }

    /// The person's name, unless the room gave it: `user7` and the like cannot be asked for.
    pub(super) fn chosen(&self) -> Option<&str> {
        let is_given = |name: &str| {
            name.strip_prefix("user").is_some_and(|number| number.bytes().all(|digit| digit.is_ascii_digit()))
        };
        self.own().filter(|own| !is_given(own))
    }

    /// Learns from a line of the room.
    pub(super) fn note(&mut self, line: &str) {
        let Some(notice) = line.strip_prefix("* ") else {
            if let Some((author, _)) = line.strip_prefix('<').and_then(|rest| rest.split_once(['>', ' '])) {
                self.add(author);
            }
            return;
        };
        if let Some(rest) = line.as_bytes().starts_with(WELCOME).then(|| &line[WELCOME.len()..]) {
            let (own, rest) = rest.split_once(';').unwrap_or((rest, ""));
            self.own = is_plausible(own).then(|| own.to_owned());
            self.others.clear();
            self.add_list(rest.strip_prefix(" here: ").unwrap_or_default());
        } else if let Some(list) = notice.strip_prefix("here: ") {
            self.add_list(list);
        } else if let Some(own) = notice.strip_prefix("your name was taken; you are now ") {
            self.own = is_plausible(own).then(|| own.to_owned());
        } else if let Some(list) = members_that(notice, " joined") {
            self.add_list(list);
        } else if let Some(list) = members_that(notice, " left") {
            for name in names_of(list) {
                self.others.remove(name);
            }
        } else {
            let words: Vec<&str> = notice.split(' ').collect();
            match words[..] {
                [old, "is", "now", new] if self.own() == Some(old) && is_plausible(new) => {
                    self.own = Some(new.to_owned())
                }
                [old, "is", "now", new] => {
                    self.others.remove(old);
                    self.add(new);
                }
                _ => {}
            }
        }
    }

    /// The names of others that begin with `beginning`, in any case.
    pub(super) fn starting_with(&self, beginning: &str) -> Vec<&str> {
        let beginning = beginning.to_lowercase();
        let names = self.others.iter().map(String::as_str);
        names.filter(|name| name.to_lowercase().starts_with(&beginning)).collect()
    }

    /// Where in `text` the person's own name is a word of its own, in any case.
    pub(super) fn mentions(&self, text: &str) -> Vec<Range<usize>> {
        let Some(own) = self.own().map(str::to_lowercase) else { return Vec::new() };
        let is_between = |character: char| !may_be_in_name(character);
        let (mut found, mut at) = (Vec::new(), 0);
        for piece in text.split_inclusive(is_between) {
            let word = piece.trim_end_matches(is_between);
            if word.to_lowercase() == own {
                found.push(at..at + word.len());
            }
            at += piece.len();
        }
        found
    }

    fn add_list(&mut self, list: &str) {
        for name in names_of(list) {
            self.add(name);
        }
    }

    fn add(&mut self, name: &str) {
        if is_plausible(name) && self.own() != Some(name) && self.others.len() < MAX_NAMES {
            self.others.insert(name.to_owned());
        }
    }
}

/// The list of those that do something together, or of the only one that does: `ann, bob, carol and 17 more left (idle)`.
fn members_that<'a>(notice: &'a str, verb: &str) -> Option<&'a str> {
    let (list, rest) = notice.split_once(verb)?;
    let names = list.rsplit_once(" and ").filter(|(_, more)| more.ends_with(" more")).map_or(list, |(names, _)| names);
    let is_list = names.split(", ").all(is_plausible) && (rest.is_empty() || rest.starts_with(" ("));
    is_list.then_some(list)
}

/// The names that a list shows: `ann, bob and 7 more`.
fn names_of(list: &str) -> impl Iterator<Item = &str> {
    list.split(", ").map(|name| name.split(' ').next().unwrap_or_default())
}

/// Whether a room can have given such a name.
fn is_plausible(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.chars().count()) && name.chars().all(may_be_in_name)
}

fn may_be_in_name(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '-' | '_') || is_combining_mark(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(lines: &[&str]) -> Names {
        let mut names = Names::default();
        for line in lines {
            names.note(line);
        }
        names
    }

    #[test]
    fn names_are_learned_from_what_the_room_says() {
        let mut names = names(&["* welcome, user3; here: ann, bob and 7 more", "<Anton> hi", "<eve -> user3> psst"]);
        assert_eq!((names.own(), names.chosen()), (Some("user3"), None));
        assert_eq!(names.starting_with("a"), ["Anton", "ann"]);
        for line in ["* Anton left (too slow)", "* user4 joined", "* user4 is now alma", "* user3 is now me", "<me> x"]
        {
            names.note(line);
        }
        assert_eq!((names.own(), names.starting_with("A")), (Some("me"), vec!["alma", "ann"]));
        assert_eq!(names.starting_with(""), ["alma", "ann", "bob", "eve"]);
        assert_eq!(names.chosen(), Some("me"));
        names.note("* here: me, zoe");
        assert_eq!(names.starting_with("z"), ["zoe"]);
        names.note("* welcome, user1; nobody else is here");
        assert_eq!((names.own(), names.starting_with("").len()), (Some("user1"), 0));
    }

    #[test]
    fn members_that_come_and_go_together_are_learned_too() {
        let mut names =
            names(&["* welcome, me; here: ann, bob, carol, eve", "* fay, gus joined (their server is back)"]);
        assert_eq!(names.starting_with(""), ["ann", "bob", "carol", "eve", "fay", "gus"]);
        names.note("* ann, bob, carol and 17 more left (their server is gone)");
        assert_eq!(names.starting_with(""), ["eve", "fay", "gus"]);
        names.note("* gus left (their server is stopping)");
        names.note("* hal, ian, joe and 2 more joined");
        names.note("* the addressee has left; your line was not sent");
        names.note("* the cat joined");
        assert_eq!(names.starting_with(""), ["eve", "fay", "hal", "ian", "joe"]);
        names.note("* your name was taken; you are now user12");
        assert_eq!((names.own(), names.chosen()), (Some("user12"), None));
    }

    #[test]
    fn a_mention_is_a_word_of_its_own() {
        let names = names(&["* welcome, ann; nobody else is here"]);
        assert_eq!(names.mentions("ann: Ann, annie and hann, @ann"), [0..3, 5..8, 27..30]);
        assert_eq!(names.mentions("an-ann ann_ a"), []);
        assert_eq!(Names::default().mentions("ann"), []);
    }
}
