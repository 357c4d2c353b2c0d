//! The room, spoken to as people and programs do.

use std::io::Write;
use std::process::Stdio;
use std::thread;

use rustix::process::Signal;

use crate::harness::{Lines, Member, Output, Process, Server, feed, has, rng, shown, skipped_over_tls};
use crate::interop::tool;

/// Two members that have got used to each other.
fn ann_and_bob(server: &Server) -> (Member, Member) {
    let mut ann = Member::join(server, "ann", "");
    let bob = Member::join(server, "bob", "ann");
    ann.hears(&["* bob joined"]);
    (ann, bob)
}

#[test]
fn a_room_lives() {
    let server = Server::start(&["--chat"]);
    let (mut ann, mut bob) = ann_and_bob(&server);
    bob.say("Grüße 👍\n");
    ann.hears(&["<bob> Grüße 👍"]);
    ann.is_answered("/name Аня", "* ann is now Аня");
    let mut eve = Member::join(&server, "eve", "Аня, bob");
    eve.say("/msg BOB psst\n//help\n\n/me left\n/quit\nnot heard\n");
    eve.hears(&["<eve -> bob> psst"]);
    eve.leaves();
    let heard = ["* eve joined", "<eve -> bob> psst", "<eve> /help", "<eve> *left*", "* eve left"];
    bob.hears(&[&["* ann is now Аня"], &heard[..]].concat());
    ann.hears(&["* eve joined", "<eve> /help", "<eve> *left*", "* eve left"]);
    ann.is_answered("/who", "* here: Аня, bob");
    ann.half_close();
    ann.leaves();
    bob.hears(&["* Аня left"]);
    drop(bob);
    server.wait_for_lines(10);
    let expected = [
        "* ann joined",
        "* bob joined",
        "<bob> Grüße 👍",
        "* ann is now Аня",
        "* eve joined",
        "<eve> /help",
        "<eve> *left*",
        "* eve left",
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
    let lines = server.console.wait_until(|lines| (lines.len() > 2).then_some(lines.len()));
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
    let names = (0..SENDERS + LISTENERS).map(|number| format!("member{number}"));
    let mut members: Vec<Member> = names.map(|name| Member::enter(server.connect(), &name).0).collect();
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
            let sender: usize = name.strip_prefix("<member").expect("a name").parse().expect("a number");
            let expected = expected[sender].as_mut().expect("not its own line").next();
            assert_eq!(Some(text), expected.as_deref());
            left -= 1;
        }
        member.is_answered("/help", "* /name NEW, /who, /msg NAME TEXT, /me ACTION, /help, /quit; //text says /text");
    }
    server.stop();
}

#[test]
fn what_nc_says_at_its_end_is_heard() {
    if skipped_over_tls("these programs do not speak it") || !has("nc") {
        return;
    }
    let server = Server::start(&["--chat"]);
    let mut ann = Member::join(&server, "ann", "");
    for (number, input, name, lines) in [
        (2, "build done\n", "user2", &["build done"][..]),
        (3, "build done", "user3", &["build done"]),
        (4, "/name ci\nbuild\r\ndone", "ci", &["build", "done"]),
        // Without a line it leaves no trace.
        (5, "", "", &[]),
        (5, "last\n", "user5", &["last"]),
    ] {
        let Output { code, stdout, .. } =
            feed(tool(&["nc", "-N", "127.0.0.1", &server.port.to_string()]), input.as_bytes());
        assert_eq!(code, Some(0));
        let mut told = format!("* welcome, user{number}; here: ann\n");
        if name == "ci" {
            told += "* user4 is now ci\n";
        }
        assert_eq!(String::from_utf8(stdout).expect("text"), told);
        if !name.is_empty() {
            ann.hears(&[&format!("* {name} joined")]);
            for line in lines {
                ann.hears(&[&format!("<{name}> {line}")]);
            }
            ann.hears(&[&format!("* {name} left")]);
        }
    }
    server.stop();
}

/// nc and telnet, as people use them: in a terminal of their own, until they quit.
#[test]
fn nc_and_telnet_talk_to_each_other() {
    if skipped_over_tls("these programs do not speak it") || !has("nc") || !has("telnet") {
        return;
    }
    let server = Server::start(&["--chat"]);
    let mut ann = Member::join(&server, "ann", "");
    let mut talkers = Vec::new();
    for (number, program) in [(2, "nc"), (3, "telnet")] {
        let mut command = tool(&[program, "127.0.0.1", &server.port.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(command);
        let stdin = process.take_stdin();
        let screen = Lines::of(process.take_stdout());
        let welcome = format!("* welcome, user{number}; here: ann");
        screen.wait_until(|lines| lines.iter().any(|line| line.starts_with(&welcome)).then_some(()));
        talkers.push((process, stdin, screen));
    }
    // Both are silent until they are announced.
    ann.hears(&["* user2 joined", "* user3 joined"]);
    let sees = |screen: &Lines, line: &str| {
        screen.wait_until(|lines| lines.iter().any(|shown| shown == line).then_some(()));
    };
    for (at, other, text) in [(0, 1, "Hello, telnet!"), (1, 0, "Grüße, nc 👍")] {
        writeln!(talkers[at].1, "{text}").expect("taken");
        let line = format!("<user{}> {text}", at + 2);
        ann.hears(&[&line]);
        sees(&talkers[other].2, &line);
    }
    for (number, (process, mut stdin, _screen)) in (2..).zip(talkers) {
        writeln!(stdin, "/quit").expect("taken");
        ann.hears(&[&format!("* user{number} left")]);
        // nc ends with its input, telnet with the connection.
        drop(stdin);
        process.wait();
    }
    server.stop();
}
