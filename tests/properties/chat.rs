//! Whatever the members of a room say, names stay unmistakable, nobody speaks for another, and every line that
//! is told is one line.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use sockets::room::roster::{Delivery, Reaction, Roster};
use sockets::room::{MAX_NAME, Notice};
use unicode_security::skeleton;

use crate::{any, for_all};

/// How many names a list shows.
const NAMES_SHOWN: usize = 20;

#[derive(Clone, Debug)]
enum Step {
    Join,
    /// One of those who are there leaves, for a reason or without.
    Leave(usize, bool),
    /// One of those who are there sends a line.
    Hear(usize, Vec<u8>),
    /// The line of one of them was too long.
    Refuse(usize, usize),
}

#[test]
fn a_room_stays_in_order_whatever_is_said() {
    let member = || 0..30_usize;
    let step = prop_oneof![
        5 => Just(Step::Join),
        2 => (member(), any::<bool>()).prop_map(|(member, has_reason)| Step::Leave(member, has_reason)),
        20 => (member(), line()).prop_map(|(member, line)| Step::Hear(member, line)),
        1 => (member(), any::<usize>()).prop_map(|(member, limit)| Step::Refuse(member, limit)),
    ];
    for_all(vec(step, 0..50), |steps| {
        let mut roster = Roster::new();
        let mut model = Model::default();
        for step in steps {
            let ids: Vec<u32> = model.names.keys().copied().collect();
            let of = |at: usize| ids.get(at % ids.len().max(1)).copied();
            let mut record = Record::default();
            match step {
                Step::Join => {
                    let id = model.joined + 1;
                    roster.join(id, &mut record);
                    roster.announce(id, &mut record);
                    model.join(id, &record)?;
                }
                Step::Leave(at, has_reason) => {
                    let Some(id) = of(at) else { continue };
                    roster.leave(id, has_reason.then_some("too slow"), &mut record);
                    let name = model.names.remove(&id).expect("was there");
                    let reason = if has_reason { " (too slow)" } else { "" };
                    record.expect_public(id, &format!("* {name} left{reason}"))?;
                    prop_assert!(record.told.is_empty());
                }
                Step::Hear(at, line) => {
                    let Some(id) = of(at) else { continue };
                    let reaction = roster.handle_line(id, &line, &mut record);
                    model.hear(id, &line, reaction, &record)?;
                }
                Step::Refuse(at, limit) => {
                    let Some(id) = of(at) else { continue };
                    roster.refuse_line(id, limit, &mut record);
                    prop_assert!(record.public.is_empty());
                    prop_assert_eq!(record.told.len(), 1);
                    prop_assert_eq!(record.told[0].0, id);
                }
            }
            record.check()?;
            model.check()?;
        }
        Ok(())
    });
}

/// Lines that may do something: commands in all stages of decay, names that are nearly alike, anything.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        3 => select(vec![
            "anna", "ANNA", "Ａｎｎａ", "a\u{301}", "á", "Á", "user1", "user3", "USER2", "user７", "user²", "user", "ﬁ", "fi",
            "аnn", "ann", "userl", "usеr2", "Вob", "bob", "0leg", "Oleg", "á\u{301}", "server", "rооt",
            "ſ", "s", "K", "K", "İ", "i\u{307}", "ß", "ẞ", "ss", "ꙓ\u{200d}", "\u{3164}", "नमस्ते", "-", "_", "user1 ",
        ]).prop_map(str::to_owned),
        2 => "[a-zA-Z0-9_-]{1,34}",
        1 => "\\PC{1,34}",
        1 => any::<String>(),
    ];
    let rest = prop_oneof![
        name.clone().prop_map(String::into_bytes),
        any::line(),
        (name, any::line()).prop_map(|(name, text)| [name.as_bytes(), b" ", &text].concat()),
    ];
    let command = select(vec![
        "/name ", "/name  ", "/name", "/msg ", "/msg\t", "/who", "/names", "/nick ", "/me ", "/me", "/help", "/quit",
        "//", "/", "",
    ]);
    let line = (command, rest).prop_map(|(command, rest)| [command.as_bytes(), &rest].concat());
    prop_oneof![4 => line, 1 => any::line()].prop_map(|mut line| {
        line.retain(|byte| *byte != b'\n');
        line
    })
}

/// What the room told in one step.
#[derive(Default)]
pub(crate) struct Record {
    /// To all but one.
    public: Vec<(u32, String)>,
    /// To one.
    pub(crate) told: Vec<(u32, String)>,
}

impl Delivery<u32> for Record {
    fn publish(&mut self, author: u32, notice: Notice<'_>) {
        self.public.push((author, format!("{notice}\n")));
    }

    fn answer(&mut self, member: u32, line: &str) {
        self.told.push((member, line.to_owned()));
    }

    fn whisper(&mut self, member: u32, line: &str) -> bool {
        self.answer(member, line);
        true
    }
}

impl Record {
    /// Every line is one line, and can do nothing to a terminal.
    fn check(&self) -> Result<(), TestCaseError> {
        for (_, line) in self.public.iter().chain(&self.told) {
            let text = line.strip_suffix('\n');
            prop_assert!(text.is_some_and(|text| !text.contains(|c: char| c.is_control() && c != '\t')), "{:?}", line);
            prop_assert!(line.starts_with("* ") || line.starts_with('<') && line.contains("> "), "{:?}", line);
            prop_assert!(!line.contains(['\u{202e}', '\u{2066}', '\u{2028}', '\u{feff}', '\u{61c}']), "{:?}", line);
        }
        Ok(())
    }

    /// Exactly this was told to all but `id`.
    fn expect_public(&self, id: u32, line: &str) -> Result<(), TestCaseError> {
        prop_assert_eq!(&self.public, &[(id, format!("{line}\n"))]);
        Ok(())
    }

    /// Exactly this was told to `id` alone, and nothing to anybody else.
    fn expect_private(&self, id: u32, line: &str) -> Result<(), TestCaseError> {
        prop_assert_eq!(&self.told, &[(id, format!("{line}\n"))]);
        prop_assert!(self.public.is_empty());
        Ok(())
    }
}

/// Who is in the room, as far as those outside can know.
#[derive(Default)]
struct Model {
    joined: u32,
    names: BTreeMap<u32, String>,
}

impl Model {
    fn join(&mut self, id: u32, record: &Record) -> Result<(), TestCaseError> {
        self.joined = id;
        let name = format!("user{id}");
        let here =
            if self.names.is_empty() { "nobody else is here".to_owned() } else { format!("here: {}", self.list()) };
        prop_assert_eq!(&record.told, &[(id, format!("* welcome, {name}; {here}\n"))]);
        record.expect_public(id, &format!("* {name} joined"))?;
        self.names.insert(id, name);
        Ok(())
    }

    /// A line may say something, ask something, or change the name of who said it, and nothing else.
    fn hear(&mut self, id: u32, line: &[u8], reaction: Reaction, record: &Record) -> Result<(), TestCaseError> {
        let name = self.names[&id].clone();
        let word = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        // Blanks before a command's word are forgiven.
        let is_spaced = line.strip_prefix(b"/").is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_whitespace));
        prop_assert!(reaction == Reaction::Stay || word == b"/quit" || is_spaced);
        if line.is_empty() || reaction == Reaction::Leave {
            prop_assert!(record.public.is_empty() && record.told.is_empty());
        } else if line[0] != b'/' || line.starts_with(b"//") {
            prop_assert!(record.told.is_empty());
            prop_assert_eq!(record.public.len(), 1);
            prop_assert_eq!(record.public[0].0, id);
            let said = record.public[0].1.strip_prefix(&format!("<{name}> "));
            let text = line.strip_prefix(b"/").unwrap_or(line);
            if let Ok(text) = str::from_utf8(text)
                && text.chars().all(|c| c.is_alphanumeric() || c.is_ascii_graphic())
            {
                prop_assert_eq!(said, Some(&*format!("{text}\n")));
            }
            prop_assert!(said.is_some(), "{:?} from {}", record.public, name);
        } else if word == b"/me" && !record.public.is_empty() {
            prop_assert!(record.told.is_empty());
            let said = record.public[0].1.strip_prefix(&format!("<{name}> *"));
            prop_assert!(said.is_some_and(|said| said.len() > 2 && said.ends_with("*\n")), "{:?}", record.public);
        } else if let Some((_, line)) = record.public.first() {
            // Only a new name is told to all.
            let new = line.strip_prefix(&format!("* {name} is now ")).and_then(|rest| rest.strip_suffix('\n'));
            let new = new.map(str::to_owned);
            prop_assert!(new.is_some() && (word == b"/name" || word == b"/nick" || is_spaced), "{:?}", line);
            let new = new.unwrap_or_default();
            record.expect_public(id, &format!("* {name} is now {new}"))?;
            prop_assert_eq!(&record.told, &[(id, format!("* {name} is now {new}\n"))]);
            prop_assert!((1..=MAX_NAME).contains(&new.chars().count()), "{:?}", new);
            prop_assert!(!new.contains(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_".contains(c)));
            self.names.insert(id, new);
        } else {
            let (hearer, answer) = record.told.first().expect("an answer");
            let is_whispered = answer.starts_with('<') && *hearer != id;
            prop_assert_eq!(record.told.len(), if is_whispered { 2 } else { 1 }, "an answer to {:?}", line);
            if word == b"/who" || word == b"/names" {
                record.expect_private(id, &format!("* here: {}", self.list()))?;
            } else if answer.starts_with('<') {
                let receiver = &self.names[hearer];
                prop_assert!(answer.starts_with(&format!("<{name} -> {receiver}> ")), "{:?}", answer);
                prop_assert!(word == b"/msg" || is_spaced);
                // Its author is told the same, or the beginning.
                if let Some((author, confirmation)) = record.told.get(1) {
                    let beginning = confirmation.split('…').next().expect("the beginning");
                    prop_assert_eq!(*author, id);
                    prop_assert!(confirmation == answer || answer.starts_with(beginning), "{:?}", record.told);
                }
            } else {
                prop_assert_eq!(*hearer, id);
            }
        }
        Ok(())
    }

    /// No two members can be taken for each other.
    fn check(&self) -> Result<(), TestCaseError> {
        let mut names: Vec<String> = self.names.values().map(|name| name.to_lowercase()).collect();
        names.sort();
        prop_assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", names);
        let looks: BTreeSet<String> = self.names.values().map(|name| skeleton(name).collect()).collect();
        prop_assert_eq!(looks.len(), self.names.len(), "{:?}", names);
        // The next one who joins gets a name that nobody has.
        let next = format!("user{}", self.joined + 1);
        prop_assert!(names.iter().all(|name| *name != next), "{:?}", names);
        Ok(())
    }

    fn list(&self) -> String {
        let names: Vec<&str> = self.names.values().map(String::as_str).collect();
        let more = names.len().saturating_sub(NAMES_SHOWN);
        let shown = names[..names.len() - more].join(", ");
        if more > 0 { format!("{shown} and {more} more") } else { shown }
    }
}
