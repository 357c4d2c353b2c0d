//! The bounded buffer of lines in front of standard output.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::sink::Sink;

/// Memory for lines while the reader stalls, in bytes. While it reads, one line may be longer.
pub(super) const MAX_HELD: usize = 4 << 20;

/// Memory beyond that for [reserved](Output::append_reserved) lines, in bytes: hundreds of them.
pub(super) const RESERVED: usize = 64 << 10;

/// Memory is taken and given back in blocks of this size: what a pipe holds by default (pipe(7)), so that a full one is
/// worth a write of its own.
const BLOCK: usize = 64 << 10;

/// How long to wait after an error that may pass, such as a full disk, before the next write.
const RETRY: Duration = Duration::from_secs(1);

/// How long after a flush lines wait for more, to be written together. Every write to a pipe wakes its reader: with one
/// write in each turn, that was more than half of the cost of logging.
const GATHERING: Duration = Duration::from_millis(5);

/// A bounded buffer of whole lines in front of a [`Sink`].
#[derive(Debug)]
pub(super) struct Output {
    sink: Sink,
    /// Whole lines. A line that is longer than a block has a longer one to itself.
    blocks: VecDeque<String>,
    /// How much of the first block has been written.
    written: usize,
    /// The capacity of all blocks.
    held: usize,
    /// An empty block, so that a server that logs little does not allocate.
    spare: String,
    /// Reserved lines that were appended beyond [`MAX_HELD`], in bytes.
    reserved: usize,
    /// Lines that were dropped and not reported yet.
    dropped: u64,
    dropped_total: u64,
    /// When to write again after an error.
    retry_at: Option<Instant>,
    flushed_at: Option<Instant>,
    /// Whether an event will tell when a stalled reader reads again.
    is_watched: bool,
    /// Whether the reader has stalled and that event has not come yet.
    is_stalled: bool,
}

impl Output {
    pub(super) fn new(sink: Sink) -> Self {
        Self {
            sink,
            blocks: VecDeque::new(),
            written: 0,
            held: 0,
            spare: String::new(),
            reserved: 0,
            dropped: 0,
            dropped_total: 0,
            retry_at: None,
            flushed_at: None,
            is_watched: false,
            is_stalled: false,
        }
    }

    pub(super) fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.sink.pollable()
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.sink.is_terminal()
    }

    /// When the next [`flush`](Self::flush) is due, unless an event comes first.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.retry_at {
            Some(at) => Some(at),
            None if self.is_stalled || self.blocks.is_empty() => None,
            None => self.flushed_at.map(|at| at + GATHERING),
        }
    }

    /// Whether the lines have waited long enough for more, or are enough for a write.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        (self.is_writable() && self.has_full_block()) || self.flushed_at.is_none_or(|at| at + GATHERING <= now)
    }

    pub(super) fn set_watched(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
    }

    /// Notes the event that tells that the reader reads again.
    pub(super) fn on_ready(&mut self) {
        self.is_stalled = false;
    }

    pub(super) fn dropped_total(&self) -> u64 {
        self.dropped_total
    }

    /// All memory for lines, in bytes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.held + self.spare.capacity()
    }

    /// Whether the reader has taken enough for many lines to have room again.
    pub(super) fn has_recovered(&self) -> bool {
        self.held <= MAX_HELD / 2
    }

    /// How many lines were dropped since the last call, if any.
    pub(super) fn take_dropped(&mut self) -> Option<u64> {
        Some(mem::take(&mut self.dropped)).filter(|lines| *lines > 0)
    }

    /// Appends the line that `compose` appends to the string it is given, about `estimated_len` bytes. If there is no
    /// room, the line is dropped and counted; `compose` is not even called if that is foreseeable.
    ///
    /// After a line has been dropped, all others are until [that is reported](Self::take_dropped), so that a slow
    /// reader finds one gap and its size instead of many.
    pub(super) fn append(&mut self, estimated_len: usize, compose: impl FnOnce(&mut String)) {
        // Lines that only wait for more are as good as written.
        let max_held = if self.is_writable() && !self.has_full_block() { usize::MAX } else { MAX_HELD };
        let needed = if self.fits_last_block(estimated_len) { 0 } else { estimated_len.max(BLOCK) };
        if self.dropped > 0 || needed > max_held.saturating_sub(self.held) {
            self.drop_line();
            return;
        }
        self.push(estimated_len, max_held, compose);
        if self.is_writable() && self.has_full_block() {
            // Otherwise a turn with many lines would hold them all, and stall a reader that keeps up.
            self.write(BLOCK);
        }
    }

    /// Appends a line even if there is no room for others. Report the lines that were dropped before it first, and ask
    /// [`has_reserve`](Self::has_reserve) if there may be many such lines.
    pub(super) fn append_reserved(&mut self, estimated_len: usize, compose: impl FnOnce(&mut String)) {
        let len = self.push(estimated_len, usize::MAX, compose);
        if self.held > MAX_HELD {
            self.reserved += len;
        }
    }

    /// Whether less than [`RESERVED`] bytes of reserved lines wait beyond [`MAX_HELD`].
    pub(super) fn has_reserve(&self) -> bool {
        self.reserved < RESERVED
    }

    /// Counts a line as dropped.
    pub(super) fn drop_line(&mut self) {
        if !self.is_closed() {
            self.dropped += 1;
            self.dropped_total += 1;
        }
    }

    /// Writes what standard output takes now, without waiting for it. If the reader is gone, logging ends. After any
    /// other error the lines are kept for another try.
    pub(super) fn flush(&mut self, now: Instant) {
        if self.blocks.is_empty() || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        self.is_stalled = false;
        self.flushed_at = Some(now);
        self.write(0);
        if self.has_recovered() {
            self.reserved = 0;
        }
    }

    /// Waits until all lines are written or standard output fails, but not beyond `deadline`.
    pub(super) fn finish(&mut self, deadline: Instant) {
        loop {
            let now = Instant::now();
            self.flush(now);
            if self.blocks.is_empty() || self.retry_at.is_some() || now >= deadline {
                return;
            }
            self.sink.wait(deadline - now);
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.sink, Sink::Closed)
    }

    fn is_writable(&self) -> bool {
        !self.is_stalled && self.retry_at.is_none()
    }

    fn has_full_block(&self) -> bool {
        self.held > BLOCK
    }

    fn fits_last_block(&self, len: usize) -> bool {
        self.blocks.back().is_some_and(|block| block.capacity() - block.len() >= len)
    }

    /// Appends a line, but drops it if more than `max_held` bytes are held then. Returns its length.
    fn push(&mut self, estimated_len: usize, max_held: usize, compose: impl FnOnce(&mut String)) -> usize {
        if self.is_closed() {
            return 0;
        }
        if !self.fits_last_block(estimated_len) {
            self.add_block(estimated_len);
        }
        let Some(block) = self.blocks.back_mut() else { return 0 };
        let (start, held_by_others) = (block.len(), self.held - block.capacity());
        compose(block);
        let is_too_long = block.len() > max_held.saturating_sub(held_by_others);
        if is_too_long {
            block.truncate(start);
        }
        let len = block.len() - start;
        // Escapes may have made a line, and its block, much longer than estimated.
        block.shrink_to(BLOCK);
        self.held = held_by_others + block.capacity();
        if is_too_long {
            self.drop_line();
        }
        len
    }

    fn add_block(&mut self, len: usize) {
        let mut block = mem::take(&mut self.spare);
        block.reserve_exact(len.max(BLOCK));
        self.held += block.capacity();
        self.blocks.push_back(block);
    }

    fn remove_first_block(&mut self) {
        let Some(mut block) = self.blocks.pop_front() else { return };
        self.held -= block.capacity();
        self.written = 0;
        if self.spare.capacity() == 0 && block.capacity() <= BLOCK {
            block.clear();
            self.spare = block;
        }
    }

    /// Writes until no more than `left` bytes are held, or standard output takes no more.
    fn write(&mut self, left: usize) {
        while self.held > left
            && let Some(block) = self.blocks.front()
        {
            if self.written == block.len() {
                self.remove_first_block();
                continue;
            }
            match self.sink.write(&block.as_bytes()[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.is_watched => {
                    self.is_stalled = true;
                    return;
                }
                Err(error) if is_final(&error) => self.close(),
                Err(_) => {
                    self.retry_at = Some(Instant::now() + RETRY);
                    return;
                }
            }
        }
    }

    fn close(&mut self) {
        self.sink = Sink::Closed;
        self.blocks = VecDeque::new();
        self.spare = String::new();
        (self.written, self.held) = (0, 0);
    }
}

/// Whether the reader of standard output is gone for good.
fn is_final(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::PIPE | Errno::BADF | Errno::IO | Errno::NXIO | Errno::CONNRESET | Errno::NOTCONN))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_line_without_room_is_not_composed() {
        let mut output = Output::new(Sink::Direct(File::create("/dev/full").expect("it")));
        while output.dropped_total() == 0 {
            output.append(10_000, |line| line.push_str(&"x".repeat(10_000)));
        }
        output.append(10, |_| panic!("after a line that was dropped"));
        assert_eq!(output.take_dropped(), Some(2));
        output.append(100_000, |_| panic!("longer than what is left"));
        assert_eq!(output.take_dropped(), Some(1));
        let mut closed = Output::new(Sink::Closed);
        closed.append(10, |_| panic!("without a reader"));
        assert_eq!(closed.dropped_total(), 0);
    }
}
