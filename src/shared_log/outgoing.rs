//! The operations that are still to be appended, and the batch that is on its way.

use std::collections::VecDeque;

use super::Op;
use super::entry::packed_len;

/// The most that one entry holds, in packed bytes, unless a single line is longer.
const MAX_BATCH: usize = 64 << 10;

/// Operations in the order in which they happened. They are sent in batches, one at a time; a batch is sent again, with
/// the same number, until it is answered.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    waiting: VecDeque<Op>,
    batch: Option<Batch>,
    /// The number of the last batch that was answered.
    answered: u64,
    bytes: usize,
}

/// Operations that are appended as one entry.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) ops: Vec<Op>,
    /// Whether the entry has been read from the log, though the answer is still to come.
    was_read: bool,
}

impl Outgoing {
    pub(super) fn push(&mut self, op: Op) {
        self.bytes += packed_len(&op);
        self.waiting.push_back(op);
    }

    /// Packed bytes that are not answered yet, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something that a member has said is not answered yet.
    pub(super) fn has_text(&self) -> bool {
        let mut ops = self.batch.iter().flat_map(|batch| &batch.ops).chain(&self.waiting);
        ops.any(|op| matches!(op, Op::Say { .. } | Op::Whisper { .. }))
    }

    /// The number of the last batch that the log is known to have or to have had.
    pub(super) fn last_known(&self) -> u64 {
        self.batch.as_ref().filter(|batch| batch.was_read).map_or(self.answered, |batch| batch.number)
    }

    /// The batch to be sent, again or for the first time.
    pub(super) fn batch(&mut self) -> Option<&Batch> {
        if self.batch.is_none() && !self.waiting.is_empty() {
            let mut len = 0;
            let fits = |op: &&Op| {
                let before = len;
                len += packed_len(op);
                before == 0 || len <= MAX_BATCH
            };
            let count = self.waiting.iter().take_while(fits).count();
            let ops = self.waiting.drain(..count).collect();
            self.batch = Some(Batch { number: self.answered + 1, ops, was_read: false });
        }
        self.batch.as_ref()
    }

    /// The batch has been applied.
    pub(super) fn settle(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.answered = batch.number;
            self.bytes -= batch.ops.iter().map(packed_len).sum::<usize>();
        }
    }

    /// An own batch was read from the log.
    pub(super) fn note_read(&mut self, number: u64) {
        if let Some(batch) = self.batch.as_mut().filter(|batch| batch.number == number) {
            batch.was_read = true;
        }
    }

    /// The server has entered again, and `applied` is its last batch that the log knows. A batch that the log has or had is
    /// done: if Redis has lost it, this is announced. Returns how many operations are still to be appended.
    pub(super) fn resume(&mut self, applied: u64) -> usize {
        if self.batch.as_ref().is_some_and(|batch| batch.number <= applied || batch.was_read) {
            self.settle();
        }
        self.batch.as_ref().map_or(0, |batch| batch.ops.len()) + self.waiting.len()
    }
}
