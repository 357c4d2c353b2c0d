//! Engines without servers around them: what a server would do with its sockets, its members and its log.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sockets::shared_log::engine::{Action, Engine, Role, Settings};
use sockets::shared_log::{Change, LogEvent, MemberId, Op, Position, ServerId, Urgency};

use crate::harness::DEADLINE;

/// How long to wait for sockets before looking at the clock again.
const TICK: Duration = Duration::from_millis(5);

/// A server of the room that has no clients.
pub(crate) struct Node {
    pub(crate) id: ServerId,
    pub(crate) engine: Engine,
    pub(crate) redis: SocketAddr,
    sockets: [Option<TcpStream>; 2],
    /// What its members would have heard: who said it, and what.
    pub(crate) heard: Vec<(ServerId, String)>,
    /// What was said before it entered: under which name, and what.
    pub(crate) earlier: Vec<(String, Vec<u8>)>,
    /// What was said after a loss of data and before it entered again: under which name, and what.
    pub(crate) missed: Vec<(String, Vec<u8>)>,
    /// Where in `heard` lines may be missing.
    pub(crate) gaps: Vec<usize>,
    /// Why.
    pub(crate) reasons: Vec<String>,
    pub(crate) names: BTreeMap<MemberId, String>,
    /// The changes of names that were refused.
    pub(crate) refused: Vec<(MemberId, String)>,
    /// Servers whose members left, and whether they were lost.
    pub(crate) gone: Vec<(ServerId, bool)>,
    pub(crate) aways: usize,
    pub(crate) is_in: bool,
    pub(crate) floor: Option<Position>,
    /// How far its members have told that they are.
    taken: Position,
    /// Whether its members take nothing.
    pub(crate) is_stuck: bool,
}

impl Node {
    fn new(number: u128, redis: SocketAddr) -> Self {
        let settings = Settings { room: "lobby".to_owned(), user: None, password: None, database: 0 };
        Self::with(number, redis, settings)
    }

    pub(crate) fn with(number: u128, redis: SocketAddr, settings: Settings) -> Self {
        let id = ServerId(number << 120 | fastrand::u128(..) >> 8);
        Self {
            id,
            engine: Engine::new(settings, id, fastrand::u64(..), Instant::now()),
            redis,
            sockets: [None, None],
            heard: Vec::new(),
            earlier: Vec::new(),
            missed: Vec::new(),
            gaps: Vec::new(),
            reasons: Vec::new(),
            names: BTreeMap::new(),
            refused: Vec::new(),
            gone: Vec::new(),
            aways: 0,
            is_in: false,
            floor: None,
            taken: Position(0),
            is_stuck: false,
        }
    }

    pub(crate) fn member(&self, number: u64) -> MemberId {
        MemberId { server: self.id, number }
    }

    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.engine.push(Op::Say { member: 1, text: text.into().into_bytes() });
    }

    pub(crate) fn join(&mut self, number: u64) {
        self.engine.push(Op::Join { member: number });
        self.engine.push(Op::Announce { member: number });
    }

    pub(crate) fn rename(&mut self, number: u64, name: &str) {
        self.engine.push(Op::Rename { member: number, name: name.to_owned() });
    }

    pub(crate) fn name(&self, member: MemberId) -> Option<&str> {
        self.names.get(&member).map(String::as_str)
    }

    pub(crate) fn texts(&self) -> Vec<&str> {
        self.heard.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// One turn, as a server has it.
    fn turn(&mut self) {
        let now = Instant::now();
        for role in [Role::Calls, Role::Reads] {
            self.read(role, now);
        }
        self.listen();
        self.engine.turn(now, now);
        self.listen();
        while let Some(action) = self.engine.poll_action() {
            self.act(action, now);
        }
        for role in [Role::Calls, Role::Reads] {
            self.write(role, now);
        }
    }

    fn act(&mut self, action: Action, now: Instant) {
        match action {
            Action::Close(role) => self.sockets[role as usize] = None,
            Action::Connect(role) => match TcpStream::connect_timeout(&self.redis, DEADLINE) {
                Ok(socket) => {
                    socket.set_nonblocking(true).expect("a socket");
                    socket.set_nodelay(true).expect("a socket");
                    self.sockets[role as usize] = Some(socket);
                    self.engine.connected(role, now);
                }
                Err(error) => self.engine.closed(role, error.to_string(), now),
            },
        }
    }

    fn read(&mut self, role: Role, now: Instant) {
        let mut buffer = vec![0; 64 << 10];
        while let Some(socket) = &mut self.sockets[role as usize] {
            match socket.read(&mut buffer) {
                Ok(0) => self.lose(role, "it closed the connection", now),
                Ok(count) => self.engine.received(role, &buffer[..count], now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => self.lose(role, &error.to_string(), now),
            }
            // The engine may have closed it.
            while let Some(action) = self.engine.poll_action() {
                self.act(action, now);
            }
        }
    }

    fn write(&mut self, role: Role, now: Instant) {
        while let Some(socket) = &mut self.sockets[role as usize]
            && !self.engine.output(role).is_empty()
        {
            match socket.write(self.engine.output(role)) {
                Ok(count) => self.engine.sent(role, count, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => self.lose(role, &error.to_string(), now),
            }
        }
    }

    fn lose(&mut self, role: Role, reason: &str, now: Instant) {
        self.sockets[role as usize] = None;
        self.engine.closed(role, reason.to_owned(), now);
    }

    fn listen(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                LogEvent::Entered { members, is_gap, .. } => {
                    self.is_in = true;
                    self.names = members.into_iter().map(|record| (record.member, record.name)).collect();
                    if is_gap {
                        self.gaps.push(self.heard.len());
                        self.reasons.push(self.engine.trouble().to_owned());
                    }
                }
                LogEvent::Entry { changes, .. } => changes.into_iter().for_each(|change| self.hear(change)),
                LogEvent::Earlier(lines) => self.earlier = lines,
                LogEvent::Missed(lines) => self.missed.extend(lines),
                LogEvent::Floor(floor) => self.floor = Some(floor),
                LogEvent::Away => {
                    self.aways += 1;
                    self.is_in = false;
                }
                LogEvent::Back => self.is_in = true,
            }
        }
        let next = Position(self.engine.position().0 + 1);
        let is_waiting = self.floor.is_some_and(|floor| floor < next);
        let has_moved = !self.is_stuck && self.taken != next;
        let urgency = if is_waiting { Urgency::Soon } else { Urgency::Relaxed };
        self.engine.set_urgency(if has_moved { Urgency::Now } else { urgency });
        if self.engine.reports_floor(Instant::now()) {
            if !self.is_stuck {
                self.taken = next;
            }
            self.engine.set_floor(self.taken);
        }
    }

    fn hear(&mut self, change: Change) {
        match change {
            Change::Joined { member, name } | Change::Renamed { member, name } => {
                self.names.insert(member, name);
            }
            Change::Taken { member, name } => self.refused.push((member, name)),
            Change::Said { member, text, .. } => {
                self.heard.push((member.server, String::from_utf8(text).expect("text")));
            }
            Change::Left { member, .. } => {
                self.names.remove(&member);
            }
            Change::Entered { server, members } => {
                self.names.retain(|member, _| member.server != server);
                self.names.extend(members.into_iter().map(|record| (record.member, record.name)));
            }
            Change::Gone { server, is_lost } => {
                self.names.retain(|member, _| member.server != server);
                self.gone.push((server, is_lost));
            }
            Change::Announced { .. } | Change::Whispered { .. } | Change::Unread { .. } => {}
        }
    }
}

/// Some servers of one room.
pub(crate) struct Nodes(pub(crate) Vec<Node>);

impl Nodes {
    /// So many servers, each with one member, which has joined.
    pub(crate) fn start(count: usize, redis: SocketAddr) -> Self {
        let mut nodes = Self((0..count).map(|at| Node::new(at as u128 + 1, redis)).collect());
        nodes.0.iter_mut().for_each(|node| node.join(1));
        nodes.run_until("all have joined", |nodes| {
            nodes.iter().all(|node| node.is_in && nodes.iter().all(|other| node.name(other.member(1)).is_some()))
        });
        nodes
    }

    /// Gives all of them turns until this holds.
    #[track_caller]
    pub(crate) fn run_until(&mut self, what: &str, mut holds: impl FnMut(&[Node]) -> bool) {
        let begin = Instant::now();
        while !holds(&self.0) {
            if begin.elapsed() > DEADLINE {
                let state: Vec<_> =
                    self.0.iter().map(|node| (&node.engine, &node.gaps, &node.reasons, &node.heard)).collect();
                panic!("not in time: {what}; {state:#?}");
            }
            self.turn();
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.turn();
        }
    }

    /// Runs until every server has heard so many lines.
    #[track_caller]
    pub(crate) fn run_until_heard(&mut self, lines: usize) {
        self.run_until(&format!("{lines} lines"), |nodes| nodes.iter().all(|node| node.heard.len() >= lines));
    }

    pub(crate) fn turn(&mut self) {
        let sockets: Vec<_> = self.0.iter().flat_map(|node| &node.sockets).flatten().collect();
        let mut polled: Vec<_> = sockets.iter().map(|socket| PollFd::new(*socket, PollFlags::IN)).collect();
        let due = self.0.iter().filter_map(|node| node.engine.deadline()).min();
        let is_pending = self.0.iter().any(|node| node.engine.has_work());
        let timeout = due.map_or(TICK, |due| due.saturating_duration_since(Instant::now()).min(TICK));
        let timeout = if is_pending { Duration::ZERO } else { timeout };
        _ = poll(&mut polled, Some(&Timespec::try_from(timeout).expect("a short time")));
        self.0.iter_mut().for_each(Node::turn);
    }

    /// All have heard the same in the same order, and nobody has heard of a gap.
    #[track_caller]
    pub(crate) fn assert_same(&self) {
        for node in &self.0 {
            assert_same(&node.gaps, &[]);
            assert_same(&node.heard, &self.0[0].heard);
        }
    }
}

#[track_caller]
fn assert_same<T: PartialEq + Debug>(actual: &[T], expected: &[T]) {
    let at = actual.iter().zip(expected).position(|(a, b)| a != b);
    assert!(at.is_none() && actual.len() == expected.len(), "at {at:?}: {actual:?} instead of {expected:?}");
}
