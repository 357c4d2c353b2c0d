//! How one server gets to the log and back: what the engine between the room and the real log does.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use fastrand::Rng;
use sockets::shared_log::{Change, LogEvent, MemberRecord, Op, Position, ServerId, Urgency};

use super::log::{Entry, Log};

/// After this time without the log the members are told.
const AWAY_AFTER: Duration = Duration::from_secs(1);

/// How often a server shows that it is there.
const BEAT: Duration = Duration::from_secs(1);

/// How often it does while its talkers wait.
const SOON: Duration = Duration::from_millis(20);

/// How many entries come at once, at most.
const AT_ONCE: usize = 64;

/// Bytes of text in an entry, unless it is a single line.
const ENTRY: usize = 64 << 10;

pub(super) struct Link {
    pub(super) server: ServerId,
    /// The last entry that was delivered, and its serial.
    delivered: Position,
    serial: Option<u64>,
    queue: VecDeque<Op>,
    /// The batch that may have been applied.
    batch: Option<(u64, Vec<Op>)>,
    batches: u64,
    /// The last batch that was applied, as far as is known.
    acknowledged: u64,
    has_entered: bool,
    /// The newest batch of each server that was delivered: after a loss, what was said in it is not said again.
    newest: BTreeMap<ServerId, u64>,
    /// Its own members, as far as entries have told.
    own: BTreeMap<u64, MemberRecord>,
    /// Since when the log cannot be reached.
    cut_since: Option<Instant>,
    is_away: bool,
    /// Whether calls are lost now and then.
    pub(super) is_reliable: bool,
    /// Since when everything has been well.
    pub(super) well_since: Instant,
    floor: Option<Position>,
    beat_at: Instant,
}

impl Link {
    pub(super) fn new(server: ServerId, now: Instant) -> Self {
        Self {
            server,
            delivered: Position(0),
            serial: None,
            queue: VecDeque::new(),
            batch: None,
            batches: 0,
            acknowledged: 0,
            has_entered: false,
            newest: BTreeMap::new(),
            own: BTreeMap::new(),
            cut_since: None,
            is_away: false,
            is_reliable: false,
            well_since: now,
            floor: None,
            beat_at: now,
        }
    }

    pub(super) fn cut(&mut self, now: Instant) {
        self.cut_since.get_or_insert(now);
    }

    pub(super) fn mend(&mut self) {
        self.cut_since = None;
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut_since.is_some()
    }

    pub(super) fn push(&mut self, ops: Vec<Op>) {
        self.queue.extend(ops);
    }

    /// Bytes of operations that have not been applied, as far as is known.
    pub(super) fn pending(&self) -> usize {
        self.queue.iter().chain(self.batch.iter().flat_map(|(_, ops)| ops)).map(text_len).sum()
    }

    pub(super) fn is_idle(&self, log: &Log) -> bool {
        self.has_entered
            && !self.is_away
            && self.queue.is_empty()
            && self.batch.is_none()
            && self.delivered == log.top()
            && self.has_read_back(log)
            && log.last_batch(self.server) == Some(self.acknowledged)
    }

    fn has_read_back(&self, log: &Log) -> bool {
        log.entry(self.delivered).map(|entry| entry.serial) == self.serial && self.serial.is_some()
    }

    /// One exchange with the log. `floor` asks the hub.
    pub(super) fn step(
        &mut self,
        log: &mut Log,
        serial: &mut u64,
        now: Instant,
        random: &mut Rng,
        (urgency, floor): (Urgency, &mut dyn FnMut() -> Position),
    ) -> Vec<LogEvent> {
        let mut events = Vec::new();
        if let Some(since) = self.cut_since {
            self.well_since = now;
            if now >= since + AWAY_AFTER && !self.is_away {
                self.is_away = true;
                events.push(LogEvent::Away);
            }
            return events;
        }
        if !self.has_entered || !self.has_read_back(log) || log.is_trimmed(Position(self.delivered.0 + 1)) {
            let is_gap = self.has_entered;
            self.enter(log, serial, now, is_gap, &mut events);
        }
        self.read(log, random, &mut events);
        match log.last_batch(self.server) {
            None => {
                while self.delivered < log.top() {
                    self.read(log, random, &mut events);
                }
                self.enter(log, serial, now, false, &mut events);
            }
            Some(last) if last < self.acknowledged => self.enter(log, serial, now, true, &mut events),
            Some(_) => {}
        }
        self.write(log, serial, now, random, (urgency, floor));
        let lowest = log.floor_of_others(self.server);
        if self.floor.replace(lowest) != Some(lowest) {
            events.push(LogEvent::Floor(lowest));
        }
        if std::mem::take(&mut self.is_away) {
            events.push(LogEvent::Back);
        }
        events
    }

    fn enter(&mut self, log: &mut Log, serial: &mut u64, now: Instant, is_gap: bool, events: &mut Vec<LogEvent>) {
        self.well_since = now;
        self.has_entered = true;
        if self.batch.as_ref().is_some_and(|(number, _)| log.has_applied(self.server, *number)) {
            self.batch = None;
        }
        let own: Vec<MemberRecord> = self.own.values().cloned().collect();
        self.acknowledged = self.batch.as_ref().map_or(self.batches, |(number, _)| number - 1);
        let members = log.enter((self.server, self.acknowledged), &own, now, serial);
        for record in members.iter().filter(|record| record.member.server == self.server) {
            self.own.insert(record.member.number, record.clone());
        }
        (self.delivered, self.serial) = (log.top(), log.entry(log.top()).map(|entry| entry.serial));
        let pending = self.queue.len() + self.batch.as_ref().map_or(0, |(_, ops)| ops.len());
        events.push(LogEvent::Entered { top: self.delivered, members, pending, is_gap });
    }

    fn read(&mut self, log: &Log, random: &mut Rng, events: &mut Vec<LogEvent>) {
        for _ in 0..random.usize(..=AT_ONCE) {
            let position = Position(self.delivered.0 + 1);
            let Some(entry) = log.entry(position) else { return };
            self.note(entry);
            (self.delivered, self.serial) = (position, Some(entry.serial));
            let mut changes = entry.changes.clone();
            if let Some((server, number)) = entry.batch {
                let newest = self.newest.entry(server).or_default();
                if number <= *newest {
                    let is_state = |change: &Change| {
                        !matches!(change, Change::Said { .. } | Change::Whispered { .. } | Change::Unread { .. })
                    };
                    changes.retain(is_state);
                }
                *newest = number.max(*newest);
            }
            events.push(LogEvent::Entry { position, changes });
        }
    }

    fn note(&mut self, entry: &Entry) {
        if let (Some((server, number)), Some((own, _))) = (entry.batch, &self.batch)
            && (server, number) == (self.server, *own)
        {
            self.acknowledged = number;
            self.batch = None;
        }
        for change in &entry.changes {
            match change {
                Change::Joined { member, name } if member.server == self.server => {
                    let record = MemberRecord { member: *member, name: name.clone(), is_announced: false };
                    self.own.insert(member.number, record);
                }
                Change::Announced { member } if member.server == self.server => {
                    self.own.get_mut(&member.number).expect("it has joined").is_announced = true;
                }
                Change::Renamed { member, name } if member.server == self.server => {
                    let record = self.own.get_mut(&member.number).expect("it has joined");
                    (record.name, record.is_announced) = (name.clone(), true);
                }
                Change::Left { member, .. } if member.server == self.server => {
                    self.own.remove(&member.number);
                }
                _ => {}
            }
        }
    }

    fn write(
        &mut self,
        log: &mut Log,
        serial: &mut u64,
        now: Instant,
        random: &mut Rng,
        (urgency, floor): (Urgency, &mut dyn FnMut() -> Position),
    ) {
        let is_due = match urgency {
            Urgency::Now => true,
            Urgency::Soon => now >= self.beat_at + SOON,
            Urgency::Relaxed => now >= self.beat_at + BEAT,
        };
        if is_due {
            log.beat(self.server, floor(), now, serial);
            self.beat_at = now;
        }
        if self.batch.is_none() && !self.queue.is_empty() {
            self.batches += 1;
            let most = if random.bool() { self.queue.len() } else { random.usize(1..=self.queue.len()) };
            let mut len = 0;
            let fits = |op: &&Op| {
                len += text_len(op);
                len <= ENTRY
            };
            let count = self.queue.iter().take(most).take_while(fits).count().max(1);
            self.batch = Some((self.batches, self.queue.drain(..count).collect()));
        }
        if let Some((number, ops)) = &self.batch {
            // A call may be lost before it is done, or its reply after that.
            let mut is_lost = || !self.is_reliable && random.u8(..16) == 0;
            if is_lost() {
                return self.cut(now);
            }
            log.apply(self.server, *number, ops, serial);
            if is_lost() {
                return self.cut(now);
            }
            self.acknowledged = *number;
            self.batch = None;
        }
    }
}

fn text_len(op: &Op) -> usize {
    match op {
        Op::Say { text, .. } | Op::Whisper { text, .. } => text.len(),
        _ => 0,
    }
}
