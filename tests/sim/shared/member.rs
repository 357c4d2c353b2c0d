//! One member: what it sends, and what it hears.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::socket::Client;

/// Names that members want: some get them.
pub(super) const NAMES: [&str; 6] = ["ann", "bob", "eve", "dan", "ANN", "Bob"];

/// How much a member that does not read leaves unread before nothing can be said of what it heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Says a short line now and then.
    Person,
    /// Sends a lot at once.
    Piper,
    /// Does all that there is.
    Restless,
    /// Says something and never reads.
    Deaf,
    /// Only listens.
    Probe,
}

pub(super) struct Member {
    pub(super) number: u64,
    pub(super) kind: Kind,
    pub(super) client: Client,
    heard: Vec<u8>,
    /// How many lines it has said.
    pub(super) said: u64,
    /// When it says the next one, if it is a person.
    next: Instant,
    /// What it said lately, and when.
    pub(super) lately: Vec<(Instant, String)>,
    /// Whether it has ended its side, or was reset.
    pub(super) has_left: bool,
    pub(super) is_broken: bool,
}

impl Member {
    pub(super) fn new(number: u64, kind: Kind, client: Client, now: Instant) -> Self {
        let (heard, lately) = (Vec::new(), Vec::new());
        Self { number, kind, client, heard, said: 0, next: now, lately, has_left: false, is_broken: false }
    }

    /// The text of one of its lines.
    pub(super) fn text(server: u128, number: u64, line: u64) -> String {
        format!("{server}.{number}.{line}")
    }

    fn say(&mut self, server: u128, filler: usize, now: Instant) {
        self.said += 1;
        let text = Self::text(server, self.number, self.said);
        self.client.send(format!("{text} {}\n", ".".repeat(filler)).as_bytes());
        if self.kind == Kind::Person && self.has_joined() {
            self.lately.push((now, text));
        }
    }

    pub(super) fn act(&mut self, server: u128, now: Instant, random: &mut Rng) {
        if self.kind != Kind::Deaf && (self.kind == Kind::Person || random.u8(..4) > 0) {
            self.listen();
        }
        if self.has_left || self.client.is_reset() {
            return;
        }
        match self.kind {
            Kind::Person if now >= self.next => {
                self.next = now + Duration::from_millis(random.u64(300..1500));
                self.say(server, 3, now);
            }
            Kind::Piper if random.u8(..30) == 0 => {
                for _ in 0..random.usize(..200) {
                    self.say(server, random.usize(..400), now);
                }
            }
            Kind::Restless if random.u8(..4) == 0 => self.do_something(server, now, random),
            Kind::Deaf if random.u8(..16) == 0 => self.say(server, 10, now),
            _ => {}
        }
    }

    fn do_something(&mut self, server: u128, now: Instant, random: &mut Rng) {
        let name = NAMES[random.usize(..NAMES.len())];
        match random.u8(..32) {
            0..8 => self.say(server, random.usize(..20), now),
            8..16 => _ = self.client.send(format!("/name {name}\n").as_bytes()),
            16..24 => {
                let whisper = format!("/msg {name} psst {} {}\n", self.number, random.u32(..));
                self.client.send(whisper.as_bytes());
            }
            24..28 => _ = self.client.send(b"/who\n"),
            28 => {
                self.client.send(b"/quit\n");
                self.has_left = true;
            }
            29 => {
                self.client.finish();
                self.has_left = true;
            }
            30 => {
                self.client.reset();
                (self.has_left, self.is_broken) = (true, true);
            }
            _ => {}
        }
    }

    /// Reads all that is there. Returns whether there was something.
    pub(super) fn listen(&mut self) -> bool {
        let bytes = self.client.receive(usize::MAX);
        self.heard.extend_from_slice(&bytes);
        if self.client.reply_end().is_some() && !self.client.has_fin() {
            self.client.close();
        }
        !bytes.is_empty()
    }

    pub(super) fn has_joined(&self) -> bool {
        self.lines().any(|line| line.starts_with("* welcome"))
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        // A last line that was cut short counts for nothing.
        let end = self.heard.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        str::from_utf8(&self.heard[..end]).expect("text").lines()
    }

    /// What it was told since it joined that is of this kind.
    pub(super) fn heard(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<&str> {
        let lines = self.lines().skip_while(|line| !line.starts_with("* welcome"));
        lines.filter(|line| is_wanted(line)).collect()
    }

    /// Who is in the room by all that it was told, in whatever order names were swapped; `None` if lines only counted some.
    pub(super) fn names_told(&self) -> Option<BTreeSet<String>> {
        let mut names = Names::default();
        let mut own = String::new();
        for line in self.heard(|line| line.starts_with("* ") && !line.ends_with("; your line was not sent")) {
            let line = &line[2..];
            if line.contains(" more") {
                return None;
            }
            if let Some(rest) = line.strip_prefix("welcome, ") {
                let (name, here) = rest.split_once("; ").expect("a list");
                own = name.to_owned();
                names = Names::default();
                here.strip_prefix("here: ")
                    .into_iter()
                    .flat_map(|list| list.split(", "))
                    .for_each(|name| names.add(name));
            } else if let Some(name) = line.strip_prefix("your name was taken; you are now ") {
                own = name.to_owned();
            } else if let Some((old, new)) = line.split_once(" is now ") {
                if old == own {
                    own = new.to_owned();
                } else {
                    names.add(new);
                    names.remove(old);
                }
            } else if let Some((list, _)) = line.split_once(" joined") {
                list.split(", ").for_each(|name| names.add(name));
            } else if let Some((list, _)) = line.split_once(" left") {
                list.split(", ").for_each(|name| names.remove(name));
            }
        }
        names.add(&own);
        Some(names.0.into_iter().filter(|(_, count)| *count > 0).map(|(name, _)| name).collect())
    }
}

/// How many members are called so: two only in the middle of a swap.
#[derive(Default)]
struct Names(BTreeMap<String, usize>);

impl Names {
    fn add(&mut self, name: &str) {
        *self.0.entry(name.to_owned()).or_default() += 1;
    }

    fn remove(&mut self, name: &str) {
        let count = self.0.get_mut(name).filter(|count| **count > 0);
        *count.unwrap_or_else(|| panic!("{name} was not here")) -= 1;
    }
}
