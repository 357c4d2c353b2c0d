//! What this server has asked of the log and has not seen in it yet.

use std::collections::VecDeque;

use crate::shared_log::{Change, MemberId, Op};

/// Bytes of operations that may be on their way. While there are more, the room reads from no member.
const MAX_BYTES: usize = 256 << 10;

/// What an operation counts beside its text, in bytes.
const OVERHEAD: usize = 64;

/// Operations on their way to the log and back, in the order in which they were asked for: the log applies them in this
/// order too.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    queue: VecDeque<Asked>,
    bytes: usize,
}

/// An operation that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) member: u64,
    pub(super) kind: Kind,
    /// The length of its text in bytes.
    pub(super) len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Join,
    Announce,
    Rename,
    Say,
    Whisper,
    Unread,
    Leave,
}

impl Outstanding {
    pub(super) fn push(&mut self, op: &Op) {
        let asked = Asked::of(op);
        self.bytes += asked.len + OVERHEAD;
        self.queue.push_back(asked);
    }

    /// Takes what a change that came from the log answers, and everything before it, which is lost: the log keeps the
    /// order. There is nothing if it answers none.
    pub(super) fn take(&mut self, change: &Change) -> impl Iterator<Item = Asked> {
        let found = key(change).and_then(|(member, kind)| {
            self.queue.iter().position(|asked| (asked.member, asked.kind) == (member, kind))
        });
        self.take_first(found.map_or(0, |at| at + 1))
    }

    /// Takes all but the last `count`.
    pub(super) fn take_all_but(&mut self, count: usize) -> impl Iterator<Item = Asked> {
        self.take_first(self.queue.len().saturating_sub(count))
    }

    fn take_first(&mut self, count: usize) -> impl Iterator<Item = Asked> {
        self.bytes -= self.queue.range(..count).map(|asked| asked.len + OVERHEAD).sum::<usize>();
        self.queue.drain(..count)
    }

    /// Forgets what was asked for a member that the log does not know.
    pub(super) fn forget(&mut self, member: u64) {
        self.queue.retain(|asked| asked.member != member);
        self.bytes = self.queue.iter().map(|asked| asked.len + OVERHEAD).sum();
    }

    /// Whether something is on its way that a member has said or asked for.
    pub(super) fn has_said(&self, member: u64) -> bool {
        let is_said = |asked: &Asked| matches!(asked.kind, Kind::Say | Kind::Whisper | Kind::Rename);
        self.queue.iter().any(|asked| asked.member == member && is_said(asked))
    }

    pub(super) fn contains(&self, member: u64, kind: Kind) -> bool {
        self.queue.iter().any(|asked| (asked.member, asked.kind) == (member, kind))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether there is as much as may be.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MAX_BYTES
    }
}

impl Asked {
    fn of(op: &Op) -> Self {
        let (member, kind, len) = match op {
            Op::Join { member } => (member, Kind::Join, 0),
            Op::Announce { member } => (member, Kind::Announce, 0),
            Op::Rename { member, .. } => (member, Kind::Rename, 0),
            Op::Say { member, text } => (member, Kind::Say, text.len()),
            Op::Whisper { member, text, .. } => (member, Kind::Whisper, text.len()),
            Op::Unread { member, .. } => (member, Kind::Unread, 0),
            Op::Leave { member, .. } => (member, Kind::Leave, 0),
        };
        Self { member: *member, kind, len }
    }

    /// Whether its member waits for the answer before it is read from again.
    pub(super) fn is_awaited(self) -> bool {
        matches!(self.kind, Kind::Join | Kind::Rename | Kind::Whisper)
    }
}

/// The member that a change is of, if it is of one.
pub(super) fn author(change: &Change) -> Option<MemberId> {
    match change {
        Change::Joined { member, .. }
        | Change::Announced { member }
        | Change::Renamed { member, .. }
        | Change::Taken { member, .. }
        | Change::Said { member, .. }
        | Change::Whispered { member, .. }
        | Change::Unread { member, .. }
        | Change::Left { member, .. } => Some(*member),
        Change::Entered { .. } | Change::Gone { .. } => None,
    }
}

/// Which operation of which member a change answers.
fn key(change: &Change) -> Option<(u64, Kind)> {
    let kind = match change {
        Change::Joined { .. } => Kind::Join,
        Change::Announced { .. } => Kind::Announce,
        Change::Renamed { .. } | Change::Taken { .. } => Kind::Rename,
        Change::Said { .. } => Kind::Say,
        Change::Whispered { .. } => Kind::Whisper,
        Change::Unread { .. } => Kind::Unread,
        Change::Left { .. } => Kind::Leave,
        Change::Entered { .. } | Change::Gone { .. } => return None,
    };
    Some((author(change)?.number, kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_log::ServerId;

    fn say(member: u64, len: usize) -> Op {
        Op::Say { member, text: vec![b'x'; len] }
    }

    fn said(number: u64) -> Change {
        Change::Said { member: MemberId { server: ServerId(1), number }, text: Vec::new() }
    }

    #[test]
    fn what_comes_back_answers_what_was_asked_first() {
        let mut outstanding = Outstanding::default();
        for (member, len) in [(1, 10), (2, 20), (1, 30)] {
            outstanding.push(&say(member, len));
        }
        let lengths = |taken: &mut dyn Iterator<Item = Asked>| taken.map(|asked| asked.len).collect::<Vec<_>>();
        assert_eq!(lengths(&mut outstanding.take(&said(1))), [10]);
        assert_eq!(outstanding.take(&said(3)).count(), 0);
        assert_eq!(lengths(&mut outstanding.take(&said(1))), [20, 30], "what is skipped is lost");
        assert!(outstanding.is_empty() && outstanding.bytes == 0);
    }

    #[test]
    fn it_is_full_at_its_limit_and_not_before() {
        let mut outstanding = Outstanding::default();
        outstanding.push(&say(1, MAX_BYTES - OVERHEAD - 1));
        assert!(!outstanding.is_full());
        outstanding.push(&Op::Join { member: 2 });
        assert!(outstanding.is_full());
        assert_eq!(outstanding.take_all_but(1).count(), 1);
        assert!(!outstanding.is_full());
    }
}
