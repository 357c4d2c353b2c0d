//! Calls of the script: what is asked, and what follows from the answer.

use std::time::{Duration, Instant};

use super::channel::{Channel, Expected};
use super::{Engine, Gap, Last, Stage, earlier};
use crate::names::forms;
use crate::shared_log::entry::{decimal, pack, parse_record};
use crate::shared_log::resp::Reply;
use crate::shared_log::{LogEvent, MemberId, MemberRecord, Position, ServerId, Urgency};

/// The script, which does all that servers do to the log.
const SCRIPT: &str = include_str!("../script.lua");

/// The version of the data in Redis.
const VERSION: &str = "1";

/// The script's `KEYS`, after the prefix of the room.
const KEYS: [&str; 7] = ["meta", "log", "srv", "seq", "pos", "members", "names"];

/// How often a server gives a sign of life when nothing happens.
const BEAT: Duration = Duration::from_secs(1);

/// How long after the last answer while talkers wait for the members of other servers.
const SOON: Duration = Duration::from_millis(20);

/// The script on this connection.
#[derive(Debug)]
pub(super) struct Script {
    keys: Vec<Vec<u8>>,
    own: Vec<u8>,
    /// The name by which it is called, once Redis has loaded it.
    pub(super) hash: Option<Vec<u8>>,
}

impl Script {
    pub(super) fn new(room: &str, id: ServerId) -> Self {
        let keys = KEYS.iter().map(|key| key_of(room, key)).collect();
        Self { keys, own: id.to_string().into_bytes(), hash: None }
    }

    pub(super) fn log(&self) -> &[u8] {
        &self.keys[1]
    }

    pub(super) fn load(&mut self, channel: &mut Channel, now: Instant) {
        self.hash = None;
        channel.send(&["SCRIPT", "LOAD", SCRIPT], Expected::Script, now);
    }

    /// The words of a call, up to those that only this call has.
    fn call(&self, name: &str, run: u64) -> Option<Vec<Vec<u8>>> {
        let hash = self.hash.clone()?;
        let mut words = vec![b"EVALSHA".to_vec(), hash, decimal(self.keys.len() as u64)];
        words.extend_from_slice(&self.keys);
        words.extend([name.into(), VERSION.into(), self.own.clone(), decimal(run)]);
        Some(words)
    }
}

/// A key of a room. The braces keep all keys of a room together in a cluster.
fn key_of(room: &str, key: &str) -> Vec<u8> {
    format!("echo:{{{room}}}:{key}").into_bytes()
}

/// A call that is on its way.
#[derive(Debug)]
pub(super) struct Call {
    kind: Kind,
    pub(super) sent_at: Instant,
    /// The last entry that had been delivered then: the log has to have it.
    position: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Enter, with what is known to be missing.
    Enter(Option<Gap>),
    Apply,
    Beat,
    Bye,
}

impl Call {
    pub(super) fn is_enter(&self) -> bool {
        matches!(self.kind, Kind::Enter(_))
    }
}

impl Engine {
    /// Sends the next call, if there is one to be sent.
    pub(super) fn send_call(&mut self, now: Instant) {
        if !self.can_call() {
            return;
        }
        let Some(kind) = self.next_call(now) else { return };
        let words = match kind {
            Kind::Enter(gap) => self.words_to_enter(gap),
            Kind::Apply | Kind::Beat => self.words_to_apply(kind),
            Kind::Bye => self.script.call("bye", self.run),
        };
        let Some(words) = words else { return };
        self.calls.send(&words, Expected::Call, now);
        self.call = Some(Call { kind, sent_at: now, position: self.position().0 });
    }

    /// Whether the next [`turn`](Self::turn) will send a call that reports the [floor](Self::set_floor).
    pub fn reports_floor(&mut self, now: Instant) -> bool {
        self.can_call() && matches!(self.next_call(now), Some(Kind::Apply | Kind::Beat))
    }

    fn can_call(&self) -> bool {
        self.call.is_none() && self.script.hash.is_some() && self.calls.is_idle()
    }

    fn next_call(&mut self, now: Instant) -> Option<Kind> {
        match self.stage {
            _ if self.has_left => {}
            Stage::Out if self.is_leaving => self.has_left = true,
            // Without a gap, nothing may be read that comes after the members are listed.
            Stage::Out if self.gap.is_some() || self.last.is_none() || self.reads.is_idle() => {
                return Some(Kind::Enter(self.gap));
            }
            Stage::Behind(top) if self.position().0 >= top && self.reads.is_idle() => {
                return Some(Kind::Enter(None));
            }
            Stage::Out | Stage::Behind(_) => {}
            // The operations that follow an entry are to come behind what is read up to it. But nothing is read over new
            // connections before the script has answered, so it is to be asked whether the entry still holds.
            Stage::In if self.snapshot.is_some() => return (!self.calls.is_checked()).then_some(Kind::Beat),
            Stage::In if self.outgoing.batch().is_some() => return Some(Kind::Apply),
            Stage::In if self.is_leaving => return Some(Kind::Bye),
            Stage::In if self.beat_at() <= now => return Some(Kind::Beat),
            Stage::In => {}
        }
        None
    }

    /// When a call is due, though nothing happens.
    pub(super) fn next_call_at(&self) -> Option<Instant> {
        let due = if self.is_leaving { self.answered_at } else { self.beat_at() };
        let is_in = self.stage == Stage::In && self.snapshot.is_none() && !self.has_left;
        (is_in && self.can_call()).then_some(due)
    }

    fn beat_at(&self) -> Instant {
        self.answered_at
            + match self.urgency {
                Urgency::Relaxed => BEAT,
                Urgency::Soon => SOON,
                Urgency::Now => Duration::ZERO,
            }
    }

    /// The floor of this server, as the others are to know it.
    fn reported_floor(&self) -> u64 {
        self.floor.min(self.position().0 + 1)
    }

    fn words_to_enter(&mut self, gap: Option<Gap>) -> Option<Vec<Vec<u8>>> {
        self.run += 1;
        let mut words = self.script.call("enter", self.run)?;
        let random = format!("{:016x}", self.random.u64(..));
        let is_lost = if gap.is_some_and(Gap::is_loss) { "1" } else { "0" };
        words.extend([self.epoch.clone(), is_lost.into(), random.into(), decimal(self.outgoing.last_known())]);
        // After a gap, what the members have not taken is of no concern to the others.
        words.push(if gap.is_some() || self.last.is_none() { Vec::new() } else { decimal(self.reported_floor()) });
        for (number, own) in &self.own {
            words.extend([decimal(*number), if own.is_announced { "1" } else { "0" }.into(), own.name.clone().into()]);
            words.extend(forms(&own.name).map(String::into_bytes));
        }
        Some(words)
    }

    fn words_to_apply(&mut self, kind: Kind) -> Option<Vec<Vec<u8>>> {
        let floor = self.reported_floor();
        let mut words = self.script.call("apply", self.run)?;
        let batch = if kind == Kind::Apply { self.outgoing.batch() } else { None };
        words.extend([self.epoch.clone(), decimal(batch.map_or(0, |batch| batch.number)), decimal(floor)]);
        if let Some(batch) = batch {
            pack(&batch.ops, &mut words);
        }
        Some(words)
    }

    pub(super) fn call_answered(&mut self, reply: &Reply<'_>, now: Instant) {
        self.answered_at = now;
        self.calls.set_checked();
        let (Some(call), Some([verdict, values @ ..])) = (self.call.take(), reply.list()) else {
            self.fail("its answer to the script is unknown".to_owned(), now);
            return;
        };
        match (verdict.text().unwrap_or_default(), values) {
            (b"ok", [top, _, floor]) => self.applied(&call, top.number(), floor, now),
            (b"entered", values) => self.entered(&call, values, now),
            (b"epoch", _) => self.note_gap(Gap::OtherEpoch, now),
            (b"gap", _) => self.note_gap(Gap::Batch, now),
            (b"unknown", [top]) => self.behind(&call, top.number().unwrap_or(0), now),
            (b"stale", _) => self.stage = Stage::Out,
            (b"bye", _) => self.has_left = true,
            (b"malformed", _) => {
                self.note_gap(Gap::Data, now);
                self.fail(Gap::Data.to_string(), now);
            }
            (b"version", _) => self.fail("servers of another version use this room".to_owned(), now),
            _ => self.fail("its answer to the script is unknown".to_owned(), now),
        }
    }

    fn applied(&mut self, call: &Call, top: Option<u64>, floor: &Reply<'_>, now: Instant) {
        let top = top.unwrap_or(0);
        if top < call.position {
            self.note_gap(Gap::Top, now);
            return;
        }
        self.top = top;
        if call.kind == Kind::Apply {
            self.outgoing.settle();
        }
        self.tell_floor(floor);
    }

    /// The lease has ended: what has been said since is read first.
    fn behind(&mut self, call: &Call, top: u64, now: Instant) {
        if top < call.position {
            self.note_gap(Gap::Top, now);
        } else if self.gap.is_none() {
            self.stage = Stage::Behind(top);
            // A read that brings nothing is not to be repeated over and over: it says that the log lost its end.
            self.top = top;
        }
    }

    fn entered(&mut self, call: &Call, values: &[Reply<'_>], now: Instant) {
        let Kind::Enter(told) = call.kind else { return };
        let [epoch, top, applied, floor, members, earlier] = values else {
            self.fail("its answer to the script is unknown".to_owned(), now);
            return;
        };
        let top = top.number().filter(|top| *top > 0);
        let (Some(epoch), Some(top), Some(applied)) = (epoch.text(), top, applied.number()) else {
            self.fail("its answer to the script is unknown".to_owned(), now);
            return;
        };
        self.epoch = epoch.to_vec();
        if self.gap.is_some_and(Gap::is_loss) && !told.is_some_and(Gap::is_loss) {
            // Worse was noticed meanwhile.
            return;
        }
        let mut records: Vec<MemberRecord> =
            members.list().unwrap_or_default().chunks(2).filter_map(|pair| record_of(pair)).collect();
        records.sort_unstable_by_key(|record| record.member);
        let gap = self.gap.take();
        let pending = self.outgoing.resume(applied);
        self.stage = Stage::In;
        self.top = top;
        if gap.is_none() && self.last.is_some() {
            self.snapshot = Some((Position(top), records, pending));
        } else {
            let batch = format!("e{}", self.run).into_bytes();
            self.last = Some(Last { position: top, server: self.id.to_string().into_bytes(), batch });
            self.floor = top + 1;
            let entries = earlier.list().unwrap_or_default();
            let said = earlier::said(entries, &records, |server, batch| self.note_earlier_batch(server, batch));
            let (before, behind) = match gap {
                None => (Some(LogEvent::Earlier(said)), None),
                Some(_) => (None, Some(LogEvent::Missed(said))),
            };
            self.events.extend(before);
            self.tell_entered(Position(top), records, pending, gap.is_some());
            self.events.extend(behind);
        }
        self.others_floor = None;
        self.tell_floor(floor);
    }

    pub(super) fn tell_entered(&mut self, top: Position, members: Vec<MemberRecord>, pending: usize, is_gap: bool) {
        let own = |record: &&MemberRecord| record.member.server == self.id;
        self.own = members.iter().filter(own).map(|record| (record.member.number, record.into())).collect();
        self.events.push_back(LogEvent::Entered { top, members, pending, is_gap });
    }

    fn tell_floor(&mut self, floor: &Reply<'_>) {
        // Where there is no other server, nobody has to be waited for.
        let floor = Position(floor.number().unwrap_or(u64::MAX));
        if self.others_floor.replace(floor) != Some(floor) {
            self.events.push_back(LogEvent::Floor(floor));
        }
    }

    /// Whether this is a member of this server.
    pub(super) fn is_own(&self, member: MemberId) -> bool {
        member.server == self.id
    }
}

fn record_of(pair: &[Reply<'_>]) -> Option<MemberRecord> {
    let [id, record] = pair else { return None };
    parse_record(id.text()?, record.text()?)
}
