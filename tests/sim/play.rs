//! The rounds of a simulation: the clients, the hub and the time move one after another.

use std::time::Duration;

use fastrand::Rng;

use crate::world::World;

/// After so many rounds a simulation is taken to be stuck in a circle.
const MOST_ROUNDS: usize = 50_000;

/// When the hub ends, if it does not outlast its clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    /// In which round the hub is told to stop.
    pub(crate) drain_in: Option<usize>,
    /// After how many more rounds it gives up those that are left. Without it all clients read on.
    pub(crate) grace: Option<usize>,
}

impl Stop {
    /// One in three hubs is told to stop, in one of the first `rounds`, and one in three of those gives up.
    pub(crate) fn draw(rounds: usize, random: &mut Rng) -> Self {
        Self {
            drain_in: (random.u8(..3) == 0).then(|| random.usize(..rounds)),
            grace: (random.u8(..3) == 0).then(|| random.usize(..30)),
        }
    }
}

/// Clients of one kind against one hub, and what was promised to them.
pub(crate) trait Play {
    fn world(&mut self) -> &mut World;

    fn when_to_stop(&self) -> Stop;

    /// Lets clients act: all of them if nothing happens otherwise. Returns whether one did something.
    fn act(&mut self, all: bool) -> bool;

    fn turn(&mut self);

    /// The turn in which the hub learns that it has to stop: after the events, before the work.
    fn stop(&mut self);

    /// The hub gives up the clients that do not read on.
    fn abandon(&mut self);

    /// Judges the clients that have left.
    fn retire(&mut self);

    /// Accepts new clients, at least one if nothing happens otherwise. Returns whether one came.
    fn accept(&mut self, all: bool) -> bool;

    /// Checks what has to be true where nothing happens.
    fn check_idle(&mut self);

    /// Lets a little time pass.
    fn pass(&mut self);

    /// Nothing happens any more: lets a deadline of the hub come, or one client give up, which is not asked of
    /// it while the hub `is_waiting` before it gives up. Returns whether all clients have left.
    fn rouse(&mut self, is_waiting: bool) -> bool;

    /// Plays until all clients have left.
    fn play(&mut self) {
        let mut was_quiet = false;
        for round in 0..MOST_ROUNDS {
            let has_acted = self.act(was_quiet);
            let is_woken = self.world().poll();
            let Stop { drain_in, grace } = self.when_to_stop();
            let grace = drain_in.zip(grace).map(|(stop, grace)| stop..stop + grace);
            let must_stop = drain_in == Some(round);
            if must_stop {
                self.stop();
            } else if is_woken {
                self.turn();
            }
            let is_abandoning = grace.as_ref().is_some_and(|grace| grace.end == round);
            if is_abandoning {
                self.abandon();
            }
            self.retire();
            let has_come = self.accept(was_quiet);

            let has_happened = has_acted || has_come || must_stop || is_abandoning || !self.world().is_idle();
            if has_happened {
                self.pass();
            } else {
                self.check_idle();
                let is_waiting = grace.is_some_and(|grace| grace.contains(&round));
                if was_quiet && self.rouse(is_waiting) {
                    return;
                }
            }
            was_quiet = !has_happened;
        }
        panic!("no end after {MOST_ROUNDS} rounds");
    }
}

/// A little time, or none.
pub(crate) fn moment(random: &mut Rng) -> Duration {
    let longest = [0, 0, 0, 0, 1, 20, 60][random.usize(..7)];
    Duration::from_millis(random.u64(..=longest))
}
