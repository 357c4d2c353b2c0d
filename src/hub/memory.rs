//! How much memory is held for peers, and how much may be.

use crate::config::{Config, RESERVE};

/// Address space that is kept free, in bytes, for the rest of the program to go on once the system refuses memory.
/// It is never touched, so it takes no memory.
const EMERGENCY: usize = 4 << 20;

/// The books of the memory that is held for peers, in bytes.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Held for all peers, each for one alone.
    held: usize,
    /// The part of it that lies beyond each peer's [`RESERVE`].
    excess: usize,
    /// The most that may be held for all peers, [`RESERVE`] for each of them not counted.
    max: usize,
    emergency: Vec<u8>,
}

impl Memory {
    pub(super) fn new(config: &Config) -> Self {
        let mut emergency = Vec::new();
        // If even this is refused, there is no emergency to prepare for: it is here.
        _ = emergency.try_reserve_exact(EMERGENCY);
        Self { held: 0, excess: 0, max: config.max_memory, emergency }
    }

    /// What is held for one peer changed from `before` to `after`.
    pub(super) fn change(&mut self, before: usize, after: usize) {
        self.held = self.held - before + after;
        self.excess = self.excess - before.saturating_sub(RESERVE) + after.saturating_sub(RESERVE);
    }

    /// Held for all peers, each for one alone.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Held for all peers beyond each one's [`RESERVE`].
    pub(crate) fn excess(&self) -> usize {
        self.excess
    }

    /// The most that may be held for all peers, [`RESERVE`] for each of them not counted.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// How much more may be held, if what is held for one peer is `now` instead of `counted`.
    pub(super) fn free(&self, counted: usize, now: usize) -> usize {
        self.max.saturating_sub(self.held - counted + now)
    }

    /// The system refused memory for a peer. Gives back what was kept for this emergency, so that the attempt can be
    /// repeated once, and from now on holds no more than is held already: peers beyond their [`RESERVE`] are not read
    /// from until others have taken what is queued for them.
    pub(crate) fn refused(&mut self) {
        self.emergency = Vec::new();
        self.max = self.max.min(self.held);
    }
}
