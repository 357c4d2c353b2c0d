//! The log tells who is in the room: after this server has entered, and when another one has.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem;
use std::time::{Duration, Instant};

use super::changes::{LOST, settle, tell_together};
use super::outstanding::Kind;
use super::{Audience, GAP, Own, Shared, Stage};
use crate::room::delivery::Sender;
use crate::room::notice::Notice;
use crate::room::roster::Delivery;
use crate::shared_log::{MemberId, MemberRecord, Op, Position, ServerId};
use crate::transport::Stream;

/// How long servers have to enter again after the log has lost them: the lease that they had.
const LEASE: Duration = Duration::from_secs(10);

impl Shared {
    /// This server is in the room, for the first time or again: see
    /// [`LogEvent::Entered`](crate::shared_log::LogEvent::Entered).
    pub(super) fn enter<S: Stream>(
        &mut self,
        (top, records): (Position, &[MemberRecord]),
        pending: usize,
        is_gap: bool,
        sender: &mut Sender<'_, S>,
        now: Instant,
    ) {
        self.positions.skip_to(top);
        for asked in self.outstanding.take_all_but(pending + self.ops.len()) {
            settle(asked, &mut self.own, sender);
        }
        if !mem::replace(&mut self.has_entered, true) {
            for record in records {
                self.roster.set(record.member, &record.name, record.is_announced);
            }
            return;
        }
        if is_gap {
            sender.peers.feed.push(GAP.as_bytes());
        }
        let recorded: HashMap<MemberId, bool> =
            records.iter().map(|record| (record.member, record.is_announced)).collect();
        let is_missing = |member: &MemberId| member.server != self.server && !recorded.contains_key(member);
        let missing: BTreeSet<MemberId> = self.roster.ids().filter(is_missing).collect();
        let mut gone = missing.clone();
        if is_gap {
            // Their servers may come back, but not to names that others have.
            let holders: HashSet<MemberId> =
                records.iter().flat_map(|record| self.roster.holders(&record.name)).collect();
            gone.retain(|member| holders.contains(member));
            self.unconfirmed = missing.difference(&gone).copied().collect();
            self.confirm_by = (!self.unconfirmed.is_empty()).then(|| now + LEASE);
        }
        self.remove(&Vec::from_iter(gone), LOST, sender);
        self.take_records(records, "joined", sender);
        self.repair(&recorded, sender, now);
    }

    /// Another server is in the room, for the first time or again.
    pub(super) fn take_back<S: Stream>(
        &mut self,
        server: ServerId,
        records: &[MemberRecord],
        sender: &mut Sender<'_, S>,
    ) {
        let recorded: HashSet<MemberId> = records.iter().map(|record| record.member).collect();
        let is_gone = |member: &MemberId| member.server == server && !recorded.contains(member);
        let gone: Vec<MemberId> = self.roster.ids().filter(is_gone).collect();
        self.remove(&gone, LOST, sender);
        self.unconfirmed.retain(|member| !recorded.contains(member));
        for record in records {
            self.make_room(record.member, &record.name, sender);
        }
        self.take_records(records, "joined (their server is back)", sender);
    }

    /// The servers that have not been heard of since the log lost data are gone.
    pub(super) fn give_up_unconfirmed<S: Stream>(&mut self, sender: &mut Sender<'_, S>) {
        self.confirm_by = None;
        let gone: Vec<MemberId> = mem::take(&mut self.unconfirmed).into_iter().collect();
        self.remove(&gone, LOST, sender);
    }

    /// Gives the members their names, and tells of those that are new or changed.
    fn take_records<S: Stream>(&mut self, records: &[MemberRecord], how: &str, sender: &mut Sender<'_, S>) {
        let (mut renamed, mut joined) = (Vec::new(), Vec::new());
        for MemberRecord { member, name, is_announced } in records {
            let was_announced = self.roster.announced(*member).is_some();
            let old = self.roster.name(*member).filter(|old| *old != name).cloned();
            self.roster.set(*member, name, *is_announced || was_announced);
            if *is_announced && !was_announced {
                joined.push(&**name);
            }
            if let Some(old) = old {
                renamed.push((*member, old, &**name, was_announced));
            }
        }
        let Self { server, own, remote, .. } = self;
        let audience = &mut Audience { sender, server: *server, own, remote };
        while !renamed.is_empty() {
            // A name is given up before it is given away, unless they are swapped.
            let is_free = |to: &str| !renamed.iter().any(|(_, from, ..)| from == to);
            let at = renamed.iter().position(|(_, _, to, _)| is_free(to)).unwrap_or(0);
            let (member, from, to, was_announced) = renamed.remove(at);
            audience.answer(member, &format!("* your name was taken; you are now {to}\n"));
            if was_announced {
                audience.publish(member, Notice::Renamed { from: &from, to });
            }
        }
        if !joined.is_empty() {
            tell_together(&joined, how, sender);
        }
    }

    /// Asks the log once more for what it has lost of the members of this server. `recorded` are those that it knows, and
    /// whether they are announced.
    fn repair<S: Stream>(&mut self, recorded: &HashMap<MemberId, bool>, sender: &mut Sender<'_, S>, now: Instant) {
        let is_asked = |(_, own): &(&u64, &Own)| own.stage != Stage::Waiting;
        let mut numbers: Vec<u64> = self.own.iter().filter(is_asked).map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        for number in numbers {
            match recorded.get(&self.member(number)) {
                Some(is_announced) => self.repair_member(number, *is_announced, sender, now),
                None if self.outstanding.contains(number, Kind::Join) => {}
                None => self.lose(number, sender),
            }
        }
    }

    /// The log knows a member of this server, but perhaps not what was asked for it last.
    fn repair_member<S: Stream>(&mut self, number: u64, is_announced: bool, sender: &mut Sender<'_, S>, now: Instant) {
        let member = self.member(number);
        let Some(own) = self.own.get_mut(&number) else { return };
        let (is_here, is_new) = (own.is_here, own.stage == Stage::Joining);
        let is_asked = is_announced || self.outstanding.contains(number, Kind::Announce);
        let must_be_announced = mem::replace(&mut own.is_announced, is_asked) && !is_asked;
        if is_new && let Some(name) = self.roster.name(member).cloned() {
            self.roster.remove(member);
            self.welcome(number, name, sender, now);
        } else if must_be_announced {
            self.ask_to_announce(number, sender);
        }
        if !is_here && !self.outstanding.contains(number, Kind::Leave) {
            self.ask(Op::Leave { member: number, reason: None });
        }
    }

    /// The log does not know a member of this server, or not any more: it joins again.
    fn lose<S: Stream>(&mut self, number: u64, sender: &mut Sender<'_, S>) {
        self.outstanding.forget(number);
        self.roster.remove(self.member(number));
        let Some(own) = self.own.get_mut(&number) else { return };
        if !own.is_here {
            self.forget(number, sender.peers);
            return;
        }
        (own.stage, own.is_announced, own.is_waiting) = (Stage::Waiting, false, false);
        if let Some(member) = super::member(sender.peers, own.id) {
            member.keep_waiting();
        }
        self.newcomers.insert(number);
    }
}
