//! A person in a session: types at a terminal, and sees what a terminal emulator shows.

use std::io::Read;
use std::num::NonZeroU16;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use rustix::termios::{InputModes, LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::harness::{DEADLINE, Process, Pty, Server, clean_command, client};

/// The size of everybody's terminal, unless it is said otherwise.
const ROWS: u16 = 24;
const COLUMNS: u16 = 60;

pub(crate) struct Person {
    terminal: Pty,
    process: Process,
    shown: Arc<(Mutex<Shown>, Condvar)>,
    mode_before: (InputModes, LocalModes),
}

struct Shown {
    emulator: vt100::Parser,
    /// All that the emulator was given.
    bytes: Vec<u8>,
}

impl Person {
    /// Joins the room of `server` under a name, and waits until that is so.
    pub(crate) fn join(server: &Server, name: &str) -> Self {
        let person = Self::start(client(server.port, &["--name", name]), ROWS);
        person.wait_for(&format!("is now {name}"));
        person
    }

    /// Connects to a server, and waits until the keys are the session's. (A Ctrl-D before would be the terminal's.)
    pub(crate) fn connect(port: u16, arguments: &[&str]) -> Self {
        let person = Self::start(client(port, arguments), ROWS);
        person.wait_for(">");
        person
    }

    /// Runs a session on a terminal of its own, which controls it.
    pub(crate) fn start(client: Command, rows: u16) -> Self {
        let terminal = Pty::open();
        set_size(&terminal, rows, COLUMNS);
        let mode_before = modes(&terminal);
        let process = spawn_on(&terminal, &client);

        let [height, width] = [rows, COLUMNS].map(|length| NonZeroU16::new(length).expect("not zero"));
        let emulator = vt100::Parser::new(height, width, 0);
        let shown = Arc::new((Mutex::new(Shown { emulator, bytes: Vec::new() }), Condvar::new()));
        let mut screen = terminal.screen();
        let watched = Arc::clone(&shown);
        thread::spawn(move || {
            let (shown, changed) = &*watched;
            let mut buffer = [0; 4096];
            // A terminal that nobody holds any more is an error to read from.
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                let mut shown = shown.lock().expect("a screen");
                shown.emulator.process(&buffer[..length]);
                shown.bytes.extend(&buffer[..length]);
                changed.notify_all();
            }
        });
        Self { process, terminal, shown, mode_before }
    }

    pub(crate) fn type_in(&mut self, keys: &str) {
        self.terminal.type_in(keys.as_bytes());
    }

    /// Gives the terminal another width.
    pub(crate) fn resize(&mut self, columns: u16) {
        let (shown, _) = &*self.shown;
        let mut shown = shown.lock().expect("a screen");
        let height = shown.emulator.screen().size().0;
        shown.emulator.set_size(height, NonZeroU16::new(columns).expect("not zero"));
        set_size(&self.terminal, height.get(), columns);
    }

    /// The terminal, for what other programs do to it.
    pub(crate) fn terminal(&self) -> &Pty {
        &self.terminal
    }

    /// The process, for sending it signals.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Waits until what is shown contains `text`.
    pub(crate) fn wait_for(&self, text: &str) {
        self.wait_until(&format!("{text:?}"), |screen| screen.contents().contains(text));
    }

    /// Waits until exactly these lines are shown.
    pub(crate) fn wait_for_lines(&self, lines: &[&str]) {
        self.wait_until(&format!("{lines:#?}"), |screen| lines_of(screen) == lines);
    }

    /// Waits until the last row is this one, with the place where typing goes in the given column.
    pub(crate) fn wait_for_input(&self, line: &str, column: u16) {
        self.wait_until(&format!("{line:?} with the cursor in column {column}"), |screen| {
            let last = lines_of(screen).pop().unwrap_or_default();
            last == line && cursor(screen).is_some_and(|cursor| cursor.1 == column)
        });
    }

    pub(crate) fn wait_until(&self, what: &str, is_shown: impl Fn(&vt100::Screen) -> bool) {
        let (shown, changed) = &*self.shown;
        let wait = |shown: &mut Shown| !is_shown(shown.emulator.screen());
        let (shown, result) =
            changed.wait_timeout_while(shown.lock().expect("a screen"), DEADLINE, wait).expect("shown");
        if result.timed_out() {
            let lines = lines_of(shown.emulator.screen());
            let cursor = cursor(shown.emulator.screen());
            drop(shown);
            panic!("waited in vain for {what}\nshown is {lines:#?} with the cursor at {cursor:?}");
        }
    }

    /// The colour of the first character of `text` in the last line that contains it.
    pub(crate) fn colour_of(&self, text: &str) -> vt100::Color {
        self.wait_for(text);
        let (shown, _) = &*self.shown;
        let shown = shown.lock().expect("a screen");
        let screen = shown.emulator.screen();
        let rows = screen.rows(0, COLUMNS).collect::<Vec<_>>();
        let (row, line) = rows.iter().enumerate().rfind(|(_, line)| line.contains(text)).expect("it is shown");
        let column = line[..line.find(text).expect("it is there")].chars().count();
        let [row, column] = [row, column].map(|at| u16::try_from(at).expect("on the screen"));
        screen.cell(row, column).expect("a cell").fgcolor()
    }

    /// What is shown, row by row, with the sequences that give it its looks.
    pub(crate) fn formatted(&self) -> String {
        let (shown, _) = &*self.shown;
        let shown = shown.lock().expect("a screen");
        let screen = shown.emulator.screen();
        screen.rows_formatted(0, screen.size().1.get()).collect::<Vec<_>>().join("\x1b[m\n")
    }

    /// All bytes that the terminal was given so far.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.shown.0.lock().expect("a screen").bytes.clone()
    }

    /// Waits for the end of the session, which must leave the terminal as it was. Returns the status and what it
    /// wrote to stderr.
    pub(crate) fn expect_end(self) -> (Option<i32>, String) {
        let (status, stderr) = self.process.wait();
        assert_eq!(modes(&self.terminal), self.mode_before, "the terminal is left as it was");
        (status.code(), stderr)
    }
}

/// Runs a session on a terminal, which controls it.
pub(crate) fn spawn_on(terminal: &Pty, client: &Command) -> Process {
    let mut command = clean_command("setsid");
    command.arg("--ctty").arg(client.get_program()).args(client.get_args());
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR").env_remove("TERM_PROGRAM");
    for (name, value) in client.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(terminal.stdio()).stdout(terminal.stdio());
    Process::spawn(command)
}

fn set_size(terminal: &Pty, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal.programs, size).expect("a size");
}

fn modes(terminal: &Pty) -> (InputModes, LocalModes) {
    let mode = tcgetattr(&terminal.programs).expect("a terminal");
    (mode.input_modes, mode.local_modes)
}

/// Row and column of the place where typing goes, which is shown as a reversed character.
pub(crate) fn cursor(screen: &vt100::Screen) -> Option<(u16, u16)> {
    let (rows, columns) = (screen.size().0.get(), screen.size().1.get());
    let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    cells.into_iter().find(|&(row, column)| screen.cell(row, column).is_some_and(vt100::Cell::inverse))
}

/// The lines shown, down to the last that is not empty, without the blanks at their ends and without the one that
/// says where the session is.
pub(crate) fn lines_of(screen: &vt100::Screen) -> Vec<String> {
    let contents = screen.contents();
    let lines = contents.trim_end().lines().filter(|line| !line.starts_with("connected to "));
    lines.map(|line| line.trim_end().to_owned()).collect()
}
