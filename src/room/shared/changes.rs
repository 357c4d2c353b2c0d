//! What the log says takes effect.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::time::Instant;

use super::outstanding::{Asked, Kind, author};
use super::{AWAY, Audience, BACK, Own, Shared, Stage, member, release};
use crate::room::delivery::Sender;
use crate::room::notice::Notice;
use crate::room::roster::Delivery;
use crate::shared_log::{Change, LogEvent, MemberId, Op, Position, ServerId};
use crate::transport::Stream;

/// How many names a line shows of the members that leave or come together, before it only counts the rest.
const SHOWN: usize = 3;

/// Why members leave whose server is not heard of any more.
pub(super) const LOST: &str = "their server is gone";

impl Shared {
    pub(super) fn apply<S: Stream>(&mut self, event: LogEvent, sender: &mut Sender<'_, S>, now: Instant) {
        match event {
            LogEvent::Earlier(lines) => {
                for (name, text) in &lines {
                    sender.remember(&Notice::Said { name, text });
                }
            }
            LogEvent::Entered { top, members, pending, is_gap } => {
                self.enter((top, &members), pending, is_gap, sender, now);
            }
            LogEvent::Missed(lines) => {
                for (name, text) in &lines {
                    sender.append(&Notice::Said { name, text });
                }
            }
            LogEvent::Entry { position, changes } => self.take_entry(position, changes, sender, now),
            LogEvent::Floor(position) => self.others = position,
            LogEvent::Away => {
                self.is_away = true;
                self.tell_all(AWAY, sender);
            }
            LogEvent::Back => {
                self.is_away = false;
                self.tell_all(BACK, sender);
            }
        }
    }

    fn take_entry<S: Stream>(
        &mut self,
        position: Position,
        changes: Vec<Change>,
        sender: &mut Sender<'_, S>,
        now: Instant,
    ) {
        let start = sender.peers.feed.end();
        for change in changes {
            let author = author(&change);
            if let Some(member) = author {
                self.unconfirmed.remove(&member);
            }
            if author.is_some_and(|member| member.server == self.server) {
                for asked in self.outstanding.take(&change) {
                    settle(asked, &mut self.own, sender);
                }
            }
            self.take_change(change, sender, now);
        }
        self.positions.push(position, start..sender.peers.feed.end());
    }

    fn take_change<S: Stream>(&mut self, change: Change, sender: &mut Sender<'_, S>, now: Instant) {
        match change {
            Change::Joined { member, name } if member.server == self.server => {
                self.welcome(member.number, name, sender, now);
            }
            Change::Joined { member, name } => {
                self.make_room(member, &name, sender);
                // After a loss it may be told once more.
                self.roster.set(member, &name, self.roster.announced(member).is_some());
            }
            Change::Entered { server, members } if server != self.server => self.take_back(server, &members, sender),
            Change::Gone { server, is_lost } if server != self.server => self.take_away(server, is_lost, sender),
            // The members of this server are here, whatever the others were told.
            Change::Entered { .. } | Change::Gone { .. } => {}
            change => self.take_deed(change, sender),
        }
    }

    /// What one member does.
    fn take_deed<S: Stream>(&mut self, change: Change, sender: &mut Sender<'_, S>) {
        let server = self.server;
        if let Change::Renamed { member, name } = &change {
            self.make_room(*member, name, sender);
            if let Some(own) = self.own.get_mut(&member.number).filter(|_| member.server == server) {
                own.is_announced = true;
            }
        }
        let Self { roster, own, remote, ops, outstanding, .. } = self;
        let audience = &mut Audience { sender, server, own, remote };
        match change {
            Change::Announced { member } => roster.announce(member, audience),
            // After a loss it may be told once more.
            Change::Renamed { member, name } if roster.announced(member) == Some(&name) => {}
            Change::Renamed { member, name } => roster.rename(member, &name, audience),
            Change::Taken { member, name } => audience.answer(member, &format!("* {name} is taken\n")),
            Change::Said { member, text } => roster.say(member, &text, audience),
            Change::Whispered { member, to, text } => {
                let is_taken = roster.whisper(member, to, &text, audience);
                if roster.name(to).is_none() {
                    audience.answer(member, "* the addressee has left; your line was not sent\n");
                } else if !is_taken && member.server != server {
                    let op = Op::Unread { member: to.number, to: member };
                    outstanding.push(&op);
                    ops.push(op);
                }
            }
            Change::Unread { member, to } => roster.tell_unread(member, to, audience),
            Change::Left { member, reason } => {
                roster.leave(member, reason.as_deref().and_then(known_reason), audience);
                if member.server == server {
                    self.forget(member.number, sender.peers);
                }
            }
            Change::Joined { .. } | Change::Entered { .. } | Change::Gone { .. } => {}
        }
    }

    /// A newcomer of this server is in the room.
    pub(super) fn welcome<S: Stream>(&mut self, number: u64, name: String, sender: &mut Sender<'_, S>, now: Instant) {
        let member = self.member(number);
        self.make_room(member, &name, sender);
        let Some(own) = self.own.get_mut(&number) else { return };
        own.stage = Stage::In;
        let (id, end) = (own.id, sender.peers.feed.end());
        if let Some(member) = super::member(sender.peers, id) {
            member.take_in(end, now);
        }
        release(sender.peers, id);
        let Self { server, roster, own, remote, .. } = self;
        roster.welcome(member, name, &mut Audience { sender, server: *server, own, remote });
        sender.retell(id);
    }

    /// All members of a server have left at once.
    fn take_away<S: Stream>(&mut self, server: ServerId, is_lost: bool, sender: &mut Sender<'_, S>) {
        let members: Vec<MemberId> = self.roster.ids().filter(|member| member.server == server).collect();
        let reason = if is_lost { LOST } else { "their server is stopping" };
        self.remove(&members, reason, sender);
    }

    /// Members of other servers leave, whose names are told in one line.
    pub(super) fn remove<S: Stream>(&mut self, members: &[MemberId], reason: &str, sender: &mut Sender<'_, S>) {
        let names: Vec<&str> = members.iter().filter_map(|member| self.roster.announced(*member)).collect();
        if !names.is_empty() {
            tell_together(&names, &format!("left ({reason})"), sender);
        }
        for member in members {
            self.roster.remove(*member);
            self.unconfirmed.remove(member);
            self.remote.remove(member);
        }
    }

    /// `member` gets a name that may belong to members whose servers have not been heard of: they are taken to be gone.
    pub(super) fn make_room<S: Stream>(&mut self, member: MemberId, name: &str, sender: &mut Sender<'_, S>) {
        if self.unconfirmed.is_empty() {
            return;
        }
        let is_old = |holder: &MemberId| *holder != member && self.unconfirmed.contains(holder);
        let old: BTreeSet<MemberId> = self.roster.holders(name).filter(is_old).collect();
        self.remove(&Vec::from_iter(old), LOST, sender);
    }
}

/// An operation has come back, or is lost: its member may wait for it no more.
pub(super) fn settle<S: Stream>(asked: Asked, all: &mut HashMap<u64, Own>, sender: &mut Sender<'_, S>) {
    let Some(own) = all.get_mut(&asked.member) else { return };
    if asked.kind == Kind::Say
        && let Some(member) = member(sender.peers, own.id)
    {
        member.window.arrive(asked.len);
    }
    if asked.is_awaited() && mem::take(&mut own.is_waiting) {
        release(sender.peers, own.id);
    }
}

/// Tells all members that several others do something: `* ann, bob, carol and 17 more left`.
pub(super) fn tell_together<S: Stream>(names: &[&str], deed: &str, sender: &mut Sender<'_, S>) {
    let (shown, more) = names.split_at(names.len().min(SHOWN));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    sender.peers.feed.push(format!("* {}{more} {deed}\n", shown.join(", ")).as_bytes());
}

/// The reasons that servers give: others are not shown.
fn known_reason(reason: &str) -> Option<&'static str> {
    ["too slow", "idle"].into_iter().find(|known| *known == reason)
}
