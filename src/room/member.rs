//! What the room knows of one member.

use std::time::{Duration, Instant};

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
}

impl Member {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            cursor: 0,
            lines: Lines::default(),
            backlog: Vec::new(),
            window: Window::new(now),
            is_fast: false,
            announce_at: Some(now + ANNOUNCEMENT_DELAY),
            is_waiting: false,
            resume_at: None,
        }
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
