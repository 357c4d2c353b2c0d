//! A session on the Linux console: on a real one where the system has them, and otherwise by what console_codes(4) says.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::Stdio;
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::termios::tcgetwinsize;

use crate::harness::{DEADLINE, Process, Pty, Server, accept_in_time, client, listener, rng};
use crate::session_person::Person;

/// All that a session writes in order to print, paint, complete, ring, clear and end.
#[test]
fn a_session_writes_nothing_that_the_linux_console_does_not_know() {
    let server = Server::start(&["--chat", "--history", "5"]);
    let mut ann = Person::join(&server, "ann");
    ann.type_in("\x1b[200~many\nrows \x1b[A\x07\u{9b}31m\n日本語 👍🏽 e\u{301}\t\x1b[201~\r/me waves\r/who\r");
    ann.wait_for("* here: ann");
    let mut bob = Person::connect(server.port, &["--name", "bob", "--time"]);
    bob.wait_for("is now bob");
    bob.type_in("hello ann\r/msg ann psst\r");
    ann.wait_for("-> ann>");
    ann.type_in(&"a line that takes several rows ".repeat(5));
    ann.type_in("\x0chi\x12many\x07");
    bob.type_in("one more\r");
    ann.wait_for("<bob> one more");
    for person in [&mut ann, &mut bob] {
        person.type_in("x\x03\x04");
    }
    for person in [ann, bob] {
        person.wait_until("the end", |screen| !screen.bracketed_paste());
        let bytes = String::from_utf8(person.bytes()).expect("whole characters");
        check_codes(&bytes);
        assert_eq!(person.expect_end(), (Some(0), String::new()));
    }
    server.stop();
}

/// Everything is text, or one of the codes of console_codes(4) that do the same on all terminals; but for the marks around
/// what is pasted, a private mode that its parser passes over.
fn check_codes(bytes: &str) {
    const MODES: [&str; 6] = ["?25h", "?25l", "?7h", "?7l", "?2004h", "?2004l"];
    let mut rest = bytes.chars();
    while let Some(character) = rest.next() {
        match character {
            '\r' | '\n' | '\x0b' | '\t' | '\x07' => {}
            '\x1b' => {
                assert_eq!(rest.next(), Some('['), "an escape sequence that is none of a cursor, in {bytes:?}");
                let text = rest.as_str();
                let end = text.find(|last: char| !matches!(last, '0'..='9' | ';' | '?')).expect("its end");
                let (sequence, after) = text.split_at(end + 1);
                let (parameters, last) = sequence.split_at(end);
                let are_known = |known: &[&str]| parameters.split(';').all(|parameter| known.contains(&parameter));
                let is_known = match last {
                    "A" | "C" => parameters.bytes().all(|byte| byte.is_ascii_digit()),
                    "H" | "K" => parameters.is_empty(),
                    "J" => are_known(&["", "2"]),
                    "m" => are_known(&["", "0", "1", "2", "7", "31", "32", "33", "35", "36", "94"]),
                    _ => MODES.contains(&sequence),
                };
                assert!(is_known, "ESC [ {sequence}");
                rest = after.chars();
            }
            other => assert!(!other.is_control(), "{other:?} in {bytes:?}"),
        }
    }
}

/// The screen of a virtual console that nobody looks at.
struct VirtualConsole {
    terminal: File,
    /// Its characters, each in four bytes.
    screen: File,
    columns: usize,
    rows: usize,
}

impl VirtualConsole {
    /// One of the last, which no other test uses; says so where there is none.
    fn open() -> Option<Self> {
        let no_ctty = OFlags::NOCTTY.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(no_ctty);
        let found = (40..=63).rev().find_map(|number| {
            let mut terminal = options.open(format!("/dev/tty{number}")).ok()?;
            terminal.try_lock().ok()?;
            terminal.write_all(b"\x1bc").ok()?;
            let screen = File::open(format!("/dev/vcsu{number}")).ok()?;
            let size = tcgetwinsize(&terminal).ok()?;
            Some(Self { terminal, screen, columns: size.ws_col.into(), rows: size.ws_row.into() })
        });
        if found.is_none() {
            println!("skipped: there is no virtual console that may be opened");
        }
        found
    }

    fn stdio(&self) -> Stdio {
        self.terminal.try_clone().expect("a duplicate").into()
    }

    /// What it shows, but for blanks, and for what a font of the console may have no glyph for.
    fn shown(&self) -> String {
        let mut cells = vec![0; 4 * self.columns * self.rows];
        self.screen.read_exact_at(&mut cells, 0).expect("the screen");
        let cells = cells.chunks_exact(4).map(|cell| u32::from_ne_bytes(cell.try_into().expect("four bytes")));
        cells.filter_map(char::from_u32).filter(char::is_ascii_graphic).collect()
    }
}

#[test]
fn a_long_session_on_a_linux_console_loses_no_line() {
    const WORDS: [&str; 8] = ["a", "to", "the", "lake", "weekend", "日本語", "👨\u{200d}👩\u{200d}👧", "नमस्ते"];
    let Some(console) = VirtualConsole::open() else { return };
    let (listener, port) = listener();
    let mut keyboard = Pty::open();
    let mut command = client(port, &[""; 0]);
    command.env("TERM", "linux").stdin(keyboard.stdio()).stdout(console.stdio());
    let session = Process::spawn(command);
    let mut peer = accept_in_time(&listener);
    let mut lines = format!("connected to 127.0.0.1 port {port}: Enter sends, Ctrl-D ends");
    let (mut input, mut rng) = (String::new(), rng());
    for number in 0..150 {
        let words = std::iter::repeat_with(|| WORDS[rng.usize(..WORDS.len())]).take(number % 25);
        let text = words.collect::<Vec<_>>().join(" ");
        match number % 3 {
            0 => {
                let line = format!("line {number} {text}\n");
                peer.write_all(line.as_bytes()).expect("sent");
                lines += &line;
            }
            1 => {
                keyboard.type_in(text.as_bytes());
                input += &text;
            }
            _ if number % 2 == 0 => {
                keyboard.type_in(b"\r");
                lines += &format!("> {input}\n");
                input.clear();
            }
            _ => {}
        }
        let all = format!("{lines}> {input}").chars().filter(char::is_ascii_graphic).collect::<String>();
        let begin = Instant::now();
        // After the first screen only the end is there.
        while !all.ends_with(&console.shown()) || (number < 6 && all != console.shown()) {
            assert!(begin.elapsed() < DEADLINE, "at {number} the screen shows {}\nof {all}", console.shown());
        }
    }
    keyboard.type_in(b"\x03\x04");
    peer.shutdown(std::net::Shutdown::Write).expect("ended");
    let (status, stderr) = session.wait();
    assert_eq!((status.code(), &*stderr), (Some(0), ""));
}
