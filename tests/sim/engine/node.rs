//! An engine with what a server would do around it.

use std::collections::BTreeMap;
use std::time::Instant;

use fastrand::Rng;
use sockets::shared_log::engine::{Action, Engine, Settings};
use sockets::shared_log::{Change, LogEvent, MemberId, Op, Position, ServerId, Urgency};

use super::wire::Wire;

#[derive(Debug)]
pub(super) struct Node {
    id: ServerId,
    pub(super) engine: Engine,
    pub(super) heard: Vec<String>,
    pub(super) gaps: usize,
    /// How many lines it had heard at the last gap.
    pub(super) heard_at_gap: usize,
    pub(super) names: BTreeMap<MemberId, String>,
    pub(super) is_in: bool,
    /// How many lines it has said.
    pub(super) said: usize,
    /// Its members, which have asked to join and not to leave.
    members: Vec<u64>,
    newest: u64,
    pub(super) has_entered: bool,
    taken: Position,
}

impl Node {
    pub(super) fn new(at: usize, seed: u64, now: Instant) -> Self {
        let settings = Settings { room: "lobby".to_owned(), user: None, password: None, database: 0 };
        let id = ServerId(at as u128 + 1);
        Self {
            id,
            engine: Engine::new(settings, id, seed, now),
            heard: Vec::new(),
            gaps: 0,
            heard_at_gap: 0,
            names: BTreeMap::new(),
            is_in: false,
            said: 0,
            members: Vec::new(),
            newest: 0,
            has_entered: false,
            taken: Position(0),
        }
    }

    pub(super) fn id(&self) -> String {
        self.id.to_string()
    }

    pub(super) fn say(&mut self, text: String) {
        self.say_as(1, text);
    }

    fn say_as(&mut self, member: u64, text: String) {
        self.said += 1;
        self.engine.push(Op::Say { member, text: text.into_bytes() });
    }

    /// A member does something.
    pub(super) fn act(&mut self, random: &mut Rng) {
        let member = self.members.get(random.usize(..self.members.len().max(1))).copied();
        match (random.u8(..10), member) {
            (0, _) | (_, None) => {
                self.newest += 1;
                self.members.push(self.newest);
                self.engine.push(Op::Join { member: self.newest });
            }
            (1, Some(member)) => {
                self.members.retain(|other| *other != member);
                self.engine.push(Op::Leave { member, reason: random.bool().then(|| "idle".to_owned()) });
            }
            (2, Some(member)) => self.engine.push(Op::Announce { member }),
            (3 | 4, Some(member)) => {
                let name = ["ann", "Ann", "bob", "b0b", "carol", "dave"][random.usize(..6)].to_owned();
                self.engine.push(Op::Rename { member, name });
            }
            (_, Some(member)) => self.say_as(member, format!("{} says {}", self.id.0, self.said)),
        }
    }

    pub(super) fn turn(
        &mut self,
        at: usize,
        wires: &mut Vec<Wire>,
        (now, instant): (u64, Instant),
        delay: u64,
        random: &mut Rng,
    ) {
        for wire in wires.iter_mut().filter(|wire| wire.node == at && !wire.is_noticed) {
            if wire.is_cut {
                wire.is_noticed = true;
                self.engine.closed(wire.role, "cut".to_owned(), instant);
            }
            while let Some((_, piece)) = wire.from_redis.pop_front_if(|(at, _)| *at <= now) {
                self.engine.received(wire.role, &piece, instant);
            }
        }
        self.listen();
        let next = Position(self.engine.position().0 + 1);
        self.engine.set_urgency(if self.taken == next { Urgency::Relaxed } else { Urgency::Now });
        if self.engine.reports_floor(instant) {
            self.taken = next;
            self.engine.set_floor(next);
        }
        self.engine.turn(instant, instant);
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Connect(role) => {
                    wires.push(Wire::new(at, role, now));
                    self.engine.connected(role, instant);
                }
                Action::Close(role) => {
                    for wire in wires.iter_mut().filter(|wire| wire.node == at && wire.role == role) {
                        wire.cut(random);
                        wire.is_noticed = true;
                    }
                }
            }
        }
        for wire in wires.iter_mut().filter(|wire| wire.node == at && !wire.is_cut) {
            let output = self.engine.output(wire.role).to_vec();
            wire.send(&output, (now, delay), random);
            self.engine.sent(wire.role, output.len(), instant);
        }
        let is_due = self.engine.deadline().is_some_and(|at| at <= instant);
        assert!(!is_due, "it spins: {:#?}", self.engine);
        self.listen();
    }

    fn listen(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                LogEvent::Entered { members, is_gap, .. } => {
                    (self.is_in, self.has_entered) = (true, true);
                    self.gaps += usize::from(is_gap);
                    self.names = members.into_iter().map(|record| (record.member, record.name)).collect();
                    if is_gap {
                        self.heard_at_gap = self.heard.len();
                        self.repair();
                    }
                }
                LogEvent::Entry { changes, .. } => changes.into_iter().for_each(|change| self.hear(change)),
                LogEvent::Missed(lines) => {
                    self.heard.extend(lines.into_iter().map(|(_, text)| String::from_utf8(text).expect("text")));
                }
                LogEvent::Earlier(_) | LogEvent::Floor(_) => {}
                LogEvent::Away => {
                    assert!(self.is_in || !self.has_entered, "away twice");
                    self.is_in = false;
                }
                LogEvent::Back => self.is_in = true,
            }
        }
    }

    /// After a gap, members that the log does not know join again, and those that have left leave again.
    fn repair(&mut self) {
        let own: Vec<u64> =
            self.names.keys().filter(|member| member.server == self.id).map(|member| member.number).collect();
        for member in &own {
            if !self.members.contains(member) {
                self.engine.push(Op::Leave { member: *member, reason: None });
            }
        }
        for member in self.members.clone() {
            if !own.contains(&member) {
                self.engine.push(Op::Join { member });
            }
        }
    }

    fn hear(&mut self, change: Change) {
        match change {
            Change::Joined { member, name } | Change::Renamed { member, name } => {
                self.names.insert(member, name);
            }
            Change::Said { text, .. } => self.heard.push(String::from_utf8(text).expect("text")),
            Change::Left { member, .. } => {
                self.names.remove(&member);
            }
            Change::Entered { server, members } if server != self.id => {
                self.names.retain(|member, _| member.server != server);
                self.names.extend(members.into_iter().map(|record| (record.member, record.name)));
            }
            Change::Gone { server, .. } if server != self.id => {
                self.names.retain(|member, _| member.server != server);
            }
            _ => {}
        }
    }
}
