//! A room full of members of all kinds, with everything that chance can vary drawn from one seed.
//!
//! [`plan`] is what is drawn, [`speech`] what a member sends, [`member`] how it does that and when it reads,
//! [`transcript`] what the operator was shown, in order; [`listener`] holds what a member was told, line by line, against
//! the transcript, [`account`] what the hub did for it against what it may and must do, and [`checks`] what holds for all
//! together.

mod account;
mod checks;
mod listener;
mod member;
mod plan;
mod speech;
mod transcript;
mod windows;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;
use sockets::Event;
use sockets::PeerAddress;
use sockets::connection::Close;

use self::account::{Account, Glance, SHORT_TIMEOUT, stall_timeout};
use self::member::Member;
use self::plan::PATIENCE;
pub(crate) use self::plan::Plan;
use self::transcript::Transcript;
use self::windows::{BLOCK, Windows};
use crate::play::{Play, Stop, moment};
use crate::socket::{Client, Nature, ReplyEnd};
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

/// A network that takes everything at once.
const ROOMY: Nature = Nature {
    receive_buffer: 1 << 20,
    send_buffer: 16 << 20,
    wakes_at: 1,
    interrupts: 0,
    reset_keeps_arrived: true,
    seed: 0,
};

/// The time that may pass between two turns.
const MOMENT: Duration = Duration::from_millis(60);

const FULL: &str = "* server is full\n";

struct Peer {
    member: Member,
    account: Account,
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
    transcript: Transcript,
    /// The members that are not done, or that the hub still holds.
    peers: BTreeMap<PeerAddress, Peer>,
    refused: BTreeMap<PeerAddress, Refused>,
    /// How many bytes the hub has taken of each member.
    taken: Vec<usize>,
    /// How many members are still to come.
    coming: usize,
    is_stopping: bool,
    /// How the last turn ended.
    last: Glance,
    /// How many turns there were.
    turns: usize,
    /// For how long there have been members of each host that are gone.
    hosts: BTreeMap<Option<IpAddr>, Duration>,
}

/// Plays the simulation of one seed, and panics where a promise is broken.
pub(crate) fn simulate(plan: Plan, mut random: Rng) {
    let world = World::new(&plan.rules.config, plan.poll, random.fork());
    let mut crowd = Crowd {
        world,
        random,
        transcript: Transcript::new(&plan),
        peers: BTreeMap::new(),
        refused: BTreeMap::new(),
        taken: Vec::new(),
        coming: plan.members.0,
        is_stopping: false,
        last: Glance { noted: Instant::now(), is_waited: false, is_short: false, held: 0 },
        turns: 0,
        hosts: BTreeMap::new(),
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
        let now = self.world.now;
        for Peer { member, account, .. } in self.peers.values_mut() {
            if member.is_person() {
                let speech = &self.transcript.attendances[account.id].speech.bytes;
                if member.type_line(&account.client, speech, now) {
                    account.note_typed(member.sent, now, self.turns);
                    has_acted = true;
                }
                has_acted |= member.act(&account.client, speech, all, &mut self.random);
            } else if all || self.random.u8(..) < self.plan.pace {
                let speech = &self.transcript.attendances[account.id].speech.bytes;
                has_acted |= member.act(&account.client, speech, all, &mut self.random);
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
        // Some may have sent something since the last turn.
        let windows = Windows::look(&self.peers, &self.transcript, &self.plan);
        self.last.is_waited |= self.may_be_waited(&windows);
        let Self { world, peers, transcript, refused, plan, last, hosts, .. } = self;
        let noted = world.noted;
        let mut left = Vec::new();
        world.turn(|event| match event {
            Event::Room { peer, notice } => {
                let line = &*notice.to_string();
                let account = &peers[&peer].account;
                transcript.enter(account.id, line);
                assert!(transcript.entries.last().is_some_and(|entry| entry.deed.is_of(&notice)), "{line:?}");
                account.check_announcement(transcript, noted);
                account.check_leave(transcript);
            }
            Event::Closed { peer: address, close, received, sent } => match peers.get_mut(&address) {
                Some(Peer { member, account, .. }) => {
                    let spent = hosts.entry(address.ip()).or_default();
                    let timeout = stall_timeout(&plan.rules.config);
                    let spent = if plan.rules.shares_hosts { *spent } else { Duration::ZERO };
                    let timeout = timeout.saturating_sub(spent).max(timeout.min(SHORT_TIMEOUT));
                    account.closed(close, received, sent, last, timeout, &plan.rules);
                    left.push((address.ip(), noted - account.since));
                    let may_be_slow = last.is_short || plan.rules.shares_hosts;
                    let is_hasty =
                        close == Close::TooSlow && !may_be_slow && plan.rules.config.stall_timeout == Some(PATIENCE);
                    assert!(!is_hasty || !member.is_healthy(), "{} was closed though it reads on", account.id);
                }
                None => {
                    let refused = refused.get_mut(&address).expect("a client that is there");
                    assert!(close == Close::Full || matches!(close, Close::Broken(_)) && refused.client.is_reset());
                    refused.is_closed = true;
                }
            },
            other => panic!("{other:?} in a room"),
        });
        // Members that are gone count for those that are judged later.
        for (host, time) in left {
            *self.hosts.entry(host).or_default() += time;
        }
        self.turns += 1;
        self.check_turn();
    }

    fn stop(&mut self) {
        self.coming = 0;
        self.is_stopping = true;
        for Peer { account, .. } in self.peers.values_mut() {
            account.stop();
            account.note_answers(&self.transcript, &self.taken);
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
        for Peer { account, .. } in self.peers.values_mut() {
            account.give_up();
        }
        let Self { world, peers, refused, plan, last, .. } = self;
        world.abandon(|event| match event {
            Event::Closed { peer, close, received, sent } => match peers.get_mut(&peer) {
                Some(Peer { account, .. }) => account.closed(close, received, sent, last, Duration::ZERO, &plan.rules),
                None => refused.get_mut(&peer).expect("a client that is there").is_closed = true,
            },
            other => panic!("{other:?} at the very end"),
        });
        for Peer { member, account, .. } in peers.values_mut() {
            assert!(!account.is_there(), "given up, but not dropped");
            member.relent(false);
        }
    }

    /// Judges the members that have left: those that were honest were told everything that was for them.
    fn retire(&mut self) {
        let is_done = |peer: &Peer| peer.member.is_over() && !peer.account.is_there();
        for (_, Peer { member, mut account, .. }) in self.peers.extract_if(.., |_, peer| is_done(peer)) {
            if member.is_honest() && member.end == Some(ReplyEnd::Clean) {
                account.check_end(member.got, &mut self.transcript);
            }
            let is_lost = member.end == Some(ReplyEnd::Broken) && account.closed != Some(Close::TooSlow);
            assert!(
                !is_lost || !member.is_honest() || self.plan.stop.grace.is_some(),
                "broken: {member:?} {account:?}"
            );
        }
        let is_done = |refused: &Refused| refused.client.record().is_dropped;
        for (_, refused) in self.refused.extract_if(.., |_, refused| is_done(refused)) {
            assert!(refused.is_closed, "turned away without a word to the operator");
            let told = [&refused.heard[..], &refused.client.latest(usize::MAX)].concat();
            assert!(told == FULL.as_bytes() || self.plan.stop.grace.is_some(), "{:?}", String::from_utf8_lossy(&told));
        }
    }

    fn accept(&mut self, all: bool) -> bool {
        let here = self.peers.values().filter(|peer| peer.account.is_there()).count();
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
        let id = self.transcript.attendances.len();
        let (member, speech) = self.plan.member(id, here, self.world.now, &mut self.random);
        let nature = if member.is_person() { Nature { interrupts: nature.interrupts, ..ROOMY } } else { nature };
        let host = self.plan.host(&mut self.random).filter(|_| !member.is_person());
        let (address, client) = match host {
            Some(host) => self.world.accept_from(host, nature),
            None => self.world.accept(nature),
        };
        assert_eq!(self.transcript.welcome(speech), id);
        self.taken.push(0);
        let account = Account::new(id, client, self.world.now);
        self.peers.insert(address, Peer { member, account });
        true
    }

    fn check_idle(&mut self) {
        let windows = Windows::look(&self.peers, &self.transcript, &self.plan);
        let (held, now) = (self.world.hub.held(), self.world.now);
        let (mut unheard, mut is_quiet, mut waiting) = (0, true, None);
        for Peer { account, .. } in self.peers.values_mut().filter(|peer| peer.account.is_there()) {
            let ignores_answers = account.may_ignore_answers(&self.transcript, &self.taken);
            let may_wait = ignores_answers || (!self.is_stopping && windows.may_be_too_far(account.id));
            let is_member =
                self.transcript.attendances[account.id].left.is_none() && !account.has_left_unnoticed(&self.transcript);
            if is_member && !ignores_answers && !self.is_stopping && account.client.unread() > 0 {
                waiting = Some(account.id);
            }
            account.check_idle(may_wait, now, &mut self.transcript);
            unheard += account.unheard(&self.transcript);
            is_quiet &= !may_wait && !account.client.wants_room();
        }
        if let Some(waiting) = waiting {
            self.check_waiting(waiting, &windows);
        }
        // The memory of a line without an end grows by a quarter.
        let is_leaving = self.refused.values().any(|refused| refused.client.wants_room());
        if is_quiet && !is_leaving {
            assert!(
                held <= BLOCK + self.plan.history() + unheard + unheard / 4,
                "{held} bytes are held for nobody, {unheard} without an end"
            );
        }
    }

    fn pass(&mut self) {
        self.world.pass(moment(&mut self.random));
    }

    fn rouse(&mut self, is_waiting: bool) -> bool {
        if self.peers.is_empty() && self.refused.is_empty() {
            return true;
        }
        let is_typing = |Peer { member, account }: &Peer| {
            member.is_typing(self.transcript.attendances[account.id].speech.bytes.len()) && account.is_there()
        };
        if self.peers.values().any(is_typing) && self.random.u8(..4) > 0 {
            self.world.pass(Duration::from_millis(self.random.u64(..=1000)));
            return false;
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
        let transcript = &self.transcript;
        let stubborn = self.peers.values_mut().filter(|Peer { member, account, .. }| {
            let length = transcript.attendances[account.id].speech.bytes.len();
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

    fn lines(&self) -> Vec<&str> {
        self.transcript.entries.iter().rev().take(5).map(|entry| entry.line.as_str()).collect()
    }
}
