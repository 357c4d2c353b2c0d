//! Bytes that many peers are to be sent, held once.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut, Range};

use memmap2::MmapMut;

/// How many bytes are held together. Memory is given back block by block.
pub const BLOCK: usize = 64 << 10;

/// A stream of bytes that many peers read, each at its own pace.
///
/// What is appended gets the next positions. A queue that still has to send some of it keeps a range of positions
/// instead of a copy, and pins the first of them; what lies before the first pin is given back. So a thousand slow
/// readers cost no more memory than the slowest one alone.
#[derive(Debug, Default)]
pub struct Feed {
    blocks: VecDeque<Block>,
    end: u64,
    capacity: usize,
}

#[derive(Debug)]
struct Block {
    start: u64,
    space: Space,
    len: usize,
    pins: usize,
}

/// The memory of a block. Blocks come straight from the system and go straight back to it: many of them are given back
/// when a slow reader has caught up or is gone, and an allocator may keep what lies between other allocations.
#[derive(Debug)]
enum Space {
    Mapped(MmapMut),
    /// Where the system maps no more.
    Allocated(Box<[u8]>),
}

impl Feed {
    /// The position of what will be appended next.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The position of the slowest reader, rounded down to the block that it pins; the end where nothing is pinned.
    pub fn floor(&self) -> u64 {
        self.first_pinned().map_or(self.end, |block| block.start)
    }

    /// Where the block of the [floor](Self::floor) ends: a reader that has come so far does not hold the floor.
    pub fn floor_end(&self) -> u64 {
        self.first_pinned().map_or(self.end, |block| block.start + block.len as u64)
    }

    /// The first block, unless readers have left it since the last [`trim`](Self::trim).
    fn first_pinned(&self) -> Option<&Block> {
        self.blocks.iter().find(|block| block.pins > 0)
    }

    /// Bytes of memory that it takes.
    pub fn held(&self) -> usize {
        self.capacity
    }

    /// Appends `bytes` and returns where they are.
    pub fn push(&mut self, bytes: &[u8]) -> Range<u64> {
        let start = self.end;
        let block = match self.blocks.back_mut() {
            Some(last) if last.space.len() - last.len >= bytes.len() => last,
            _ => {
                let space = Space::new(bytes.len().max(BLOCK));
                self.capacity += space.len();
                self.blocks.push_back_mut(Block { start, space, len: 0, pins: 0 })
            }
        };
        block.space[block.len..][..bytes.len()].copy_from_slice(bytes);
        block.len += bytes.len();
        self.end += bytes.len() as u64;
        start..self.end
    }

    /// The bytes of `range`, as many as lie together; none if the range is empty.
    pub fn slice(&self, range: Range<u64>) -> &[u8] {
        let Some(at) = self.block_of(range.start) else { return &[] };
        let block = &self.blocks[at];
        let from = (range.start - block.start) as usize;
        let to = block.len.min((range.end - block.start) as usize);
        &block.space[from..to]
    }

    /// Keeps everything from `position` on, until it is [unpinned](Self::unpin).
    pub fn pin(&mut self, position: u64) {
        if let Some(at) = self.block_of(position) {
            self.blocks[at].pins += 1;
        }
    }

    /// Takes back one [`pin`](Self::pin) of `position`.
    pub fn unpin(&mut self, position: u64) {
        if let Some(at) = self.block_of(position) {
            self.blocks[at].pins -= 1;
        }
    }

    /// Gives back the blocks before the first pin. One block is kept to be written again.
    pub fn trim(&mut self) {
        let mut left = self.blocks.len();
        while let Some(front) = self.blocks.front_mut().filter(|front| front.pins == 0) {
            if left == 1 && front.space.len() == BLOCK {
                (front.start, front.len) = (self.end, 0);
                return;
            }
            self.capacity -= front.space.len();
            self.blocks.pop_front();
            left -= 1;
        }
    }

    fn block_of(&self, position: u64) -> Option<usize> {
        if position >= self.end {
            return None;
        }
        self.blocks.partition_point(|block| block.start <= position).checked_sub(1)
    }
}

impl Space {
    fn new(len: usize) -> Self {
        MmapMut::map_anon(len).map_or_else(|_| Self::Allocated(vec![0; len].into()), Self::Mapped)
    }
}

impl Deref for Space {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Allocated(bytes) => bytes,
        }
    }
}

impl DerefMut for Space {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Allocated(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pinned_stays_and_the_rest_is_given_back() {
        let mut feed = Feed::default();
        let lines: Vec<Range<u64>> = (0..100u8).map(|at| feed.push(&[at; 10_000])).collect();
        let all = feed.held();
        feed.pin(lines[50].start);
        feed.trim();
        assert!(feed.held() <= all / 2 + BLOCK, "{} of {all}", feed.held());
        for (at, range) in lines.iter().enumerate().skip(50) {
            assert_eq!(feed.slice(range.clone()), [at as u8; 10_000]);
        }
        feed.unpin(lines[50].start);
        feed.trim();
        assert_eq!(feed.held(), BLOCK);
        let next = feed.push(b"more");
        assert_eq!(next.start, lines[99].end);
        assert_eq!(feed.slice(next), b"more");
    }

    #[test]
    fn the_floor_is_where_the_slowest_reader_is_also_before_a_trim() {
        let mut feed = Feed::default();
        let blocks: Vec<Range<u64>> = (0..4u8).map(|at| feed.push(&[at; BLOCK])).collect();
        feed.pin(blocks[0].start);
        feed.pin(blocks[1].start + 5);
        assert_eq!((feed.floor(), feed.floor_end()), (blocks[0].start, blocks[0].end));
        feed.unpin(blocks[0].start);
        assert_eq!((feed.floor(), feed.floor_end()), (blocks[1].start, blocks[1].end));
        feed.trim();
        assert_eq!((feed.floor(), feed.floor_end()), (blocks[1].start, blocks[1].end));
        feed.unpin(blocks[1].start + 5);
        assert_eq!((feed.floor(), feed.floor_end()), (feed.end(), feed.end()));
    }

    #[test]
    fn a_range_comes_in_as_many_slices_as_it_has_blocks() {
        let mut feed = Feed::default();
        let start = feed.push(&[1; BLOCK]).start;
        let end = feed.push(&[2; 3 * BLOCK]).end;
        assert_eq!(feed.slice(start + 1..end), [1; BLOCK - 1]);
        assert_eq!(feed.slice(start + BLOCK as u64..end), [2; 3 * BLOCK]);
        assert!(feed.slice(end..end).is_empty());
    }
}
