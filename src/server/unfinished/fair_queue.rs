//! Which handshake goes on next, and which makes room for others: addresses take turns, and the one with the most
//! handshakes gives up its oldest. So a flood from one address delays the others little.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};

use crate::address::QuotaKey;

/// Handshakes, by their numbers; the oldest has the lowest.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    shares: HashMap<QuotaKey, Share>,
    /// How many handshakes each address has, and its oldest.
    by_size: BTreeSet<(usize, Reverse<usize>)>,
    /// The addresses that have one that may go on.
    ready: BTreeSet<QuotaKey>,
    /// The address that had its turn last.
    last: Option<QuotaKey>,
}

/// What one address has.
#[derive(Debug, Default)]
struct Share {
    pending: BTreeSet<usize>,
    /// Those that may go on.
    ready: BTreeSet<usize>,
    /// The one that had its turn last.
    last: Option<usize>,
}

impl Share {
    fn size(&self) -> Option<(usize, Reverse<usize>)> {
        self.pending.first().map(|oldest| (self.pending.len(), Reverse(*oldest)))
    }
}

impl FairQueue {
    /// Adds a handshake, which may not go on yet.
    pub(super) fn insert(&mut self, key: QuotaKey, number: usize) {
        self.change(key, |share| share.pending.insert(number));
    }

    /// Removes a handshake.
    pub(super) fn remove(&mut self, key: QuotaKey, number: usize) {
        self.change(key, |share| share.ready.remove(&number) | share.pending.remove(&number));
    }

    /// Lets a handshake go on.
    pub(super) fn schedule(&mut self, key: QuotaKey, number: usize) {
        self.change(key, |share| share.pending.contains(&number) && share.ready.insert(number));
    }

    /// The handshake that goes on now.
    pub(super) fn pop(&mut self) -> Option<usize> {
        let key = following(&self.ready, self.last)?;
        self.last = Some(key);
        let mut next = None;
        self.change(key, |share| {
            next = following(&share.ready, share.last);
            share.last = next;
            next.is_some_and(|number| share.ready.remove(&number))
        });
        next
    }

    /// Whether none may go on.
    pub(super) fn is_idle(&self) -> bool {
        self.ready.is_empty()
    }

    /// The oldest handshake of the address that has the most.
    pub(super) fn oldest_of_most(&self) -> Option<usize> {
        self.by_size.last().map(|(_, Reverse(oldest))| *oldest)
    }

    fn change(&mut self, key: QuotaKey, change: impl FnOnce(&mut Share) -> bool) {
        let share = self.shares.entry(key).or_default();
        let before = share.size();
        change(share);
        let (after, is_ready) = (share.size(), !share.ready.is_empty());
        if before != after {
            before.map(|size| self.by_size.remove(&size));
            self.by_size.extend(after);
        }
        if is_ready {
            self.ready.insert(key);
        } else {
            self.ready.remove(&key);
        }
        if after.is_none() {
            self.shares.remove(&key);
        }
    }
}

/// The one behind `last`, or the first if that was the last one.
fn following<T: Ord + Copy>(set: &BTreeSet<T>, last: Option<T>) -> Option<T> {
    let behind = last.and_then(|last| set.range((Excluded(last), Unbounded)).next());
    behind.or_else(|| set.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: QuotaKey = QuotaKey::Unix(Some(1));
    const BOB: QuotaKey = QuotaKey::Unix(Some(2));
    const EVE: QuotaKey = QuotaKey::Unix(Some(3));

    #[test]
    fn addresses_take_turns_and_so_do_the_handshakes_of_each() {
        let mut queue = FairQueue::default();
        for (number, key) in [EVE, EVE, EVE, EVE, ANN, BOB].into_iter().enumerate() {
            queue.insert(key, number);
            queue.schedule(key, number);
        }
        let mut turns = Vec::new();
        while let Some(number) = queue.pop().filter(|_| turns.len() < 8) {
            turns.push(number);
            // This one always may.
            if number == 0 {
                queue.schedule(EVE, number);
            }
        }
        assert_eq!(turns, [4, 5, 0, 1, 2, 3, 0, 0]);
    }

    #[test]
    fn the_address_with_the_most_makes_room() {
        let mut queue = FairQueue::default();
        for (number, key) in [ANN, BOB, EVE, EVE, BOB, EVE].into_iter().enumerate() {
            queue.insert(key, number);
        }
        let mut victims = Vec::new();
        while let Some(number) = queue.oldest_of_most() {
            victims.push(number);
            [ANN, BOB, EVE].into_iter().for_each(|key| queue.remove(key, number));
        }
        assert_eq!(victims, [2, 1, 3, 0, 4, 5]);
        assert!(queue.shares.is_empty() && queue.by_size.is_empty() && queue.ready.is_empty());
    }
}
