//! Which peers have something to do, and in which order they get their turn.

use std::collections::VecDeque;

/// The keys of the peers that can make progress without a new event, each once.
///
/// Those that have just moved much wait behind all others and get their turns one by one, with a look at the
/// events in between: so a small message waits for one long read and write at most, however many peers are in the
/// middle of a transfer. Each turn serves at least one of them, so that many small messages do not stop them.
#[derive(Debug, Default)]
pub(super) struct Work {
    swift: VecDeque<usize>,
    bulky: VecDeque<usize>,
}

impl Work {
    pub(super) fn push(&mut self, key: usize, is_bulky: bool) {
        if is_bulky { &mut self.bulky } else { &mut self.swift }.push_back(key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.swift.is_empty() && self.bulky.is_empty()
    }

    /// How many there are: of those that have not moved much, and of those that have.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.swift.len(), self.bulky.len())
    }

    pub(super) fn pop_swift(&mut self) -> Option<usize> {
        self.swift.pop_front()
    }

    pub(super) fn pop_bulky(&mut self) -> Option<usize> {
        self.bulky.pop_front()
    }

    pub(super) fn shrink_to(&mut self, capacity: usize) {
        self.swift.shrink_to(capacity);
        self.bulky.shrink_to(capacity);
    }
}
