//! What holds for the room as a whole: after each turn, while members wait, and when all have left.

use sockets::config::RESERVE;

use super::account::{Account, Glance, stall_timeout};
use super::windows::{BATCH, BLOCK, Windows};
use super::{Crowd, MOMENT, Peer, ROOMY, SECOND};
use crate::socket::Client;
use crate::world::World;

impl Crowd {
    /// A member waits for the slowest one: it will go on at the pace of a person, and who does not read is not waited
    /// for longer than the stall timeout.
    pub(super) fn check_waiting(&self, waiting: usize, windows: &Windows) {
        let World { hub, now, .. } = &self.world;
        let timeout = stall_timeout(&self.plan.rules.config);
        assert!(hub.deadline().is_some_and(|at| at <= *now + SECOND), "{waiting} waits for ever");
        for Peer { account, .. } in self.peers.values() {
            let is_slowest = windows.floor.is_some() && account.next_entry(&self.transcript) == windows.floor;
            // What it has pending may have come a little later than it took something.
            let latest = account.took_at + timeout + MOMENT;
            assert!(!is_slowest || *now < latest, "{waiting} waits for {} too long", account.id);
        }
    }

    /// Whether a talker may wait for the slowest member.
    pub(super) fn may_be_waited(&self, windows: &Windows) -> bool {
        // Whether there is more to read where an event or a read that filled its buffer says so, the hub finds out only by
        // reading, and it does not read from a member that is too far ahead.
        let may_talk = |account: &Account| account.record().may_hold_more || account.is_unheard(&self.transcript);
        let may_wait =
            |Peer { account, .. }: &Peer| account.is_there() && may_talk(account) && windows.may_be_too_far(account.id);
        // What members with the same address leave behind may make others wait in the turn in which they come.
        self.plan.rules.shares_hosts || self.peers.values().any(may_wait)
    }

    pub(super) fn check_turn(&mut self) {
        let config = &self.plan.rules.config;
        let mut here = self.refused.values().filter(|refused| !refused.client.record().is_dropped).count();
        let mut taken = 0;
        for Peer { account, .. } in self.peers.values_mut() {
            account.check_turn(self.world.now, &mut self.transcript, &self.plan.rules);
            if self.is_stopping {
                account.note_answers(&self.transcript, &self.taken);
            }
            taken += account.record().taken - self.taken[account.id];
            self.taken[account.id] = account.record().taken;
            here += usize::from(account.is_there());
        }
        let (turns, others) = (self.turns, self.peers.len());
        for Peer { account, .. } in self.peers.values_mut().filter(|_| !self.is_stopping) {
            account.check_typed(&self.transcript, self.world.now, turns, others);
        }
        let windows = Windows::look(&self.peers, &self.transcript, &self.plan);
        if !self.is_stopping {
            windows.check(&self.peers, &self.transcript, self.world.now);
        }
        let held = self.world.hub.held();
        // The block that is always there to be appended to comes on top.
        let limit = config.max_memory + here * RESERVE + BLOCK;
        assert!(held <= limit, "{held} bytes are held, {limit} may be");
        let brought = taken + BATCH + BLOCK + self.plan.longest_lines().0;
        self.last = Glance {
            noted: self.world.noted,
            is_waited: self.may_be_waited(&windows),
            is_short: self.last.held + brought > config.max_memory,
            held,
        };
    }

    /// All members have left: nothing is left of them.
    pub(super) fn end(mut self) {
        assert!(self.world.hub.is_empty() && !self.world.hub.has_work());
        self.check_memory();
        assert!(
            self.is_stopping || self.transcript.names.list(None).is_empty(),
            "somebody is in the room who is not there"
        );
        while self.world.sleep() {
            self.world.turn(|event| panic!("{event:?} with nobody there"));
        }
        if !self.is_stopping {
            self.play_epilogue();
        }
    }

    /// The room works as on the first day. What its members may have left behind in the feed would keep this too.
    fn play_epilogue(&mut self) {
        let clients = [self.world.accept(ROOMY).1, self.world.accept(ROOMY).1];
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
                let lines = clients[1].receive(usize::MAX).iter().filter(|byte| **byte == b'\n').count();
                // The welcome, and what was said before.
                heard += if step == 0 { 0 } else { lines };
            }
        }
        assert!(self.world.hub.is_empty() && heard >= count, "the room is not what it was");
        self.check_memory();
    }

    fn check_memory(&self) {
        let held = self.world.hub.held();
        assert!(held <= BLOCK + self.plan.history(), "{held} bytes are kept for nobody");
    }
}
