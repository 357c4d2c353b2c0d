//! What one member is told, line by line, and whether it is what it has to be told, no less and no more.

use std::collections::BTreeMap;

use sockets::config::RESERVE;

use super::speech::{Kind, Whisper, identity, too_long};
use super::transcript::{Deed, Entry, Names, Transcript, is_given};

/// What comes before the lines that had been said before.
const EARLIER: &str = "* earlier:";

/// The last line of all.
const STOP: &str = "* server is stopping";

/// How far a member has come in the transcript, and in the answers to what it sent itself.
#[derive(Debug)]
pub(crate) struct Listener {
    member: usize,
    /// How many entries of the transcript it knows, by being told or because they are its own.
    cursor: usize,
    /// Who is there, after these entries.
    names: Names,
    /// Its own name until it is announced.
    newcomer: Option<String>,
    /// How many of its own phrases are answered, or need no answer.
    pub(crate) answered: usize,
    /// The phrases after the last one that was heard of each other member.
    heard: BTreeMap<usize, usize>,
    /// A line of which the end has not come.
    partial: Vec<u8>,
    /// How many bytes of lines that are for it alone it was told.
    pub(crate) private: usize,
    is_greeted: bool,
    /// What it was told that had been said before it came; `None` once it was told something else.
    pub(crate) earlier: Option<Vec<String>>,
    pub(crate) is_told_of_stop: bool,
}

impl Listener {
    pub(crate) fn new(member: usize) -> Self {
        Self {
            member,
            cursor: 0,
            names: Names::default(),
            newcomer: None,
            answered: 0,
            heard: BTreeMap::new(),
            partial: Vec::new(),
            private: 0,
            is_greeted: false,
            earlier: Some(Vec::new()),
            is_told_of_stop: false,
        }
    }

    /// Listens to `bytes`, whatever they are cut into.
    pub(crate) fn hear(&mut self, bytes: &[u8], transcript: &mut Transcript, max_line: usize) {
        let mut rest = bytes;
        // Not byte by byte: that takes long where nothing is optimized.
        while let Some(piece) = rest.split_inclusive(|byte| *byte == b'\n').next() {
            rest = &rest[piece.len()..];
            self.partial.extend_from_slice(piece);
            if self.partial.ends_with(b"\n") {
                let mut line = std::mem::take(&mut self.partial);
                line.pop();
                let line = String::from_utf8(line).expect("what is told is text");
                self.hear_line(&line, transcript, max_line);
            }
        }
    }

    fn hear_line(&mut self, line: &str, transcript: &mut Transcript, max_line: usize) {
        let who = self.member;
        assert!(!self.is_told_of_stop, "{who} was told {line:?} after the stop");
        let is_earlier = self.is_greeted && (line == EARLIER || line.starts_with("| "));
        if self.is_greeted && !is_earlier {
            self.end_earlier(transcript);
        }
        if !self.is_greeted {
            self.greet(line, transcript);
        } else if is_earlier {
            let earlier = self.earlier.as_mut().unwrap_or_else(|| panic!("{who} was told {line:?} too late"));
            earlier.push(line.to_owned());
        } else if line == STOP {
            assert_eq!(transcript.attendances[who].left, None, "{who} had left before the stop");
            self.pass_own(transcript);
            assert_eq!(
                self.cursor,
                transcript.entries.len(),
                "{who} was told of the stop before {:?}",
                self.next(transcript)
            );
            self.is_told_of_stop = true;
        } else if self.is_next(line, transcript) {
            self.pass_own(transcript);
            self.pass_entry(transcript);
            return;
        } else if let Some(whisper) = Whisper::parse(line).filter(|whisper| !whisper.confirms_to(self.name())) {
            self.hear_whisper(&whisper, transcript);
        } else {
            self.hear_answer(line, transcript, max_line);
        }
        self.private += line.len() + 1;
    }

    fn greet(&mut self, line: &str, transcript: &Transcript) {
        let attendance = &transcript.attendances[self.member];
        let name = line.strip_prefix("* welcome, ").and_then(|rest| rest.split_once(';')).map(|(name, _)| name);
        let name = name.filter(|name| is_given(name)).unwrap_or_else(|| panic!("{line:?} is no greeting"));
        assert_eq!(line, attendance.others.greeting(name), "the greeting is wrong");
        assert_eq!(attendance.others.holder_alike(name), None, "{line:?}, but there is one already");
        self.is_greeted = true;
        self.names = attendance.others.clone();
        self.newcomer = Some(name.to_owned());
        self.cursor = attendance.start;
    }

    /// It is told nothing more of what was said before it came.
    fn end_earlier(&mut self, transcript: &Transcript) {
        if let Some(earlier) = self.earlier.take() {
            transcript.check_history(self.member, &earlier);
        }
    }

    /// What it is called, as far as it knows.
    fn name(&self) -> &str {
        self.names.of(self.member).or(self.newcomer.as_deref()).expect("it was greeted")
    }

    /// Goes on over its own announcement, of which it is not told.
    fn pass_announcement(&mut self, transcript: &Transcript) {
        if transcript.entries.get(self.cursor).is_some_and(|entry| self.is_announcement(entry)) {
            self.pass_entry(transcript);
        }
    }

    fn is_announcement(&self, entry: &Entry) -> bool {
        entry.author == self.member && matches!(&entry.deed, Deed::Joined(name) if is_given(name))
    }

    /// The next entry of which it is told.
    pub(crate) fn next_entry(&self, transcript: &Transcript) -> Option<usize> {
        let left = transcript.attendances[self.member].left.unwrap_or(usize::MAX);
        let start = self.cursor.max(transcript.attendances[self.member].start);
        let next = transcript.entries[start..].iter().position(|entry| entry.author != self.member)?;
        Some(start + next).filter(|next| *next < left)
    }

    /// The next line that somebody else brought about, unless it left before that.
    fn next<'a>(&self, transcript: &'a Transcript) -> Option<&'a str> {
        let rest = &transcript.entries[self.cursor..];
        let left = transcript.attendances[self.member].left.map_or(usize::MAX, |left| left.saturating_sub(self.cursor));
        let others = rest.iter().take(left).find(|entry| entry.author != self.member);
        others.map(|entry| entry.line.as_str())
    }

    fn is_next(&self, line: &str, transcript: &Transcript) -> bool {
        !self.has_left(transcript) && self.next(transcript) == Some(line)
    }

    fn has_left(&self, transcript: &Transcript) -> bool {
        transcript.attendances[self.member].left.is_some_and(|left| left < self.cursor)
    }

    /// Goes on in the transcript over what the member said or did itself. Its new names it is told.
    fn pass_own(&mut self, transcript: &mut Transcript) {
        while transcript.entries.get(self.cursor).is_some_and(|entry| entry.author == self.member) {
            let entry = &transcript.entries[self.cursor];
            let is_told = matches!(entry.deed, Deed::Renamed(_) | Deed::Joined(_)) && !self.is_announcement(entry);
            assert!(!is_told, "{} was not told of its new name", self.member);
            self.pass_own_entry(transcript);
        }
    }

    fn pass_entry(&mut self, transcript: &Transcript) {
        let entry = &transcript.entries[self.cursor];
        if let Some(phrase) = entry.phrase {
            self.note_order(entry.author, phrase);
        }
        if entry.author == self.member
            && let Deed::Joined(name) = &entry.deed
            && let Some(own) = self.newcomer.take()
        {
            assert!(!is_given(name) || *name == own, "{own} was announced as {name}");
        }
        self.names.apply(entry);
        self.cursor += 1;
    }

    /// What a member sends comes in the order in which it was sent, be it for all or for one alone.
    fn note_order(&mut self, author: usize, phrase: usize) {
        let next = self.heard.insert(author, phrase + 1).unwrap_or(0);
        assert!(phrase >= next, "{} heard phrase {phrase} of {author} out of order", self.member);
    }

    /// Goes on over those of its own phrases before `end` that need no answer.
    fn pass_phrases(&mut self, end: usize, transcript: &Transcript) {
        while self.answered < end {
            let phrase = &transcript.attendances[self.member].speech.phrases[self.answered];
            match phrase.kind {
                Kind::Empty | Kind::Quit => {}
                Kind::Whisper { .. } if phrase.reached == Some(self.member) => {}
                _ => panic!("{} got no answer to {:?}", self.member, phrase.kind),
            }
            self.answered += 1;
        }
    }

    fn hear_whisper(&mut self, whisper: &Whisper<'_>, transcript: &mut Transcript) {
        let who = self.member;
        let Whisper { from, to, text } = *whisper;
        if from == self.name() {
            self.pass_announcement(transcript);
        }
        let sender = self.names.holder(from).unwrap_or_else(|| panic!("{who} was told {whisper:?} by nobody"));
        let phrase = transcript.whispered(who, sender, text);
        if sender == who {
            self.pass_said_before(phrase, transcript);
        }
        self.note_order(sender, phrase);
        let Kind::Whisper { to: wish, .. } = &transcript.attendances[sender].speech.phrases[phrase].kind else {
            unreachable!("that is what it is");
        };
        assert_eq!(identity(wish), identity(to), "{whisper:?} is for somebody else");
        assert_eq!(self.name(), to, "{whisper:?} has reached {who}");
    }

    /// One of its own private lines is confirmed: the addressee has to be told it.
    fn hear_confirmation(&mut self, phrase: usize, to: &str, transcript: &mut Transcript) {
        self.pass_announcement(transcript);
        self.pass_said_before(phrase, transcript);
        self.note_order(self.member, phrase);
        match self.names.holder(to) {
            Some(addressee) => transcript.attendances[addressee].due.push((self.member, phrase)),
            // Nobody else knows of a newcomer.
            None => assert!(is_given(to), "{} told {to} something, but nobody has that name", self.member),
        }
    }

    /// Goes on over what it said itself before one of its phrases: it knows that without being told.
    fn pass_said_before(&mut self, phrase: usize, transcript: &mut Transcript) {
        let is_before = |entry: &Entry, who| entry.author == who && entry.phrase.is_some_and(|said| said < phrase);
        while transcript.entries.get(self.cursor).is_some_and(|entry| is_before(entry, self.member)) {
            self.pass_own_entry(transcript);
        }
    }

    /// Finds the phrase that is answered by `line`.
    fn hear_answer(&mut self, line: &str, transcript: &mut Transcript, max_line: usize) {
        let who = self.member;
        let start = self.answered;
        for at in start.. {
            let Some(phrase) = transcript.attendances[who].speech.phrases.get(at) else {
                panic!("{who} was told {line:?}, which answers nothing; not {:?}", self.next(transcript));
            };
            let entry = phrase.entry;
            let is_huge = phrase.is_huge();
            let answer = match &phrase.kind {
                Kind::Empty => continue,
                Kind::Say(_) => {
                    let Some(entry) = entry else {
                        assert!(is_huge && line == too_long(RESERVE), "{line:?} before phrase {at} of {who} was said");
                        self.answer(at, transcript);
                        return;
                    };
                    self.pass_announcement(transcript);
                    self.pass_to(entry, line, transcript);
                    self.pass_own_entry(transcript);
                    continue;
                }
                Kind::Whisper { .. } if phrase.reached == Some(who) => continue,
                Kind::Whisper { to, text } => {
                    let own = self.name();
                    let confirmed = Whisper::parse(line).filter(|whisper| whisper.confirms_to(own));
                    if let Some(whisper) = confirmed
                        && (whisper.text, identity(whisper.to)) == (text, identity(to))
                    {
                        self.hear_confirmation(at, whisper.to, transcript);
                        self.answer(at, transcript);
                        return;
                    }
                    let refusal = format!("* nobody is called {to}");
                    let is_refused = line == refusal && self.names.holder_alike(to).is_none();
                    assert!(is_refused || is_overfull(line, to), "{who} got {line:?} for {:?}", phrase.kind);
                    line.to_owned()
                }
                Kind::Quit => panic!("{who} was told {line:?} after its /quit"),
                Kind::Who => {
                    let before = format!("* here: {}", self.names.list(self.newcomer.as_deref()));
                    if line != before {
                        self.pass_announcement(transcript);
                    }
                    format!("* here: {}", self.names.list(self.newcomer.as_deref()))
                }
                Kind::Answered(answer) => answer.clone(),
                Kind::TooLong if is_huge && line == too_long(max_line.min(RESERVE)) => line.to_owned(),
                Kind::TooLong => too_long(max_line),
                Kind::Name(wish) => {
                    let wish = wish.clone();
                    // A refusal may have come before it was announced.
                    if line.starts_with(&format!("* {} is now ", self.name())) {
                        self.pass_announcement(transcript);
                    }
                    let is_granted = self.is_granted(wish.as_deref(), line, transcript);
                    assert_eq!(line, self.answer_to_wish(wish.as_deref(), is_granted), "{who} got a wrong answer");
                    self.answer(at, transcript);
                    if is_granted {
                        self.pass_entry(transcript);
                    }
                    return;
                }
            };
            assert_eq!(line, answer, "{who} got a wrong answer");
            self.answer(at, transcript);
            return;
        }
    }

    /// Whether `line` says that the wish is granted; that is what comes next in the transcript then.
    fn is_granted(&self, wish: Option<&str>, line: &str, transcript: &Transcript) -> bool {
        let own = self.name();
        let Some(wish) = wish.filter(|wish| line == format!("* {own} is now {wish}")) else { return false };
        let own = transcript.entries.get(self.cursor).filter(|entry| entry.author == self.member);
        let deed = match self.newcomer {
            Some(_) => Deed::Joined(wish.to_owned()),
            None => Deed::Renamed(wish.to_owned()),
        };
        assert_eq!(own.map(|entry| &entry.deed), Some(&deed), "{line:?} comes too early");
        true
    }

    fn answer_to_wish(&self, wish: Option<&str>, is_granted: bool) -> String {
        let own = self.name();
        let Some(wish) = wish else { return "* a name has 1 to 32 letters, digits, - or _".to_owned() };
        let is_own = identity(own) == identity(wish);
        let holder = self.names.holder_alike(wish).or(is_own.then_some(self.member));
        let is_reserved = is_given(&identity(wish)) || identity(wish) == "server";
        let is_taken = holder.is_some_and(|holder| holder != self.member) || (holder.is_none() && is_reserved);
        assert_eq!(is_granted, !is_taken && wish != own, "{} as the name of {}", wish, self.member);
        match () {
            () if is_taken => format!("* {wish} is taken"),
            () if is_granted => format!("* {own} is now {wish}"),
            () => format!("* you are {wish} already"),
        }
    }

    fn answer(&mut self, phrase: usize, transcript: &mut Transcript) {
        self.pass_phrases(phrase, transcript);
        self.answered = phrase + 1;
    }

    /// Goes on in the transcript to one of its own entries: what others said before that it has been told.
    fn pass_to(&self, entry: usize, line: &str, transcript: &Transcript) {
        let missed = &transcript.entries[self.cursor.min(entry)..entry];
        assert!(missed.is_empty(), "{} was told {line:?} before {:?}", self.member, missed[0].line);
    }

    fn pass_own_entry(&mut self, transcript: &mut Transcript) {
        let entry = &transcript.entries[self.cursor];
        if let Some(phrase) = entry.phrase {
            self.pass_phrases(phrase, transcript);
            self.answered = phrase + 1;
        }
        self.pass_entry(transcript);
    }

    /// Everything that was queued for the member has been sent: that has to be everything there is. The room has
    /// dealt with so many `phrases`, if that is known. Of one who left before it was announced it `is_unknown` when.
    pub(crate) fn check_caught_up(&mut self, phrases: Option<usize>, is_unknown: bool, transcript: &mut Transcript) {
        let who = self.member;
        assert!(self.partial.is_empty(), "{who} was told half a line: {:?}", String::from_utf8_lossy(&self.partial));
        assert!(self.is_greeted, "{who} was not greeted");
        self.end_earlier(transcript);
        if is_unknown {
            return;
        }
        self.pass_own(transcript);
        let end = transcript.attendances[who].left.map_or(transcript.entries.len(), |left| left + 1);
        assert_eq!(self.cursor, end, "{who} was not told {:?}", self.next(transcript));
        if let Some(phrases) = phrases {
            self.pass_phrases(phrases, transcript);
        }
        transcript.check_due(who);
    }
}

/// Whether `line` refuses a private line to one that has too many of them pending.
fn is_overfull(line: &str, to: &str) -> bool {
    let name = line.strip_prefix("* ").and_then(|rest| rest.strip_suffix(" is not reading; your line was not sent"));
    name.is_some_and(|name| identity(name) == identity(to))
}
