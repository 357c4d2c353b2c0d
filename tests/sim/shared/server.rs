//! One server with its members, and what they were to be told.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use fastrand::Rng;
use sockets::config::RESERVE;
use sockets::connection::Close;
use sockets::hub::Hub;
use sockets::shared_log::{Change, LogEvent, MemberId, ServerId};
use sockets::{Config, Event, Notice, PeerAddress};

use super::link::Link;
use super::log::Log;
use super::member::{Kind, Member};
use crate::socket::Nature;
use crate::world::{Poll, World};

/// What may be asked of the log and not have been seen in it, in bytes: the limit, and what one turn of one member brings.
const MOST_ASKED: usize = (256 << 10) + 2 * (64 << 10);

const BLOCK: usize = 64 << 10;

const AWAY: &str = "* the room's other servers cannot be reached; new lines wait";
const BACK: &str = "* the room's other servers can be reached again";
const GAP: &str = "* lines may be missing here";

pub(super) struct Server {
    world: World,
    pub(super) link: Link,
    members: Vec<Member>,
    arrivals: u64,
    /// What all its members were to hear, and who has said it.
    told: Vec<(Option<MemberId>, String)>,
    /// What was said, without the names and the rest of the line.
    texts: HashSet<String>,
    /// The number of the last line of each author.
    last: BTreeMap<MemberId, u64>,
    names: BTreeMap<MemberId, String>,
    /// From where on each of its members hears.
    joined: BTreeMap<u64, usize>,
    /// Private lines that each of its members was to hear.
    whispers: BTreeMap<u64, Vec<String>>,
    pub(super) gaps: usize,
    frozen_until: Option<Instant>,
    thawed_at: Instant,
    is_stopping: bool,
    /// Those that the server has reset.
    slow: HashSet<u64>,
    /// Lines of its own members that the operator was shown.
    shown: usize,
    own_told: usize,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("hub", &self.world.hub).finish_non_exhaustive()
    }
}

impl Server {
    pub(super) fn new(id: ServerId, config: &Config, now: Instant, mut random: Rng) -> Self {
        let poll = [Poll::Genuine, Poll::Late, Poll::Spurious][random.usize(..3)];
        Self {
            world: World::with(Hub::shared(config, id), poll, random, now),
            link: Link::new(id, now),
            members: Vec::new(),
            arrivals: 0,
            told: Vec::new(),
            texts: HashSet::new(),
            last: BTreeMap::new(),
            names: BTreeMap::new(),
            joined: BTreeMap::new(),
            whispers: BTreeMap::new(),
            gaps: 0,
            frozen_until: None,
            thawed_at: now,
            is_stopping: false,
            slow: HashSet::new(),
            shown: 0,
            own_told: 0,
        }
    }

    pub(super) fn freeze(&mut self, until: Instant) {
        self.frozen_until = Some(until);
    }

    pub(super) fn is_well_since(&self, since: Instant) -> bool {
        self.frozen_until.is_none() && self.thawed_at < since && self.link.well_since < since && !self.link.is_cut()
    }

    pub(super) fn accept(&mut self, random: &mut Rng) {
        let kind = [Kind::Person, Kind::Piper, Kind::Restless, Kind::Restless, Kind::Deaf][random.usize(..5)];
        self.accept_kind(kind);
    }

    pub(super) fn accept_probe(&mut self) -> u64 {
        self.accept_kind(Kind::Probe)
    }

    fn accept_kind(&mut self, kind: Kind) -> u64 {
        let send_buffer = if kind == Kind::Deaf { 3000 } else { 64 << 20 };
        let nature = Nature {
            receive_buffer: 64 << 20,
            send_buffer,
            wakes_at: 1,
            interrupts: 0,
            reset_keeps_arrived: true,
            seed: self.arrivals,
        };
        let client = self.world.accept(nature).1;
        self.arrivals += 1;
        self.members.push(Member::new(self.arrivals, kind, client, self.world.now));
        self.arrivals
    }

    /// Lets its members act.
    pub(super) fn act(&mut self, now: Instant, random: &mut Rng) {
        for member in &mut self.members {
            member.act(self.link.server.0, now, random);
        }
    }

    /// All members read what there is. Returns whether somebody got something.
    pub(super) fn listen(&mut self) -> bool {
        self.members.iter_mut().fold(false, |has_heard, member| member.listen() | has_heard)
    }

    pub(super) fn relent(&mut self) {
        self.frozen_until = None;
    }

    /// One turn, with what the log says.
    pub(super) fn round(&mut self, log: &mut Log, serial: &mut u64, now: Instant, random: &mut Rng) {
        if let Some(until) = self.frozen_until {
            if now < until {
                return;
            }
            (self.frozen_until, self.thawed_at) = (None, now);
        }
        self.world.pass(now - self.world.now);
        let mut room = self.world.log_side();
        let events = self.link.step(log, serial, now, random, (room.urgency(), &mut || room.report_floor()));
        for event in events {
            self.note(&event);
            self.world.tell(event);
        }
        for _ in 0..3 {
            if !self.world.poll() {
                break;
            }
            self.turn();
        }
    }

    fn turn(&mut self) {
        let (server, shown, slow) = (self.link.server, &mut self.shown, &mut self.slow);
        self.world.turn(|event| match event {
            Event::Room { notice: Notice::Said { text, .. }, .. } => {
                assert!(text.starts_with(format!("{}.", server.0).as_bytes()), "another server's line was shown");
                *shown += 1;
            }
            Event::Closed { peer: PeerAddress::Ip(peer), close: Close::TooSlow, .. } => {
                slow.insert(peer.port().into());
            }
            _ => {}
        });
        self.link.push(self.world.log_side().take_ops());
    }

    /// Notes what members are to hear of what the log says.
    fn note(&mut self, event: &LogEvent) {
        match event {
            LogEvent::Entered { members, is_gap, .. } => {
                if *is_gap {
                    self.gaps += 1;
                    self.told.push((None, GAP.to_owned()));
                }
                for record in members {
                    self.names.insert(record.member, record.name.clone());
                    if record.member.server == self.link.server {
                        self.joined.entry(record.member.number).or_insert(self.told.len());
                    }
                }
            }
            LogEvent::Entry { changes, .. } => changes.iter().for_each(|change| self.note_change(change)),
            LogEvent::Away => self.told.push((None, AWAY.to_owned())),
            LogEvent::Back => self.told.push((None, BACK.to_owned())),
            LogEvent::Earlier(_) | LogEvent::Missed(_) | LogEvent::Floor(_) => {}
        }
    }

    fn note_change(&mut self, change: &Change) {
        match change {
            Change::Joined { member, name } => {
                self.names.insert(*member, name.clone());
                if member.server == self.link.server {
                    self.joined.insert(member.number, self.told.len());
                }
            }
            Change::Renamed { member, name } => _ = self.names.insert(*member, name.clone()),
            Change::Entered { members, .. } => {
                self.names.extend(members.iter().map(|record| (record.member, record.name.clone())));
            }
            Change::Said { member, text } => {
                let text = str::from_utf8(text).expect("text");
                let id = text.split(' ').next().expect("a first word");
                let number = id.rsplit('.').next().and_then(|number| number.parse().ok()).expect("a number");
                let last = self.last.insert(*member, number);
                assert!(last < Some(number), "{text} was said twice or too late");
                self.texts.insert(id.to_owned());
                self.told.push((Some(*member), format!("<{}> {text}", self.names[member])));
                self.own_told += usize::from(member.server == self.link.server);
            }
            Change::Whispered { member, to, text } if self.names.contains_key(to) => {
                let text = str::from_utf8(text).expect("text");
                let line = format!("<{} -> {}> {text}", self.names[member], self.names[to]);
                let ends = BTreeSet::from([member, to]);
                for end in ends.into_iter().filter(|end| end.server == self.link.server) {
                    self.whispers.entry(end.number).or_default().push(line.clone());
                }
            }
            Change::Left { member, .. } => _ = self.names.remove(member),
            Change::Gone { server, .. } if *server != self.link.server => {
                self.names.retain(|member, _| member.server != *server);
            }
            _ => {}
        }
    }

    pub(super) fn check(&self, config: &Config) {
        let asked = self.link.pending();
        assert!(asked <= MOST_ASKED, "{asked} bytes wait for the log");
        let (held, most) = (self.world.hub.held(), config.max_memory + self.world.hub.len() * RESERVE + BLOCK);
        assert!(held <= most, "{held} bytes are held, {most} may be");
    }

    /// What persons said long enough ago, and when.
    pub(super) fn due_lines(&self, now: Instant, time: Duration) -> Vec<(Instant, String)> {
        let lines = self.members.iter().filter(|member| !member.has_left).flat_map(|member| &member.lately);
        lines.filter(|(at, _)| *at + time <= now).cloned().collect()
    }

    pub(super) fn forget_due_lines(&mut self, now: Instant, time: Duration) {
        for member in &mut self.members {
            member.lately.retain(|(at, _)| *at + time > now);
        }
    }

    pub(super) fn has_told(&self, text: &str) -> bool {
        self.texts.contains(text)
    }

    pub(super) fn is_at_rest(&self, log: &Log) -> bool {
        self.link.is_idle(log) && self.world.is_idle() && self.world.hub.deadline().is_none()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.world.hub.is_empty()
    }

    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        self.world.hub.drain();
        self.turn();
    }

    /// All that its members have said has come back from the log.
    pub(super) fn check_said(&self) {
        for member in self.members.iter().filter(|member| !member.is_broken && !self.slow.contains(&member.number)) {
            for line in 1..=member.said {
                let text = Member::text(self.link.server.0, member.number, line);
                assert!(self.texts.contains(&text), "{text} was not heard");
            }
        }
    }

    /// Every member has heard exactly what it was to hear, in the order of the log.
    pub(super) fn check_members(&self) {
        assert_eq!(self.shown, self.own_told, "not each line was shown to the operator");
        for member in &self.members {
            let id = MemberId { server: self.link.server, number: member.number };
            let Some(from) = self.joined.get(&member.number) else {
                assert!(!member.has_joined());
                continue;
            };
            let is_public =
                |line: &str| [AWAY, BACK, GAP].contains(&line) || (line.starts_with('<') && !line.contains(" -> "));
            let mut heard = member.heard(is_public);
            if member.has_left {
                // One whose last lines wait is still told of the log, but hears nothing else.
                while heard.pop_if(|line| [AWAY, BACK].contains(line)).is_some() {}
            }
            let told = self.told[*from..].iter().filter(|(author, _)| *author != Some(id));
            let told: Vec<&str> = told.map(|(_, line)| line.as_str()).collect();
            assert!(heard.len() <= told.len() && heard == told[..heard.len()], "{:?} heard something else", id);
            let is_there = !member.has_left && !self.slow.contains(&member.number);
            assert!(!is_there || heard.len() == told.len(), "{id:?} heard {} of {}", heard.len(), told.len());
            let whispers = self.whispers.get(&member.number).map_or(&[][..], Vec::as_slice);
            let heard = member.heard(|line| line.starts_with('<') && line.contains(" -> "));
            let mut all = whispers.iter();
            let is_in_order = heard.iter().all(|line| all.any(|whisper| whisper == line));
            assert!(is_in_order, "{id:?} was told {heard:?} of {whispers:?}");
            // After a loss, it may not be known whether the addressee is there.
            if member.kind != Kind::Deaf && is_there && self.gaps == 0 {
                let unsent = member.heard(|line| line.ends_with("; your line was not sent")).len();
                assert!(heard.len() + unsent >= whispers.len(), "{id:?} was told {heard:?} of {whispers:?}");
            }
        }
    }

    /// Every member that is here was told who else is.
    pub(super) fn check_names(&self, announced: &BTreeSet<String>) {
        let is_there = |member: &&Member| !member.has_left && !self.slow.contains(&member.number);
        for member in self.members.iter().filter(is_there).filter(|member| member.has_joined()) {
            if let Some(told) = member.names_told() {
                assert_eq!(told, *announced, "{}#{}", self.link.server.0, member.number);
            }
        }
    }

    /// A member says this.
    pub(super) fn say(&self, number: u64, line: &str) {
        let member = self.members.iter().find(|member| member.number == number).expect("a member");
        member.client.send(line.as_bytes());
    }

    /// How often a member has heard a line that ends so.
    pub(super) fn count_heard(&self, number: u64, end: &str) -> usize {
        let member = self.members.iter().find(|member| member.number == number).expect("a member");
        member.heard(|line| line.ends_with(end)).len()
    }

    pub(super) fn has_welcomed(&self, number: u64) -> bool {
        self.members.iter().any(|member| member.number == number && member.has_joined())
    }

    /// Who was here when a member came, as it was told.
    pub(super) fn welcome_of(&self, number: u64) -> BTreeSet<String> {
        let member = self.members.iter().find(|member| member.number == number).expect("a member");
        let heard = member.heard(|line| line.starts_with("* welcome"));
        let (_, list) = heard[0].split_once("; ").expect("a list");
        match list.strip_prefix("here: ") {
            Some(names) => names.split(", ").map(str::to_owned).collect(),
            None => BTreeSet::new(),
        }
    }
}
