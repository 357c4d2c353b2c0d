//! How much memory is held for peers, and how much may be.

use crate::config::{Config, RESERVE};

/// Address space that is kept free, in bytes, for the rest of the program to go on once the system refuses memory.
/// It is never touched, so it takes no memory.
const EMERGENCY: usize = 4 << 20;

/// The accounting of the memory that is held for peers, in bytes.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Held by the service, whatever peers there are.
    base: usize,
    /// The same and what is held for all peers, each for one alone.
    held: usize,
    /// The part of it that lies beyond each peer's [`RESERVE`].
    excess: usize,
    /// The most that may be held for all peers, [`RESERVE`] for each of them not counted.
    max: usize,
    /// The same by the settings.
    configured: usize,
    emergency: Vec<u8>,
}

impl Memory {
    pub(super) fn new(config: &Config, base: usize) -> Self {
        let mut emergency = Vec::new();
        // If this is refused, the server starts without an emergency reserve.
        _ = emergency.try_reserve_exact(EMERGENCY);
        Self { base, held: base, excess: base, max: config.max_memory, configured: config.max_memory, emergency }
    }

    /// What is held for one peer changed from `before` to `after`.
    pub(super) fn change(&mut self, before: usize, after: usize) {
        self.held = self.held - before + after;
        self.excess = self.excess - before.saturating_sub(RESERVE) + after.saturating_sub(RESERVE);
    }

    /// Held by the service, whatever peers there are.
    pub(super) fn base(&self) -> usize {
        self.base
    }

    /// Held for all peers, each for one alone, and by the service.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Held for all peers beyond each one's [`RESERVE`], and by the service.
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

    /// The system refused memory for a peer, while `shared` bytes are held for many of them. Gives back what was kept for
    /// this emergency, so that the attempt can be repeated once, and holds no more than is held already until half of it
    /// has been given back.
    pub(crate) fn refused(&mut self, shared: usize) {
        self.emergency = Vec::new();
        self.max = self.max.min(self.held + shared);
    }

    /// Goes back to the limit of the settings once an emergency is over.
    pub(super) fn recover(&mut self, shared: usize) {
        if self.max < self.configured
            && self.held + shared <= self.max / 2
            && self.emergency.try_reserve_exact(EMERGENCY).is_ok()
        {
            self.max = self.configured;
        }
    }
}
