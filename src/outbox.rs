//! Bytes owed to one peer.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::mem;
use std::ops::Range;

use crate::feed::Feed;

/// The most bytes of its own in one piece. Large enough that a big backlog goes out in few system calls,
/// small enough that a half-sent piece wastes little.
const PIECE: usize = 64 << 10;

/// The most slices given to one vectored write: 1 MiB of full pieces.
const SLICES: usize = 16;

/// What a shared piece costs, in bytes: itself and the piece of our own that it keeps apart from the next, in a
/// queue that may be half empty. Where lines for all and lines for one alternate, this is more than the lines.
pub const SHARED_COST: usize = 2 * 2 * size_of::<Piece>();

/// A queue of bytes that are owed to one peer, in the order in which they are to be sent.
///
/// Memory is taken for what is queued, at most 64 KiB more, and given back as the queue drains; an empty
/// outbox owns none. What many peers are owed stays in the [`Feed`]. Taking from the front never moves what is
/// behind it, so a backlog of any size is sent in linear time.
#[derive(Debug, Default)]
pub struct Outbox {
    /// There only while something is owed, so that an idle connection pays for one pointer.
    queue: Option<Box<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    /// How many bytes of the first piece have been sent, if it is one of our own.
    sent: usize,
    /// How many bytes are owed in all.
    len: usize,
    /// How many of them are in pieces of our own.
    own: usize,
    /// How many pieces are shared.
    shared: usize,
    /// The position in the feed that is pinned: the first of the shared pieces.
    pinned: Option<u64>,
}

#[derive(Debug)]
enum Piece {
    Own(Vec<u8>),
    Shared(Range<u64>),
}

impl Outbox {
    /// How many bytes are owed.
    pub fn len(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len)
    }

    /// How many bytes are held here, not in the feed.
    pub fn own_len(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.own + queue.shared * SHARED_COST)
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.queue.is_none()
    }

    /// Queues a copy of `bytes`.
    pub fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let queue = self.queue.get_or_insert_default();
        queue.len += bytes.len();
        queue.append(bytes);
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

    /// Gives the front of the queue to one vectored write and takes away what was written.
    ///
    /// Returns how many bytes were written and how many were offered: fewer written than offered means that
    /// the peer takes no more for now. Errors are those of the write; nothing is lost then.
    pub fn write_to(&mut self, writer: &mut impl Write, feed: &mut Feed) -> io::Result<(usize, usize)> {
        let Some(queue) = &mut self.queue else { return Ok((0, 0)) };
        let mut slices = [IoSlice::new(&[]); SLICES];
        let (count, offered) = queue.fill(&mut slices, feed);
        let written = writer.write_vectored(&slices[..count])?;
        queue.advance(written);
        queue.pin_first(feed);
        if queue.len == 0 {
            self.queue = None;
        }
        Ok((written, offered))
    }

    /// The position of the first byte that is owed from the feed.
    pub fn first_shared(&self) -> Option<u64> {
        self.queue.as_ref().and_then(|queue| queue.pinned)
    }

    /// Copies what is owed from the feed, so that the feed need not keep it.
    pub fn detach(&mut self, feed: &mut Feed) {
        let Some(queue) = &mut self.queue else { return };
        let pieces = mem::take(&mut queue.pieces);
        (queue.own, queue.shared) = (0, 0);
        for piece in pieces {
            match piece {
                // The first may be half-sent.
                Piece::Own(bytes) if queue.pieces.is_empty() => {
                    queue.own = bytes.len() - queue.sent;
                    queue.pieces.push_back(Piece::Own(bytes));
                }
                Piece::Own(bytes) => queue.append(&bytes),
                Piece::Shared(mut range) => {
                    while !range.is_empty() {
                        let bytes = feed.slice(range.clone());
                        queue.append(bytes);
                        range.start += bytes.len() as u64;
                    }
                }
            }
        }
        queue.pin_first(feed);
    }

    /// Forgets what is owed. An outbox that is dropped without this keeps its place in the feed.
    pub fn clear(&mut self, feed: &mut Feed) {
        if let Some(pinned) = self.queue.take().and_then(|queue| queue.pinned) {
            feed.unpin(pinned);
        }
    }
}

impl Queue {
    /// Copies `bytes` into pieces of our own.
    fn append(&mut self, mut bytes: &[u8]) {
        self.own += bytes.len();
        let mut before = 0;
        if let Some(Piece::Own(tail)) = self.pieces.back_mut() {
            let (fitting, rest) = bytes.split_at(bytes.len().min(tail.capacity() - tail.len()));
            tail.extend_from_slice(fitting);
            bytes = rest;
            before = tail.len();
        }
        while !bytes.is_empty() {
            let (next, rest) = bytes.split_at(bytes.len().min(PIECE));
            // Twice the room of the piece before it, so that a trickle of single bytes makes few pieces. But no
            // more, whatever else is owed: where lines for all come in between, it will never be used.
            let mut piece = Vec::with_capacity(next.len().max((2 * before).min(PIECE)));
            piece.extend_from_slice(next);
            before = piece.len();
            self.pieces.push_back(Piece::Own(piece));
            bytes = rest;
        }
    }

    /// Fills `slices` from the front; returns how many, and of how many bytes.
    fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>], feed: &'a Feed) -> (usize, usize) {
        let (mut count, mut offered) = (0, 0);
        let mut add = |bytes: &'a [u8]| {
            let is_wanted = count < slices.len() && !bytes.is_empty();
            if is_wanted {
                slices[count] = IoSlice::new(bytes);
                count += 1;
                offered += bytes.len();
            }
            is_wanted
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
        (count, offered)
    }

    fn advance(&mut self, mut written: usize) {
        self.len -= written;
        while let Some(front) = self.pieces.front_mut() {
            let left = match front {
                Piece::Own(bytes) => bytes.len() - self.sent,
                Piece::Shared(range) => (range.end - range.start) as usize,
            };
            let taken = written.min(left);
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
            self.sent = 0;
            if let Some(Piece::Shared(_)) = self.pieces.pop_front() {
                self.shared -= 1;
            }
        }
    }

    fn pin_first(&mut self, feed: &mut Feed) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most so many bytes of each write, from the first slice alone or from all.
    struct Narrow {
        taken: Vec<u8>,
        width: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let before = self.taken.len();
            for slice in slices {
                let room = self.width - (self.taken.len() - before);
                self.taken.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            Ok(self.taken.len() - before)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
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
                    0 => outbox.push(&piece),
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
                    outbox.write_to(&mut out, &mut feed).unwrap();
                    feed.trim();
                }
            }
            while !outbox.is_empty() {
                outbox.write_to(&mut out, &mut feed).unwrap();
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
            outbox.push(b"x");
        }
        let queue = outbox.queue.unwrap();
        assert_eq!((queue.len, queue.own), (1 << 20, 1 << 20));
        assert!(queue.pieces.len() < 40, "{} pieces", queue.pieces.len());
    }

    #[test]
    fn pieces_between_shared_ones_take_little_more_than_they_hold() {
        let (mut outbox, mut feed) = (Outbox::default(), Feed::default());
        for _ in 0..10_000 {
            outbox.push(b"for you\n");
            outbox.push(b"and this\n");
            let range = feed.push(b"for all\n");
            outbox.push_shared(range, &mut feed);
        }
        let queue = outbox.queue.as_ref().unwrap();
        let own = queue.pieces.iter().map(|piece| if let Piece::Own(bytes) = piece { bytes.capacity() } else { 0 });
        let taken = own.sum::<usize>() + queue.pieces.capacity() * size_of::<Piece>();
        assert!(taken <= 2 * outbox.own_len(), "{taken} bytes taken, {} counted", outbox.own_len());
        outbox.clear(&mut feed);
        feed.trim();
        assert_eq!(feed.held(), PIECE);
    }

    #[test]
    fn what_is_copied_from_the_feed_comes_out_the_same_and_is_given_back_piece_by_piece() {
        let (mut outbox, mut feed) = (Outbox::default(), Feed::default());
        let mut expected = Vec::new();
        for at in 0..20u8 {
            let line = vec![at; 30_000];
            expected.extend_from_slice(&line);
            if at % 7 == 3 {
                outbox.push(&line);
            } else {
                let range = feed.push(&line);
                outbox.push_shared(range, &mut feed);
            }
        }
        let mut out = Narrow { taken: Vec::new(), width: 100_000 };
        outbox.write_to(&mut out, &mut feed).unwrap();
        outbox.detach(&mut feed);
        feed.trim();
        assert_eq!((feed.held(), outbox.first_shared()), (PIECE, None));
        while !outbox.is_empty() {
            assert_eq!(outbox.own_len(), outbox.len());
            let queue = outbox.queue.as_ref().unwrap();
            assert!(queue.pieces.iter().all(|piece| matches!(piece, Piece::Own(bytes) if bytes.len() <= PIECE)));
            outbox.write_to(&mut out, &mut feed).unwrap();
        }
        assert!(out.taken == expected);
    }

    #[test]
    fn neighbours_in_the_feed_are_one_piece() {
        let (mut outbox, mut feed) = (Outbox::default(), Feed::default());
        for _ in 0..1000 {
            let range = feed.push(b"a line\n");
            outbox.push_shared(range, &mut feed);
        }
        assert_eq!(outbox.len(), 7000);
        assert_eq!(outbox.own_len(), SHARED_COST);
        assert_eq!(outbox.queue.as_ref().unwrap().pieces.len(), 1);
        outbox.clear(&mut feed);
        feed.trim();
        assert_eq!(feed.held(), PIECE);
    }
}
