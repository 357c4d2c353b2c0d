//! Which peers have something to do, and in which order they get their turn.

use std::collections::VecDeque;

use super::peer::Id;

/// The queues of the peers that can make progress without a new event.
///
/// Peers that have just moved a lot wait behind all others, and a turn serves only as many of them as move 256 KiB
/// together: so a small message waits for little more than one long read and write, however many peers are in the middle
/// of a transfer. Each turn serves at least one of them, so that many small messages do not stop them.
#[derive(Debug, Default)]
pub(super) struct Queues {
    pub(super) swift: VecDeque<usize>,
    pub(super) bulky: VecDeque<usize>,
    /// The longest waiting first. A peer that has left this place, or the server, may still have an entry.
    pub(super) starved: VecDeque<Id>,
    pub(super) settled: Vec<usize>,
}

impl Queues {
    pub(super) fn is_empty(&self) -> bool {
        self.swift.is_empty() && self.bulky.is_empty()
    }

    pub(super) fn shrink_to(&mut self, capacity: usize) {
        self.swift.shrink_to(capacity);
        self.bulky.shrink_to(capacity);
        self.settled.shrink_to(capacity);
    }
}
