//! Several engines over one Redis, whose wires are cut, slow and late, and which forgets, refuses and stands still.

mod node;
mod redis;
mod wire;

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use fastrand::Rng;

use node::Node;
use redis::{Data, Limits, Redis};
use wire::Wire;

/// How long the faults go on, in milliseconds.
const TROUBLE: u64 = 12_000;

/// How long it may take until all is well after the last fault: engines that are in the middle of a wait for an answer,
/// and then of the longest backoff.
const REST: u64 = 20_000;

/// What is drawn for one simulation.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    nodes: usize,
    limits: Limits,
    /// How long a piece of what is sent may take, in milliseconds.
    delay: u64,
    faults: Vec<(u64, Fault)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The connections of one server are cut.
    Cut(usize),
    /// One server stands still for this time.
    Stop(usize, u64),
    /// Redis stands still for this time.
    Freeze(u64),
    /// Redis refuses calls for this time.
    Refuse(&'static str, u64),
    /// Redis forgets the script.
    ForgetScript,
    /// A copy of the data is made.
    Save,
    /// Another Redis takes over, which has what the last copy had.
    TakeOver,
    /// All data is lost, while the connections stay.
    Flush,
}

impl Plan {
    pub(crate) fn draw(random: &mut Rng) -> Self {
        let nodes = random.usize(1..=4);
        let is_lossy = random.bool();
        let faults = (0..random.usize(0..10)).map(|_| {
            let fault = match random.usize(0..if is_lossy { 9 } else { 6 }) {
                0 | 1 => Fault::Cut(random.usize(..nodes)),
                2 => Fault::Stop(random.usize(..nodes), random.u64(..8000)),
                3 => Fault::Freeze(random.u64(..6000)),
                4 => Fault::Refuse(
                    ["OOM command not allowed", "READONLY a replica", "LOADING"][random.usize(..3)],
                    random.u64(..4000),
                ),
                5 => Fault::ForgetScript,
                6 => Fault::Save,
                7 => Fault::TakeOver,
                _ => Fault::Flush,
            };
            (random.u64(..TROUBLE), fault)
        });
        let mut faults: Vec<_> = faults.collect();
        faults.sort_by_key(|(at, _)| *at);
        let entries = if random.u8(..4) == 0 { random.usize(5..50) } else { usize::MAX };
        let limits = Limits { lease: random.u64(2500..10_000), entries };
        Self { nodes, limits, delay: [0, 3, 30, 200][random.usize(..4)], faults }
    }

    /// How often data is lost, or `None` if servers may fall behind as well.
    fn losses(&self) -> Option<usize> {
        let loses = |fault: &Fault| matches!(fault, Fault::TakeOver | Fault::Flush);
        let losses = self.faults.iter().filter(|(_, fault)| loses(fault)).count();
        (self.limits.entries == usize::MAX).then_some(losses)
    }
}

struct World {
    plan: Plan,
    random: Rng,
    start: Instant,
    /// Milliseconds since the start.
    now: u64,
    redis: Redis,
    saved: Data,
    frozen_until: u64,
    refusing_until: u64,
    nodes: Vec<Node>,
    stopped_until: Vec<u64>,
    wires: Vec<Wire>,
}

pub(crate) fn simulate(plan: Plan, mut random: Rng) {
    let start = Instant::now();
    let nodes: Vec<Node> = (0..plan.nodes).map(|at| Node::new(at, random.u64(..), start)).collect();
    let redis = Redis { data: Data::default(), limits: plan.limits, has_script: false, refusal: None };
    let stopped_until = vec![0; plan.nodes];
    let (saved, wires) = (Data::default(), Vec::new());
    let (frozen_until, refusing_until, now) = (0, 0, 0);
    let mut world =
        World { plan, random, start, now, redis, saved, frozen_until, refusing_until, nodes, stopped_until, wires };
    let mut faults = world.plan.faults.clone().into_iter().peekable();
    while world.now < TROUBLE {
        while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= world.now) {
            world.inflict(fault);
        }
        // Who is not there yet does not hear what is said.
        let have_all_entered = world.nodes.iter().all(|node| node.has_entered);
        for at in 0..world.nodes.len() {
            if have_all_entered && world.random.u8(..8) == 0 {
                world.nodes[at].act(&mut world.random);
            }
        }
        let longest = if world.random.bool() { 10 } else { 100 };
        let step = world.random.u64(1..=longest);
        world.go_on_to(world.now + step);
    }
    world.come_to_rest();
    world.check();
}

impl World {
    fn inflict(&mut self, fault: Fault) {
        match fault {
            Fault::Cut(at) => {
                let random = &mut self.random;
                self.wires.iter_mut().filter(|wire| wire.node == at).for_each(|wire| wire.cut(random));
            }
            Fault::Stop(at, time) => self.stopped_until[at] = self.now + time,
            Fault::Freeze(time) => self.frozen_until = self.now + time,
            Fault::Refuse(reason, time) => {
                self.redis.refusal = Some(reason);
                self.refusing_until = self.now + time;
            }
            Fault::ForgetScript => self.redis.has_script = false,
            Fault::Save => self.saved = self.redis.data.clone(),
            Fault::TakeOver => {
                self.redis.data = self.saved.clone();
                self.redis.has_script = false;
                let random = &mut self.random;
                self.wires.iter_mut().for_each(|wire| wire.cut(random));
            }
            Fault::Flush => self.redis.data = Data::default(),
        }
    }

    /// Lets everything happen that is due until then, in the order of time.
    fn go_on_to(&mut self, end: u64) {
        loop {
            self.happen();
            let due = self.wires.iter().filter_map(|wire| wire.due()).min().unwrap_or(u64::MAX);
            let next = self.nodes.iter().filter_map(|node| node.engine.deadline()).min();
            let next = next.map_or(u64::MAX, |at| at.saturating_duration_since(self.start).as_millis() as u64 + 1);
            // Whoever stands still does not stop the clock.
            let next = due.min(next).max(self.now + 1);
            if next > end {
                break;
            }
            self.now = next;
        }
        self.now = end;
    }

    fn happen(&mut self) {
        if self.refusing_until <= self.now {
            self.redis.refusal = None;
        }
        if self.frozen_until <= self.now {
            for wire in &mut self.wires {
                wire.serve(&mut self.redis, self.now, self.plan.delay, &mut self.random);
            }
        }
        let now = self.start + Duration::from_millis(self.now);
        for (at, node) in self.nodes.iter_mut().enumerate() {
            if self.stopped_until[at] <= self.now {
                node.turn(at, &mut self.wires, (self.now, now), self.plan.delay, &mut self.random);
            }
        }
        self.wires.retain(|wire| !wire.is_over());
    }

    /// Nothing goes wrong any more: all are in the room soon, and what they say then is heard by all.
    fn come_to_rest(&mut self) {
        let end = self.now + REST;
        (self.frozen_until, self.refusing_until) = (0, 0);
        self.stopped_until.fill(0);
        while !self.is_at_rest() {
            assert!(self.now < end, "it does not come to rest: {:#?}", self.nodes);
            self.go_on_to(self.now + 50);
        }
        self.nodes.iter_mut().for_each(|node| node.say("the end".to_owned()));
        let expected: Vec<usize> = self.nodes.iter().map(|node| node.heard.len() + self.nodes.len()).collect();
        let has_heard = |world: &Self| world.nodes.iter().zip(&expected).all(|(node, len)| node.heard.len() >= *len);
        while !has_heard(self) {
            assert!(self.now < end, "not all are heard: {:#?}", self.nodes);
            self.go_on_to(self.now + 50);
        }
    }

    fn is_at_rest(&self) -> bool {
        let top = self.redis.data.top;
        self.nodes.iter().all(|node| {
            let engine = &node.engine;
            node.is_in && engine.is_in() && engine.pending_bytes() == 0 && engine.position().0 == top
        })
    }

    fn check(&self) {
        let said: usize = self.nodes.iter().map(|node| node.said).sum();
        for node in &self.nodes {
            let lines: HashSet<&String> = node.heard.iter().collect();
            assert_eq!(lines.len() + self.nodes.len() - 1, node.heard.len(), "a line came twice: {:?}", node.heard);
            let losses = self.plan.losses();
            assert!(losses.is_none_or(|losses| node.gaps <= losses), "{} gaps for {losses:?} losses", node.gaps);
            if losses == Some(0) {
                assert_eq!((node.gaps, node.heard.len()), (0, said), "something is missing: {:?}", node.heard);
                assert_eq!(node.heard, self.nodes[0].heard, "the order differs");
            }
            // Whoever has not heard what another one heard was told so.
            let missed = self.nodes.iter().flat_map(|other| &other.heard).find(|line| !lines.contains(line));
            assert!(missed.is_none() || node.gaps > 0, "{missed:?} was missed in silence");
            // Whoever enters late after a loss hears what was said since, but for what comes before a line that was heard.
            if losses.is_some() {
                let mut due: Vec<_> = self.redis.data.heard_by(&node.id()).collect();
                let was_heard = |line: &&String| node.heard[..node.heard_at_gap].contains(*line);
                due.drain(..due.iter().rposition(was_heard).map_or(0, |at| at + 1));
                let missed = due.into_iter().find(|line| !lines.contains(line));
                assert_eq!(missed, None, "it is in the log");
            }
            assert_eq!(node.names, self.nodes[0].names);
            assert_eq!(node.names.len(), self.redis.data.members.len());
        }
        let mut names = BTreeMap::new();
        for (member, name) in &self.nodes[0].names {
            assert_eq!(names.insert(name, member), None, "two are called {name}");
        }
    }
}
