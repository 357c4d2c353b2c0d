//! Reading the log: each entry once, in order, and none that is missing goes unnoticed.

use std::time::{Duration, Instant};

use super::channel::Expected;
use super::{Engine, Gap, Last, Own, Stage};
use crate::shared_log::entry::{decimal, parse_server, unpack};
use crate::shared_log::resp::Reply;
use crate::shared_log::{Change, LogEvent, MemberRecord, Position, ServerId};

/// How long a read waits for the next entry.
pub(super) const BLOCK: Duration = Duration::from_secs(1);

/// How many entries a read brings at most.
pub(super) const COUNT: usize = 64;

/// How many bytes a read is meant to bring at most.
const MAX_READ: usize = 4 << 20;

/// How many servers' batches are remembered.
const MAX_SERVERS: usize = 4096;

/// How many of the last batches are remembered: more than the script tells of what was said earlier, twice.
const MAX_RECENT: usize = 128;

/// A read that is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// Whether the first entry is to be the one that was delivered last.
    is_check: bool,
    /// Whether the log was known then to have entries that were not delivered yet.
    has_more: bool,
}

/// An entry as Redis returns it.
struct Entry<'a> {
    position: u64,
    server: &'a [u8],
    batch: &'a [u8],
    changes: &'a [u8],
}

impl<'a> Entry<'a> {
    fn of(reply: &Reply<'a>) -> Option<Self> {
        let [id, fields] = reply.list()? else { return None };
        let [_, server, _, batch, _, changes] = fields.list()? else { return None };
        let position = str::from_utf8(id.text()?).ok()?.strip_suffix("-0")?.parse().ok()?;
        Some(Self { position, server: server.text()?, batch: batch.text()?, changes: changes.text()? })
    }

    fn is(&self, last: &Last) -> bool {
        (self.position, self.server, self.batch) == (last.position, &*last.server, &*last.batch)
    }
}

impl From<&MemberRecord> for Own {
    fn from(record: &MemberRecord) -> Self {
        Self { name: record.name.clone(), is_announced: record.is_announced }
    }
}

impl Engine {
    /// Asks for the next entries, if they are wanted now.
    pub(super) fn send_read(&mut self, now: Instant) {
        let Some(last) = &self.last else { return };
        let is_wanted = match self.stage {
            Stage::Out => false,
            Stage::Behind(top) => last.position < top,
            Stage::In => true,
        };
        // The log is read once the script has answered: then nothing is heard before it is told that all is well.
        let is_early = !self.calls.is_checked();
        let is_entering = self.call.as_ref().is_some_and(|call| call.is_enter());
        if !is_wanted || is_early || is_entering || self.gap.is_some() || !self.reads.is_idle() {
            return;
        }
        let is_check = !self.reads.is_checked();
        let has_more = self.top > last.position;
        let from = format!("{}-0", last.position - u64::from(is_check)).into_bytes();
        let mut words = vec![b"XREAD".to_vec(), b"COUNT".to_vec(), decimal(self.read_count as u64)];
        if !is_check && self.stage == Stage::In {
            words.extend([b"BLOCK".to_vec(), decimal(BLOCK.as_millis() as u64)]);
        }
        words.extend([b"STREAMS".to_vec(), self.script.log().to_vec(), from]);
        self.reads.send(&words, Expected::Read(Read { is_check, has_more }), now);
    }

    pub(super) fn read_answered(&mut self, read: &Read, reply: &Reply<'_>, now: Instant) {
        let Some(mut entries) = entries_of(reply) else {
            self.fail("its answer to XREAD is unknown".to_owned(), now);
            return;
        };
        let longest = entries.iter().flatten().map(|entry| entry.changes.len()).max().unwrap_or(0);
        self.read_count = (MAX_READ / longest.max(1)).clamp(1, COUNT);
        if read.is_check {
            if let Err(gap) = self.check(entries.first().and_then(Option::as_ref)) {
                self.note_gap(gap, now);
                return;
            }
            self.reads.set_checked();
            self.note_contact(now);
            entries.remove(0);
        } else if entries.is_empty() && read.has_more {
            // This connection leads to a Redis that does not have what the other one has.
            self.fail("its log stands still".to_owned(), now);
            return;
        }
        for entry in entries {
            if let Err(gap) = entry.ok_or(Gap::Broken).and_then(|entry| self.deliver(&entry)) {
                self.note_gap(gap, now);
                return;
            }
        }
    }

    /// Whether the log still has the entry that was delivered last.
    fn check(&self, first: Option<&Entry<'_>>) -> Result<(), Gap> {
        let Some(last) = &self.last else { return Ok(()) };
        match first {
            Some(entry) if entry.is(last) => Ok(()),
            Some(entry) if entry.position > last.position => Err(Gap::Trimmed),
            _ => Err(Gap::Entry),
        }
    }

    fn deliver(&mut self, entry: &Entry<'_>) -> Result<(), Gap> {
        let expected = self.position().0 + 1;
        if entry.position != expected {
            return Err(if entry.position > expected { Gap::Trimmed } else { Gap::Entry });
        }
        let server = parse_server(entry.server).ok_or(Gap::Broken)?;
        let (mut changes, is_whole) = unpack(entry.changes, server);
        if self.note_batch(server, entry.batch) {
            changes.retain(|change| !is_text(change));
        }
        changes.iter().for_each(|change| self.follow(change));
        let position = Position(entry.position);
        self.last = Some(Last { position: position.0, server: entry.server.into(), batch: entry.batch.into() });
        self.top = self.top.max(position.0);
        self.events.push_back(LogEvent::Entry { position, changes });
        if self.snapshot.as_ref().is_some_and(|(top, ..)| *top == position)
            && let Some((top, members, pending)) = self.snapshot.take()
        {
            self.tell_entered(top, members, pending, false);
        }
        if is_whole { Ok(()) } else { Err(Gap::Broken) }
    }

    /// Notes that a batch is delivered. Returns whether it has been before, as may happen after a loss of data: then its
    /// server did not learn that the log had it. It can only be the last of that server.
    fn note_batch(&mut self, server: ServerId, batch: &[u8]) -> bool {
        let Some(number) = batch_number(batch) else { return false };
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((server, number));
        if server == self.id {
            self.outgoing.note_read(number);
        }
        if self.batches.len() >= MAX_SERVERS {
            self.batches.clear();
        }
        self.batches.insert(server, number) == Some(number)
    }

    /// Notes a batch that is delivered with the answer to entering, not by a read: one of the last of a log that lost data.
    /// Returns whether it has been before: a read that was on its way then may have brought what others said after the loss.
    pub(super) fn note_earlier_batch(&mut self, server: ServerId, batch: &[u8]) -> bool {
        let is_recent = batch_number(batch).is_some_and(|number| self.recent.contains(&(server, number)));
        self.note_batch(server, batch) || is_recent
    }

    /// Keeps the list of the own members.
    fn follow(&mut self, change: &Change) {
        match change {
            Change::Joined { member, name } if self.is_own(*member) => {
                self.own.insert(member.number, Own { name: name.clone(), is_announced: false });
            }
            Change::Announced { member } if self.is_own(*member) => {
                if let Some(own) = self.own.get_mut(&member.number) {
                    own.is_announced = true;
                }
            }
            Change::Renamed { member, name } if self.is_own(*member) => {
                self.own.insert(member.number, Own { name: name.clone(), is_announced: true });
            }
            Change::Left { member, .. } if self.is_own(*member) => {
                self.own.remove(&member.number);
            }
            _ => {}
        }
    }
}

fn batch_number(batch: &[u8]) -> Option<u64> {
    str::from_utf8(batch).ok()?.parse().ok()
}

fn is_text(change: &Change) -> bool {
    matches!(change, Change::Said { .. } | Change::Whispered { .. } | Change::Unread { .. })
}

/// The entries of the only stream that was read, as far as they are what this version writes.
fn entries_of<'a>(reply: &Reply<'a>) -> Option<Vec<Option<Entry<'a>>>> {
    match reply {
        Reply::Nothing => Some(Vec::new()),
        _ => {
            let [stream] = reply.list()? else { return None };
            let [_, entries] = stream.list()? else { return None };
            Some(entries.list()?.iter().map(Entry::of).collect())
        }
    }
}
