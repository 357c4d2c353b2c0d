//! The states of the input that can be gone back to.

use std::collections::VecDeque;

/// How many states are kept, and how many bytes they may have together.
const MAX_STATES: usize = 100;
const MAX_BYTES: usize = 4 << 20;

/// The input as it was, and where its cursor was.
pub(super) type State = (String, usize);

/// Past states, the latest one last. A word typed in one go is one step.
#[derive(Debug, Default)]
pub(super) struct Undo {
    states: VecDeque<State>,
    bytes: usize,
    /// The last change added a character of a word.
    is_typing: bool,
}

impl Undo {
    /// Keeps the state before a change. `typed` is the character that the change adds, if it is no other change.
    pub(super) fn note(&mut self, text: &str, cursor: usize, typed: Option<char>) {
        let was_typing = self.is_typing;
        self.is_typing = typed.is_some_and(|character| !character.is_whitespace());
        if was_typing && self.is_typing {
            return;
        }
        self.bytes += text.len();
        self.states.push_back((text.to_owned(), cursor));
        while self.states.len() > MAX_STATES || self.bytes > MAX_BYTES {
            self.bytes -= self.states.pop_front().map_or(self.bytes, |(text, _)| text.len());
        }
    }

    /// Takes the latest state that is not `current`.
    pub(super) fn pop(&mut self, current: &str) -> Option<State> {
        self.is_typing = false;
        while let Some((text, cursor)) = self.states.pop_back() {
            self.bytes -= text.len();
            if text != current {
                return Some((text, cursor));
            }
        }
        None
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
