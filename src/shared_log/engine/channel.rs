//! One connection to Redis: what was sent, what is to be answered, and by when.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use super::reading::Read;
use crate::shared_log::resp::{self, Replies};

/// What a reply will be the answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// `AUTH`.
    Login,
    /// `SELECT`.
    Database,
    /// `SCRIPT LOAD`.
    Script,
    /// A call of the script.
    Call,
    Read(Read),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Connecting,
    Open,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Channel {
    state: State,
    replies: Replies,
    output: Vec<u8>,
    sent: usize,
    expected: VecDeque<Expected>,
    /// How long the other side may make no progress with what it owes.
    patience: Duration,
    deadline: Option<Instant>,
    is_checked: bool,
}

impl Channel {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            state: State::Closed,
            replies: Replies::default(),
            output: Vec::new(),
            sent: 0,
            expected: VecDeque::new(),
            patience,
            deadline: None,
            is_checked: false,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether something can be asked: everything before has been answered.
    pub(super) fn is_idle(&self) -> bool {
        self.is_open() && self.expected.is_empty()
    }

    /// Whether this connection was found to lead to the log: the script has answered, or the log has the last entry.
    pub(super) fn is_checked(&self) -> bool {
        self.is_checked
    }

    pub(super) fn set_checked(&mut self) {
        self.is_checked = true;
    }

    /// When the other side has to have made progress.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn connect(&mut self, now: Instant) {
        self.state = State::Connecting;
        self.deadline = Some(now + self.patience);
    }

    /// Forgets all that has to do with the connection. Returns whether there was one.
    pub(super) fn close(&mut self) -> bool {
        let patience = self.patience;
        !mem::replace(self, Self::new(patience)).is_closed()
    }

    /// The connection has been made. Returns whether it was asked for.
    pub(super) fn open(&mut self, now: Instant) -> bool {
        let is_asked_for = self.state == State::Connecting;
        if is_asked_for {
            self.state = State::Open;
            self.note_progress(now);
        }
        is_asked_for
    }

    pub(super) fn send(&mut self, words: &[impl AsRef<[u8]>], expected: Expected, now: Instant) {
        // Encoding into a buffer that is large enough does not fail; if it did, the answer would be missed in time.
        _ = resp::command(&mut self.output, words);
        self.expected.push_back(expected);
        self.deadline = Some(now + self.patience);
    }

    /// What the next reply answers, if it answers anything.
    pub(super) fn answered(&mut self, now: Instant) -> Option<Expected> {
        let expected = self.expected.pop_front();
        self.note_progress(now);
        expected
    }

    pub(super) fn note_progress(&mut self, now: Instant) {
        self.deadline = (!self.expected.is_empty()).then(|| now + self.patience);
    }

    pub(super) fn take_replies(&mut self) -> Replies {
        mem::take(&mut self.replies)
    }

    pub(super) fn put_back_replies(&mut self, replies: Replies) {
        self.replies = replies;
    }

    pub(super) fn output(&self) -> &[u8] {
        &self.output[self.sent..]
    }

    pub(super) fn sent(&mut self, count: usize, now: Instant) {
        self.sent = (self.sent + count).min(self.output.len());
        if self.sent == self.output.len() {
            self.output.clear();
            self.output.shrink_to(resp::KEPT);
            self.sent = 0;
        }
        self.note_progress(now);
    }
}
