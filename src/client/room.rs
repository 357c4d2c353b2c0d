//! Rooms, as far as the client has to know them: it takes a name, and notices when its lines were not delivered.

use std::io::{self, Chain, Cursor, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::exchange::is_pause;
use super::{Error, Failure, Peer, Stream, Undelivered};
use crate::escape::{Style, escape};

/// How a room welcomes a newcomer.
pub(super) const WELCOME: &[u8] = b"* welcome, ";

/// What a room that spans servers sends first while its servers cannot reach each other: the welcome comes later.
const WAITING: &[u8] = b"* the room's other servers ";

/// What a room without a free place sends instead.
const FULL: &[u8] = b"* server is full\n";

/// How its answer to a line begins that it did not pass on.
const LINE_TOO_LONG: &[u8] = b"* line too long";

/// How long to wait for a greeting before the peer is taken for an echo server, which never speaks first.
const GREETING_TIMEOUT: Duration = Duration::from_secs(1);

/// How much of what a peer says is kept while waiting for its answer, in bytes.
const MAX_HEARD: usize = 1 << 20;

/// The reader of a peer that has said something before the exchange began.
pub(super) type Heard = Chain<Cursor<Vec<u8>>, Stream>;

/// Takes `name`, if there is one and the peer greets as a room does. Returns the peer with all that it has said so
/// far still to be read, and whether it confirmed the name.
pub(super) fn enter(mut peer: Peer<Stream>, name: Option<&str>) -> Result<(Peer<Heard, Stream>, bool), Error> {
    let mut heard = Vec::new();
    let has_name = match name {
        Some(name) => take_name(&mut peer, name, &mut heard)?,
        None => false,
    };
    let Peer { name, timeout, deadline, reader, writer } = peer;
    Ok((Peer { name, timeout, deadline, reader: Cursor::new(heard).chain(reader), writer }, has_name))
}

fn take_name(peer: &mut Peer<Stream>, name: &str, heard: &mut Vec<u8>) -> Result<bool, Error> {
    let peer_name = peer.name.clone();
    let broken = |error| Error::Peer { peer: peer_name.clone(), failure: Failure::Broken(error), sent: 0, received: 0 };
    let refused =
        |reason: &str| Error::Name { peer: peer_name.clone(), name: name.to_owned(), reason: reason.to_owned() };

    let greeting = listen(peer, GREETING_TIMEOUT, heard, first_line).map_err(broken)?;
    if !greeting.is_some_and(|line| is_greeting(line.as_bytes())) {
        return Ok(false);
    }
    let timeout = peer.timeout;
    let Some(own_name) = listen(peer, timeout, heard, greeted_name).map_err(broken)? else {
        return Err(refused("there was no welcome"));
    };
    peer.writer.write_all(format!("/name {name}\n").as_bytes()).map_err(broken)?;
    match listen(peer, timeout, heard, |heard| answer(heard, &own_name, name)).map_err(broken)? {
        Some(Ok(())) => Ok(true),
        Some(Err(reason)) => Err(refused(&reason)),
        None => Err(refused("there was no answer")),
    }
}

/// Reads until `find` finds something in what the peer has said. Returns `None` if the peer has ended its reply, or
/// if nothing is found in time.
fn listen<T>(
    peer: &mut Peer<Stream>,
    timeout: Duration,
    heard: &mut Vec<u8>,
    find: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let begin = Instant::now();
    let remaining = || {
        let until_deadline = peer.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        until_deadline.unwrap_or(timeout).min(timeout.saturating_sub(begin.elapsed()))
    };
    let tick = peer.reader.socket.read_timeout()?;
    let mut buffer = [0; 4096];
    let found = loop {
        let found = find(heard);
        if found.is_some() || remaining().is_zero() || heard.len() >= MAX_HEARD {
            break found;
        }
        // The system accepts no timeout of zero.
        peer.reader.socket.set_read_timeout(Some(remaining().max(Duration::from_millis(1))))?;
        match peer.reader.read(&mut buffer) {
            Ok(0) => break None,
            Ok(length) => heard.extend_from_slice(&buffer[..length]),
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(error),
        }
    };
    peer.reader.socket.set_read_timeout(tick)?;
    Ok(found)
}

/// The first line, once it is complete.
fn first_line(heard: &[u8]) -> Option<String> {
    let end = heard.iter().position(|&byte| byte == b'\n')?;
    Some(String::from_utf8_lossy(&heard[..end]).into_owned())
}

/// Whether `line` is, or begins as, what a room says first to a newcomer.
pub(super) fn is_greeting(line: &[u8]) -> bool {
    [WELCOME, WAITING].iter().any(|greeting| line.starts_with(greeting))
}

/// The name that a room has given us, once it has welcomed us: `* welcome, user1; nobody else is here`.
fn greeted_name(heard: &[u8]) -> Option<String> {
    let end = heard.iter().rposition(|&byte| byte == b'\n')?;
    let welcome = heard[..end].split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(WELCOME))?;
    let name = welcome.split(|&byte| byte == b';').next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// The answer to our `/name`: `Ok` if the name is ours now, otherwise why not. Only the server begins lines with `* `,
/// but it also tells us about others.
fn answer(heard: &[u8], own_name: &str, name: &str) -> Option<Result<(), String>> {
    let end = heard.iter().rposition(|&byte| byte == b'\n')?;
    let taken = format!("{name} is taken");
    let already = format!("you are {name} already");
    heard[..end].split(|&byte| byte == b'\n').find_map(|line| {
        let line = str::from_utf8(line).ok()?.strip_prefix("* ")?;
        if line == already || line.strip_prefix(own_name).is_some_and(|rest| rest.starts_with(" is now ")) {
            return Some(Ok(()));
        }
        (line == taken || line.starts_with("a name ")).then(|| {
            let mut reason = String::new();
            escape(&mut reason, line.as_bytes(), Style::Log);
            Err(reason)
        })
    })
}

/// What is known of both directions of an exchange, to tell a room from an echo server.
#[derive(Clone, Debug, Default)]
pub(super) struct Dialog(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    message: Beginning,
    reply: Beginning,
    message_lines: LineStarts,
    reply_lines: LineStarts,
    /// `/quit` was said.
    has_quit: bool,
    /// Why something that was said was not passed on.
    undelivered: Option<Undelivered>,
}

impl Dialog {
    /// The input of the exchange, observed as it is read.
    pub(super) fn message<R>(&self, input: R) -> Message<R> {
        Message { input, dialog: self.clone() }
    }

    /// The output of the exchange, observed as it is written.
    pub(super) fn reply<W>(&self, output: W) -> Reply<W> {
        Reply { output, dialog: self.clone() }
    }

    /// What the outcome of the exchange means, now that it is known whether `peer` is a room. `name` is the name that
    /// was wanted and `has_name` whether the room gave it.
    pub(super) fn judge(
        &self,
        outcome: Result<(), Error>,
        peer: String,
        name: Option<&str>,
        has_name: bool,
    ) -> Result<(), Error> {
        if matches!(outcome, Err(Error::Input(_) | Error::Output(_))) {
            return outcome;
        }
        let state = self.state();
        if state.is_full_room() {
            return Err(Error::Undelivered { peer, reason: Undelivered::Full });
        }
        if !has_name && !state.is_room() {
            return outcome;
        }
        if let Some(name) = name
            && !has_name
        {
            let reason = "the greeting came too late to ask for it".to_owned();
            return Err(Error::Name { peer, name: name.to_owned(), reason });
        }
        match (state.undelivered(), outcome) {
            (Some(reason), _) => Err(Error::Undelivered { peer, reason }),
            // Not every line has an answer, and whoever says /quit expects the end.
            (None, Err(Error::Peer { failure: Failure::Short, .. })) => Ok(()),
            (None, Err(Error::Peer { failure: Failure::Early, .. })) if state.has_quit => Ok(()),
            (None, outcome) => outcome,
        }
    }

    /// Whether the reply begins as that of a room does. An echo of a message that begins so is still an echo.
    pub(super) fn is_with_room(&self) -> bool {
        let state = self.state();
        state.is_full_room() || state.is_room()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_room(&self) -> bool {
        self.reply.is_greeting() && !self.message.is_greeting()
    }

    fn is_full_room(&self) -> bool {
        self.reply.0 == FULL && self.message.0 != FULL
    }

    fn on_message(&mut self, bytes: &[u8]) {
        self.message.push(bytes);
        // Only rooms know /quit, so what is sent to others need not be searched for it.
        if !self.reply.may_be_greeting() {
            return;
        }
        self.message_lines.push(bytes, |line| {
            if self.has_quit && !line.trim_ascii().is_empty() {
                self.undelivered.get_or_insert(Undelivered::AfterQuit);
            }
            let after = line.strip_prefix(b"/quit").and_then(<[u8]>::first);
            self.has_quit |= after.is_some_and(u8::is_ascii_whitespace);
        });
    }

    fn on_reply(&mut self, bytes: &[u8]) {
        self.reply.push(bytes);
        if !self.reply.may_be_greeting() {
            return;
        }
        self.reply_lines.push(bytes, |line| {
            if line.starts_with(LINE_TOO_LONG) {
                self.undelivered.get_or_insert(Undelivered::LineTooLong);
            }
        });
    }

    fn undelivered(&self) -> Option<Undelivered> {
        let has_more = self.has_quit && !self.message_lines.last.trim_ascii().is_empty();
        self.undelivered.or(has_more.then_some(Undelivered::AfterQuit))
    }
}

/// See [`Dialog::message`].
pub(super) struct Message<R> {
    input: R,
    dialog: Dialog,
}

impl<R: Read> Read for Message<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.dialog.state().on_message(&buffer[..length]);
        Ok(length)
    }
}

/// See [`Dialog::reply`].
pub(super) struct Reply<W> {
    pub(super) output: W,
    dialog: Dialog,
}

impl<W: Write> Write for Reply<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes);
        // What cannot be written has come all the same.
        self.dialog.state().on_reply(&bytes[..*written.as_ref().unwrap_or(&bytes.len())]);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// The first bytes of a stream: enough to recognize what a room says first.
#[derive(Debug, Default)]
struct Beginning(Vec<u8>);

impl Beginning {
    fn push(&mut self, bytes: &[u8]) {
        let missing = WAITING.len() - self.0.len();
        self.0.extend_from_slice(&bytes[..missing.min(bytes.len())]);
    }

    fn is_greeting(&self) -> bool {
        is_greeting(&self.0)
    }

    fn may_be_greeting(&self) -> bool {
        self.is_greeting() || [WELCOME, WAITING].iter().any(|greeting| greeting.starts_with(&self.0))
    }
}

/// How the lines of a stream begin.
#[derive(Debug, Default)]
struct LineStarts {
    /// The beginning of the line that is not complete yet.
    last: Vec<u8>,
}

impl LineStarts {
    /// Calls `on_line` with the beginning of each line that is complete, its newline included if it is that short.
    fn push(&mut self, bytes: &[u8], mut on_line: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let missing = LINE_TOO_LONG.len() - self.last.len();
            self.last.extend_from_slice(&piece[..missing.min(piece.len())]);
            if piece.ends_with(b"\n") {
                on_line(&self.last);
                self.last.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_recognized_however_it_is_cut() {
        let is_greeting = |pieces: &[&str]| {
            let dialog = Dialog::default();
            let mut stream = dialog.reply(io::sink());
            for piece in pieces {
                stream.write_all(piece.as_bytes()).unwrap();
            }
            dialog.state().reply.is_greeting()
        };
        assert!(is_greeting(&["* welcome, user1; nobody else is here\n"]));
        assert!(is_greeting(&["* wel", "come, ", "ann"]));
        assert!(!is_greeting(&["* welcome"]));
        assert!(!is_greeting(&["x* welcome, "]));
    }

    #[test]
    fn a_greeting_that_comes_too_late_to_ask_for_a_name_is_a_failure() {
        let judge = |name: Option<&str>, reply: &[u8]| {
            let dialog = Dialog::default();
            dialog.message(&b"hello"[..]).read_exact(&mut [0; 5]).unwrap();
            dialog.reply(io::sink()).write_all(reply).unwrap();
            dialog.judge(Ok(()), "it".to_owned(), name, false)
        };
        assert!(matches!(judge(Some("ann"), b"* welcome, user1; nobody else is here\n"), Err(Error::Name { .. })));
        judge(None, b"* welcome, user1; nobody else is here\n").unwrap();
        judge(Some("ann"), b"hello").unwrap();
    }

    #[test]
    fn the_answer_to_a_wish_is_told_from_what_concerns_others() {
        let answer = |heard: &str| answer(heard.as_bytes(), "user2", "ann");
        assert_eq!(answer("* user2 is now ann\n"), Some(Ok(())));
        assert_eq!(answer("<bob> hi\n* bob left\n* user2 is now ann\n<bob> hi"), Some(Ok(())));
        assert_eq!(answer("* you are ann already\n"), Some(Ok(())));
        assert_eq!(answer("* ann is taken\n"), Some(Err("ann is taken".to_owned())));
        assert_eq!(answer("* a name has \x1b letters\n"), Some(Err(r"a name has \u{1b} letters".to_owned())));
        for other in ["", "* user2 is now ann", "* user20 is now ann\n", "<bob> * ann is taken\n", "* ann left\n"] {
            assert_eq!(answer(other), None, "{other:?}");
        }
    }

    #[test]
    fn quit_is_found_however_it_is_cut() {
        let said = |pieces: &[&str]| {
            let mut state = State::default();
            pieces.iter().for_each(|piece| state.on_message(piece.as_bytes()));
            (state.has_quit, state.undelivered())
        };
        for last in [&["/quit\n"][..], &["hello\n/q", "uit", "\r\n"], &["/quit for today\n", "\n"]] {
            assert_eq!(said(last), (true, None), "{last:?}");
        }
        for unsaid in [&["/quit"][..], &["/quitter\n"], &[" /quit\n"], &["say /quit\n"], &["//quit\n"]] {
            assert_eq!(said(unsaid), (false, None), "{unsaid:?}");
        }
        for followed in [&["/quit\nhel", "lo\n/quit\n"][..], &["/quit\n", "hello"]] {
            assert_eq!(said(followed), (true, Some(Undelivered::AfterQuit)), "{followed:?}");
        }
    }
}
