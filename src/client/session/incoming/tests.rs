use super::*;
use crate::client::room::WELCOME;

fn incoming(look: Look) -> Incoming {
    let appearance = Appearance { look, has_bell: true, has_time: false };
    let mut incoming = Incoming::new("localhost port 1".to_owned(), appearance);
    incoming.settle(&mut Vec::new(), false);
    incoming
}

/// In a room, as `me`.
fn room() -> Incoming {
    let mut incoming = incoming(Look::Coloured);
    incoming.push(&mut Vec::new(), b"* welcome, me; nobody else is here\n");
    incoming
}

fn shown(look: Look, pieces: &[&[u8]]) -> String {
    let mut incoming = incoming(look);
    let mut out = Vec::new();
    for piece in pieces {
        incoming.push(&mut out, piece);
    }
    incoming.finish(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn lines_are_the_same_however_they_are_cut() {
    let bytes = "* welcome, x; here: ann\n<ann> é👍\x1b[2J\r\n* ann left\nrest\u{202e}".as_bytes();
    for look in [Look::Raw, Look::Plain, Look::Coloured] {
        let whole = shown(look, &[bytes]);
        for cut in 0..=bytes.len() {
            assert_eq!(shown(look, &[&bytes[..cut], &bytes[cut..]]), whole);
        }
    }
    let plain = "* welcome, x; here: ann\n<ann> é👍\\u{1b}[2J\n* ann left\nrest\\u{202e}\n";
    assert_eq!(shown(Look::Plain, &[bytes]), plain);
    assert_eq!(shown(Look::Raw, &[bytes]).as_bytes(), [bytes, b"\n"].concat());
}

#[test]
fn a_part_of_a_line_is_shown_in_whole_characters() {
    let mut incoming = incoming(Look::Plain);
    let mut out = Vec::new();
    incoming.push(&mut out, b"name? \xe2\x82");
    assert!(out.is_empty() && incoming.has_part());
    incoming.push_part(&mut out);
    incoming.push_part(&mut out);
    assert_eq!(out, b"name? \n");
    incoming.push(&mut out, b"\xac\nnext\npart");
    incoming.push_part(&mut out);
    incoming.push(&mut out, b"\n\n");
    assert_eq!(out, "name? \n€\nnext\npart\n\n".as_bytes());
    assert!(!incoming.has_part());
}

#[test]
fn a_line_without_end_is_not_held_for_ever() {
    let mut incoming = incoming(Look::Plain);
    let mut out = Vec::new();
    for _ in 0..100 {
        incoming.push(&mut out, &[b'x'; 10_000]);
        assert!(incoming.line.len() <= MAX_HELD);
    }
    incoming.finish(&mut out);
    assert_eq!(out.iter().filter(|&&byte| byte == b'x').count(), 1_000_000);
}

#[test]
fn names_have_their_colours_in_a_room() {
    let (room, ann, bob) = (room(), in_colour("ann"), in_colour("bob"));
    assert_eq!(room.coloured("<ann> hello <x> y"), format!("<{ann}> hello <x> y"));
    assert_eq!(room.coloured("<ann -> bob> psst"), format!("<{ann} -> {bob}> psst"));
    assert_eq!(room.coloured("<ann> -> bob> psst"), format!("<{ann}> -> bob> psst"));
    for line in ["<ann>", "<ann -> bob>", "<ann -> bob psst", "<ann hello", "< ", ""] {
        assert_eq!(room.coloured(line), line);
    }
    let dim = |text: &str| format!("{DIM}{text}{DIM:#}");
    assert_eq!(room.coloured("* ann joined"), format!("{}{ann}{}", dim("* "), dim(" joined")));
    assert_eq!(room.coloured("* ann left (too slow)"), format!("{}{ann}{}", dim("* "), dim(" left (too slow)")));
    assert_eq!(room.coloured("* ann is now bob"), format!("{}{ann}{}{bob}{}", dim("* "), dim(" is now "), dim("")));
    assert_eq!(room.coloured("* ann is taken"), dim("* ann is taken"));
    assert_eq!(room.coloured("no name"), "no name");
}

#[test]
fn only_a_room_is_coloured() {
    let line = "<ann> hello\n";
    assert_eq!(shown(Look::Coloured, &[line.as_bytes()]), line);
    let in_room = shown(Look::Coloured, &[WELCOME, b"x\n", line.as_bytes()]);
    assert!(in_room.ends_with(&format!("<{}> hello\n", in_colour("ann"))), "{in_room:?}");
}

#[test]
fn the_first_line_says_where_the_session_is() {
    for (line, first) in [
        ("* welcome, x; nobody else is here\n", ", a room: Enter sends, /help lists commands, Ctrl-D ends\n"),
        ("* welcome\n", ": Enter sends, Ctrl-D ends\n"),
    ] {
        let mut incoming = incoming(Look::Plain);
        (incoming.is_room, incoming.is_introduced) = (None, false);
        let mut out = Vec::new();
        incoming.push(&mut out, line.as_bytes());
        assert_eq!(String::from_utf8_lossy(&out), format!("connected to localhost port 1{first}{line}"));
    }
}

#[test]
fn a_mention_is_bold_and_rings_the_bell() {
    let mut room = room();
    let mut shown = |line: &str| {
        let mut out = Vec::new();
        room.push(&mut out, format!("{line}\n").as_bytes());
        String::from_utf8_lossy(&out).into_owned()
    };
    let ann = in_colour("ann");
    assert_eq!(shown("<ann> hello Me!"), format!("<{ann}> hello {MENTION}Me{MENTION:#}!\x07\n"));
    assert!(shown("<ann -> me> psst").ends_with("psst\x07\n"));
    for line in ["<ann> some", "* me joined", "<me> me", "<me -> ann> psst", "me"] {
        assert!(!shown(line).contains('\x07'), "{line:?}");
    }
    room.appearance.has_bell = false;
    let mut out = Vec::new();
    room.push(&mut out, b"<ann> me\n");
    assert!(!out.contains(&0x07));
}

#[test]
fn what_was_said_earlier_is_dimmed_and_rings_no_bell() {
    let mut room = room();
    room.appearance.has_time = true;
    let mut out = Vec::new();
    room.push(&mut out, "| <ann> hello me\n".as_bytes());
    let dim = format!("{DIM}| <ann> hello me{DIM:#}");
    assert_eq!(String::from_utf8_lossy(&out), format!("      {dim}\n"));
    assert!(room.names().starting_with("ann").is_empty(), "whoever said it may be gone");
}

#[test]
fn the_person_sees_an_action_as_others_do() {
    let room = room();
    for (sent, heard) in [
        ("/me waves", "*waves*"),
        ("hi\n/me\t waves \nbye", "hi\n*waves*\nbye"),
        ("/me", "/me"),
        ("/me  ", "/me  "),
        ("/men", "/men"),
        ("/msg ann hi", "/msg ann hi"),
    ] {
        assert_eq!(room.as_heard(sent), heard);
    }
    assert_eq!(incoming(Look::Plain).as_heard("/me waves"), "/me waves", "an echo server sends it back as it is");
}

#[test]
fn the_prompt_shows_the_name_and_follows_it() {
    let mut room = room();
    assert_eq!(room.prompt().text, "<me> ");
    room.push(&mut Vec::new(), b"* me is now ann\n");
    let prompt = room.prompt();
    assert_eq!((&*prompt.text, &prompt.text[prompt.styled.clone()]), ("<ann> ", "ann"));
    assert_eq!(incoming(Look::Plain).prompt().text, "> ");
}

#[test]
fn different_names_have_different_colours_mostly() {
    let names: Vec<String> = (0..600).map(|number| format!("user{number}")).collect();
    for wanted in COLOURS {
        let count = names.iter().filter(|name| colour(name).get_fg_color() == Some(wanted.into())).count();
        assert!((60..140).contains(&count), "{wanted:?}: {count}");
    }
    assert_eq!(colour("ann"), colour("ann"));
}

#[test]
fn only_the_first_line_is_a_greeting_but_it_may_come_late() {
    let mut late = incoming(Look::Plain);
    late.push(&mut Vec::new(), b"* welcome, me; nobody else is here\n");
    assert_eq!(late.is_room(), Some(true));
    let mut echo = incoming(Look::Plain);
    echo.push(&mut Vec::new(), b"hello\n* welcome, me; nobody else is here\n");
    assert_eq!((echo.is_room(), echo.prompt().text.as_str()), (Some(false), "> "));
}
