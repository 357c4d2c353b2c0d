//! That no line is lost on the screen, whatever is typed and however the window changes.

use std::io::Write;
use std::net::TcpStream;

use fastrand::Rng;
use rustix::process::{Signal, kill_process};

use crate::harness::{accept_in_time, clean_command, client, has, listener, rng};
use crate::session_person::Person;
use crate::session_tmux::Tmux;

/// A peer that says what it is told, and a person's session with it in tmux.
fn tmux(name: &str, columns: u16) -> (TcpStream, Tmux) {
    let (listener, port) = listener();
    let tmux = Tmux::start(name, &client(port, &[""; 0]), columns);
    (accept_in_time(&listener), tmux)
}

#[test]
fn typing_an_emoji_erases_nothing() {
    if !has("tmux") {
        return;
    }
    let (mut peer, tmux) = tmux("emoji", 60);
    tmux.type_in("so we are all going to the lake this weekend, me and 👨‍👩‍👧!!!");
    let mut lines = Vec::new();
    for number in 0..5 {
        writeln!(peer, "line {number}").expect("sent");
        lines.push(format!("line {number}"));
        // The session may assume another width for the emoji than the terminal does, and break the row before it.
        tmux.wait_until("all lines and the input", |shown| {
            shown.iter().filter(|line| line.starts_with("line ")).eq(&lines) && shown.concat().ends_with("!!!")
        });
    }
}

#[test]
fn a_change_of_width_erases_nothing_and_leaves_nothing_where_rows_are_wrapped_anew() {
    if !has("tmux") {
        return;
    }
    let (mut peer, tmux) = tmux("width", 60);
    let typed = "a line of input that takes more than half of the width";
    tmux.type_in(typed);
    let mut lines = Vec::new();
    for (number, columns) in [25, 60, 26, 100, 30, 60].into_iter().enumerate() {
        tmux.resize(columns);
        writeln!(peer, "{number} of the lines that arrive").expect("sent");
        lines.push(format!("{number} of the lines that arrive"));
        tmux.wait_until("every line once, and the input once", |shown| {
            shown.iter().filter(|line| line.contains("arrive")).eq(&lines)
                && shown.iter().filter(|line| line.starts_with('>')).count() == 1
                && shown.split(|line| line.contains("arrive")).next_back().unwrap_or_default().concat()
                    == format!("> {typed}")
        });
    }
}

#[test]
fn a_change_of_width_erases_nothing_and_leaves_nothing_where_rows_are_cut() {
    let (listener, port) = listener();
    let mut ann = Person::connect(port, &[]);
    let mut peer = accept_in_time(&listener);
    let typed = "a line of input that takes more than half of the width";
    ann.type_in(typed);
    ann.wait_for(&format!("> {typed}"));
    let mut lines = Vec::new();
    for (number, columns) in [25, 60, 26, 100, 30, 60].into_iter().enumerate() {
        ann.resize(columns);
        writeln!(peer, "line {number}").expect("sent");
        lines.push(format!("line {number}"));
        ann.wait_until("every line once, and the input", |screen| {
            let rows = screen.rows(0, columns).map(|row| row.trim_end().to_owned()).collect::<Vec<_>>();
            let begin = rows.iter().position(|row| row == "line 0").unwrap_or_default();
            let (above, input) = rows[begin..].split_at(lines.len());
            // A row that is full may end in a blank, which trimming took away.
            above == lines && input.concat().replace(' ', "") == format!("> {typed}").replace(' ', "")
        });
    }
}

#[test]
fn what_the_shell_printed_while_the_session_was_stopped_stays() {
    if !has("tmux") {
        return;
    }
    let (listener, port) = listener();
    let mut shell = clean_command("env");
    shell.args(["PS1=$ ", "bash", "--norc"]);
    let tmux = Tmux::run_in_window("stopped", &shell, 100);
    let session = client(port, &[""; 0]);
    let words = std::iter::once(session.get_program()).chain(session.get_args());
    tmux.type_in(&format!("{}\r", words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")));
    let mut peer = accept_in_time(&listener);
    writeln!(peer, "before").expect("sent");
    tmux.type_in("half a line");
    tmux.wait_until("the input", |lines| lines.ends_with(&["before".to_owned(), "> half a line".to_owned()]));
    // A stop that the session does not see, and one that it makes itself.
    for (number, stop) in ["\x1b", "\x1a"].into_iter().enumerate() {
        if stop == "\x1a" {
            tmux.type_in(stop);
        } else {
            kill_process(tmux.child(), Signal::STOP).expect("stopped");
        }
        tmux.wait_until("the shell", |lines| lines.last().is_some_and(|line| line == "$"));
        tmux.type_in(&format!("echo from the shell {number}\rfg\r"));
        tmux.wait_until("the input again", |lines| {
            lines.contains(&"before".to_owned())
                && (0..=number).all(|number| lines.contains(&format!("from the shell {number}")))
                && lines.iter().filter(|line| line.contains("Stopped")).count() == number + 1
                && lines.last().is_some_and(|line| line == "> half a line")
        });
    }
}

/// What the random session needs of a window.
trait Window {
    fn keys(&mut self, keys: &str);
    fn change_width(&mut self, columns: u16);
    /// What words typed or arriving are made of.
    fn words(&self) -> &'static [&'static str];
    /// How many words are typed or arrive at once.
    fn most_words(&self) -> usize;
    /// What has to be waited for before a change of width.
    fn calm(&self, heard: &[String], said: &[String], input: &str);
    /// Waits until these lines are shown, each once and in this order among those of its kind, and nothing else
    /// but the input.
    fn expect(&self, heard: &[String], said: &[String], input: &str);
}

impl Window for Tmux {
    fn keys(&mut self, keys: &str) {
        self.type_in(keys);
    }

    fn change_width(&mut self, columns: u16) {
        self.resize(columns);
    }

    /// tmux does not always know a row that ends in front of a wide character for a wrapped one.
    fn words(&self) -> &'static [&'static str] {
        &["a", "to", "the", "lake", "weekend", "é"]
    }

    fn most_words(&self) -> usize {
        30
    }

    fn calm(&self, _: &[String], _: &[String], _: &str) {}

    fn expect(&self, heard: &[String], said: &[String], input: &str) {
        self.wait_until("every line once and in order", |lines| holds(lines, heard, said, input));
    }
}

impl Window for Person {
    fn keys(&mut self, keys: &str) {
        self.type_in(keys);
    }

    fn change_width(&mut self, columns: u16) {
        self.resize(columns);
    }

    fn words(&self) -> &'static [&'static str] {
        &["a", "日本語", "lake", "e\u{301}", "👍🏽", "नमस्ते", "👨\u{200d}👩\u{200d}👧", "weekend", "سلام"]
    }

    /// So that no line is cut.
    fn most_words(&self) -> usize {
        3
    }

    /// The emulator knows no autowrap mode, and would wrap rows that were painted for another width.
    fn calm(&self, heard: &[String], said: &[String], input: &str) {
        self.expect(heard, said, input);
    }

    fn expect(&self, heard: &[String], said: &[String], input: &str) {
        self.wait_until("every line once and in order", |screen| {
            let lines: Vec<String> = screen.contents().trim_end().lines().map(str::to_owned).collect();
            holds(&lines, heard, said, input)
        });
    }
}

/// Blanks do not count, because a row may end in one.
fn holds(lines: &[String], heard: &[String], said: &[String], input: &str) -> bool {
    let packed = |line: &String| line.replace(' ', "");
    let lines = lines.iter().filter(|line| !line.is_empty() && !line.starts_with("connected to "));
    let mut lines: Vec<String> = lines.map(packed).collect();
    let Some(last) = lines.iter().rposition(|line| line.starts_with('>')) else { return false };
    let is_input = lines.drain(last..).collect::<String>() == packed(&format!(">{input}"));
    let (of_peer, own): (Vec<String>, Vec<String>) = lines.into_iter().partition(|line| line.starts_with("heard"));
    is_input
        && of_peer.iter().eq(&heard.iter().map(packed).collect::<Vec<_>>())
        && own.iter().eq(&said.iter().map(packed).collect::<Vec<_>>())
}

/// Typing, arriving and changes of width, in any order.
fn random_session(rng: &mut Rng, window: &mut impl Window, peer: &mut TcpStream, columns: &[u16]) {
    let (mut heard, mut said, mut input) = (Vec::new(), Vec::new(), String::new());
    for _ in 0..60 {
        let length = rng.usize(..window.most_words());
        let words: Vec<&str> =
            std::iter::repeat_with(|| window.words()[rng.usize(..window.words().len())]).take(length).collect();
        match rng.usize(..4) {
            0 => {
                heard.push(format!("heard {} {}", heard.len(), words.concat()));
                writeln!(peer, "{}", heard[heard.len() - 1]).expect("sent");
            }
            1 => {
                let text = words.concat();
                window.keys(&text);
                input.push_str(&text);
            }
            2 => {
                window.keys("\r");
                said.push(format!("> {input}"));
                input.clear();
            }
            _ => {
                window.calm(&heard, &said, &input);
                window.change_width(columns[rng.usize(..columns.len())]);
            }
        }
    }
    // What is shown of long input is only a part of it.
    window.keys("\r");
    said.push(format!("> {input}"));
    window.expect(&heard, &said, "");
}

#[test]
fn a_random_session_shows_every_line_once_and_in_order_where_rows_are_wrapped_anew() {
    if !has("tmux") {
        return;
    }
    let (mut peer, mut tmux) = tmux("random", 60);
    random_session(&mut rng(), &mut tmux, &mut peer, &[20, 31, 60, 100]);
}

#[test]
fn a_random_session_shows_every_line_once_and_in_order_where_rows_are_cut() {
    let (listener, port) = listener();
    let mut ann = Person::start(client(port, &[""; 0]), 400);
    ann.wait_for(">");
    let mut peer = accept_in_time(&listener);
    random_session(&mut rng(), &mut ann, &mut peer, &[60, 70, 100]);
}
