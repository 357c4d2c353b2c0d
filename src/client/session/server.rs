//! The server's side: a connection, or the attempts to get another.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::event::PollFlags;

use super::super::{Error, Options, Stream};
use super::link::Link;
use super::names::Names;
use super::reconnect::Reconnect;

pub(super) struct Server {
    options: Options,
    link: Link,
    reconnect: Reconnect,
    /// What was last told about attempts to connect again.
    complaint: Option<String>,
    /// The name to ask for as soon as the server turns out to be a room.
    name: Option<String>,
    /// Whether it is a room, once that is known.
    is_room: Option<bool>,
    /// `/quit` was sent: a room that closes after it does as told.
    has_quit: bool,
}

impl Server {
    pub(super) fn new(stream: Stream, options: &Options) -> io::Result<Self> {
        Ok(Self {
            options: options.clone(),
            link: Link::new(stream)?,
            reconnect: Reconnect::new(options),
            complaint: None,
            name: options.name.clone(),
            is_room: None,
            has_quit: false,
        })
    }

    /// Why nothing can be sent now.
    pub(super) fn obstacle(&self) -> Option<&'static str> {
        if self.is_away() {
            return Some("there is no connection");
        }
        self.link.is_full().then_some("the server does not read what was sent before")
    }

    pub(super) fn is_away(&self) -> bool {
        !self.reconnect.is_connected()
    }

    /// When there is something to do although nothing has come.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.reconnect.deadline()
    }

    /// What to wait for, besides reading if that is wanted. `None` if for nothing: an error or a hang-up would be
    /// reported all the same.
    pub(super) fn awaited(&self, wants_read: bool) -> Option<(BorrowedFd<'_>, PollFlags)> {
        if self.is_away() {
            return Some((self.reconnect.done()?, PollFlags::IN));
        }
        let mut flags = if self.may_send() { self.link.interest() } else { PollFlags::empty() };
        flags.set(PollFlags::IN, wants_read);
        (!flags.is_empty()).then(|| (self.link.as_fd(), flags))
    }

    pub(super) fn push(&mut self, text: &str) {
        self.link.push_line(text);
        self.has_quit |= text.lines().any(is_quit);
    }

    /// Nothing more will be sent.
    pub(super) fn close(&mut self) {
        self.link.close();
    }

    /// Sends what the server accepts; returns whether it accepted any.
    pub(super) fn flush(&mut self) -> bool {
        !self.is_away() && self.may_send() && self.link.flush()
    }

    /// Reads what has come; `None` if nothing has.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.link.receive(buffer)
    }

    /// Whether the end of what the server sends is what the person asked for, which may have been to end it.
    pub(super) fn was_asked_to_end(&self, is_ending: bool) -> bool {
        if is_ending { self.link.is_flushed() } else { self.has_quit && self.is_room == Some(true) }
    }

    /// Why sending failed, if it did.
    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        self.link.take_failure()
    }

    /// Notes whether the server is a room. A room is asked for the name before anything else is sent.
    pub(super) fn settle(&mut self, is_room: Option<bool>) {
        self.is_room = is_room;
        if is_room == Some(true)
            && let Some(name) = self.name.take()
        {
            self.link.push_first(&format!("/name {name}"));
        }
    }

    /// The connection is gone: starts to connect again, if that is wanted. Returns the lines that may not have
    /// arrived.
    pub(super) fn go_away(&mut self, names: &Names) -> Option<Vec<String>> {
        if !self.options.reconnect {
            return None;
        }
        self.name = names.chosen().map(str::to_owned).or_else(|| self.options.name.clone());
        self.reconnect.go_away();
        self.complaint = None;
        Some(self.link.doubtful().map(str::to_owned).collect())
    }

    /// Attempts to connect; `is_done` tells that an attempt has ended. Returns whether there is a new connection.
    ///
    /// # Errors
    ///
    /// What the person should know: a certificate that is not accepted does not mend by itself, as a server that is down
    /// does. It is told once.
    pub(super) fn come_back(&mut self, is_done: bool) -> Result<bool, String> {
        self.reconnect.begin();
        let outcome = if is_done { self.reconnect.take() } else { None };
        match outcome.map(|outcome| outcome.map(Link::new)) {
            Some(Ok(Ok(link))) => (self.link, self.is_room, self.has_quit) = (link, None, false),
            Some(Ok(Err(_))) => self.reconnect.go_away(),
            Some(Err(error @ Error::Tls { .. })) => {
                let complaint = error.to_string();
                if self.complaint.replace(complaint.clone()).as_ref() != Some(&complaint) {
                    return Err(complaint);
                }
            }
            Some(Err(_)) | None => {}
        }
        Ok(!self.is_away())
    }

    /// Whether lines may be sent: not before the name, nor before it is known whether one is to be asked for.
    fn may_send(&self) -> bool {
        self.name.is_none() || self.is_room.is_some()
    }
}

/// Whether a room takes a line as the command to leave.
fn is_quit(line: &str) -> bool {
    line.strip_prefix("/quit").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}
