//! The interactive session: what people see while they type and others do.

use std::io::{Read, Write};

use chrono::NaiveTime;

use crate::harness::{Server, accept_in_time, client, feed, listener, server_name};
use crate::session_person::{Person, cursor, lines_of};

#[test]
fn people_type_at_once_and_nobodys_line_is_torn() {
    let server = Server::start(&["--chat"]);
    let mut ann = Person::join(&server, "ann");
    let mut bob = Person::join(&server, "بهار");
    ann.wait_for("* بهار joined");

    ann.type_in("नमस्ते 👍🏽, I am");
    ann.wait_for("<ann> नमस्ते 👍🏽, I am");
    bob.type_in("سلام 👨‍👩‍👧");
    bob.wait_for("<بهار> سلام 👨‍👩‍👧");
    let mut carol = Person::join(&server, "花子");
    carol.type_in("日本語 e\u{301}\r");
    ann.wait_for_lines(&[
        "* welcome, user1; nobody else is here",
        "* user1 is now ann",
        "* بهار joined",
        "* 花子 joined",
        "<花子> 日本語 e\u{301}",
        "<ann> नमस्ते 👍🏽, I am",
    ]);
    bob.wait_for("<花子> 日本語 e\u{301}\n<بهار> سلام 👨‍👩‍👧");
    bob.type_in(" دنیا\r");
    ann.wait_for("<بهار> سلام 👨‍👩‍👧 دنیا\n<ann> नमस्ते 👍🏽, I am");
    ann.type_in(" here\r");
    ann.wait_for("<ann> नमस्ते 👍🏽, I am here");
    bob.wait_for("<ann> नमस्ते 👍🏽, I am here");
    bob.wait_for_lines(&[
        "* welcome, user2; here: ann",
        "* user2 is now بهار",
        "* 花子 joined",
        "<花子> 日本語 e\u{301}",
        "<بهار> سلام 👨‍👩‍👧 دنیا",
        "<ann> नमस्ते 👍🏽, I am here",
        "<بهار>",
    ]);
    carol.wait_for("<ann> नमस्ते 👍🏽, I am here");
    carol.wait_for("<بهار> سلام 👨‍👩‍👧 دنیا");
    for person in [&mut ann, &mut bob, &mut carol] {
        person.type_in("\x04");
    }
    for person in [ann, bob, carol] {
        assert_eq!(person.expect_end(), (Some(0), String::new()));
    }
    server.stop();
}

#[test]
fn a_line_longer_than_the_terminal_stays_whole_below_what_arrives() {
    let server = Server::start(&["--chat"]);
    let mut ann = Person::join(&server, "ann");
    let mut bob = Person::join(&server, "bob");
    let long = "a line of more than one row: ".repeat(3);
    ann.type_in(&long);
    ann.type_in("\x01X");
    let typed = format!("<ann> X{long}");
    let rows = typed.trim_end().split_at(60);
    ann.wait_for(rows.1);
    bob.type_in("one\rtwo\r");
    let join = ["* welcome, user1; nobody else is here", "* user1 is now ann", "* bob joined"];
    ann.wait_for_lines(&[&join[..], &["<bob> one", "<bob> two", rows.0.trim_end(), rows.1]].concat());
    ann.wait_until("the cursor after the X", |screen| {
        lines_of(screen).len() > 6 && cursor(screen).is_some_and(|(_, column)| column == 7)
    });
    ann.type_in("\x05end\r");
    bob.wait_for(&format!("<ann> X{long}end"));
    server.stop();
}

#[test]
fn lines_keep_their_order_and_their_rows_while_someone_types() {
    const LINES: usize = 600;
    let server = Server::start(&["--chat", "--quiet"]);
    let mut ann = Person::start(client(server.port, &["--name", "ann"]), 1200);
    ann.wait_for("is now ann");
    let said: String = (0..LINES).map(|number| format!("line {number}\n")).collect();
    let mut bot = client(server.port, &["--name", "bot"]);
    bot.env("NO_COLOR", "1");
    let speaker = std::thread::spawn(move || feed(bot, said.into_bytes()));
    for number in 0..100 {
        ann.type_in(&format!("typed {number}\r"));
    }
    ann.wait_for("<ann> typed 99\n");
    ann.wait_for("* bot left");
    assert_eq!(speaker.join().expect("the speaker").code, Some(0));
    ann.wait_until("all lines, in order, in rows of their own", |screen| {
        let contents = screen.contents();
        let of =
            |prefix: &str| contents.lines().filter_map(|line| line.strip_prefix(prefix)).map(str::to_owned).collect();
        let (heard, typed): (Vec<String>, Vec<String>) = (of("<bot> line "), of("<ann> typed "));
        heard.iter().map(String::as_str).eq((0..LINES).map(|number| number.to_string()).collect::<Vec<_>>())
            && typed == (0..100).map(|number| number.to_string()).collect::<Vec<_>>()
    });
    server.stop();
}

#[test]
fn what_is_typed_ahead_or_pasted_is_sent_whole() {
    let server = Server::start(&["--chat"]);
    let mut ann = Person::join(&server, "ann");
    let bob = Person::join(&server, "bob");
    ann.type_in("\x1b[200~one\n\ttwo\n\x1b[201~");
    ann.wait_for("<ann> one\n    two");
    ann.type_in("three\rfour\rfi");
    bob.wait_for("<ann> one\n<ann>   two\n<ann> three\n<ann> four");
    ann.wait_for_input("<ann> fi", 8);
    server.stop();
}

#[test]
fn lines_are_edited_and_remembered() {
    let server = Server::start(&[]);
    let mut ann = Person::connect(server.port, &[]);
    ann.type_in("one two\x17three\r");
    ann.wait_for_lines(&["> one three", "one three", ">"]);
    ann.type_in("\x1b[A\x7f\x7f\x1b[D日\x1b[H\x1b[C\x0b\x19\r");
    ann.wait_for_lines(&["> one three", "one three", "> one th日r", "one th日r", ">"]);
    ann.type_in("\x1b[A\x1b[A\x1b[B");
    ann.wait_for_input("> one th日r", 11);
    ann.type_in("\x15\x04");
    assert_eq!(ann.expect_end(), (Some(0), String::new()));
    assert_eq!(server.stop_and_read(), ["one three", "one th日r"]);
}

#[test]
fn the_first_line_says_where_the_session_is_and_how_to_leave() {
    let room = Server::start(&["--chat"]);
    let ann = Person::connect(room.port, &[]);
    let place = format!("connected to {}", server_name(room.port));
    ann.wait_for(&format!("{place}, a room: Enter sends, /help lists commands, Ctrl-D ends\n* welcome"));
    room.stop();

    let echo = Server::start(&[]);
    let place = format!("connected to {}: Enter sends, Ctrl-D ends", server_name(echo.port));
    let mut ann = Person::connect(echo.port, &[]);
    ann.type_in("hello\r");
    ann.wait_for(&format!("{place}\n> hello\nhello\n>"));
    // An echo server says nothing by itself.
    Person::connect(echo.port, &[]).wait_for(&format!("{place}\n>"));
    echo.stop();
}

#[test]
fn what_is_typed_before_the_greeting_is_said_under_the_name() {
    let (listener, port) = listener();
    let mut ann = Person::connect(port, &["--name", "ann"]);
    let mut peer = accept_in_time(&listener);
    ann.type_in("hello\r");
    ann.wait_for("> hello");
    peer.write_all(b"* welcome, user1; nobody else is here\n").expect("sent");
    let mut heard = [0; "/name ann\nhello\n".len()];
    peer.read_exact(&mut heard).expect("two lines");
    assert_eq!(heard.escape_ascii().to_string(), "/name ann\\nhello\\n");
}

#[test]
fn several_lines_are_written_and_sent_together() {
    let server = Server::start(&["--chat"]);
    let mut ann = Person::join(&server, "ann");
    let bob = Person::join(&server, "bob");
    ann.type_in("one\x1b\rthree\x1b[A\x05\x1b\rtwo\r");
    bob.wait_for("<ann> one\n<ann> two\n<ann> three");

    let many: String = (0..1000).map(|number| format!("{number}\n")).collect();
    ann.type_in(&format!("\x1b[200~{many}\x1b[201~\r"));
    ann.wait_for_input("send 1000 lines? y/n", 21);
    ann.type_in("n\x03/who\r");
    ann.wait_for("* here: ann, bob");
    server.stop();
}

#[test]
fn a_paste_that_does_not_fit_is_refused_and_told() {
    const LIMIT: usize = 1 << 20;
    let (listener, port) = listener();
    let mut ann = Person::connect(port, &[]);
    let mut peer = accept_in_time(&listener);
    let paste = |length: usize| format!("\x1b[200~{}\x1b[201~", "x".repeat(length));
    ann.type_in(&(paste(4) + &paste(LIMIT)));
    ann.wait_for("* not added: the input holds at most 1 MiB\n");
    ann.wait_for_input("> xxxx", 6);
    ann.type_in(&(paste(LIMIT - 4) + "\r\x04"));
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).expect("the line and the half-close");
    assert_eq!(heard.len(), LIMIT + 1);
}

#[test]
fn commands_and_names_are_completed() {
    let server = Server::start(&["--chat"]);
    let mut ann = Person::join(&server, "ann");
    let bob = Person::join(&server, "bob");
    ann.wait_for("* bob joined");
    ann.type_in("/ms\tB\thello\t\r");
    bob.wait_for("<ann -> bob> hello\n");
    server.stop();
}

#[test]
fn actions_private_lines_and_earlier_ones_are_told_apart() {
    let server = Server::start(&["--chat", "--history", "9"]);
    let mut ann = Person::join(&server, "ann");
    let mut bob = Person::join(&server, "bob");
    ann.wait_for("* bob joined");
    ann.type_in("/me left\r/msg bob psst\r");
    ann.wait_for("<ann> *left*\n<ann> /msg bob psst\n<ann -> bob> psst\n<ann>");
    bob.wait_for("<ann> *left*\n<ann -> bob> psst\n");
    bob.type_in("ann and eve\r");
    ann.wait_for("<bob> ann and eve\n");
    let eve = Person::join(&server, "eve");
    eve.wait_for("here: ann, bob\n* earlier:\n| <ann> *left*\n| <bob> ann and eve\n* user3 is now eve");
    assert!(!eve.bytes().contains(&0x07), "nobody said her name while she was there");
    server.stop();
}

#[test]
fn a_mention_rings_the_bell_unless_it_must_not() {
    let server = Server::start(&["--chat"]);
    let ann = Person::join(&server, "ann");
    let quiet = Person::connect(server.port, &["--name", "quiet", "--no-bell"]);
    quiet.wait_for("is now quiet");
    let mut bob = Person::join(&server, "bob");
    bob.type_in("hello Ann and quiet!\r");
    for (person, rings) in [(&ann, true), (&quiet, false)] {
        person.wait_for("<bob> hello Ann and quiet!\n");
        assert_eq!(person.bytes().contains(&0x07), rings);
    }
    server.stop();
}

#[test]
fn each_line_has_its_time_if_wanted() {
    let server = Server::start(&["--chat"]);
    let mut ann = Person::connect(server.port, &["--name", "ann", "--time"]);
    ann.wait_for("is now ann");
    ann.type_in("hello\r");
    ann.wait_until("a time before every line but the input", |screen| {
        let lines = lines_of(screen);
        let is_timed =
            |line: &String| line.get(..6).is_some_and(|time| NaiveTime::parse_from_str(time, "%H:%M ").is_ok());
        lines.len() == 5 && lines[..4].iter().all(is_timed) && lines[3].ends_with("<ann> hello") && lines[4] == "<ann>"
    });
    server.stop();
}

#[test]
fn a_change_of_width_keeps_the_line() {
    let server = Server::start(&["--chat"]);
    let mut ann = Person::join(&server, "ann");
    let mut bob = Person::join(&server, "bob");
    ann.type_in("a line of thirty characters 30");
    ann.wait_for_input("<ann> a line of thirty characters 30", 36);
    ann.resize(80);
    bob.type_in("hello\r");
    ann.wait_for("<bob> hello\n<ann> a line of thirty characters 30");
    ann.type_in(" and so long that it needs all the new width");
    ann.wait_for_input("<ann> a line of thirty characters 30 and so long that it needs all the new width", 0);
    server.stop();
}

#[test]
fn a_name_that_is_taken_is_told_and_the_session_goes_on() {
    let server = Server::start(&["--chat"]);
    let ann = Person::join(&server, "ann");
    let mut other = Person::connect(server.port, &["-n", "Ann"]);
    other.wait_for_lines(&["* welcome, user2; here: ann", "* Ann is taken", "<user2>"]);
    other.type_in("hello\r");
    ann.wait_for("<user2> hello");
    server.stop();
}

#[test]
fn names_have_their_colours_unless_none_are_wanted() {
    let server = Server::start(&["--chat"]);
    let mut bob = Person::join(&server, "bob");
    let ann = Person::join(&server, "ann");
    let mut plain = client(server.port, &["--name", "plain"]);
    plain.env("NO_COLOR", "1");
    let plain = Person::start(plain, 24);
    let mut unset = client(server.port, &["--name", "unset"]);
    unset.env("NO_COLOR", "");
    let unset = Person::start(unset, 24);
    for person in [&plain, &unset] {
        person.wait_for("is now");
    }

    bob.type_in("hello\r/msg ann psst\r");
    assert_ne!(ann.colour_of("bob> hello"), vt100::Color::Default);
    assert_eq!(ann.colour_of("bob -> ann> psst"), ann.colour_of("bob> hello"));
    assert_eq!(unset.colour_of("bob> hello"), ann.colour_of("bob> hello"));
    assert_ne!(bob.colour_of("ann joined"), vt100::Color::Default);
    assert_eq!(ann.colour_of("hello"), vt100::Color::Default);
    assert_eq!(plain.colour_of("bob> hello"), vt100::Color::Default);
    assert!(!String::from_utf8_lossy(&plain.bytes()).contains("\x1b[2m"), "nothing is dimmed either");

    let piped = feed(client(server.port, &["--name", "pipe"]), *b"bye\n");
    assert!(!piped.stdout.contains(&0x1b), "{:?}", String::from_utf8_lossy(&piped.stdout));
    server.stop();
}

#[test]
fn nothing_that_a_hostile_peer_sends_reaches_the_terminal_as_a_command() {
    let hostile = "* welcome, \x1b[31m\r\n<\x1b]0;title\x07> \u{9b}2J\u{202e}gnp \rforged\nhalf \x1b[5m";
    let shown =
        [r"* welcome, \u{1b}[31m", r"<\u{1b}]0;title\u{7}> \u{9b}2J\u{202e}gnp \rforged", r"half \u{1b}[5m", ">"];
    let (listener, port) = listener();
    let ann = Person::connect(port, &[]);
    let mut peer = accept_in_time(&listener);
    peer.write_all(hostile.as_bytes()).expect("sent");
    // The last line is shown although its end never comes.
    ann.wait_for_lines(&shown);
    let bytes = String::from_utf8(ann.bytes()).expect("whole characters");
    for command in ["\x1b]", "\x07", "\u{9b}", "\u{202e}", "\x1b[5m", "\x1b[31m\\"] {
        assert!(!bytes.contains(command), "{command:?} in {bytes:?}");
    }

    let raw = Person::connect(port, &["--raw"]);
    accept_in_time(&listener).write_all(b"\x1b[32mgreen\x1b[m\n").expect("sent");
    assert_eq!(raw.colour_of("green"), vt100::Color::Idx(2));
}

#[test]
fn a_filter_can_talk_to_a_room() {
    let server = Server::start(&["--chat", "--quiet"]);
    let listener = Person::join(&server, "ann");
    let output = feed(client(server.port, &[""; 0]), *b"build done\n");
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    assert_eq!(output.stdout, b"* welcome, user2; here: ann\n");
    listener.wait_for("<user2> build done");

    let output = feed(client(server.port, &["-n", "logbot"]), *b"no newline");
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    listener.wait_for("<logbot> no newline");

    // More than the sockets' buffers take, so that the server is asked to keep up with it.
    let large = format!("{}the end\n", "a line of a large file\n".repeat(50_000)).into_bytes();
    let output = feed(client(server.port, &[""; 0]), large);
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    listener.wait_for("<user4> the end\n* user4 left");
    server.stop();
}
