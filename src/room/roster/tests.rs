//! The roster with a delivery that writes down who is told what.

mod names;

use std::collections::HashSet;

use super::*;
use crate::names::is_well_formed;

/// A room, and what was told and shown in it. Members are numbers.
#[derive(Default)]
struct Scene {
    roster: Roster<u32>,
    record: Record,
}

/// Who was told which line, and what the operator was shown.
#[derive(Default)]
struct Record {
    /// Kept here, because the roster only says who is not to be told.
    members: Vec<u32>,
    /// Members that take no more private lines.
    deaf: Vec<u32>,
    told: Vec<(u32, String)>,
    shown: Vec<String>,
}

impl Delivery<u32> for Record {
    fn publish(&mut self, author: u32, notice: Notice<'_>) {
        let line = notice.to_string();
        assert!(!line.contains('\n'), "{line:?}");
        for member in self.members.clone().into_iter().filter(|member| *member != author) {
            self.answer(member, &format!("{line}\n"));
        }
        self.shown.push(line);
    }

    fn answer(&mut self, member: u32, line: &str) {
        assert_eq!(line.find('\n'), Some(line.len() - 1), "not exactly one line: {line:?}");
        let is_safe = |character: char| character == '\t' || character == '\n' || !character.is_control();
        assert!(line.chars().all(is_safe), "{line:?}");
        self.told.push((member, line.trim_end_matches('\n').to_owned()));
    }

    fn whisper(&mut self, member: u32, line: &str) -> bool {
        let takes_it = !self.deaf.contains(&member);
        if takes_it {
            self.answer(member, line);
        }
        takes_it
    }
}

impl Scene {
    /// A room in which these have joined and taken their names; what they were told is forgotten.
    fn with(names: &[&str]) -> Self {
        let mut scene = Self::default();
        for (id, name) in (1..).zip(names) {
            scene.join(id);
            if *name != format!("user{id}") {
                scene.says(id, format!("/name {name}"));
                assert_eq!(scene.roster.members[&id], *name);
            }
        }
        scene.record.shown.clear();
        scene
    }

    /// A member joins, and is announced at once.
    fn join(&mut self, id: u32) -> Vec<(u32, String)> {
        let mut told = self.connect(id);
        self.record.told.clear();
        self.roster.announce(id, &mut self.record);
        told.extend(self.record.told.clone());
        told
    }

    /// A newcomer joins.
    fn connect(&mut self, id: u32) -> Vec<(u32, String)> {
        self.record.told.clear();
        self.record.members.push(id);
        self.roster.join(id, &mut self.record);
        self.record.told.clone()
    }

    fn leave(&mut self, id: u32, reason: Option<&'static str>) -> Vec<(u32, String)> {
        self.record.told.clear();
        self.record.members.retain(|member| *member != id);
        self.roster.leave(id, reason, &mut self.record);
        self.record.told.clone()
    }

    /// What is told because of a line.
    fn says(&mut self, id: u32, text: impl AsRef<[u8]>) -> Vec<(u32, String)> {
        self.record.told.clear();
        assert_eq!(self.roster.handle_line(id, text.as_ref(), &mut self.record), Reaction::Stay);
        self.record.told.clone()
    }

    /// The one line that a member, and nobody else, is told because of its own line, which changes nothing.
    fn answer(&mut self, id: u32, text: impl AsRef<[u8]>) -> String {
        let (names, shown) = (self.roster.members.clone(), self.record.shown.len());
        let mut told = self.says(id, &text);
        assert_eq!(told.len(), 1, "{:?}: {told:?}", text.as_ref().escape_ascii().to_string());
        assert_eq!((told[0].0, &self.roster.members, self.record.shown.len()), (id, &names, shown));
        let all = names.values().chain(self.roster.newcomers.values());
        let forms: HashSet<String> = all.flat_map(|name| forms(name)).collect();
        assert_eq!(self.roster.taken.keys().cloned().collect::<HashSet<_>>(), forms);
        let answer = told.remove(0).1;
        assert!(answer.starts_with("* "), "{answer}");
        answer
    }

    fn answer_of_newcomer(&mut self, id: u32, text: &str) -> String {
        let mut told = self.says(id, text);
        assert_eq!((told.len(), told[0].0), (1, id), "{told:?}");
        told.remove(0).1
    }

    fn takes_name(&mut self, id: u32, name: &str) -> bool {
        let told = self.says(id, format!("/name {name}"));
        let is_taken = self.roster.members[&id] == name;
        assert_eq!(told.len(), if is_taken { self.record.members.len() } else { 1 }, "{told:?}");
        is_taken
    }
}

fn told(lines: &[(u32, &str)]) -> Vec<(u32, String)> {
    lines.iter().map(|(id, line)| (*id, (*line).to_owned())).collect()
}

/// A private line of which its author is told as well.
fn whispered(author: u32, addressee: u32, line: &str) -> Vec<(u32, String)> {
    told(&[(addressee, line), (author, line)])
}

#[test]
fn a_list_shows_twenty_names_the_longest_here_first() {
    let mut scene = Scene::default();
    let names: Vec<String> = (1..=20).map(|number| format!("user{number}")).collect();
    let shown = names.join(", ");
    for id in 1..=20 {
        scene.join(id);
    }
    assert_eq!(scene.join(21)[0].1, format!("* welcome, user21; here: {shown}"));
    assert_eq!(scene.join(22)[0].1, format!("* welcome, user22; here: {shown} and 1 more"));
    for id in 23..=1001 {
        scene.join(id);
    }
    assert_eq!(scene.join(1002)[0].1, format!("* welcome, user1002; here: {shown} and 981 more"));
    scene.leave(1, None);
    let rest = names[1..].join(", ");
    assert_eq!(scene.answer(5, "/who"), format!("* here: {rest}, user21 and 981 more"));
}

#[test]
fn what_is_said_reaches_all_others_and_the_operator() {
    let mut scene = Scene::with(&["ann", "bob", "user3"]);
    assert_eq!(scene.says(1, "hello"), told(&[(2, "<ann> hello"), (3, "<ann> hello")]));
    assert_eq!(scene.says(3, " two  spaces "), told(&[(1, "<user3>  two  spaces "), (2, "<user3>  two  spaces ")]));
    assert_eq!(scene.record.shown, ["<ann> hello", "<user3>  two  spaces "]);
    assert_eq!(scene.says(1, ""), []);
    assert_eq!(scene.record.shown.len(), 2);
}

#[test]
fn who_is_alone_talks_to_the_operator() {
    let mut scene = Scene::with(&["ann"]);
    assert_eq!(scene.says(1, "hello"), []);
    assert_eq!(scene.record.shown, ["<ann> hello"]);
}

#[test]
fn who_has_left_is_told_with_the_reason_and_once() {
    let mut scene = Scene::with(&["ann", "bob", "eve"]);
    assert_eq!(scene.leave(2, Some("too slow")), told(&[(1, "* bob left (too slow)"), (3, "* bob left (too slow)")]));
    assert_eq!(scene.leave(2, None), []);
    assert_eq!(scene.says(2, "still here?"), []);
    assert_eq!(scene.says(2, "/name ghost"), []);
    assert_eq!(scene.says(2, "/msg ann boo"), []);
    assert_eq!(scene.record.shown, ["* bob left (too slow)"]);
    assert!(scene.takes_name(1, "Bob"), "a name that was given up is free");
}

#[test]
fn a_private_message_reaches_one() {
    let mut scene = Scene::with(&["ann", "Bob", "eve"]);
    assert_eq!(scene.says(1, "/msg bob hi"), whispered(1, 2, "<ann -> Bob> hi"));
    assert_eq!(scene.says(1, "/msg  BOB  a  b "), whispered(1, 2, "<ann -> Bob> a  b "));
    assert_eq!(scene.says(1, "/msg\teve\t/who"), whispered(1, 3, "<ann -> eve> /who"));
    assert_eq!(scene.says(1, "/msg Ann note"), told(&[(1, "<ann -> ann> note")]));
    assert!(scene.record.shown.is_empty(), "the operator was shown a private message");
    for line in ["/msg", "/msg ", "/msg bob", "/msg bob  ", "/msg nobody"] {
        assert_eq!(scene.answer(1, line), "* /msg NAME TEXT");
    }
    assert_eq!(scene.answer(1, "/msg dan hi"), "* nobody is called dan");
    assert_eq!(scene.answer(1, "/msg user2 hi"), "* nobody is called user2");
    assert_eq!(scene.answer(1, b"/msg \xff\x1b hi"), r"* nobody is called \xff\u{1b}");
    assert_eq!(
        scene.answer(1, format!("/msg {} hi", "ก".repeat(50))),
        format!("* nobody is called {}", "ก".repeat(42))
    );
    scene.leave(2, None);
    assert_eq!(scene.answer(1, "/msg bob hi"), "* nobody is called bob");
}

#[test]
fn commands_are_answered_and_what_is_none_is_refused() {
    let mut scene = Scene::with(&["ann", "bob"]);
    assert_eq!(scene.answer(1, "/who"), "* here: ann, bob");
    assert_eq!(scene.answer(1, "/who "), "* here: ann, bob");
    assert_eq!(scene.answer(1, "/names"), "* here: ann, bob");
    assert_eq!(scene.answer(1, "/nick ann"), "* you are ann already");
    assert_eq!(scene.answer(1, "/help"), HELP.trim_end());
    for (line, shown) in [
        ("/", ""),
        ("/ who", ""),
        ("/ name eve", ""),
        ("/ quit", ""),
        ("/Name eve", "Name"),
        ("/wh", "wh"),
        ("/quit!", "quit!"),
        ("/хелп", "хелп"),
        ("/\x1b[2J", r"\u{1b}[2J"),
        ("/\u{202e}", r"\u{202e}"),
    ] {
        assert_eq!(scene.answer(1, line), format!("* no such command: /{shown}; try /help"));
    }
    let cut = format!("* no such command: /{}; try /help", "€".repeat(42));
    assert_eq!(scene.answer(1, format!("/{}", "€".repeat(50))), cut);
    assert_eq!(scene.answer(1, b"/\xe2\x82"), r"* no such command: /\xe2\x82; try /help");
}

#[test]
fn an_action_is_shown_as_something_that_is_said() {
    let mut scene = Scene::with(&["ann", "bob"]);
    for (line, said) in [("/me waves", "*waves*"), ("/me  left ", "*left*"), ("/me\t* bob left", "** bob left*")] {
        assert_eq!(scene.says(1, line), told(&[(2, &format!("<ann> {said}"))]));
    }
    assert_eq!(scene.record.shown, ["<ann> *waves*", "<ann> *left*", "<ann> ** bob left*"]);
    for line in ["/me", "/me  "] {
        assert_eq!(scene.answer(1, line), "* /me ACTION");
    }
    assert_eq!(scene.answer(1, "/men"), "* no such command: /men; try /help");
}

#[test]
fn two_slashes_say_one() {
    let mut scene = Scene::with(&["ann", "bob"]);
    for (line, said) in [("//who", "/who"), ("//", "/"), ("///", "//"), ("// quit", "/ quit"), (" /who", " /who")] {
        assert_eq!(scene.says(1, line), told(&[(2, &format!("<ann> {said}"))]));
    }
}

#[test]
fn who_quits_is_to_leave() {
    let mut scene = Scene::with(&["ann", "bob"]);
    for line in ["/quit", "/quit ", "/quit now"] {
        assert_eq!(scene.roster.handle_line(1, line.as_bytes(), &mut scene.record), Reaction::Leave);
    }
    assert_eq!(scene.leave(1, None), told(&[(2, "* ann left")]));
}

#[test]
fn a_line_too_long_is_told_to_its_sender() {
    let mut scene = Scene::with(&["ann", "bob"]);
    for (limit, size) in
        [(64 << 10, "64 KiB"), (1 << 20, "1 MiB"), (1000, "1000 bytes"), (1025, "1025 bytes"), (0, "0 bytes")]
    {
        scene.record.told.clear();
        scene.roster.refuse_line(1, limit, &mut scene.record);
        assert_eq!(scene.record.told, told(&[(1, &format!("* line too long (limit {size}), not sent"))]));
    }
}

/// The record asserts that each is one line without controls.
#[test]
fn nothing_can_be_forged() {
    let mut scene = Scene::with(&["ann", "bob"]);
    for (text, shown) in [
        (&b"* bob left"[..], "* bob left"),
        (b"<bob> hi", "<bob> hi"),
        (b"one\rtwo", r"one\rtwo"),
        (b"\x1b[2K\x1b[1G* bob left", r"\u{1b}[2K\u{1b}[1G* bob left"),
        (b"\x00\x07\x08\x7f", r"\u{0}\u{7}\u{8}\u{7f}"),
        ("\u{85}\u{9b}31m".as_bytes(), r"\u{85}\u{9b}31m"),
        ("\u{2028}* bob left\u{2029}".as_bytes(), r"\u{2028}* bob left\u{2029}"),
        ("\u{202e}txet\u{2066}\u{200f}".as_bytes(), r"\u{202e}txet\u{2066}\u{200f}"),
        (b"\xff\xc3(\xe2\x82", r"\xff\xc3(\xe2\x82"),
        (b"tab\tand\\backslash", "tab\tand\\backslash"),
        ("हिन्दी ไทย 👩\u{200d}💻 e\u{301}".as_bytes(), "हिन्दी ไทย 👩\u{200d}💻 e\u{301}"),
    ] {
        assert_eq!(scene.says(1, text), told(&[(2, &format!("<ann> {shown}"))]));
        let whisper = format!("<ann -> bob> {shown}");
        assert_eq!(scene.says(1, [b"/msg bob ", text].concat()), whispered(1, 2, &whisper));
        if str::from_utf8(text).is_ok() {
            let action = format!("<ann> *{shown}*");
            assert_eq!(scene.says(1, [b"/me ", text].concat()), told(&[(2, &action)]));
        }
    }
}

#[test]
fn a_newcomer_is_announced_with_the_first_thing_that_others_hear_of() {
    let mut scene = Scene::with(&["ann"]);
    assert_eq!(scene.connect(2), told(&[(2, "* welcome, user2; here: ann")]));
    assert_eq!(scene.answer_of_newcomer(2, "/who"), "* here: ann, user2");
    assert_eq!(scene.answer(1, "/who"), "* here: ann");
    assert_eq!(scene.says(2, "hello"), told(&[(1, "* user2 joined"), (1, "<user2> hello")]));
    scene.connect(3);
    let answer = (3, "* user3 is now bob");
    assert_eq!(scene.says(3, "/name bob"), told(&[answer, (1, "* bob joined"), (2, "* bob joined")]));
    scene.connect(4);
    assert!(scene.says(4, "/msg bob hi").ends_with(&whispered(4, 3, "<user4 -> bob> hi")));
    let shown = ["* user2 joined", "<user2> hello", "* bob joined", "* user4 joined"];
    assert_eq!(scene.record.shown, shown);
}

#[test]
fn a_newcomer_that_leaves_unannounced_leaves_no_trace() {
    let mut scene = Scene::with(&["ann"]);
    for id in 2..10 {
        assert_eq!(scene.connect(id), told(&[(id, "* welcome, user2; here: ann")]));
        assert_eq!(scene.leave(id, None), []);
    }
    assert!(scene.record.shown.is_empty());
    scene.connect(10);
    scene.connect(11);
    scene.leave(10, None);
    assert_eq!(scene.connect(12), told(&[(12, "* welcome, user4; here: ann")]), "user2 was not the newest");
}

#[test]
fn an_author_is_told_that_a_private_line_was_not_sent() {
    let mut scene = Scene::with(&["ann", "bob"]);
    scene.record.deaf.push(2);
    assert_eq!(scene.answer(1, "/msg bob hi"), "* bob is not reading; your line was not sent");
}

#[test]
fn the_author_of_a_long_private_line_is_told_its_beginning() {
    let mut scene = Scene::with(&["ann", "bob"]);
    let longest = "x".repeat(1024);
    assert_eq!(scene.says(1, format!("/msg bob {longest}")), whispered(1, 2, &format!("<ann -> bob> {longest}")));
    let text = format!("x{}", "ä".repeat(600));
    let beginning = format!("<ann -> bob> x{}… (1023 of 1201 bytes)", "ä".repeat(511));
    let expected = told(&[(2, &format!("<ann -> bob> {text}")), (1, &beginning)]);
    assert_eq!(scene.says(1, format!("/msg bob {text}")), expected);
}
