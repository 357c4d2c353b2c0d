//! Bytes that are queued for one peer.

use std::collections::{TryReserveError, VecDeque};
use std::io::IoSlice;
use std::ops::Range;

use crate::feed::Feed;

/// The largest piece of its own, in bytes: large enough that a big backlog goes out in few system calls, small
/// enough that a half-sent piece wastes little.
const PIECE: usize = 64 << 10;

/// The most memory that an outbox takes beyond what is queued in it, in bytes.
pub const SLACK: usize = 16 << 10;

/// The table of the pieces is not made smaller than four times this many. (An allocator may keep what is smaller, in the
/// midst of memory that it would give back.)
const KEPT_ENTRIES: usize = 64;

/// The most slices given to one vectored write: 1 MiB of full pieces.
pub const SLICES: usize = 16;

/// What the entry of a piece in the queue takes, in bytes. Where shared and private lines alternate, the entries take
/// more than the lines.
pub const PIECE_COST: usize = size_of::<Piece>();

/// A queue of bytes for one peer, in the order in which they are to be sent.
///
/// Memory is taken for what is queued, at most [`SLACK`] more, and given back as the queue drains; an empty
/// outbox owns none. What many peers are to be sent stays in the [`Feed`]. Taking from the front never moves what is
/// behind it, so a backlog of any size is sent in linear time.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Present only while something is queued, so that an idle connection pays for one pointer.
    queue: Option<Box<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that have been sent, if it is an own one.
    sent: usize,
    /// Bytes queued in all.
    len: usize,
    /// Bytes queued in own pieces.
    own: usize,
    /// Capacity of the own pieces in bytes.
    capacity: usize,
    /// Number of shared pieces.
    shared: usize,
    /// The pinned position of the feed: the start of the first shared piece.
    pinned: Option<u64>,
}

#[derive(Debug)]
enum Piece {
    Own(Vec<u8>),
    Shared(Range<u64>),
}

impl Outbox {
    /// Bytes that are queued.
    pub fn len(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len)
    }

    /// Bytes that are queued here, not in the feed.
    pub fn own_len(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.own)
    }

    /// Bytes of memory that the queue takes, the feed not counted: the capacity of its pieces, not their length.
    pub fn held(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.capacity + queue.pieces.capacity() * PIECE_COST)
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.queue.is_none()
    }

    /// Queues a copy of `bytes`.
    ///
    /// # Errors
    ///
    /// If the system refuses memory; then nothing of `bytes` is queued.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TryReserveError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let queue = self.queue.get_or_insert_default();
        let outcome = queue.append(bytes);
        if queue.len == 0 {
            self.queue = None;
        }
        outcome
    }

    /// Queues a range of the feed, without a copy.
    pub fn push_shared(&mut self, range: Range<u64>, feed: &mut Feed) {
        if range.is_empty() {
            return;
        }
        let queue = self.queue.get_or_insert_default();
        queue.len += (range.end - range.start) as usize;
        match queue.pieces.back_mut() {
            Some(Piece::Shared(tail)) if tail.end == range.start => tail.end = range.end,
            _ => {
                queue.pieces.push_back(Piece::Shared(range));
                queue.shared += 1;
            }
        }
        queue.pin_first(feed);
    }

    /// Fills `slices` from the front of the queue for one vectored write; returns how many slices.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES], feed: &'a Feed) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.fill(slices, feed))
    }

    /// Removes the first `written` bytes, which have been sent.
    pub fn advance(&mut self, written: usize, feed: &mut Feed) {
        let Some(queue) = &mut self.queue else { return };
        queue.advance(written);
        queue.pin_first(feed);
        if queue.len == 0 {
            self.queue = None;
        }
    }

    /// The position of the first queued byte of the feed.
    pub fn first_shared(&self) -> Option<u64> {
        self.queue.as_ref().and_then(|queue| queue.pinned)
    }

    /// Drops what is queued. An outbox that is dropped without this keeps its place in the feed.
    pub fn clear(&mut self, feed: &mut Feed) {
        if let Some(pinned) = self.queue.take().and_then(|queue| queue.pinned) {
            feed.unpin(pinned);
        }
    }
}

impl Queue {
    /// Copies `bytes` into own pieces, all of them or none.
    fn append(&mut self, bytes: &[u8]) -> Result<(), TryReserveError> {
        let spare = match self.pieces.back() {
            Some(Piece::Own(tail)) => tail.capacity() - tail.len(),
            _ => 0,
        };
        let (fitting, rest) = bytes.split_at(bytes.len().min(spare));
        let before = match self.pieces.back() {
            Some(Piece::Own(tail)) => tail.len() + fitting.len(),
            _ => 0,
        };
        let new = pieces(rest, before)?;
        self.pieces.try_reserve(new.len())?;
        if let Some(Piece::Own(tail)) = self.pieces.back_mut() {
            tail.extend_from_slice(fitting);
        }
        self.len += bytes.len();
        self.own += bytes.len();
        self.capacity += new.iter().map(Vec::capacity).sum::<usize>();
        self.pieces.extend(new.into_iter().map(Piece::Own));
        Ok(())
    }

    fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>], feed: &'a Feed) -> usize {
        let mut count = 0;
        let mut add = |bytes: &'a [u8]| {
            let is_taken = count < slices.len() && !bytes.is_empty();
            if is_taken {
                slices[count] = IoSlice::new(bytes);
                count += 1;
            }
            is_taken
        };
        let mut skip = self.sent;
        for piece in &self.pieces {
            let is_added = match piece {
                Piece::Own(bytes) => add(&bytes[skip..]),
                Piece::Shared(range) => {
                    let mut rest = range.clone();
                    loop {
                        let bytes = feed.slice(rest.clone());
                        rest.start += bytes.len() as u64;
                        if !add(bytes) {
                            break rest.is_empty();
                        }
                    }
                }
            };
            if !is_added {
                break;
            }
            skip = 0;
        }
        count
    }

    fn advance(&mut self, mut written: usize) {
        self.len -= written;
        while let Some(front) = self.pieces.front_mut() {
            let left = match front {
                Piece::Own(bytes) => bytes.len() - self.sent,
                Piece::Shared(range) => (range.end - range.start) as usize,
            };
            let taken = left.min(written);
            written -= taken;
            match front {
                Piece::Own(_) => {
                    self.sent += taken;
                    self.own -= taken;
                }
                Piece::Shared(range) => range.start += taken as u64,
            }
            if taken < left {
                return;
            }
            match self.pieces.pop_front() {
                Some(Piece::Own(bytes)) => {
                    self.sent = 0;
                    self.capacity -= bytes.capacity();
                }
                Some(Piece::Shared(_)) => self.shared -= 1,
                None => {}
            }
            if self.pieces.len().max(KEPT_ENTRIES) < self.pieces.capacity() / 4 {
                self.pieces.shrink_to(2 * self.pieces.len().max(KEPT_ENTRIES));
            }
        }
    }

    fn pin_first(&mut self, feed: &mut Feed) {
        if self.shared == 0 && self.pinned.is_none() {
            return;
        }
        let first = self.pieces.iter().find_map(|piece| match piece {
            Piece::Own(_) => None,
            Piece::Shared(range) => Some(range.start),
        });
        if first != self.pinned {
            // The new pin first: between the two nothing must be given back.
            first.inspect(|position| feed.pin(*position));
            self.pinned.inspect(|position| feed.unpin(*position));
            self.pinned = first;
        }
    }
}

/// Copies of `bytes` in pieces of at most [`PIECE`], to follow an own piece of `before` bytes.
fn pieces(mut bytes: &[u8], mut before: usize) -> Result<Vec<Vec<u8>>, TryReserveError> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (next, rest) = bytes.split_at(bytes.len().min(PIECE));
        // Twice the capacity of the piece before it, so that a trickle of single bytes makes few pieces. But no
        // more, whatever else is queued: where shared lines come in between, it will never be used.
        let mut piece = Vec::new();
        piece.try_reserve_exact(next.len().max((2 * before).min(SLACK)))?;
        piece.extend_from_slice(next);
        before = piece.len();
        pieces.try_reserve(1)?;
        pieces.push(piece);
        bytes = rest;
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Outbox {
        /// Writes once, and returns how many bytes were written.
        fn write_to(&mut self, out: &mut Narrow, feed: &mut Feed) -> usize {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.fill(&mut slices, feed);
            let written = out.write(&slices[..count]);
            self.advance(written, feed);
            written
        }
    }

    /// Takes at most `width` bytes of each write, from the first slice alone or from all.
    struct Narrow {
        taken: Vec<u8>,
        width: usize,
    }

    impl Narrow {
        fn write(&mut self, slices: &[IoSlice<'_>]) -> usize {
            let before = self.taken.len();
            for slice in slices {
                let room = self.width - (self.taken.len() - before);
                self.taken.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            self.taken.len() - before
        }
    }

    #[test]
    fn bytes_come_out_as_they_went_in() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut outbox, mut feed) = (Outbox::default(), Feed::default());
            let mut expected = Vec::new();
            let mut out = Narrow { taken: Vec::new(), width: random.usize(1..100_000) };
            for _ in 0..random.usize(1..40) {
                let piece = vec![random.u8(..); random.usize(0..100_000)];
                match random.u8(0..4) {
                    0 => outbox.push(&piece).unwrap(),
                    1 | 2 => {
                        let range = feed.push(&piece);
                        outbox.push_shared(range, &mut feed);
                    }
                    _ => {
                        feed.push(&piece);
                        continue;
                    }
                }
                expected.extend(piece);
                if random.bool() {
                    outbox.write_to(&mut out, &mut feed);
                    feed.trim();
                }
            }
            while !outbox.is_empty() {
                outbox.write_to(&mut out, &mut feed);
            }
            assert!(out.taken == expected, "seed {seed}");
            feed.trim();
            assert!(feed.held() <= PIECE, "seed {seed}: {} bytes stay", feed.held());
        }
    }

    #[test]
    fn single_bytes_share_their_pieces() {
        let mut outbox = Outbox::default();
        for _ in 0..1 << 20 {
            outbox.push(b"x").unwrap();
        }
        let queue = outbox.queue.unwrap();
        assert_eq!((queue.len, queue.own), (1 << 20, 1 << 20));
        assert!(queue.capacity <= (1 << 20) + SLACK, "{} bytes are taken", queue.capacity);
        assert!(queue.pieces.len() < 80, "{} pieces", queue.pieces.len());
    }

    #[test]
    fn pieces_between_shared_ones_take_little_more_than_they_hold() {
        let (mut outbox, mut feed) = (Outbox::default(), Feed::default());
        for _ in 0..10_000 {
            outbox.push(b"for you\n").unwrap();
            outbox.push(b"and this\n").unwrap();
            let range = feed.push(b"for all\n");
            outbox.push_shared(range, &mut feed);
        }
        let queue = outbox.queue.as_ref().unwrap();
        let own = queue.pieces.iter().map(|piece| if let Piece::Own(bytes) = piece { bytes.capacity() } else { 0 });
        let taken = own.sum::<usize>() + queue.pieces.capacity() * size_of::<Piece>();
        assert!(taken <= outbox.held(), "{taken} bytes taken, {} counted", outbox.held());
        assert!(outbox.held() <= 2 * outbox.own_len() + 4 * 10_000 * PIECE_COST);
        outbox.clear(&mut feed);
        feed.trim();
        assert_eq!(feed.held(), PIECE);
    }

    #[test]
    fn a_queue_that_has_drained_gives_its_entries_back() {
        let (mut outbox, mut feed) = (Outbox::default(), Feed::default());
        for _ in 0..10_000 {
            outbox.push(b"x").unwrap();
            let range = feed.push(b"y");
            outbox.push_shared(range, &mut feed);
        }
        let full = outbox.held();
        outbox.advance(outbox.len() - 20, &mut feed);
        assert!(outbox.held() < full / 20, "{} of {full} bytes are held", outbox.held());
        outbox.clear(&mut feed);
    }

    #[test]
    fn neighbours_in_the_feed_are_one_piece() {
        let (mut outbox, mut feed) = (Outbox::default(), Feed::default());
        for _ in 0..1000 {
            let range = feed.push(b"a line\n");
            outbox.push_shared(range, &mut feed);
        }
        assert_eq!(outbox.len(), 7000);
        assert_eq!(outbox.own_len(), 0);
        assert!(outbox.held() <= 4 * PIECE_COST, "{} bytes are held", outbox.held());
        assert_eq!(outbox.queue.as_ref().unwrap().pieces.len(), 1);
        outbox.clear(&mut feed);
        feed.trim();
        assert_eq!(feed.held(), PIECE);
    }
}
