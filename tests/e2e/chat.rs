//! The room, spoken to as people and programs do.

use std::io::Write;
use std::process::Stdio;
use std::thread;

use rustix::process::Signal;

use crate::harness::{Lines, Member, Output, Process, Server, feed, has, rng, shown};
use crate::interop::tool;

/// Two members that have got used to each other.
fn ann_and_bob(server: &Server) -> (Member, Member) {
    let mut ann = Member::join(server, "user1", "");
    ann.is_answered("/name ann", "* user1 is now ann");
    let mut bob = Member::join(server, "user2", "ann");
    bob.is_answered("/name bob", "* user2 is now bob");
    ann.hears(&["* user2 joined", "* user2 is now bob"]);
    (ann, bob)
}

#[test]
fn a_room_lives() {
    let server = Server::start(&["--chat"]);
    let (mut ann, mut bob) = ann_and_bob(&server);
    bob.say("Grüße 👍\n");
    ann.hears(&["<bob> Grüße 👍"]);
    ann.is_answered("/name Аня", "* ann is now Аня");
    let eve = Member::join(&server, "user3", "Аня, bob");
    eve.say("/msg BOB psst\n//help\n\n/quit\nnot heard\n");
    eve.leaves();
    bob.hears(&["* ann is now Аня", "* user3 joined", "<user3 -> bob> psst", "<user3> /help", "* user3 left"]);
    ann.hears(&["* user3 joined", "<user3> /help", "* user3 left"]);
    ann.is_answered("/who", "* here: Аня, bob");
    ann.half_close();
    ann.leaves();
    bob.hears(&["* Аня left"]);
    drop(bob);
    server.wait_for_lines(11);
    let expected = [
        "* user1 joined",
        "* user1 is now ann",
        "* user2 joined",
        "* user2 is now bob",
        "<bob> Grüße 👍",
        "* ann is now Аня",
        "* user3 joined",
        "<user3> /help",
        "* user3 left",
        "* Аня left",
        "* bob left",
    ];
    assert_eq!(shown(&server.stop_by(Signal::TERM)), expected);
}

#[test]
fn a_quiet_server_shows_nothing_of_the_room() {
    let server = Server::start(&["--chat", "--quiet"]);
    let (mut ann, bob) = ann_and_bob(&server);
    bob.say("hello\n");
    ann.hears(&["<bob> hello"]);
    assert!(server.stop_by(Signal::TERM).is_empty());
}

#[test]
fn a_line_waits_for_its_end() {
    let server = Server::start(&["--chat"]);
    let (mut ann, mut bob) = ann_and_bob(&server);
    bob.say("two li");
    // What others say meanwhile does not get into it.
    ann.say("hello\n");
    bob.hears(&["<ann> hello"]);
    bob.say("nes\r\nand a h");
    ann.hears(&["<bob> two lines"]);
    bob.say("alf\r");
    ann.is_answered("/who", "* here: ann, bob");
    bob.say("\n\r\n\n");
    ann.hears(&["<bob> and a half"]);
    bob.say("the rest");
    bob.half_close();
    ann.hears(&["<bob> the rest", "* bob left"]);
    bob.leaves();
    server.stop();
}

#[test]
fn a_line_too_long_is_skipped() {
    const LIMIT: usize = 64 << 10;
    let server = Server::start(&["--chat"]);
    let (mut ann, mut bob) = ann_and_bob(&server);
    let longest = "x".repeat(LIMIT);
    // It is told before it ends, and it does not have to end.
    bob.say(format!("{longest}xx"));
    bob.hears(&["* line too long (limit 64 KiB), not sent"]);
    for _ in 0..100 {
        bob.say(&longest);
    }
    bob.say(format!("\n{longest}\r\n{longest}x\nafter it\n"));
    bob.hears(&["* line too long (limit 64 KiB), not sent"]);
    ann.hears(&[&format!("<bob> {longest}"), "<bob> after it"]);
    server.stop();
}

#[test]
fn nothing_can_be_forged() {
    let server = Server::start(&["--chat"]);
    let (mut ann, bob) = ann_and_bob(&server);
    let lines = server.console.wait_until(|lines| (lines.len() > 4).then_some(lines.len()));
    bob.say(b"* ann left\none\r<ann> two\n\x1b[2J\x1b]0;title\x07\n\xe2\x80\xae\xff\tback\\slash\n\0\n");
    let heard = [
        "<bob> * ann left",
        r"<bob> one\r<ann> two",
        r"<bob> \u{1b}[2J\u{1b}]0;title\u{7}",
        "<bob> \\u{202e}\\xff\tback\\slash",
        r"<bob> \u{0}",
    ];
    ann.hears(&heard);
    bob.say("/name ann\n/name a\nb\n/name * ann\n/name user1\n/name\n");
    ann.hears(&["* bob is now a", "<a> b"]);
    ann.is_answered("/who", "* here: ann, a");
    let all = server.stop_by(Signal::TERM);
    assert_eq!(shown(&all[lines - 1..])[..heard.len()], heard);
}

/// Each says its lines in pieces that end anywhere. Everybody hears all lines of the others, whole, once and in
/// order, and none of its own.
#[test]
fn many_talk_at_once() {
    const SENDERS: usize = 8;
    const LISTENERS: usize = 20;
    const LINES: usize = 500;
    let server = Server::start(&["--chat", "--quiet"]);
    let mut members: Vec<Member> = (0..SENDERS + LISTENERS).map(|_| Member::over(server.connect())).collect();
    for (at, member) in members.iter_mut().enumerate() {
        assert!(member.line().starts_with(&format!("* welcome, user{}; ", at + 1)));
    }
    let content =
        |sender: usize| (0..LINES).map(move |line| format!("line {line} of {sender} 👍{}", "-".repeat(line % 90)));
    thread::scope(|scope| {
        let mut rng = rng();
        for (sender, member) in members[..SENDERS].iter().enumerate() {
            let mut rng = rng.fork();
            scope.spawn(move || {
                let all = content(sender).map(|line| line + "\n").collect::<String>().into_bytes();
                let mut rest = &all[..];
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(rng.usize(1..=rest.len().min(200)));
                    member.say(piece);
                    rest = after;
                }
            });
        }
    });
    for (at, member) in members.iter_mut().enumerate() {
        let mut expected: Vec<_> = (0..SENDERS).map(content).map(Some).collect();
        if at < SENDERS {
            expected[at] = None;
        }
        let mut left = LINES * expected.iter().flatten().count();
        while left > 0 {
            let line = member.line();
            if line.starts_with("* ") {
                assert!(line.ends_with(" joined"), "{line}");
                continue;
            }
            let (name, text) = line.split_once("> ").expect("a line that was said");
            let sender: usize = name.strip_prefix("<user").expect("a name").parse().expect("a number");
            let expected = expected[sender - 1].as_mut().expect("not its own line").next();
            assert_eq!(Some(text), expected.as_deref());
            left -= 1;
        }
        member.is_answered("/help", "* /name NEW, /who, /msg NAME TEXT, /help, /quit; //text says /text");
    }
    server.stop();
}

#[test]
fn what_nc_says_at_its_end_is_heard() {
    if !has("nc") {
        return;
    }
    let server = Server::start(&["--chat"]);
    let mut ann = Member::join(&server, "user1", "");
    for (number, (input, lines)) in [
        ("build done\n", &["build done"][..]),
        ("build done", &["build done"]),
        ("/name ci\nbuild\r\ndone", &["build", "done"]),
        ("", &[]),
    ]
    .into_iter()
    .enumerate()
    {
        let Output { code, stdout, .. } =
            feed(tool(&["nc", "-N", "127.0.0.1", &server.port.to_string()]), input.as_bytes());
        assert_eq!(code, Some(0));
        let user = format!("user{}", number + 2);
        let mut name = &*user;
        let mut told = format!("* welcome, {user}; here: user1\n");
        ann.hears(&[&format!("* {user} joined")]);
        if input.starts_with("/name") {
            name = "ci";
            told += &format!("* {user} is now ci\n");
            ann.hears(&[&format!("* {user} is now ci")]);
        }
        assert_eq!(String::from_utf8(stdout).expect("text"), told);
        for line in lines {
            ann.hears(&[&format!("<{name}> {line}")]);
        }
        ann.hears(&[&format!("* {name} left")]);
    }
    server.stop();
}

/// nc and telnet, as people use them: in a terminal of their own, until they quit.
#[test]
fn nc_and_telnet_talk_to_each_other() {
    if !has("nc") || !has("telnet") {
        return;
    }
    let server = Server::start(&["--chat"]);
    let mut ann = Member::join(&server, "user1", "");
    let mut talkers = Vec::new();
    for (number, program) in [(2, "nc"), (3, "telnet")] {
        let mut command = tool(&[program, "127.0.0.1", &server.port.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(command);
        let stdin = process.take_stdin();
        let screen = Lines::of(process.take_stdout());
        ann.hears(&[&format!("* user{number} joined")]);
        talkers.push((process, stdin, screen));
    }
    let sees = |screen: &Lines, line: &str| {
        screen.wait_until(|lines| lines.iter().any(|shown| shown == line).then_some(()));
    };
    for (at, other, text) in [(0, 1, "Hello, telnet!"), (1, 0, "Grüße, nc 👍")] {
        writeln!(talkers[at].1, "{text}").expect("taken");
        let line = format!("<user{}> {text}", at + 2);
        ann.hears(&[&line]);
        sees(&talkers[other].2, &line);
    }
    for (number, (process, mut stdin, screen)) in (2..).zip(talkers) {
        writeln!(stdin, "/quit").expect("taken");
        ann.hears(&[&format!("* user{number} left")]);
        // nc ends with its input, telnet with the connection.
        drop(stdin);
        process.wait();
        sees(&screen, &format!("* welcome, user{number}; here: user1{}", if number == 3 { ", user2" } else { "" }));
    }
    server.stop();
}
