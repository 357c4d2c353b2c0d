//! A model of the log: what the script in the real one does, with nothing that could fail.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sockets::shared_log::{Change, MemberId, MemberRecord, Op, Position, ServerId};

/// How long a server is in the room after it was last heard of.
pub(super) const LEASE: Duration = Duration::from_secs(10);

/// The log, which may be copied and put back: then it has lost what came since.
#[derive(Clone, Default)]
pub(super) struct Log {
    /// The position of the first entry that is kept, less one.
    trimmed: u64,
    entries: Vec<Entry>,
    pub(super) records: BTreeMap<MemberId, MemberRecord>,
    servers: BTreeMap<ServerId, Server>,
    /// The batches that were applied.
    batches: BTreeSet<(ServerId, u64)>,
    newest: u64,
}

#[derive(Clone)]
pub(super) struct Entry {
    /// No two entries have the same, also not after a loss.
    pub(super) serial: u64,
    /// The server and the number of the batch.
    pub(super) batch: Option<(ServerId, u64)>,
    pub(super) changes: Vec<Change>,
}

#[derive(Clone)]
struct Server {
    lease: Instant,
    floor: Position,
    /// The number of its last batch.
    last: u64,
}

impl Log {
    pub(super) fn top(&self) -> Position {
        Position(self.trimmed + self.entries.len() as u64)
    }

    /// The entry at a position, if it is there.
    pub(super) fn entry(&self, position: Position) -> Option<&Entry> {
        self.entries.get(position.0.checked_sub(self.trimmed + 1)? as usize)
    }

    /// Whether the entry was there and is not any more.
    pub(super) fn is_trimmed(&self, position: Position) -> bool {
        position.0 <= self.trimmed
    }

    pub(super) fn trim(&mut self, kept: usize) {
        let count = self.entries.len().saturating_sub(kept);
        self.entries.drain(..count);
        self.trimmed += count as u64;
    }

    pub(super) fn has_applied(&self, server: ServerId, batch: u64) -> bool {
        self.batches.contains(&(server, batch))
    }

    /// The last batch of a server that is in the room.
    pub(super) fn last_batch(&self, server: ServerId) -> Option<u64> {
        self.servers.get(&server).map(|server| server.last)
    }

    /// The lowest floor of the other servers.
    pub(super) fn floor_of_others(&self, server: ServerId) -> Position {
        let others = self.servers.iter().filter(|(id, _)| **id != server);
        others.map(|(_, other)| other.floor).min().unwrap_or(Position(u64::MAX))
    }

    /// A server enters with its members, whose last batch was this one. Returns all members.
    pub(super) fn enter(
        &mut self,
        (server, last): (ServerId, u64),
        own: &[MemberRecord],
        now: Instant,
        serial: &mut u64,
    ) -> Vec<MemberRecord> {
        self.records.retain(|member, _| member.server != server);
        let mut records = Vec::new();
        for record in own {
            let name = if self.is_free(record.member, &record.name) { record.name.clone() } else { self.next_name() };
            let record = MemberRecord { name, ..record.clone() };
            self.records.insert(record.member, record.clone());
            records.push(record);
        }
        self.push(None, vec![Change::Entered { server, members: records }], serial);
        let floor = Position(self.top().0 + 1);
        self.servers.insert(server, Server { lease: now + LEASE, floor, last });
        self.records.values().cloned().collect()
    }

    /// Applies a batch of a server that is in the room, once.
    pub(super) fn apply(&mut self, server: ServerId, batch: u64, ops: &[Op], serial: &mut u64) {
        if !self.batches.insert((server, batch)) {
            return;
        }
        if let Some(server) = self.servers.get_mut(&server) {
            assert_eq!(server.last + 1, batch, "a batch is missing");
            server.last = batch;
        }
        let changes: Vec<Change> = ops.iter().filter_map(|op| self.apply_op(server, op)).collect();
        self.push(Some((server, batch)), changes, serial);
    }

    /// A server is still there, and its members have taken everything before `floor`. Those whose lease is over leave.
    pub(super) fn beat(&mut self, server: ServerId, floor: Position, now: Instant, serial: &mut u64) {
        if let Some(server) = self.servers.get_mut(&server) {
            (server.lease, server.floor) = (now + LEASE, floor);
        }
        let is_over = |server: &Server| server.lease <= now;
        let gone: Vec<ServerId> =
            self.servers.iter().filter(|(_, server)| is_over(server)).map(|(id, _)| *id).collect();
        for server in gone {
            self.remove(server, true, serial);
        }
    }

    pub(super) fn remove(&mut self, server: ServerId, is_lost: bool, serial: &mut u64) {
        if self.servers.remove(&server).is_some() {
            self.records.retain(|member, _| member.server != server);
            self.push(None, vec![Change::Gone { server, is_lost }], serial);
        }
    }

    /// Bytes that were said.
    pub(super) fn said(&self) -> usize {
        let said = |change: &Change| if let Change::Said { text, .. } = change { text.len() } else { 0 };
        self.entries.iter().flat_map(|entry| &entry.changes).map(said).sum()
    }

    /// All names, in small letters.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.records.values().map(|record| record.name.to_lowercase()).collect()
    }

    /// The names of the members of which all have heard.
    pub(super) fn announced(&self) -> BTreeSet<String> {
        self.records.values().filter(|record| record.is_announced).map(|record| record.name.clone()).collect()
    }

    fn push(&mut self, batch: Option<(ServerId, u64)>, changes: Vec<Change>, serial: &mut u64) {
        *serial += 1;
        self.entries.push(Entry { serial: *serial, batch, changes });
    }

    fn apply_op(&mut self, server: ServerId, op: &Op) -> Option<Change> {
        let id = |number: &u64| MemberId { server, number: *number };
        if let Op::Join { member } = op {
            let (member, name) = (id(member), self.next_name());
            self.records.insert(member, MemberRecord { member, name: name.clone(), is_announced: false });
            return Some(Change::Joined { member, name });
        }
        let (Op::Announce { member }
        | Op::Rename { member, .. }
        | Op::Say { member, .. }
        | Op::Whisper { member, .. }
        | Op::Unread { member, .. }
        | Op::Leave { member, .. }
        | Op::Join { member }) = op;
        let member = id(member);
        if let Op::Rename { name, .. } = op
            && !self.is_free(member, name)
        {
            return self.records.contains_key(&member).then(|| Change::Taken { member, name: name.clone() });
        }
        let record = self.records.get_mut(&member)?;
        Some(match op {
            Op::Join { .. } => return None,
            Op::Announce { .. } => {
                record.is_announced = true;
                Change::Announced { member }
            }
            Op::Rename { name, .. } => {
                (record.name, record.is_announced) = (name.clone(), true);
                Change::Renamed { member, name: name.clone() }
            }
            Op::Say { text, .. } => Change::Said { member, text: text.clone() },
            Op::Whisper { to, text, .. } => Change::Whispered { member, to: *to, text: text.clone() },
            Op::Unread { to, .. } => Change::Unread { member, to: *to },
            Op::Leave { reason, .. } => {
                self.records.remove(&member);
                Change::Left { member, reason: reason.clone() }
            }
        })
    }

    fn is_free(&self, member: MemberId, name: &str) -> bool {
        let is_same = |record: &&MemberRecord| record.member != member && record.name.eq_ignore_ascii_case(name);
        !self.records.values().any(|record| is_same(&record))
    }

    fn next_name(&mut self) -> String {
        loop {
            self.newest += 1;
            let name = format!("user{}", self.newest);
            if !self.records.values().any(|record| record.name == name) {
                return name;
            }
        }
    }
}
