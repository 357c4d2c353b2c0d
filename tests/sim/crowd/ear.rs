//! What one member is told, line by line, and whether it is what it has to be told, no less and no more.

use std::collections::BTreeMap;

use sockets::config::RESERVE;

use super::minutes::{Deed, Minutes, Names};
use super::speech::{Kind, identity, too_long};

/// The last line of all.
const STOP: &str = "* server is stopping";

/// How far a member has come in the minutes, and in the answers to what it sent itself.
#[derive(Debug)]
pub(crate) struct Ear {
    member: usize,
    /// How many entries of the minutes it knows, by being told or because they are its own.
    cursor: usize,
    /// Who is there, after these entries.
    names: Names,
    /// How many of its own phrases are answered, or need no answer.
    pub(crate) answered: usize,
    /// Where the cursor was at the last of them of which that is known.
    anchor: usize,
    /// The phrases after the last one that was heard of each other member.
    heard: BTreeMap<usize, usize>,
    /// A line of which the end has not come.
    partial: Vec<u8>,
    /// How many bytes of lines that are for it alone it was told.
    pub(crate) private: usize,
    is_greeted: bool,
    pub(crate) is_told_of_stop: bool,
}

impl Ear {
    pub(crate) fn new(member: usize) -> Self {
        Self {
            member,
            cursor: 0,
            names: Names::default(),
            answered: 0,
            anchor: 0,
            heard: BTreeMap::new(),
            partial: Vec::new(),
            private: 0,
            is_greeted: false,
            is_told_of_stop: false,
        }
    }

    /// Listens to `bytes`, whatever they are cut into.
    pub(crate) fn hear(&mut self, bytes: &[u8], minutes: &mut Minutes, max_line: usize) {
        let mut rest = bytes;
        // Not byte by byte: that takes long where nothing is optimized.
        while let Some(piece) = rest.split_inclusive(|byte| *byte == b'\n').next() {
            rest = &rest[piece.len()..];
            self.partial.extend_from_slice(piece);
            if self.partial.ends_with(b"\n") {
                let mut line = std::mem::take(&mut self.partial);
                line.pop();
                let line = String::from_utf8(line).expect("what is told is text");
                self.hear_line(&line, minutes, max_line);
            }
        }
    }

    fn hear_line(&mut self, line: &str, minutes: &mut Minutes, max_line: usize) {
        let who = self.member;
        assert!(!self.is_told_of_stop, "{who} was told {line:?} after the stop");
        if !self.is_greeted {
            self.greet(line, minutes);
        } else if line == STOP {
            assert_eq!(minutes.attendances[who].left, None, "{who} had left before the stop");
            self.pass_own(minutes);
            assert_eq!(
                self.cursor,
                minutes.entries.len(),
                "{who} was told of the stop before {:?}",
                self.next(minutes)
            );
            self.is_told_of_stop = true;
        } else if self.is_next(line, minutes) {
            self.pass_own(minutes);
            self.pass_entry(minutes);
            return;
        } else if line.starts_with('<') {
            self.hear_whisper(line, minutes);
        } else {
            self.hear_answer(line, minutes, max_line);
        }
        self.private += line.len() + 1;
    }

    fn greet(&mut self, line: &str, minutes: &Minutes) {
        let attendance = &minutes.attendances[self.member];
        let joined = attendance.joined.unwrap_or_else(|| panic!("{line:?} for one who has not joined"));
        let Deed::Joined(name) = &minutes.entries[joined].deed else { unreachable!("that is how it joined") };
        assert_eq!(line, attendance.others.greeting(name), "the first line is no greeting");
        self.is_greeted = true;
        self.names = attendance.others.clone();
        self.names.apply(&minutes.entries[joined]);
        (self.cursor, self.anchor) = (joined + 1, joined + 1);
    }

    /// The next line that somebody else brought about, unless it left before that.
    fn next<'a>(&self, minutes: &'a Minutes) -> Option<&'a str> {
        let rest = &minutes.entries[self.cursor..];
        let left = minutes.attendances[self.member].left.map_or(usize::MAX, |left| left.saturating_sub(self.cursor));
        let others = rest.iter().take(left).find(|entry| entry.author != self.member);
        others.map(|entry| entry.line.as_str())
    }

    fn is_next(&self, line: &str, minutes: &Minutes) -> bool {
        !self.has_left(minutes) && self.next(minutes) == Some(line)
    }

    fn has_left(&self, minutes: &Minutes) -> bool {
        minutes.attendances[self.member].left.is_some_and(|left| left < self.cursor)
    }

    /// Goes on in the minutes over what the member said or did itself. Its new names it is told.
    fn pass_own(&mut self, minutes: &mut Minutes) {
        while minutes.entries.get(self.cursor).is_some_and(|entry| entry.author == self.member) {
            let entry = &minutes.entries[self.cursor];
            assert!(!matches!(entry.deed, Deed::Renamed(_)), "{} was not told of its new name", self.member);
            self.pass_own_entry(minutes);
        }
    }

    fn pass_entry(&mut self, minutes: &Minutes) {
        let entry = &minutes.entries[self.cursor];
        if let Some(phrase) = entry.phrase {
            self.note_order(entry.author, phrase);
        }
        self.names.apply(entry);
        self.cursor += 1;
    }

    /// What a member sends comes in the order in which it was sent, be it for all or for one alone.
    fn note_order(&mut self, author: usize, phrase: usize) {
        let next = self.heard.insert(author, phrase + 1).unwrap_or(0);
        assert!(phrase >= next, "{} heard phrase {phrase} of {author} out of order", self.member);
    }

    /// Goes on over those of its own phrases before `end` that need no answer, to where the minutes are at `at`.
    fn pass_phrases(&mut self, end: usize, at: usize, minutes: &mut Minutes) {
        while self.answered < end {
            let phrase = &minutes.attendances[self.member].speech.phrases[self.answered];
            match phrase.kind {
                Kind::Empty | Kind::Quit => {}
                Kind::Whisper { .. } => minutes.owe_whisper(self.member, self.answered, self.anchor, at),
                _ => panic!("{} got no answer to {:?}", self.member, phrase.kind),
            }
            self.answered += 1;
        }
    }

    fn hear_whisper(&mut self, line: &str, minutes: &mut Minutes) {
        let who = self.member;
        let parts = line.strip_prefix('<').and_then(|line| line.split_once(" -> "));
        let Some((from, (to, text))) = parts.and_then(|(from, rest)| Some((from, rest.split_once("> ")?))) else {
            panic!("{who} was told {line:?}, not {:?}", self.next(minutes));
        };
        let sender = self.names.holder(from).unwrap_or_else(|| panic!("{who} was told {line:?} by nobody"));
        let phrase = minutes.whispered(who, sender, text);
        if sender == who {
            // It knows without being told what it said before.
            while minutes
                .entries
                .get(self.cursor)
                .is_some_and(|entry| entry.author == who && entry.phrase.is_some_and(|said| said < phrase))
            {
                self.pass_own_entry(minutes);
            }
        }
        self.note_order(sender, phrase);
        let Kind::Whisper { to: wish, .. } = &minutes.attendances[sender].speech.phrases[phrase].kind else {
            unreachable!("that is what it is");
        };
        assert_eq!(identity(wish), identity(to), "{line:?} is for somebody else");
        assert_eq!(self.names.of(who), Some(to), "{line:?} has reached {who}");
    }

    /// Finds the phrase that is answered by `line`.
    fn hear_answer(&mut self, line: &str, minutes: &mut Minutes, max_line: usize) {
        let who = self.member;
        let start = self.answered;
        for at in start.. {
            let Some(phrase) = minutes.attendances[who].speech.phrases.get(at) else {
                panic!("{who} was told {line:?}, which answers nothing; not {:?}", self.next(minutes));
            };
            let entry = phrase.entry;
            let is_huge = phrase.is_huge();
            let answer = match &phrase.kind {
                Kind::Empty => continue,
                Kind::Say(_) => {
                    let Some(entry) = entry else {
                        assert!(is_huge && line == too_long(RESERVE), "{line:?} before phrase {at} of {who} was said");
                        self.answer(at, minutes);
                        return;
                    };
                    self.pass_to(entry, line, minutes);
                    self.pass_own_entry(minutes);
                    continue;
                }
                Kind::Whisper { to, .. } => {
                    let refusal = format!("* nobody is called {to}");
                    if line != refusal || self.names.holder_alike(to).is_some() {
                        continue;
                    }
                    refusal
                }
                Kind::Quit => panic!("{who} was told {line:?} after its /quit"),
                Kind::Who => format!("* here: {}", self.names.list()),
                Kind::Answered(answer) => answer.clone(),
                Kind::TooLong if is_huge && line == too_long(max_line.min(RESERVE)) => line.to_owned(),
                Kind::TooLong => too_long(max_line),
                Kind::Name(wish) => {
                    let is_granted = self.is_granted(wish.as_deref(), line, minutes);
                    assert_eq!(line, self.answer_to_wish(wish.as_deref(), is_granted), "{who} got a wrong answer");
                    self.answer(at, minutes);
                    if is_granted {
                        self.pass_entry(minutes);
                    }
                    return;
                }
            };
            assert_eq!(line, answer, "{who} got a wrong answer");
            self.answer(at, minutes);
            return;
        }
    }

    /// Whether `line` says that the wish is granted; that is what comes next in the minutes then.
    fn is_granted(&self, wish: Option<&str>, line: &str, minutes: &Minutes) -> bool {
        let own = self.names.of(self.member).expect("it is in the room");
        let Some(wish) = wish.filter(|wish| line == format!("* {own} is now {wish}")) else { return false };
        let next = minutes.entries.get(self.cursor).map(|entry| (entry.author, &entry.deed));
        assert_eq!(next, Some((self.member, &Deed::Renamed(wish.to_owned()))), "{line:?} comes too early");
        true
    }

    fn answer_to_wish(&self, wish: Option<&str>, is_granted: bool) -> String {
        let own = self.names.of(self.member).expect("it is in the room");
        let Some(wish) = wish else { return "* a name has 1 to 32 letters, digits, - or _".to_owned() };
        let holder = self.names.holder_alike(wish);
        let identity = identity(wish);
        let number = identity.strip_prefix("user");
        let is_reserved = identity == "server" || number.is_some_and(|number| number.parse::<u64>().is_ok());
        let is_taken = holder.is_some_and(|holder| holder != self.member) || (holder.is_none() && is_reserved);
        assert_eq!(is_granted, !is_taken && wish != own, "{} as the name of {}", wish, self.member);
        match () {
            () if is_taken => format!("* {wish} is taken"),
            () if is_granted => format!("* {own} is now {wish}"),
            () => format!("* you are {wish} already"),
        }
    }

    fn answer(&mut self, phrase: usize, minutes: &mut Minutes) {
        self.pass_phrases(phrase, self.cursor, minutes);
        self.answered = phrase + 1;
        self.anchor = self.cursor;
    }

    /// Goes on in the minutes to one of its own entries: what others said before that it has been told.
    fn pass_to(&self, entry: usize, line: &str, minutes: &Minutes) {
        let missed = &minutes.entries[self.cursor.min(entry)..entry];
        assert!(missed.is_empty(), "{} was told {line:?} before {:?}", self.member, missed[0].line);
    }

    fn pass_own_entry(&mut self, minutes: &mut Minutes) {
        let entry = &minutes.entries[self.cursor];
        if let Some(phrase) = entry.phrase {
            self.pass_phrases(phrase, self.cursor, minutes);
            self.answered = phrase + 1;
            self.anchor = self.cursor;
        }
        self.pass_entry(minutes);
    }

    /// Everything that the member is owed has been sent: that has to be everything there is. The room has
    /// dealt with so many `phrases`, if that is known.
    pub(crate) fn check_caught_up(&mut self, phrases: Option<usize>, minutes: &mut Minutes) {
        let who = self.member;
        assert!(self.partial.is_empty(), "{who} was told half a line: {:?}", String::from_utf8_lossy(&self.partial));
        if minutes.attendances[who].joined.is_none() {
            return;
        }
        assert!(self.is_greeted, "{who} was not greeted");
        self.pass_own(minutes);
        let end = minutes.attendances[who].left.map_or(minutes.entries.len(), |left| left + 1);
        assert_eq!(self.cursor, end, "{who} was not told {:?}", self.next(minutes));
        if let Some(phrases) = phrases {
            self.pass_phrases(phrases, self.cursor, minutes);
            self.anchor = self.cursor;
        }
        minutes.check_due(who);
    }
}
