//! The transcript of the room: all that was said and done in it, in the order in which the operator was shown it.
//! Newcomers are not in it until they are announced.

use std::collections::BTreeMap;

use sockets::config::RESERVE;
use sockets::room::Notice;

use super::plan::Plan;
use super::speech::{Kind, Speech, identity};

/// How many bytes of a line that was said before are told at least.
const MAX_EXCERPT: usize = 1024;

/// How many bytes its mark and its newline take.
const MARKED: usize = 3;

/// What was said or done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Said,
    Joined(String),
    Renamed(String),
    /// Why, if it was told.
    Left(Option<String>),
}

impl Deed {
    pub(crate) fn is_of(&self, notice: &Notice<'_>) -> bool {
        match self {
            Self::Said => matches!(notice, Notice::Said { .. }),
            Self::Joined(_) => matches!(notice, Notice::Joined { .. }),
            Self::Renamed(_) => matches!(notice, Notice::Renamed { .. }),
            Self::Left(_) => matches!(notice, Notice::Left { .. }),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) line: String,
    pub(crate) author: usize,
    pub(crate) deed: Deed,
    /// Which of its author's phrases it is, if it was said.
    pub(crate) phrase: Option<usize>,
}

/// Who is in the room under which name, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(BTreeMap<usize, String>);

impl Names {
    pub(crate) fn of(&self, member: usize) -> Option<&str> {
        self.0.get(&member).map(String::as_str)
    }

    pub(crate) fn holder(&self, name: &str) -> Option<usize> {
        self.0.iter().find(|(_, held)| *held == name).map(|(member, _)| *member)
    }

    /// Who has a name that people would take for this one.
    pub(crate) fn holder_alike(&self, name: &str) -> Option<usize> {
        let wanted = identity(name);
        self.0.iter().find(|(_, held)| identity(held) == wanted).map(|(member, _)| *member)
    }

    /// The names as the room lists them, those who are there longest first, and last the newcomer who asks.
    pub(crate) fn list(&self, newcomer: Option<&str>) -> String {
        let shown: Vec<&str> = self.0.values().map(String::as_str).chain(newcomer).take(20).collect();
        match self.0.len() + usize::from(newcomer.is_some()) - shown.len() {
            0 => shown.join(", "),
            more => format!("{} and {more} more", shown.join(", ")),
        }
    }

    pub(crate) fn greeting(&self, name: &str) -> String {
        match &self.0 {
            others if others.is_empty() => format!("* welcome, {name}; nobody else is here"),
            _ => format!("* welcome, {name}; here: {}", self.list(None)),
        }
    }

    pub(crate) fn apply(&mut self, entry: &Entry) {
        match &entry.deed {
            Deed::Said => {}
            Deed::Joined(name) | Deed::Renamed(name) => {
                let alike = self.holder_alike(name);
                assert!(alike.is_none_or(|holder| holder == entry.author), "two are called {name}");
                self.0.insert(entry.author, name.clone());
            }
            Deed::Left(_) => assert!(self.0.remove(&entry.author).is_some(), "left twice"),
        }
    }
}

/// What the transcript know of one member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attendance {
    pub(crate) speech: Speech,
    /// How many of its phrases are in the transcript, or have to be answered instead.
    spoken: usize,
    /// Before which entry it connected.
    pub(crate) start: usize,
    /// Which entries are that it was announced, and that it left.
    pub(crate) joined: Option<usize>,
    pub(crate) left: Option<usize>,
    /// Who was in the room when it connected.
    pub(crate) others: Names,
    /// How many bytes of the transcript are its own.
    own: usize,
    /// The private lines that it has to get: whose, and which of that member's phrases.
    pub(crate) due: Vec<(usize, usize)>,
}

#[derive(Debug, Default)]
pub(crate) struct Transcript {
    pub(crate) entries: Vec<Entry>,
    pub(crate) names: Names,
    pub(crate) attendances: Vec<Attendance>,
    /// How many bytes all entries before an entry have.
    totals: Vec<usize>,
    /// Whether long lines may be refused because memory is short.
    may_refuse_huge: bool,
    /// How many lines newcomers are told that were said before, at most, and how many bytes of them.
    history: (usize, usize),
}

impl Transcript {
    pub(crate) fn new(plan: &Plan) -> Self {
        let config = &plan.rules.config;
        let history = (config.history, plan.history());
        Self { may_refuse_huge: config.max_line > RESERVE, history, ..Self::default() }
    }

    /// A newcomer connects.
    pub(crate) fn welcome(&mut self, speech: Speech) -> usize {
        let (start, others) = (self.entries.len(), self.names.clone());
        self.attendances.push(Attendance { speech, start, others, ..Attendance::default() });
        self.attendances.len() - 1
    }

    /// Enters what `author` did, as the operator was shown it.
    pub(crate) fn enter(&mut self, author: usize, line: &str) {
        let deed = self.parse(author, line);
        let at = self.entries.len();
        if let Deed::Joined(_) = deed {
            let before = self.attendances[author].joined.replace(at);
            assert_eq!(before, None, "{author} was announced twice");
        }
        let phrase = self.spoken(author, line, &deed);
        if let Some(phrase) = phrase {
            self.attendances[author].speech.phrases[phrase].entry = Some(at);
        }
        if let Deed::Left(_) = deed {
            self.attendances[author].left = Some(at);
        }
        let entry = Entry { line: line.to_owned(), author, deed, phrase };
        self.names.apply(&entry);
        self.totals.push(self.total());
        self.attendances[author].own += line.len() + 1;
        self.entries.push(entry);
    }

    /// What `author` did.
    fn parse(&self, author: usize, line: &str) -> Deed {
        let own = self.names.of(author);
        let (name, deed) = if let Some((name, _)) = line.strip_prefix('<').and_then(|line| line.split_once("> ")) {
            (name, Deed::Said)
        } else {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["*", name, "joined"] => {
                    assert_eq!(own, None, "{line:?} of one who is there already");
                    return Deed::Joined(name.to_owned());
                }
                ["*", old, "is", "now", new] => (old, Deed::Renamed(new.to_owned())),
                ["*", name, "left"] => (name, Deed::Left(None)),
                ["*", name, "left", "(too", "slow)"] => (name, Deed::Left(Some("too slow".to_owned()))),
                _ => panic!("{line:?} is nothing that happens in a room"),
            }
        };
        assert_eq!(own, Some(name), "{line:?} is not what its author is called");
        deed
    }

    /// Which phrase of `author` a line is: the next that is said aloud. One that has to be said is not left out.
    fn spoken(&mut self, author: usize, line: &str, deed: &Deed) -> Option<usize> {
        let may_refuse_huge = self.may_refuse_huge;
        let attendance = &mut self.attendances[author];
        match deed {
            Deed::Left(_) => return None,
            Deed::Joined(name) if is_given(name) => return None,
            Deed::Joined(_) | Deed::Renamed(_) | Deed::Said => {}
        }
        loop {
            let at = attendance.spoken;
            let phrase = attendance.speech.phrases.get(at).unwrap_or_else(|| panic!("{line:?} was not sent"));
            attendance.spoken += 1;
            match (&phrase.kind, deed) {
                (Kind::Say(text), Deed::Said) if line.split_once("> ").is_some_and(|(_, said)| said == text) => {
                    return Some(at);
                }
                (Kind::Say(_), _) if phrase.is_huge() && may_refuse_huge => {}
                (Kind::Say(text), _) => panic!("{line:?} instead of {text:?}"),
                // Or one that is just like it and comes later: its author knows.
                (Kind::Name(Some(wish)), Deed::Renamed(new) | Deed::Joined(new)) if wish == new => return None,
                (Kind::Quit, _) => panic!("{line:?} after a /quit"),
                _ => {}
            }
        }
    }

    /// Whether all that `author` wants to say aloud in its first phrases is in the transcript.
    pub(crate) fn has_said(&self, author: usize, phrases: usize) -> bool {
        let Attendance { speech, spoken, .. } = &self.attendances[author];
        let rest = speech.phrases[..phrases].iter().skip(*spoken);
        let must_be_said = |phrase: &super::speech::Phrase| {
            matches!(phrase.kind, Kind::Say(_)) && !(phrase.is_huge() && self.may_refuse_huge)
        };
        !rest.into_iter().any(must_be_said)
    }

    /// How many bytes of the transcript are for a member: what others said and did while it was there.
    pub(crate) fn bytes_for(&self, member: usize) -> usize {
        let Attendance { start, left, own, .. } = &self.attendances[member];
        let end = left.map_or_else(|| self.total(), |left| self.totals[left]);
        let own_end = left.map_or(0, |left| self.entries[left].line.len() + 1);
        end - self.position(*start) - (own - own_end)
    }

    /// How many bytes all entries before `entry` have.
    pub(crate) fn position(&self, entry: usize) -> usize {
        self.totals.get(entry).copied().unwrap_or_else(|| self.total())
    }

    pub(crate) fn total(&self) -> usize {
        let last = self.totals.last().zip(self.entries.last());
        last.map_or(0, |(before, entry)| before + entry.line.len() + 1)
    }

    /// How many bytes of what was said before a newcomer may be told.
    pub(crate) fn max_history(&self) -> usize {
        self.history.1
    }

    /// What `member` was told that had been said before it came: as much of it as there may be.
    pub(crate) fn check_history(&self, member: usize, told: &[String]) {
        let (max_count, max_len) = self.history;
        assert!(told.len() != 1, "{member} was told of earlier lines, and none of them");
        let told: Vec<&str> = told.iter().skip(1).filter_map(|line| line.strip_prefix("| ")).collect();
        let before = self.entries[..self.attendances[member].start].iter().rev();
        let mut said = before.filter(|entry| entry.deed == Deed::Said).map(|entry| entry.line.as_str());
        for line in told.iter().rev() {
            let entry = said.next().unwrap_or_else(|| panic!("{member} was told {line:?}, which nobody had said"));
            // A long line is cut.
            let beginning =
                line.rsplit_once("… (").filter(|_| entry.len() > MAX_EXCERPT).map(|(beginning, _)| beginning);
            let is_right = *line == entry || beginning.is_some_and(|beginning| entry.starts_with(beginning));
            assert!(is_right, "{member} was told {line:?} instead of {entry:?}");
        }
        let len: usize = told.iter().map(|line| line.len() + MARKED).sum();
        assert!(told.len() <= max_count && len <= max_len, "{member} was told too much of what was said before");
        let next = said.next().map_or(0, |entry| entry.len().min(6 * MAX_EXCERPT + 200) + MARKED);
        assert!(next == 0 || told.len() == max_count || len + next > max_len, "{member} was not told enough");
    }

    /// A private line has reached `member`, under the name `from` of its sender.
    pub(crate) fn whispered(&mut self, member: usize, sender: usize, text: &str) -> usize {
        let wish = |kind: &Kind| matches!(kind, Kind::Whisper { text: sent, .. } if sent == text);
        let phrases = &mut self.attendances[sender].speech.phrases;
        // Its first word says about where.
        let hint = text.split_once(' ').and_then(|(tag, _)| tag.split_once('.')?.1.parse().ok()).unwrap_or(0);
        let at = (hint..phrases.len()).find(|at| wish(&phrases[*at].kind));
        let at = at.unwrap_or_else(|| panic!("{member} was told {text:?}, which {sender} did not send"));
        assert_eq!(phrases[at].reached.replace(member), None, "{text:?} was told twice");
        at
    }

    /// Has everything that is due to `member` reached it?
    pub(crate) fn check_due(&mut self, member: usize) {
        for (sender, phrase) in std::mem::take(&mut self.attendances[member].due) {
            let phrase = &self.attendances[sender].speech.phrases[phrase];
            assert_eq!(phrase.reached, Some(member), "{member} was not told {:?} of {sender}", phrase.kind);
        }
    }

    /// How many bytes of private lines may be underway for a member that nobody can account for yet, where the hub has
    /// taken so many bytes of each.
    pub(crate) fn unaccounted(&self, member: usize, taken: impl Fn(usize) -> usize, answered: usize) -> usize {
        let names = 20 * 130 + 100;
        let speeches = self.attendances.iter().map(|attendance| &attendance.speech).enumerate();
        let whispers = speeches.flat_map(|(id, speech)| speech.whispers(taken(id)));
        let whispers = whispers.filter(|phrase| phrase.reached.is_none());
        let own = &self.attendances[member].speech.phrases[answered..];
        let answers = own.iter().take_while(|phrase| phrase.start < taken(member)).count() * names;
        whispers.map(|phrase| 6 * (phrase.end - phrase.start) + RESERVE / 64).sum::<usize>() + answers + names
    }
}

/// Whether only the server gives a name like this.
pub(crate) fn is_given(name: &str) -> bool {
    name.strip_prefix("user").is_some_and(|number| number.parse::<u64>().is_ok())
}
