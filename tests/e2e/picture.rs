//! The picture at the top of the README: a session of the real programs, in two terminals.
//!
//! It has to be, byte for byte, what the programs show today. `UPDATE_PICTURE=1` writes it anew.

use std::path::Path;
use std::process::Command;

use anstyle::RgbColor;
use anstyle_svg::{Palette, Term};
use chrono::{NaiveDate, TimeDelta};

use crate::harness::{clean_command, free_port, has, parse_time};
use crate::session_person::Person;

const ROWS: u16 = 16;
/// The start line of the server has to fit in.
const OPERATOR_COLUMNS: u16 = 61;
/// The line that says where the session is breaks between two words here.
const ANN_COLUMNS: u16 = 49;

/// The size of a character and the padding of a terminal on each side, in pixels, as anstyle-svg has them.
const COLUMN: f64 = 8.4;
const ROW: usize = 18;
const PADDING: usize = 10;
/// Between the two terminals, in pixels.
const GAP: usize = 12;

/// Colours that can be read on the background, which stands out from a white page and from a black one.
const BACKGROUND: RgbColor = RgbColor(0x1c, 0x21, 0x28);
const FOREGROUND: RgbColor = RgbColor(0xe6, 0xed, 0xf3);
const PALETTE: [u32; 16] = [
    0x484f58, 0xff7b72, 0x56d364, 0xe3b341, 0x79c0ff, 0xd2a8ff, 0x56d4dd, 0xb1bac4, //
    0x6e7681, 0xffa198, 0x7ee787, 0xf2cc60, 0xa5d6ff, 0xe2c5ff, 0x8be9ef, 0xffffff,
];

#[test]
fn the_picture_in_the_readme_is_what_the_programs_show() {
    if !has("bash") {
        return;
    }
    let port = free_port();
    let mut operator = terminal(port, OPERATOR_COLUMNS);
    let mut ann = terminal(port, ANN_COLUMNS);

    operator.type_in("echo-server\r");
    operator.wait_for("Starting server");
    ann.type_in("echo-client 'Hello, world!'\r");
    ann.wait_for("\nHello, world!\n$");
    operator.wait_for("Echoed: 'Hello, world!'");
    ann.type_in("printf '\\e[31mRed?\\n' | echo-client\r");
    ann.wait_for("\n\\u{1b}[31mRed?\n$");
    operator.wait_for("Red?");
    operator.type_in("\x03");
    operator.wait_until("the prompt", |screen| screen.contents().trim_end().ends_with("---\n$"));

    operator.type_in("echo-server --chat\r");
    operator.wait_until("the second server", |screen| screen.contents().matches("Starting server").count() == 2);
    ann.type_in("echo-client --name ann\r");
    ann.wait_for("is now ann");
    operator.wait_for("* ann joined");
    let mut liz = member(port, "liz");
    ann.wait_for("* liz joined");
    let mut hong = member(port, "小红");
    ann.wait_for("* 小红 joined");
    ann.type_in("Has anyone seen the build?\r");
    liz.wait_for("<ann> Has anyone seen the build?");
    liz.type_in("It's green 🟢\r");
    ann.wait_for("<liz> It's green 🟢");
    hong.type_in("/me 太高兴了\r");
    ann.wait_for("太高兴了");
    liz.type_in("/msg ann Lunch?\r");
    ann.wait_for("Lunch?");
    ann.type_in("Thanks, I was ju");
    ann.wait_for("I was ju");
    operator.wait_for("太高兴了");

    let terminals = [(&operator, OPERATOR_COLUMNS), (&ann, ANN_COLUMNS)];
    let picture = side_by_side(terminals.map(|(person, columns)| {
        let text = person.formatted().replace(&port.to_string(), "8888");
        // The place where typing goes is a reversed blank, which anstyle-svg would put too far to the right.
        rendered(&with_made_up_times(&text).replace("\x1b[7m ", "█"), columns)
    }));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/picture/session.svg");
    if std::env::var_os("UPDATE_PICTURE").is_some() {
        std::fs::write(&path, &picture).expect("written");
    }
    let committed = std::fs::read_to_string(&path).expect("the picture");
    assert!(picture == committed, "the programs show something else now; UPDATE_PICTURE=1 writes the picture anew");
}

/// A shell that finds the programs, and they each other.
fn terminal(port: u16, columns: u16) -> Person {
    let mut shell = clean_command("bash");
    // The prompt is written to standard error.
    shell.args(["-c", r#"PS1='$ ' exec bash --norc -i 2>&1"#]);
    let programs = Path::new(env!("CARGO_BIN_EXE_echo-server")).parent().expect("a folder");
    let path = std::env::var("PATH").expect("a path");
    shell.env("PATH", format!("{}:{path}", programs.display()));
    shell.env("HISTFILE", "/dev/null").env("ECHO_PORT", port.to_string());
    let mut person = Person::start(shell, ROWS);
    person.resize(columns);
    person.wait_for("$");
    person
}

/// A member of the room whose terminal is not shown.
fn member(port: u16, name: &str) -> Person {
    let mut client: Command = clean_command(env!("CARGO_BIN_EXE_echo-client"));
    client.args(["--port", &port.to_string(), "--name", name]);
    let person = Person::start(client, ROWS);
    person.wait_for(&format!("is now {name}"));
    person
}

/// Replaces each time of day by the next one of a made-up morning.
fn with_made_up_times(text: &str) -> String {
    const LENGTH: usize = "12:43:08 29/01/2018".len();
    let mut time = NaiveDate::from_ymd_opt(2018, 1, 29).and_then(|day| day.and_hms_opt(12, 43, 8)).expect("a time");
    let (mut out, mut rest) = (String::new(), text);
    while let Some(next) = rest.chars().next() {
        if rest.get(..LENGTH).and_then(parse_time).is_some() {
            out += &time.format("%H:%M:%S %d/%m/%Y").to_string();
            time += TimeDelta::seconds(3);
            rest = &rest[LENGTH..];
        } else {
            out.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    out
}

/// A picture of a terminal, and its width.
fn rendered(text: &str, columns: u16) -> (usize, String) {
    let palette = PALETTE.map(|colour| {
        let [_, red, green, blue] = colour.to_be_bytes();
        RgbColor(red, green, blue)
    });
    let width = (f64::from(columns) * COLUMN).ceil() as usize;
    let term = Term::new().palette(Palette::from(palette)).fg_color(FOREGROUND.into()).bg_color(BACKGROUND.into());
    (width + 2 * PADDING, term.min_width_px(width).render_svg(text))
}

/// One picture of several, each with its width.
fn side_by_side(pictures: [(usize, String); 2]) -> String {
    let mut x = 0;
    let mut inner = String::new();
    for (width, picture) in &pictures {
        inner += &picture.replacen("<svg ", &format!("<svg x=\"{x}px\" "), 1);
        x += width + GAP;
    }
    let height = usize::from(ROWS) * ROW + 2 * PADDING;
    let width = x - GAP;
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" xmlns=\"http://www.w3.org/2000/svg\">\n{inner}</svg>\n"
    )
}
