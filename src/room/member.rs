//! What the room knows of one member.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::marks::Marks;
use super::window::Window;
use crate::message::Lines;

/// After this time a newcomer is announced, if it has not said anything before. A connection that ends earlier, such as
/// a health check, leaves no trace in the room.
const ANNOUNCEMENT_DELAY: Duration = Duration::from_secs(1);

/// A member of the room, beside its connection and its name.
#[derive(Debug)]
pub(crate) struct Member {
    /// Up to where the feed is queued for it.
    pub(super) cursor: u64,
    /// Cuts its input into lines.
    pub(super) lines: Lines,
    /// Input that was read and must wait.
    pub(super) backlog: Vec<u8>,
    /// Answers to its own commands that it has not taken yet, by their positions in what is sent to it.
    pub(super) answers: Marks,
    /// How far it is ahead of the slowest member.
    pub(super) window: Window,
    /// Whether it has just talked faster than a person.
    pub(super) is_fast: bool,
    /// When it will be announced to the others, if it has not been yet.
    pub(super) announce_at: Option<Instant>,
    /// Whether it is in the list of the talkers that wait for the slowest member.
    pub(super) is_waiting: bool,
    /// When it may say a little though it is too far ahead, if it is.
    pub(super) resume_at: Option<Instant>,
    /// Whether it is not read from until the sequencer says so.
    pub(super) is_held: bool,
}

impl Member {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            cursor: 0,
            lines: Lines::default(),
            backlog: Vec::new(),
            answers: Marks::default(),
            window: Window::new(now),
            is_fast: false,
            announce_at: Some(now + ANNOUNCEMENT_DELAY),
            is_waiting: false,
            resume_at: None,
            is_held: false,
        }
    }

    /// Whether it waits for slower members.
    pub(crate) fn is_ahead(&self) -> bool {
        self.resume_at.is_some()
    }

    /// A newcomer that waits until the room takes it in: it hears nothing, and is not announced.
    pub(super) fn keep_waiting(&mut self) {
        (self.cursor, self.announce_at) = (u64::MAX, None);
    }

    /// The room has taken a newcomer in: it hears what comes behind `end` of the feed.
    pub(super) fn take_in(&mut self, end: u64, now: Instant) {
        (self.cursor, self.announce_at) = (end, Some(now + ANNOUNCEMENT_DELAY));
    }

    /// Whether the room has taken it in.
    pub(super) fn is_in(&self) -> bool {
        self.cursor < u64::MAX
    }

    /// Takes what the feed, which ends at `end`, has for it since the last time.
    pub(super) fn take_news(&mut self, end: u64) -> Range<u64> {
        // A cursor behind the end stays: such a member hears nothing yet.
        let start = self.cursor;
        self.cursor = start.max(end);
        start..end
    }

    /// Whether it is not read from for now, whatever it has sent.
    pub(super) fn waits(&self) -> bool {
        self.is_held || self.resume_at.is_some()
    }

    /// Bytes of memory that its input takes.
    pub(crate) fn held(&self) -> usize {
        self.lines.held() + self.backlog.capacity()
    }

    /// When it has to be served, though no event comes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.announce_at.into_iter().chain(self.resume_at).min()
    }
}
