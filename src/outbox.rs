//! Bytes owed to one peer.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

/// The most bytes in one chunk. Large enough that a big backlog goes out in few system calls, small enough
/// that a half-sent chunk wastes little.
const CHUNK: usize = 64 << 10;

/// The most chunks given to one vectored write: 1 MiB of full ones.
const CHUNKS_PER_WRITE: usize = 16;

/// A queue of bytes that are owed to one peer, in the order in which they are to be sent.
///
/// Memory is taken for what is queued, at most [`CHUNK`] more, and given back as the queue drains; an empty
/// outbox owns none. Taking from the front never moves what is behind it, so a backlog of any size is sent
/// in linear time.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Vec<u8>>,
    /// How many bytes of the first chunk have been sent.
    sent: usize,
    /// How many bytes are owed in all.
    len: usize,
}

impl Outbox {
    /// How many bytes are owed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues a copy of `bytes`.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let tail = match self.chunks.back_mut() {
                Some(tail) if tail.len() < tail.capacity() => tail,
                _ => {
                    // As much as there is already, so that a trickle of single bytes costs few chunks.
                    let capacity = bytes.len().max(self.len).min(CHUNK);
                    self.chunks.push_back_mut(Vec::with_capacity(capacity))
                }
            };
            let (now, later) = bytes.split_at(bytes.len().min(tail.capacity() - tail.len()));
            tail.extend_from_slice(now);
            self.len += now.len();
            bytes = later;
        }
    }

    /// Gives the front of the queue to one vectored write and takes away what was written.
    ///
    /// Returns how many bytes were written and how many were offered: fewer written than offered means that
    /// the peer takes no more for now. Errors are those of the write; nothing is lost then.
    pub fn write_to(&mut self, writer: &mut impl Write) -> io::Result<(usize, usize)> {
        let mut slices = [IoSlice::new(&[]); CHUNKS_PER_WRITE];
        let mut offered = 0;
        let mut skip = self.sent;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(&chunk[skip..]);
            offered += slice.len();
            skip = 0;
        }
        let written = writer.write_vectored(&slices[..self.chunks.len().min(CHUNKS_PER_WRITE)])?;
        self.advance(written);
        Ok((written, offered))
    }

    fn advance(&mut self, written: usize) {
        self.len -= written;
        self.sent += written;
        while let Some(front) = self.chunks.front().filter(|front| self.sent >= front.len()) {
            self.sent -= front.len();
            self.chunks.pop_front();
        }
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most so many bytes of each write.
    struct Narrow(Vec<u8>, usize);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.1);
            self.0.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            let mut out = Narrow(Vec::new(), random.usize(1..100_000));
            for _ in 0..random.usize(1..20) {
                let piece: Vec<u8> = (0..random.usize(0..200_000)).map(|_| random.u8(..)).collect();
                outbox.push(&piece);
                expected.extend(piece);
                if random.bool() {
                    outbox.write_to(&mut out).unwrap();
                }
            }
            while !outbox.is_empty() {
                outbox.write_to(&mut out).unwrap();
            }
            assert!(out.0 == expected);
        }
    }

    #[test]
    fn single_bytes_share_their_chunks() {
        let mut outbox = Outbox::default();
        for _ in 0..1 << 20 {
            outbox.push(b"x");
        }
        let capacity: usize = outbox.chunks.iter().map(Vec::capacity).sum();
        assert!(capacity <= outbox.len() + CHUNK, "{capacity} bytes for {}", outbox.len());
        assert!(outbox.chunks.len() < 40, "{} chunks", outbox.chunks.len());
    }

    #[test]
    fn an_empty_outbox_owns_no_memory() {
        let mut outbox = Outbox::default();
        outbox.push(&[0; 300_000]);
        while !outbox.is_empty() {
            outbox.write_to(&mut io::sink()).unwrap();
        }
        assert_eq!(outbox.chunks.capacity(), 0);
    }
}
