//! The interactive session: what is typed goes to the peer line by line, what comes appears above.
//!
//! One thread, one poll over the terminal, the connection and the signals, as in the server: so what comes is printed
//! in its order, nothing blocks the end, and the terminal is always put back. (The reading loop of rustyline, which
//! lends the editing of the line and the history, cannot be waited for together with a connection. With its external
//! printer a second thread has to write, and lines then overtake each other or get into the line just typed
//! whenever they come between two calls of `readline`; type-ahead is lost or echoed there, and a change of width
//! erases what others wrote.)
//!
//! | module | what it does |
//! |---|---|
//! | `terminal` | the mode of the terminal, and its size |
//! | `keys` | bytes from the terminal become keys |
//! | `editor` | keys change the line being typed |
//! | `screen` | the line being typed stays below what is printed |
//! | `incoming` | bytes from the peer become safe lines with names in colour |
//! | `signals` | Ctrl-C, the terminal's size, and the end |

use std::env;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::SIGINT;
use signal_hook::low_level::emulate_default_handler;

use super::{End, Error, Options, Peer};
use crate::config::FOREVER;
use editor::{Action, Editor};
use incoming::{Incoming, Look};
use keys::Decoder;
use screen::{Input as Shown, Prompt, Screen};
use signals::Signals;
use terminal::Terminal;

mod editor;
mod incoming;
mod keys;
mod screen;
mod signals;
mod terminal;

/// What stands before the input.
const PROMPT: &str = "> ";

/// What is read at once, in bytes: small enough that keys do not wait for it.
const BUFFER: usize = 64 << 10;

/// How long the end of a line may be missing until what there is of it is shown.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether a person sits at both ends: types standard input and reads standard output.
pub(super) fn is_wanted() -> bool {
    // A dumb terminal can show no line again, so it gets what a pipe gets.
    io::stdin().is_terminal() && io::stdout().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Talks to `peer` until one of the two ends it. From here on signals are seen to here: `ends_at_once`, which has the
/// program end without further ado, is unset.
pub(super) fn run(peer: Peer<TcpStream>, options: &Options, ends_at_once: &AtomicBool) -> Result<End, Error> {
    let signals = Signals::register().map_err(Error::Input)?;
    ends_at_once.store(false, Relaxed);
    peer.reader.set_nonblocking(true).map_err(Error::Input)?;
    let look = match env::var_os("NO_COLOR") {
        _ if options.raw => Look::Raw,
        Some(value) if !value.is_empty() => Look::Plain,
        _ => Look::Coloured,
    };
    let mut session = Session {
        terminal: Terminal::open().map_err(Error::Input)?,
        signals,
        stream: peer.reader,
        decoder: Decoder::default(),
        editor: Editor::new(),
        screen: Screen::default(),
        prompt: Prompt { text: PROMPT.to_owned(), styled: 0..0, style: anstyle::Style::new() },
        incoming: Incoming::new(look),
        part_is_due: None,
        name: options.name.clone(),
        outgoing: Vec::new(),
        broken: None,
        input: Input::Open,
        has_said_goodbye: false,
        frame: Vec::new(),
    };
    let close = session.run(peer.timeout.min(FOREVER));
    session.leave_screen();
    drop(session);

    match close.map_err(Error::Output)? {
        Close::Done => Ok(End::Done),
        Close::Signal(SIGINT) => Ok(End::Interrupted),
        Close::Signal(signal) => {
            // Whoever started the program is to see what ended it.
            emulate_default_handler(signal).map_err(Error::Input)?;
            Ok(End::Interrupted)
        }
        Close::Gone(reason) => Err(Error::Gone { peer: peer.name, reason }),
    }
}

struct Session {
    terminal: Terminal,
    signals: Signals,
    /// Does not block.
    stream: TcpStream,
    decoder: Decoder,
    editor: Editor,
    screen: Screen,
    prompt: Prompt,
    incoming: Incoming,
    /// When the beginning of a line is to be shown without its end.
    part_is_due: Option<Instant>,
    /// The name to ask for as soon as the peer turns out to be a room.
    name: Option<String>,
    /// What the peer has not taken yet.
    outgoing: Vec<u8>,
    /// Why nothing more can be sent, where that is so.
    broken: Option<io::Error>,
    input: Input,
    /// The last line was `/quit`: a room that closes after it does as told.
    has_said_goodbye: bool,
    /// What is written to the terminal at the end of the turn.
    frame: Vec<u8>,
}

/// How far the person's side is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    /// Ctrl-D was pressed: what is left is sent, then the half-close.
    Ending(Ending),
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Ending {
    has_half_closed: bool,
    /// When the peer last took or sent anything.
    last_progress: Instant,
}

/// How a session ends.
enum Close {
    Done,
    Signal(i32),
    /// The peer has ended it, or the connection broke for a reason.
    Gone(Option<io::Error>),
}

impl Session {
    /// One turn after the other until the session ends. After Ctrl-D the peer may do nothing for as long as `timeout`;
    /// before, people may be silent for hours. An error is one of the terminal.
    fn run(&mut self, timeout: Duration) -> io::Result<Close> {
        loop {
            self.show_frame()?;
            let [terminal, stream] = self.wait(timeout)?;
            if let Some(signal) = self.note_signals()? {
                return Ok(Close::Signal(signal));
            }
            if terminal && let Some(close) = self.read_keys()? {
                return Ok(close);
            }
            self.send();
            if stream && let Some(close) = self.receive() {
                return Ok(close);
            }
            let now = Instant::now();
            if self.part_is_due.take_if(|due| *due <= now).is_some() {
                self.wipe();
                self.incoming.push_part(&mut self.frame);
            }
            if let Input::Ending(ending) = self.input
                && now - ending.last_progress >= timeout
            {
                let reason = format!("nothing came for {}", humantime::format_duration(timeout));
                return Ok(Close::Gone(Some(io::Error::new(ErrorKind::TimedOut, reason))));
            }
        }
    }

    /// Waits until there is something to do. Returns whether to read from the terminal and from the connection.
    fn wait(&mut self, timeout: Duration) -> io::Result<[bool; 2]> {
        let give_up = match self.input {
            Input::Ending(ending) => Some(ending.last_progress + timeout),
            Input::Open => None,
        };
        let deadline = [self.part_is_due, give_up].into_iter().flatten().min();
        let patience = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        let wants = match self.outgoing.is_empty() || self.broken.is_some() {
            true => PollFlags::IN,
            false => PollFlags::IN | PollFlags::OUT,
        };
        let mut waits = [
            PollFd::new(&self.terminal, PollFlags::IN),
            PollFd::new(&self.stream, wants),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        match poll(&mut waits, patience.as_ref()) {
            Ok(_) => {
                // An error or a hang-up is for the read to find.
                let is_ready = |wait: &PollFd<'_>| wait.revents().intersects(!PollFlags::OUT);
                Ok([is_ready(&waits[0]), is_ready(&waits[1])])
            }
            Err(rustix::io::Errno::INTR) => Ok([false; 2]),
            Err(error) => Err(error.into()),
        }
    }

    /// Does what signals ask for; returns the one that ends the session.
    fn note_signals(&mut self) -> io::Result<Option<i32>> {
        self.signals.drain();
        if self.signals.take_continued() {
            self.terminal.enter()?;
            self.wipe();
        }
        if self.signals.take_resized() {
            self.wipe();
        }
        Ok(self.signals.ending())
    }

    fn read_keys(&mut self) -> io::Result<Option<Close>> {
        let mut buffer = [0; 4096];
        let length = match self.terminal.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => return Ok(None),
            Err(error) => return Err(error),
        };
        if length == 0 {
            // Nobody is there any more.
            return Ok(Some(Close::Signal(signal_hook::consts::SIGHUP)));
        }
        let mut pressed = Vec::new();
        self.decoder.push(&buffer[..length], |key| pressed.push(key));
        for key in pressed {
            if self.input != Input::Open {
                // Whoever has said the last word may still lose patience.
                if key == keys::Key::Interrupt {
                    return Ok(Some(Close::Signal(SIGINT)));
                }
                continue;
            }
            self.wipe();
            match self.editor.press(key) {
                Action::Edit => {}
                Action::Submit(line) => self.submit(&line),
                Action::End => {
                    self.input = Input::Ending(Ending { has_half_closed: false, last_progress: Instant::now() });
                }
                Action::Interrupt => return Ok(Some(Close::Signal(SIGINT))),
                Action::Clear => self.frame.extend_from_slice(b"\x1b[H\x1b[2J"),
                Action::Suspend => {
                    self.show(false)?;
                    self.terminal.suspend()?;
                }
            }
        }
        Ok(None)
    }

    fn submit(&mut self, line: &str) {
        self.screen.commit(&mut self.frame, &self.prompt, line);
        self.outgoing.extend_from_slice(line.as_bytes());
        self.outgoing.push(b'\n');
        self.has_said_goodbye = line.split_ascii_whitespace().next() == Some("/quit");
    }

    /// Sends what the peer takes, and after the last byte the half-close.
    fn send(&mut self) {
        while self.broken.is_none() && !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(length) => {
                    self.outgoing.drain(..length);
                    self.note_progress();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // What the peer sent before it went can still be read, and so can how it went.
                Err(error) => self.broken = Some(error),
            }
        }
        if let Input::Ending(ending) = &mut self.input
            && !ending.has_half_closed
        {
            // Where this fails the connection is gone, and reading tells how.
            _ = self.stream.shutdown(Shutdown::Write);
            ending.has_half_closed = true;
        }
    }

    /// Takes in what has come.
    fn receive(&mut self) -> Option<Close> {
        let mut buffer = vec![0; BUFFER];
        match self.stream.read(&mut buffer) {
            Ok(0) => {
                self.wipe();
                self.incoming.finish(&mut self.frame);
                let is_expected = match self.input {
                    Input::Ending(_) => self.outgoing.is_empty(),
                    Input::Open => self.has_said_goodbye && self.incoming.is_room(),
                };
                Some(if is_expected { Close::Done } else { Close::Gone(self.broken.take()) })
            }
            Ok(length) => {
                self.note_progress();
                self.wipe();
                self.incoming.push(&mut self.frame, &buffer[..length]);
                if self.incoming.is_room()
                    && let Some(name) = self.name.take()
                {
                    self.outgoing.extend_from_slice(format!("/name {name}\n").as_bytes());
                }
                self.part_is_due = self.incoming.has_part().then(|| Instant::now() + PAUSE);
                None
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => None,
            Err(error) => {
                self.wipe();
                self.incoming.finish(&mut self.frame);
                Some(Close::Gone(Some(self.broken.take().unwrap_or(error))))
            }
        }
    }

    fn note_progress(&mut self) {
        if let Input::Ending(ending) = &mut self.input {
            ending.last_progress = Instant::now();
        }
    }

    /// Takes the line being typed off the screen, so that the frame can go on where it was.
    fn wipe(&mut self) {
        self.screen.wipe(&mut self.frame);
    }

    fn show_frame(&mut self) -> io::Result<()> {
        self.show(self.input == Input::Open)
    }

    /// Writes what the turn has composed, and below it the line being typed, if it is to be seen.
    fn show(&mut self, with_line: bool) -> io::Result<()> {
        if with_line {
            let shown = Shown { prompt: &self.prompt, text: self.editor.line(), cursor: self.editor.cursor() };
            self.screen.paint(&mut self.frame, self.terminal.size(), shown);
        }
        if !self.frame.is_empty() {
            self.terminal.write(&self.frame)?;
            self.frame.clear();
        }
        Ok(())
    }

    /// Shows all that came, for the last time: a line being typed stays there, an empty one goes.
    fn leave_screen(&mut self) {
        match self.editor.line() {
            "" => self.wipe(),
            line => self.screen.commit(&mut self.frame, &self.prompt, line),
        }
        // A terminal that is gone shows nothing.
        _ = self.show(false);
    }
}
