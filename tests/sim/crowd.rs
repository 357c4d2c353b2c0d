//! A room full of members of all kinds, with everything that chance can vary drawn from one seed.
//!
//! [`plan`] is what is drawn, [`speech`] what a member sends, [`member`] how it does that and when it reads,
//! [`minutes`] what the operator was shown, in order; [`ear`] holds what a member was told, line by line, against
//! the minutes, and [`books`] what the hub did for it against what it may and must do.

mod books;
mod ear;
mod member;
mod minutes;
mod plan;
mod speech;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use fastrand::Rng;
use sockets::Event;
use sockets::config::RESERVE;
use sockets::connection::Close;

use self::books::Books;
use self::member::Member;
use self::minutes::{Deed, Minutes};
use self::plan::PATIENCE;
pub(crate) use self::plan::Plan;
use crate::play::{Play, Stop, moment};
use crate::socket::{Client, Nature, ReplyEnd};
use crate::world::World;

/// What one feed keeps when nobody needs it any more.
const BLOCK: usize = 64 << 10;

/// What a turn may say: eight times a batch, or the longest line.
const HEADROOM: usize = 8 * (200 << 10);

const FULL: &str = "* server is full\n";

struct Peer {
    address: SocketAddr,
    member: Member,
    books: Books,
}

/// A client that found no place.
struct Refused {
    client: Client,
    heard: Vec<u8>,
    is_closed: bool,
}

struct Crowd {
    plan: Plan,
    world: World,
    random: Rng,
    minutes: Minutes,
    /// The members that are not done, or that the hub still holds.
    peers: BTreeMap<SocketAddr, Peer>,
    refused: BTreeMap<SocketAddr, Refused>,
    /// How many bytes the hub has taken of each member.
    taken: Vec<usize>,
    /// How many members are still to come.
    coming: usize,
    is_stopping: bool,
    /// When the last turn was.
    last_turn: Instant,
    /// How many bytes of the minutes nobody had said.
    announced: usize,
}

/// Plays the simulation of one seed, and panics where a promise is broken.
pub(crate) fn simulate(plan: Plan, mut random: Rng) {
    let world = World::new(&plan.rules.config, plan.poll, random.fork());
    let mut crowd = Crowd {
        world,
        random,
        minutes: Minutes::new(plan.rules.config.max_line > RESERVE),
        peers: BTreeMap::new(),
        refused: BTreeMap::new(),
        taken: Vec::new(),
        coming: plan.members.0,
        is_stopping: false,
        last_turn: Instant::now(),
        announced: 0,
        plan,
    };
    crowd.play();
    crowd.end();
}

impl Play for Crowd {
    fn world(&mut self) -> &mut World {
        &mut self.world
    }

    fn when_to_stop(&self) -> Stop {
        self.plan.stop
    }

    fn act(&mut self, all: bool) -> bool {
        let mut has_acted = false;
        for Peer { member, books, .. } in self.peers.values_mut() {
            if all || self.random.u8(..) < self.plan.pace {
                let speech = &self.minutes.attendances[books.id].speech.bytes;
                has_acted |= member.act(&books.client, speech, all, &mut self.random);
            }
        }
        for refused in self.refused.values_mut() {
            let bytes = refused.client.receive(usize::MAX);
            has_acted |= !bytes.is_empty();
            refused.heard.extend(bytes);
            if refused.client.reply_end().is_some() && !refused.client.has_fin() {
                refused.client.close();
                has_acted = true;
            }
        }
        has_acted
    }

    fn turn(&mut self) {
        let mark = self.plan.rules.config.max_queue;
        let is_too_much = |peer: &&Peer| !self.is_stopping && peer.books.owed(&self.minutes) > mark;
        let slow: Vec<SocketAddr> = self.peers.values().filter(is_too_much).map(|peer| peer.address).collect();
        let before = self.minutes.entries.len();

        let Self { world, peers, minutes, refused, plan, last_turn, .. } = self;
        world.turn(|event| match event {
            Event::Room { peer, notice } => {
                let line = &*notice.to_string();
                let author = minutes.enter(line);
                assert!(minutes.entries.last().is_some_and(|entry| entry.deed.is_of(&notice)), "{line:?}");
                assert_eq!(peers[&peer].books.id, author, "{line:?}");
                if let Some(peer) = peers.values().find(|peer| peer.books.id == author) {
                    peer.books.check_leave(minutes);
                }
            }
            Event::Closed { peer, close, received, sent } => match peers.get_mut(&peer) {
                Some(Peer { member, books, .. }) => {
                    books.closed(close, received, sent, *last_turn, &plan.rules);
                    let is_hasty = close == Close::TooSlow && plan.rules.config.stall_timeout == Some(PATIENCE);
                    assert!(!is_hasty || !member.is_healthy(), "{} was closed though it reads on", books.id);
                }
                None => {
                    let refused = refused.get_mut(&peer).expect("a client that is there");
                    assert!(close == Close::Full || matches!(close, Close::Broken(_)) && refused.client.is_reset());
                    refused.is_closed = true;
                }
            },
            other => panic!("{other:?} in a room"),
        });
        *last_turn = world.now;

        let new = &self.minutes.entries[before..];
        let said = new.iter().find(|entry| entry.deed == Deed::Said);
        // Who is closed in this turn is waited for no more.
        let slow = slow.iter().find(|address| self.peers[address].books.closed.is_none());
        assert!(slow.is_none() || said.is_none(), "{said:?} is said while {slow:?} is owed too much");
        let announced = new.iter().filter(|entry| !matches!(entry.deed, Deed::Said));
        self.announced += announced.map(|entry| entry.line.len() + 1).sum::<usize>();
        self.check_turn();
    }

    fn stop(&mut self) {
        self.coming = 0;
        self.is_stopping = true;
        for Peer { books, .. } in self.peers.values_mut() {
            books.stop();
        }
        self.world.hub.drain();
        self.turn();
        for Peer { member, .. } in self.peers.values_mut() {
            if self.plan.stop.grace.is_none() || self.random.bool() {
                member.relent(false);
            }
        }
    }

    fn abandon(&mut self) {
        for Peer { books, .. } in self.peers.values_mut() {
            books.give_up();
        }
        let Self { world, peers, refused, plan, .. } = self;
        let now = world.now;
        world.abandon(|event| match event {
            Event::Closed { peer, close, received, sent } => match peers.get_mut(&peer) {
                Some(Peer { books, .. }) => books.closed(close, received, sent, now, &plan.rules),
                None => refused.get_mut(&peer).expect("a client that is there").is_closed = true,
            },
            other => panic!("{other:?} at the very end"),
        });
        for Peer { member, books, .. } in peers.values_mut() {
            assert!(!books.is_there(), "given up, but not dropped");
            member.relent(false);
        }
    }

    /// Closes the books on the members that have left: those that were honest were told all that they are owed.
    fn retire(&mut self) {
        let is_done = |peer: &Peer| peer.member.is_over() && !peer.books.is_there();
        for (_, Peer { member, mut books, .. }) in self.peers.extract_if(.., |_, peer| is_done(peer)) {
            if member.is_honest() && member.end == Some(ReplyEnd::Clean) {
                books.check_end(member.got, &mut self.minutes);
            }
            let is_lost = member.end == Some(ReplyEnd::Broken) && books.closed != Some(Close::TooSlow);
            assert!(!is_lost || !member.is_honest() || self.plan.stop.grace.is_some(), "broken: {member:?} {books:?}");
        }
        let is_done = |refused: &Refused| refused.client.record().is_dropped;
        for (_, refused) in self.refused.extract_if(.., |_, refused| is_done(refused)) {
            assert!(refused.is_closed, "turned away without a word to the operator");
            let told = [&refused.heard[..], &refused.client.latest(usize::MAX)].concat();
            assert!(told == FULL.as_bytes() || self.plan.stop.grace.is_some(), "{:?}", String::from_utf8_lossy(&told));
        }
    }

    fn accept(&mut self, all: bool) -> bool {
        let here = self.peers.values().filter(|peer| peer.books.is_there()).count();
        if self.coming == 0 || (!all && self.random.bool()) {
            return false;
        }
        let nature = self.plan.nature(&mut self.random);
        if here >= self.plan.members.1 {
            if !all && self.random.u8(..32) == 0 {
                self.coming -= 1;
                let (address, client) = self.world.turn_away(nature, FULL);
                self.refused.insert(address, Refused { client, heard: Vec::new(), is_closed: false });
                return true;
            }
            return false;
        }
        self.coming -= 1;
        let id = self.minutes.attendances.len();
        let (member, speech) = self.plan.member(id, here, &mut self.random);
        let (address, client) = self.world.accept(nature);
        assert_eq!(self.minutes.expect(speech), id);
        self.taken.push(0);
        let books = Books::new(id, client, self.world.now);
        self.peers.insert(address, Peer { address, member, books });
        true
    }

    fn check_idle(&mut self) {
        let config = &self.plan.rules.config;
        let held = self.world.hub.held();
        // Where memory may be short, everybody who is owed anything can be in the way.
        let mark = if held > config.max_memory / 2 { 0 } else { config.max_queue / 2 };
        let (minutes, taken) = (&self.minutes, &self.taken);
        let is_in_the_way = |Peer { books, .. }: &Peer| {
            let least = books.owed(minutes);
            let may_be_owed = || least + minutes.unaccounted(books.id, |id| taken[id], books.ear.answered);
            books.is_there() && books.client.wants_room() && (least > mark || may_be_owed() > mark)
        };
        let is_unheard = |Peer { books, .. }: &Peer| books.is_there() && books.is_unheard(minutes);
        let is_leaving = self.refused.values().any(|refused| refused.client.wants_room());
        let is_held_up = self.peers.values().any(is_unheard) && self.peers.values().any(is_in_the_way);
        let mut unheard = 0;
        for Peer { books, .. } in self.peers.values_mut() {
            books.check_idle(is_held_up, &mut self.minutes);
            unheard += if books.is_there() { books.unheard(&self.minutes) } else { 0 };
        }
        let is_owed = |peer: &Peer| peer.books.is_there() && peer.books.client.wants_room();
        if !is_held_up && !is_leaving && !self.peers.values().any(is_owed) {
            assert!(held <= BLOCK + unheard, "{held} bytes are held for nobody, {unheard} without an end");
        }
    }

    fn pass(&mut self) {
        self.world.pass(moment(&mut self.random));
    }

    fn rouse(&mut self, is_waiting: bool) -> bool {
        if self.peers.is_empty() && self.refused.is_empty() {
            return true;
        }
        let has_relented = !is_waiting && self.random.bool() && self.relent();
        if !has_relented && !self.world.sleep() && !is_waiting {
            assert!(self.relent(), "the hub keeps what nobody needs: {:?}", self.lines());
        }
        false
    }
}

impl Crowd {
    /// Nothing happens any more: one member that stands in the way gives up. Returns whether there was one.
    fn relent(&mut self) -> bool {
        let minutes = &self.minutes;
        let stubborn = self.peers.values_mut().filter(|Peer { member, books, .. }| {
            let length = minutes.attendances[books.id].speech.bytes.len();
            !member.is_over() && member.is_stuck_by_choice(length)
        });
        let mut stubborn: Vec<&mut Peer> = stubborn.collect();
        if stubborn.is_empty() {
            return false;
        }
        let at = self.random.usize(..stubborn.len());
        stubborn[at].member.relent(self.random.bool());
        true
    }

    fn check_turn(&mut self) {
        let config = &self.plan.rules.config;
        let mut here = self.refused.values().filter(|refused| !refused.client.record().is_dropped).count();
        for Peer { books, .. } in self.peers.values_mut() {
            books.check_turn(self.world.now, &mut self.minutes, &self.plan.rules);
            self.taken[books.id] = books.record().taken;
            here += usize::from(books.is_there());
        }
        let longest = 6 * config.max_line.min(self.plan.most.max(200)) + 200;
        for Peer { books, .. } in self.peers.values().filter(|_| !self.is_stopping) {
            books.check_bound(&self.minutes, longest, self.announced, config);
        }
        let held = self.world.hub.held();
        // Where little may be held, what is said in a turn can be more, every byte of it escaped.
        let said = if config.max_memory < 2 * HEADROOM { HEADROOM } else { 0 };
        let limit = config.max_memory + here * RESERVE + BLOCK + said;
        assert!(held <= limit, "{held} bytes are held, {limit} may be");
    }

    /// All members have left: nothing is left of them.
    fn end(mut self) {
        assert!(self.world.hub.is_empty() && !self.world.hub.has_work());
        self.check_memory();
        assert!(self.is_stopping || self.minutes.names.list().is_empty(), "somebody is in the room who is not there");
        while self.world.sleep() {
            self.world.turn(|event| panic!("{event:?} with nobody there"));
        }
        if !self.is_stopping {
            self.play_epilogue();
        }
    }

    /// The room works as on the first day. What its members may have left behind in the feed would keep this too.
    fn play_epilogue(&mut self) {
        const ROOMY: usize = 1 << 20;
        let nature = Nature {
            receive_buffer: ROOMY,
            send_buffer: ROOMY,
            wakes_at: 1,
            interrupts: 0,
            reset_keeps_arrived: true,
            seed: 0,
        };
        let clients = [self.world.accept(nature.clone()).1, self.world.accept(nature).1];
        let length = self.plan.rules.config.max_line.min(1000);
        let line = [&vec![b'.'; length], &b"\n"[..]].concat();
        let count = BLOCK.checked_div(length).map_or(0, |count| count + 1);
        let mut heard = 0;
        for step in 0..3 {
            match step {
                0 => {}
                1 => assert!(clients[0].send(&line.repeat(count)) == count * line.len()),
                _ => clients.iter().for_each(Client::finish),
            }
            while !self.world.is_idle() {
                if self.world.poll() {
                    self.world.turn(|_| {});
                }
                heard += clients[1].receive(ROOMY).iter().filter(|byte| **byte == b'\n').count();
            }
        }
        assert!(self.world.hub.is_empty() && heard > count, "the room is not what it was");
        self.check_memory();
    }

    fn check_memory(&self) {
        let held = self.world.hub.held();
        assert!(held <= BLOCK, "{held} bytes are kept for nobody");
    }

    fn lines(&self) -> Vec<&str> {
        self.minutes.entries.iter().rev().take(5).map(|entry| entry.line.as_str()).collect()
    }
}
