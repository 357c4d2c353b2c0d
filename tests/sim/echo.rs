//! Echo clients of all kinds against one hub, with everything that chance can vary drawn from one seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use sockets::Config;
use sockets::Event;
use sockets::PeerAddress;
use sockets::config::{Log, RESERVE};

use crate::ledger::{Ledger, Rules};
use crate::play::{Play, Stop, moment};
use crate::script::Script;
use crate::socket::{Client, Nature, ReplyEnd};
use crate::world::{Poll, World};

/// How often the clients wait out a deadline of the hub before one of them gives up. A hub that cannot read
/// on looks at an unfinished message again and again.
const NAPS: usize = 3;

/// Everything that is drawn once for a simulation.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    rules: Rules,
    memory: Memory,
    poll: Poll,
    /// How many clients come in all, and how many are there at once.
    clients: (usize, usize),
    /// The most bytes that one client sends.
    most: usize,
    stop: Stop,
    /// Whether signals interrupt reads and writes.
    has_interrupts: bool,
    /// How likely a client is to act in a round, in 1 of 256.
    pace: u8,
}

/// How much there is for what the clients leave unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// More than they send in all.
    Plenty,
    /// Whatever was drawn, down to nothing.
    Short,
    /// Enough for some, but not for all, and all want much.
    Contested,
}

impl Plan {
    pub(crate) fn draw(random: &mut Rng) -> Self {
        let memory = [Memory::Plenty, Memory::Plenty, Memory::Short, Memory::Contested][random.usize(..4)];
        let (max_pending, max_memory) = match memory {
            Memory::Plenty => (64 << 20, 1 << 30),
            Memory::Short => {
                let pending = [1, 64 << 10, random.usize(..400_000)][random.usize(..3)];
                (pending, [0, 64 << 10, random.usize(..1_000_000)][random.usize(..3)])
            }
            Memory::Contested => (random.usize(200_000..1_000_000), random.usize(50_000..500_000)),
        };
        let config = Config::with(|config| {
            config.log = if random.u8(..8) == 0 { Log::Quiet } else { Log::Messages };
            // Often more than one client may hold, so that a text has to give way to the echo.
            config.log_max = [0, 10, 1000, 40_000, 128 << 10, 128 << 10, 128 << 10][random.usize(..7)];
            (config.max_pending, config.max_memory) = (max_pending, max_memory);
            (config.idle_timeout, config.stall_timeout) = (timeout(random), timeout(random));
        });
        let sizes = if memory == Memory::Contested { 3.. } else { 0.. };
        let sizes = &[100, 5000, 100_000, 600_000][sizes];
        Self {
            rules: Rules { config, is_plenty: memory == Memory::Plenty },
            memory,
            poll: [Poll::Genuine, Poll::Late, Poll::Spurious, Poll::Spurious][random.usize(..4)],
            clients: (random.usize(1..60), random.usize(1..=40)),
            most: sizes[random.usize(..sizes.len())],
            stop: Stop::draw(300, random),
            has_interrupts: random.u8(..3) == 0,
            pace: random.u8(50..),
        }
    }
}

/// Mostly none; otherwise longer than the silence that ends a message.
fn timeout(random: &mut Rng) -> Option<Duration> {
    (random.u8(..4) == 0).then(|| Duration::from_millis(random.u64(60..3000)))
}

/// A client, its script and its ledger.
struct Peer {
    client: Client,
    script: Script,
    ledger: Ledger,
}

struct Echo {
    plan: Plan,
    world: World,
    random: Rng,
    /// The clients that are not done, or that the hub still holds.
    peers: BTreeMap<PeerAddress, Peer>,
    /// How many clients are still to come.
    coming: usize,
    /// How many deadlines were waited out since something happened.
    naps: usize,
}

/// Plays the simulation of one seed, and panics where a promise is broken.
pub(crate) fn simulate(plan: Plan, mut random: Rng) {
    let world = World::new(&plan.rules.config, plan.poll, random.fork());
    let coming = plan.clients.0;
    let mut echo = Echo { plan, world, random, peers: BTreeMap::new(), coming, naps: 0 };
    echo.play();
    echo.end();
}

impl Play for Echo {
    fn world(&mut self) -> &mut World {
        &mut self.world
    }

    fn when_to_stop(&self) -> Stop {
        self.plan.stop
    }

    fn act(&mut self, all: bool) -> bool {
        let mut has_acted = false;
        for peer in self.peers.values_mut() {
            if all || self.random.u8(..) < self.plan.pace {
                has_acted |= peer.script.act(&peer.client, all, &mut self.random);
            }
        }
        has_acted
    }

    fn turn(&mut self) {
        let Self { world, peers, plan, .. } = self;
        let noted = world.noted;
        world.turn(|event| judge(event, peers, &plan.rules, noted));
        self.check_turn();
    }

    fn stop(&mut self) {
        self.coming = 0;
        let mut answered = Vec::new();
        for peer in self.peers.values_mut().filter(|peer| !peer.ledger.record().is_dropped) {
            // Who was sent away before is not listened to any more.
            let is_open = !peer.ledger.record().is_finished;
            let unread = if is_open { peer.client.unread() } else { 0 };
            peer.ledger.stop_at = Some(peer.ledger.record().taken + unread);
            let is_idle = peer.ledger.is_idle(self.world.now, &self.plan.rules);
            if is_open && !is_idle && unread == 0 && peer.ledger.owed() == 0 && peer.client.has_read_all() {
                answered.push(peer.client.clone());
            }
        }
        self.world.hub.drain();
        self.turn();
        let is_dropped = |client: &Client| client.record().is_dropped;
        assert!(answered.iter().all(is_dropped), "a client that has got everything has to wait");
        for peer in self.peers.values_mut() {
            if self.plan.stop.grace.is_none() || self.random.bool() {
                peer.script.relent(&peer.client, true, &mut self.random);
            }
        }
    }

    fn abandon(&mut self) {
        for peer in self.peers.values_mut() {
            peer.ledger.give_up();
        }
        let Self { world, peers, plan, .. } = self;
        let now = world.now;
        world.abandon(|event| judge(event, peers, &plan.rules, now));
        for peer in peers.values_mut() {
            assert!(peer.ledger.record().is_dropped, "given up, but not dropped");
            peer.script.relent(&peer.client, true, &mut self.random);
        }
    }

    /// Judges the clients that have left: those that were honest got everything back.
    fn retire(&mut self) {
        let is_done = |peer: &Peer| peer.script.is_over() && peer.ledger.record().is_dropped;
        for (_, Peer { script, ledger, .. }) in self.peers.extract_if(.., |_, peer| is_done(peer)) {
            if script.is_honest() && !ledger.is_given_up() && !ledger.has_timed_out() {
                assert_eq!(script.end, Some(ReplyEnd::Clean), "the reply broke off: {ledger:?}");
                ledger.check_reply(script.got, script.payload.len());
            }
        }
    }

    fn accept(&mut self, all: bool) -> bool {
        let here = self.peers.values().filter(|peer| !peer.ledger.record().is_dropped).count();
        if self.coming == 0 || here >= self.plan.clients.1 || (!all && self.random.bool()) {
            return false;
        }
        self.coming -= 1;
        let nature = self.nature();
        let narrowest = nature.receive_buffer.min(nature.send_buffer);
        let script = Script::draw(&mut self.random, self.plan.most, narrowest, self.plan.memory == Memory::Contested);
        let (address, client) = self.world.accept(nature);
        let ledger = Ledger::new(address, client.clone(), self.world.now);
        self.peers.insert(address, Peer { client, script, ledger });
        true
    }

    fn check_idle(&mut self) {
        let World { hub, now, .. } = &self.world;
        for Peer { ledger, script, .. } in self.peers.values() {
            ledger.check_idle(&script.payload, *now, hub.held(), hub.deadline(), &self.plan.rules);
        }
    }

    fn pass(&mut self) {
        self.naps = 0;
        self.world.pass(moment(&mut self.random));
    }

    fn rouse(&mut self, is_waiting: bool) -> bool {
        if self.naps < NAPS && self.world.sleep() {
            self.naps += 1;
        } else if self.peers.is_empty() {
            return true;
        } else if !is_waiting {
            self.relent();
        }
        false
    }
}

impl Echo {
    fn nature(&mut self) -> Nature {
        let random = &mut self.random;
        let mut size = || match random.u8(..8) {
            0 => random.usize(1..10),
            1 | 2 => random.usize(1..5000),
            _ => random.usize(1..400_000),
        };
        let (receive_buffer, send_buffer) = (size(), size());
        Nature {
            receive_buffer,
            send_buffer,
            wakes_at: if random.bool() { 1 } else { send_buffer.div_ceil(3) },
            interrupts: if self.plan.has_interrupts { random.usize(2..20) } else { 0 },
            reset_keeps_arrived: random.bool(),
            seed: random.u64(..),
        }
    }

    /// Nothing happens any more: one client that stands in the way gives up.
    fn relent(&mut self) {
        let mut stubborn: Vec<&mut Peer> = self.peers.values_mut().filter(|peer| !peer.script.is_over()).collect();
        let starving = stubborn.iter().find(|peer| !peer.script.is_stuck_by_choice());
        if let Some(Peer { ledger, script, .. }) = starving {
            panic!("a client does all it can and gets no further: {ledger:?}, {script:?}");
        }
        assert!(!stubborn.is_empty(), "the hub keeps what no client needs");
        let at = self.random.usize(..stubborn.len());
        let Peer { script, client, ledger } = &mut *stubborn[at];
        script.relent(client, ledger.stop_at.is_some(), &mut self.random);
    }

    fn check_turn(&mut self) {
        let rules = &self.plan.rules;
        let (mut least, mut most, mut here) = (0, 0, 0);
        for peer in self.peers.values_mut() {
            peer.ledger.check_turn(self.world.now, rules);
            let held = peer.ledger.held(rules);
            (least, most) = (least + held.0, most + held.1);
            here += usize::from(!peer.ledger.record().is_dropped);
        }
        let held = self.world.hub.held();
        assert!((least..=most).contains(&held), "{held} bytes are held, not {least} to {most}");
        let limit = rules.config.max_memory + here * RESERVE;
        assert!(held <= limit, "{held} bytes are held, {limit} may be");
    }

    /// All clients have left: nothing is left of them.
    fn end(mut self) {
        assert!(self.world.hub.is_empty() && !self.world.hub.has_work());
        assert_eq!(self.world.hub.held(), 0);
        while self.world.sleep() {
            self.world.turn(|event| panic!("{event:?} with nobody there"));
        }
    }
}

/// Enters what was told into the ledger of the client that it is about. Deadlines until `noted` may have expired.
fn judge(event: Event<'_>, peers: &mut BTreeMap<PeerAddress, Peer>, rules: &Rules, noted: Instant) {
    match event {
        Event::Message { peer, text, length } => {
            let Peer { ledger, script, .. } = peers.get_mut(&peer).expect("a client that is there");
            ledger.message(text, length, &script.payload, noted, rules);
        }
        Event::Closed { peer, close, received, sent } => {
            let Peer { ledger, .. } = peers.get_mut(&peer).expect("a client that is there");
            ledger.closed(close, received, sent, noted, rules);
        }
        other => panic!("{other:?} without a room"),
    }
}
