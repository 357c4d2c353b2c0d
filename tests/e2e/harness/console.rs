//! What the server prints: collected as it comes, and read strictly.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use chrono::NaiveDateTime;

use super::{DEADLINE, wait_for_input};

/// The lines of a stream, read in the background.
pub(crate) struct Lines {
    shared: Arc<(Mutex<Seen>, Condvar)>,
}

#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    is_over: bool,
}

impl Lines {
    pub(crate) fn of(input: impl Read + Send + 'static) -> Self {
        let shared = Arc::<(Mutex<Seen>, Condvar)>::default();
        let lines = Self { shared: Arc::clone(&shared) };
        thread::spawn(move || {
            let (seen, changed) = &*shared;
            let mut input = BufReader::new(input);
            while let Some(line) = next_line(&mut input) {
                seen.lock().unwrap().lines.push(line);
                changed.notify_all();
            }
            seen.lock().unwrap().is_over = true;
            changed.notify_all();
        });
        lines
    }

    /// Waits until `find` finds something in the lines so far.
    pub(crate) fn wait_until<T>(&self, find: impl Fn(&[String]) -> Option<T>) -> T {
        let mut found = None;
        self.wait(|seen| {
            found = find(&seen.lines);
            found.is_some() || seen.is_over
        });
        found.unwrap_or_else(|| panic!("the console ended without what was waited for"))
    }

    /// All lines, once the stream is over.
    pub(crate) fn all(&self) -> Vec<String> {
        let mut all = Vec::new();
        self.wait(|seen| {
            if seen.is_over {
                all.clone_from(&seen.lines);
            }
            seen.is_over
        });
        all
    }

    fn wait(&self, mut is_enough: impl FnMut(&Seen) -> bool) {
        let (seen, changed) = &*self.shared;
        let wait = changed.wait_timeout_while(seen.lock().unwrap(), DEADLINE, |seen| !is_enough(seen));
        let (seen, result) = wait.unwrap();
        if result.timed_out() {
            let last = seen.lines.last().map(|line| line.chars().take(200).collect::<String>());
            drop(seen);
            panic!("waited in vain; the last line is {last:?}");
        }
    }
}

/// The next line of a console that is not to be read any further, without reading ahead.
pub(crate) fn first_line(input: &mut (impl Read + AsFd)) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        wait_for_input(input);
        let mut byte = [0];
        input.read_exact(&mut byte).expect("a whole line");
        line.push(byte[0]);
    }
    next_line(&mut &*line).expect("a line")
}

/// The port of a start line in exactly its form.
pub(crate) fn start_line_port(line: &str) -> u16 {
    port_of(line, "--- Starting server on port ")
}

/// The port of a stop line in exactly its form.
pub(crate) fn stop_line_port(line: &str) -> u16 {
    port_of(line, "--- Stopping server on port ")
}

/// The texts of these lines, each of which must be that of a message.
pub(crate) fn messages(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| message(line).to_owned()).collect()
}

/// What stands between the quotes of a message's line.
pub(crate) fn message(line: &str) -> &str {
    let text = || {
        let (time, rest) = line.strip_prefix('[')?.split_once("] ")?;
        parse_time(time)?;
        rest.strip_prefix("Echoed: '")?.strip_suffix('\'')
    };
    text().unwrap_or_else(|| panic!("not the line of a message: {line:?}"))
}

/// A time exactly as the console writes it.
pub(crate) fn parse_time(text: &str) -> Option<NaiveDateTime> {
    const FORMAT: &str = "%H:%M:%S %d/%m/%Y";
    let time = NaiveDateTime::parse_from_str(text, FORMAT).ok()?;
    (time.format(FORMAT).to_string() == text).then_some(time)
}

/// The bytes that a message's text stands for.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend(&rest.as_bytes()[..at]);
        let (known, escaped) = rest[at + 1..].split_at(1);
        rest = escaped;
        match known {
            "n" => bytes.push(b'\n'),
            "r" => bytes.push(b'\r'),
            "t" => bytes.push(b'\t'),
            "\\" => bytes.push(b'\\'),
            "x" => {
                bytes.push(u8::from_str_radix(&rest[..2], 16).expect("two hexadecimal digits"));
                rest = &rest[2..];
            }
            "u" => {
                let (code, after) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).expect(r"\u{…}");
                let code = u32::from_str_radix(code, 16).expect("hexadecimal digits");
                let character = char::from_u32(code).expect("a character");
                bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
            }
            _ => panic!("unknown escape \\{known}"),
        }
    }
    bytes.extend(rest.as_bytes());
    bytes
}

fn port_of(line: &str, beginning: &str) -> u16 {
    let port = || {
        let (port, time) = line.strip_prefix(beginning)?.strip_suffix(" ---")?.split_once(" at ")?;
        parse_time(time)?;
        port.parse().ok()
    };
    port().unwrap_or_else(|| panic!("not {beginning:?}, the port and the time: {line:?}"))
}

/// The next line without its end (a terminal's is CRLF). What is wrong with it is written into it.
fn next_line(input: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    // A terminal that nobody holds any more is an error to read from; for us it is the end.
    let _ = input.read_until(b'\n', &mut line);
    match line.pop()? {
        b'\n' if line.last() == Some(&b'\r') => drop(line.pop()),
        b'\n' => {}
        last => {
            line.push(last);
            line.extend(b" (the line has no end)");
        }
    }
    Some(String::from_utf8(line).unwrap_or_else(|error| format!("(not UTF-8) {error}")))
}
