//! How much of what was put into a stream has not been taken out of it yet.

use std::collections::VecDeque;

/// How many marks there are for a limit, about: that many parts of it are freed one by one.
const MARKS: usize = 16;

/// The shortest part, in bytes, so that a small limit does not need a mark for each line.
pub(super) const SHORTEST: usize = 1024;

/// Some bytes of a stream, counted in parts: each counts until all of it has been taken.
#[derive(Debug, Default)]
pub(super) struct Marks {
    parts: VecDeque<Part>,
    total: usize,
}

/// Some lines that were put into the stream one after the other.
#[derive(Debug)]
struct Part {
    /// The position in the stream behind the last of them.
    end: u64,
    /// Their length in bytes.
    len: usize,
}

impl Marks {
    /// Counts `len` bytes that end at `end` of the stream. `limit` is what the count is compared with.
    pub(super) fn add(&mut self, end: u64, len: usize, limit: usize) {
        self.total += len;
        match self.parts.back_mut() {
            Some(last) if last.len < (limit / MARKS).max(SHORTEST) => {
                last.end = end;
                last.len += len;
            }
            _ => self.parts.push_back(Part { end, len }),
        }
    }

    /// Counts what `other` counts as well. A part of it that ends earlier than what is counted already counts until then.
    pub(super) fn append(&mut self, other: Self, limit: usize) {
        for part in other.parts {
            let last = self.parts.back().map_or(0, |last| last.end);
            self.add(part.end.max(last), part.len, limit);
        }
    }

    /// Counts no more what lies before `position`.
    pub(super) fn take(&mut self, position: u64) {
        while let Some(first) = self.parts.front().filter(|first| first.end <= position) {
            self.total -= first.len;
            self.parts.pop_front();
        }
    }

    /// Bytes that have not been taken.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Bytes that have not been taken, if everything before `position` has been.
    pub(super) fn total_from(&self, position: u64) -> usize {
        let taken = self.parts.iter().take_while(|part| part.end <= position);
        self.total - taken.map(|part| part.len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_short_lines_need_few_marks() {
        let mut marks = Marks::default();
        for line in 1..=100_000 {
            marks.add(line * 3, 3, 256 << 10);
        }
        assert!(marks.parts.len() <= 2 * MARKS, "{} marks", marks.parts.len());
    }

    #[test]
    fn a_part_counts_until_all_of_it_is_taken() {
        let mut marks = Marks::default();
        for line in 1..=4 {
            marks.add(line * 2000, 2000, 0);
        }
        assert_eq!((marks.total(), marks.total_from(1999), marks.total_from(2000)), (8000, 8000, 6000));
        marks.take(4001);
        assert_eq!(marks.total(), 4000);
        marks.take(8000);
        assert_eq!(marks.total(), 0);
    }
}
