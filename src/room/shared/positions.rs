//! Which entry of the log is where in the feed.

use std::collections::VecDeque;
use std::ops::Range;

use crate::shared_log::Position;

/// Entries are told apart if they are this many bytes of the feed away from each other. A member that has not taken the
/// last of some entries counts as if it had not taken the first.
const GRAIN: u64 = 4 << 10;

/// The entries that some member, of this server or of another one, has not taken.
#[derive(Debug, Default)]
pub(super) struct Positions {
    parts: VecDeque<Part>,
    /// The next entry.
    next: u64,
}

/// Some entries that follow each other.
#[derive(Debug)]
struct Part {
    first: u64,
    last: u64,
    range: Range<u64>,
}

impl Positions {
    /// The log goes on behind `top`.
    pub(super) fn skip_to(&mut self, top: Position) {
        self.next = top.0 + 1;
        // It may have lost entries.
        self.parts.retain(|part| part.last <= top.0);
    }

    /// An entry fills `range` of the feed.
    pub(super) fn push(&mut self, position: Position, range: Range<u64>) {
        self.next = position.0 + 1;
        match self.parts.back_mut() {
            Some(last) if range.end - last.range.start <= GRAIN => {
                (last.last, last.range.end) = (position.0, range.end);
            }
            _ => self.parts.push_back(Part { first: position.0, last: position.0, range }),
        }
    }

    /// Where in the feed somebody is that has taken everything before `position`; behind its end if that is all.
    pub(super) fn in_feed(&self, position: Position) -> u64 {
        let at = self.parts.partition_point(|part| part.last < position.0);
        self.parts.get(at).map_or(u64::MAX, |part| part.range.start)
    }

    /// The first entry that somebody has not taken who has taken everything before `floor` of the feed.
    pub(super) fn in_log(&self, floor: u64) -> Position {
        let at = self.parts.partition_point(|part| part.range.end <= floor);
        Position(self.parts.get(at).map_or(self.next, |part| part.first))
    }

    /// Forgets what everybody has taken: everything before `floor` of the feed, and before `others` of the log.
    pub(super) fn forget(&mut self, floor: u64, others: Position) {
        while self.has_taken(floor, others) {
            self.parts.pop_front();
        }
    }

    /// Whether there is something to [forget](Self::forget).
    pub(super) fn has_taken(&self, floor: u64, others: Position) -> bool {
        self.parts.front().is_some_and(|part| part.range.end <= floor && part.last < others.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_both_directions_and_never_too_late() {
        let mut positions = Positions::default();
        positions.skip_to(Position(100));
        assert_eq!((positions.in_log(0), positions.in_feed(Position(101))), (Position(101), u64::MAX));
        for entry in 0..1000_u64 {
            positions.push(Position(101 + entry), 7000 + entry * 100..7100 + entry * 100);
        }
        assert!(positions.parts.len() <= 26, "{} parts", positions.parts.len());
        for entry in 0..1000 {
            let (start, position) = (7000 + entry * 100, Position(101 + entry));
            let found = positions.in_feed(position);
            assert!((start - GRAIN..=start).contains(&found), "{found} for {start}");
            let found = positions.in_log(start + 50);
            assert!(found <= position && found.0 + GRAIN / 100 > position.0, "{found:?} for {position:?}");
        }
        let end = 7000 + 100_000;
        assert_eq!((positions.in_log(end), positions.in_feed(Position(1101))), (Position(1101), u64::MAX));
        positions.forget(end, Position(500));
        assert!(positions.in_feed(Position(500)) < u64::MAX);
        positions.forget(end, Position(u64::MAX));
        assert!(positions.parts.is_empty());
    }

    #[test]
    fn entries_that_the_log_has_lost_are_nowhere() {
        let mut positions = Positions::default();
        positions.push(Position(1), 0..5000);
        positions.push(Position(2), 5000..10_000);
        positions.skip_to(Position(1));
        assert_eq!((positions.in_log(3000), positions.in_log(7000)), (Position(1), Position(2)));
        positions.push(Position(2), 10_000..10_100);
        assert_eq!((positions.in_log(7000), positions.in_feed(Position(2))), (Position(2), 10_000));
    }
}
