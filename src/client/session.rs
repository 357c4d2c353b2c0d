//! The interactive session: what is typed goes to the server line by line, what comes appears above the input.
//!
//! One thread polls the terminal, the connection and the signals, as the server does. So what comes is printed in its
//! order, nothing blocks the end, and the terminal is always restored. (The reading loop of rustyline, whose line
//! buffer edits the input, cannot be waited for together with a connection. With its external printer a second thread
//! has to write, and lines then overtake each other or get into the input whenever they come between two calls of
//! `readline`; type-ahead is lost or echoed there.)
//!
//! | module | what it does |
//! |---|---|
//! | `terminal` | the mode of the terminal, its size, and writing that does not block |
//! | `keys` | turns bytes from the terminal into keys |
//! | `editor` | changes the input by keys; `undo` and `complete` are parts of it |
//! | `display`, `screen` | what the person sees; keeps the input below what is printed |
//! | `incoming` | turns bytes from the server into safe lines in colour |
//! | `names`, `clock` | who is in the room, and what time it is |
//! | `server` | the server's side: `link` is a connection and what it still has to send, `reconnect` gets another |

use std::env;
use std::io::{self, ErrorKind, IsTerminal};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::low_level::emulate_default_handler;

use super::{End, Error, Options, Peer, Stream};
use crate::config::FOREVER;
use crate::error::reason as reason_of;
use crate::escape::{Style, escape};
use display::Display;
use editor::{Action, Editor};
use incoming::{Appearance, Incoming, Look};
use keys::{Decoder, Key};
use screen::{Input, Prompt};
use server::Server;

mod clock;
mod complete;
mod display;
mod editor;
mod incoming;
mod keys;
mod link;
mod names;
mod reconnect;
mod screen;
mod server;
mod terminal;
mod undo;

/// How much is read at once, in bytes: so little that keys do not wait for it.
const BUFFER: usize = 64 << 10;

/// How long the end of a line may be missing until its beginning is shown.
const PAUSE: Duration = Duration::from_millis(200);

/// How long a room may take to greet. A server that says nothing by then is an echo server.
const GREETING: Duration = Duration::from_secs(1);

/// How long a terminal that accepts nothing may delay the end by a signal.
const GRACE: Duration = Duration::from_millis(200);

type Signals = SignalDelivery<UnixStream, SignalOnly>;

/// Whether a person sits at both ends: types standard input and reads standard output.
pub(super) fn is_wanted() -> bool {
    // A dumb terminal cannot show the input again, so it gets what a pipe gets.
    io::stdin().is_terminal() && io::stdout().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Runs a session with `peer` until one of the two ends it. The session handles signals itself: it clears
/// `ends_at_once`, which makes the program end at once on Ctrl-C.
pub(super) fn run(peer: Peer<Stream>, options: &Options, ends_at_once: &AtomicBool) -> Result<End, Error> {
    let (reader, writer) = UnixStream::pair().map_err(Error::Input)?;
    let handled = [SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGCONT];
    let signals = Signals::with_pipe(reader, writer, SignalOnly, handled).map_err(Error::Input)?;
    ends_at_once.store(false, Relaxed);
    let appearance = Appearance { look: look(options), has_bell: options.bell, has_time: options.time };
    let mut session = Session {
        display: Display::open().map_err(Error::Input)?,
        signals,
        server: Server::new(peer.reader, options).map_err(Error::Input)?,
        decoder: Decoder::default(),
        editor: Editor::new(),
        incoming: Incoming::new(peer.name.clone(), appearance),
        part_is_due: None,
        greeting_is_due: Some(Instant::now() + GREETING),
        ending: None,
    };
    let close = session.run(peer.timeout.min(FOREVER));
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

fn look(options: &Options) -> Look {
    match env::var_os("NO_COLOR") {
        _ if options.raw => Look::Raw,
        Some(value) if !value.is_empty() => Look::Plain,
        _ => Look::Coloured,
    }
}

struct Session {
    display: Display,
    signals: Signals,
    server: Server,
    decoder: Decoder,
    editor: Editor,
    incoming: Incoming,
    /// When the beginning of a line is to be shown without its end.
    part_is_due: Option<Instant>,
    /// When a server that has said nothing counts as an echo server.
    greeting_is_due: Option<Instant>,
    /// Ctrl-D was pressed: since when the server has neither accepted nor sent anything.
    ending: Option<Instant>,
}

/// How a session ends.
enum Close {
    Done,
    Signal(i32),
    /// The server ended it, or the connection broke for a reason.
    Gone(Option<io::Error>),
}

/// What there is to read.
struct Ready {
    keys: bool,
    server: bool,
}

impl Session {
    /// Runs until the session ends and all is shown. After Ctrl-D the server may do nothing for as long as `timeout`;
    /// before, people may be silent for hours. An error is one of the terminal.
    fn run(&mut self, timeout: Duration) -> io::Result<Close> {
        match self.talk(timeout).and_then(|close| self.finish(close)) {
            // The terminal is gone, and with it the person: as if the shell had sent the signal.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(Close::Signal(SIGHUP)),
            close => close,
        }
    }

    fn talk(&mut self, timeout: Duration) -> io::Result<Close> {
        loop {
            if let Some(signal) = self.take_signals()? {
                return Ok(Close::Signal(signal));
            }
            self.show()?;
            let ready = self.wait(timeout)?;
            if ready.keys
                && let Some(close) = self.read_keys()?
            {
                return Ok(close);
            }
            if self.server.flush() {
                self.note_progress();
            }
            if self.server.is_away() {
                self.come_back(ready.server);
            } else if ready.server
                && let Some(close) = self.receive()
            {
                return Ok(close);
            }
            if let Some(close) = self.expire(timeout) {
                return Ok(close);
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&mut self, timeout: Duration) -> io::Result<Ready> {
        let give_up = self.ending.map(|since| since + timeout);
        let deadlines = [self.part_is_due, self.greeting_is_due, self.server.deadline(), give_up];
        let deadline = deadlines.into_iter().flatten().min();
        let patience = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());

        let mut waits = vec![
            PollFd::new(self.signals.get_read(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.display.input(), PollFlags::IN),
        ];
        if self.display.is_stalled() {
            waits.push(PollFd::from_borrowed_fd(self.display.output(), PollFlags::OUT));
        }
        // While the terminal is stalled the server has to wait.
        let of_server = self.server.awaited(!self.display.is_stalled());
        if let Some((server, flags)) = of_server {
            waits.push(PollFd::from_borrowed_fd(server, flags));
        }
        match poll(&mut waits, patience.as_ref()) {
            // An error or a hang-up is for the read to find.
            Ok(_) => Ok(Ready {
                keys: !waits[1].revents().is_empty(),
                server: of_server.is_some_and(|(_, flags)| flags.contains(PollFlags::IN))
                    && waits.last().is_some_and(|server| server.revents().intersects(!PollFlags::OUT)),
            }),
            Err(Errno::INTR) => Ok(Ready { keys: false, server: false }),
            Err(error) => Err(error.into()),
        }
    }

    /// Does what signals ask for; returns the one that ends the session.
    fn take_signals(&mut self) -> io::Result<Option<i32>> {
        let mut ending = None;
        for signal in self.signals.pending() {
            match signal {
                SIGWINCH => _ = self.display.above(),
                SIGCONT => self.display.resume()?,
                signal => ending = Some(signal),
            }
        }
        Ok(ending)
    }

    fn read_keys(&mut self) -> io::Result<Option<Close>> {
        for key in self.pressed()? {
            if self.ending.is_some() {
                // Whoever has pressed Ctrl-D may still lose patience.
                if key == Key::Interrupt {
                    return Ok(Some(Close::Signal(SIGINT)));
                }
                continue;
            }
            if let Some(close) = self.press(key)? {
                return Ok(Some(close));
            }
        }
        Ok(None)
    }

    /// Reads what was typed.
    fn pressed(&mut self) -> io::Result<Vec<Key>> {
        let mut buffer = [0; 4096];
        let length = match self.display.read(&mut buffer) {
            Ok(0) => return Err(Errno::IO.into()),
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => 0,
            Err(error) => return Err(error),
        };
        let mut pressed = Vec::new();
        self.decoder.push(&buffer[..length], Instant::now(), |key| pressed.push(key));
        Ok(pressed)
    }

    fn press(&mut self, key: Key) -> io::Result<Option<Close>> {
        // Painted again with what the key changes.
        self.display.above();
        if self.editor.submits(&key)
            && let Some(obstacle) = self.server.obstacle()
        {
            self.incoming.tell(self.display.above(), &format!("* not sent: {obstacle}"));
            return Ok(None);
        }
        match self.editor.press(key, self.incoming.names()) {
            Action::Edit => {}
            Action::Submit(text) => self.submit(&text),
            Action::Tell(notice) => self.incoming.tell(self.display.above(), &notice),
            Action::End if self.server.is_away() => return Ok(Some(Close::Gone(None))),
            Action::End => {
                self.server.close();
                self.ending = Some(Instant::now());
            }
            Action::Interrupt => return Ok(Some(Close::Signal(SIGINT))),
            Action::Clear => self.display.clear(),
            Action::Suspend => {
                self.drain(Some(Instant::now() + GRACE))?;
                self.display.suspend()?;
            }
        }
        Ok(None)
    }

    fn submit(&mut self, text: &str) {
        self.incoming.introduce(self.display.above());
        self.incoming.push_stamp(self.display.above());
        self.display.commit(&self.incoming.prompt(), &self.incoming.as_heard(text));
        self.server.push(text);
    }

    /// Takes in what has come.
    fn receive(&mut self) -> Option<Close> {
        let mut buffer = vec![0; BUFFER];
        let reason = match self.server.receive(&mut buffer) {
            Ok(None) => return None,
            Ok(Some(length @ 1..)) => {
                self.note_progress();
                self.incoming.push(self.display.above(), &buffer[..length]);
                self.part_is_due = self.incoming.has_part().then(|| Instant::now() + PAUSE);
                self.note_kind();
                return None;
            }
            Ok(Some(0)) if self.server.was_asked_to_end(self.ending.is_some()) => {
                self.incoming.finish(self.display.above());
                return Some(Close::Done);
            }
            Ok(Some(0)) => self.server.take_failure(),
            Err(reason) => Some(reason),
        };
        self.incoming.finish(self.display.above());
        self.go_away(reason)
    }

    /// The connection is gone. The session ends, unless it is to get another one.
    fn go_away(&mut self, reason: Option<io::Error>) -> Option<Close> {
        let names = self.incoming.names();
        let lines = if self.ending.is_none() { self.server.go_away(names) } else { None };
        let Some(lines) = lines else { return Some(Close::Gone(reason)) };
        (self.part_is_due, self.greeting_is_due) = (None, None);
        let reason = reason.map_or_else(|| "the server closed it".to_owned(), |error| reason_of(&error).to_string());
        let notice = format!("* the connection is gone ({reason}), connecting again");
        self.incoming.tell(self.display.above(), &notice);
        for line in lines {
            let mut notice = "* may not have arrived: ".to_owned();
            escape(&mut notice, line.as_bytes(), Style::Log);
            self.incoming.tell(self.display.above(), &notice);
        }
        None
    }

    /// Goes on with a new connection as soon as there is one.
    fn come_back(&mut self, is_done: bool) {
        match self.server.come_back(is_done) {
            Ok(true) => {
                self.incoming.restart();
                self.greeting_is_due = Some(Instant::now() + GREETING);
            }
            Ok(false) => {}
            Err(complaint) => self.incoming.tell(self.display.above(), &format!("* {complaint} (trying again)")),
        }
    }

    /// Passes on whether the server is a room.
    fn note_kind(&mut self) {
        if self.incoming.is_room().is_some() {
            self.greeting_is_due = None;
        }
        self.server.settle(self.incoming.is_room());
    }

    /// Does what is due.
    fn expire(&mut self, timeout: Duration) -> Option<Close> {
        let now = Instant::now();
        if self.display.is_stalled() {
            // The server waits for the terminal.
            self.note_progress();
        }
        if self.part_is_due.take_if(|due| *due <= now).is_some() {
            self.incoming.push_part(self.display.above());
            self.note_kind();
        }
        if self.greeting_is_due.take_if(|due| *due <= now).is_some() {
            self.incoming.settle(self.display.above(), false);
            self.note_kind();
        }
        let is_over = self.ending.is_some_and(|since| now.saturating_duration_since(since) >= timeout);
        is_over.then(|| {
            let reason = format!("nothing came for {}", humantime::format_duration(timeout));
            Close::Gone(Some(io::Error::new(ErrorKind::TimedOut, reason)))
        })
    }

    fn note_progress(&mut self) {
        if let Some(since) = &mut self.ending {
            *since = Instant::now();
        }
    }

    /// Shows what the turn has brought, and below it the input as long as there is one.
    fn show(&mut self) -> io::Result<()> {
        let (mut prompt, mut text, mut cursor) = (self.incoming.prompt(), self.editor.text(), self.editor.cursor());
        if let Some(question) = self.editor.question() {
            (prompt, text, cursor) = (Prompt::plain(question), "", 0);
        } else if let Some(search) = self.editor.search_prompt() {
            prompt = Prompt::plain(search);
        }
        let input = Input { prompt: &prompt, text, cursor };
        self.display.show(self.ending.is_none().then_some(input))
    }

    /// Shows all that came, for the last time: input that was not sent stays there. A signal or Ctrl-C ends also this.
    fn finish(&mut self, close: Close) -> io::Result<Close> {
        match self.editor.text() {
            "" => _ = self.display.above(),
            text => self.display.commit(&self.incoming.prompt(), text),
        }
        let deadline = matches!(close, Close::Signal(_)).then(|| Instant::now() + GRACE);
        Ok(self.drain(deadline)?.map_or(close, Close::Signal))
    }

    /// Writes the frame until the terminal has accepted it or the deadline has passed. Returns the signal that ended
    /// this before, if one did.
    fn drain(&mut self, deadline: Option<Instant>) -> io::Result<Option<i32>> {
        loop {
            if self.display.flush()? || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(None);
            }
            let patience = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
            let mut waits = [
                PollFd::new(self.signals.get_read(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.display.input(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.display.output(), PollFlags::OUT),
            ];
            match poll(&mut waits, patience.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let has_keys = !waits[1].revents().is_empty();
            if let Some(signal) = self.take_signals()? {
                return Ok(Some(signal));
            }
            if has_keys && self.pressed()?.contains(&Key::Interrupt) {
                return Ok(Some(SIGINT));
            }
        }
    }
}
