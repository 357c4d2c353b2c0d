//! Rooms that span servers: several hubs over one log, which is cut, late, loses data, and forgets what is old; servers
//! that stand still beyond their lease or are killed, and members that talk, whisper, take each other's names, come and go,
//! and do not read.
//!
//! [`log`] is the log, [`link`] how a server gets to it, [`server`] one server with what its members were to be told, and
//! [`member`] what a member sends and hears. [`scenes`] are small rooms in which one thing happens.

mod link;
mod log;
mod member;
mod scenes;
mod server;

use std::time::{Duration, Instant};

use fastrand::Rng;
use sockets::Config;
use sockets::shared_log::ServerId;

use self::log::Log;
use self::server::Server;

/// What may happen to the log and to servers.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    config: Config,
    servers: usize,
    rounds: usize,
    /// In how many of 1000 rounds one of these happens: a cut, a loss of data, a server that stands still, one that is
    /// killed, a trim of the log.
    cuts: u32,
    losses: u32,
    freezes: u32,
    kills: u32,
    trims: u32,
    /// How many members come, about.
    members: usize,
}

/// All servers, and the log that they share.
struct World {
    plan: Plan,
    random: Rng,
    now: Instant,
    log: Log,
    /// What the log was, for losses.
    backup: Log,
    /// The last entry's.
    serial: u64,
    servers: Vec<Server>,
    started: u128,
    /// When the log last lost something.
    lost_at: Option<Instant>,
}

impl Plan {
    pub(crate) fn draw(random: &mut Rng) -> Self {
        let mut often = |most: u32| if random.bool() { random.u32(..most) } else { 0 };
        let (cuts, losses, freezes, kills, trims) = (often(60), often(20), often(15), often(10), often(50));
        let config = Config::with(|config| {
            config.chat = true;
            config.max_ahead = [1000, 20_000, 256 << 10][random.usize(..3)];
            config.max_memory = [300_000, 1 << 30][random.usize(..2)];
            config.stall_timeout = [None, Some(Duration::from_secs(2))][random.usize(..2)];
        });
        let (servers, rounds, members) = (random.usize(1..=3), random.usize(50..250), random.usize(2..12));
        Self { config, servers, rounds, cuts, losses, freezes, kills, trims, members }
    }
}

/// Plays the simulation of one seed, and panics where a promise is broken.
pub(crate) fn simulate(plan: Plan, random: Rng) {
    let mut world = World {
        random,
        now: Instant::now(),
        log: Log::default(),
        backup: Log::default(),
        serial: 0,
        servers: Vec::new(),
        started: 0,
        lost_at: None,
        plan,
    };
    for _ in 0..world.plan.servers {
        world.start();
    }
    for _ in 0..world.plan.rounds {
        world.disturb();
        world.round();
    }
    world.rest();
    world.check_members();
    world.check_names();
    world.end();
}

impl World {
    fn start(&mut self) {
        self.started += 1;
        let server = Server::new(ServerId(self.started), &self.plan.config, self.now, self.random.fork());
        self.servers.push(server);
    }

    fn happens(&mut self, per_mille: u32) -> bool {
        self.random.u32(..1000) < per_mille
    }

    /// Lets something happen to the log or to a server.
    fn disturb(&mut self) {
        let at = self.random.usize(..self.servers.len());
        if self.happens(self.plan.cuts) {
            self.servers[at].link.cut(self.now);
        }
        if self.happens(self.plan.freezes) {
            self.servers[at].freeze(self.now + Duration::from_millis(self.random.u64(..15_000)));
        }
        if self.happens(self.plan.kills) {
            self.servers.remove(at);
            self.start();
        }
        if self.happens(100) {
            self.backup = self.log.clone();
        }
        if self.happens(self.plan.losses) {
            self.log = if self.random.bool() { self.backup.clone() } else { Log::default() };
            self.lost_at = Some(self.now);
        }
        if self.happens(self.plan.trims) {
            self.log.trim(self.random.usize(..100));
        }
        let coming = self.plan.members as u32 * 1000 / self.plan.rounds as u32;
        if self.happens(coming) {
            let at = self.random.usize(..self.servers.len());
            self.servers[at].accept(&mut self.random);
        }
        // Cuts last up to some seconds.
        for server in &mut self.servers {
            if self.random.u8(..32) == 0 {
                server.link.mend();
            }
        }
    }

    fn round(&mut self) {
        // Time flies now and then, while nothing can be asked of anybody.
        let pause = [0, 0, 0, 1, 20, 60, 400][self.random.usize(..7)];
        self.now += Duration::from_millis(self.random.u64(..=pause));
        for server in &mut self.servers {
            server.act(self.now, &mut self.random);
            server.round(&mut self.log, &mut self.serial, self.now, &mut self.random);
            server.check(&self.plan.config);
        }
        self.check_persons();
    }

    /// A person is heard within a second on all servers that are well.
    fn check_persons(&mut self) {
        const SECOND: Duration = Duration::from_secs(1);
        let (now, lost_at) = (self.now, self.lost_at);
        for at in 0..self.servers.len() {
            let author = &self.servers[at];
            for (said, line) in author.due_lines(now, SECOND + Duration::from_millis(800)) {
                if lost_at.is_some_and(|lost| lost >= said) || !author.is_well_since(said) {
                    continue;
                }
                for server in self.servers.iter().filter(|server| server.is_well_since(said)) {
                    assert!(server.has_told(&line), "{line} was not heard in time on {:?}", server.link.server);
                }
            }
            self.servers[at].forget_due_lines(now, SECOND + Duration::from_millis(800));
        }
    }

    /// Everything is well again, and everybody reads: the room comes to rest.
    fn rest(&mut self) {
        for server in &mut self.servers {
            server.relent();
        }
        let begin = self.now;
        let mut quiet = 0;
        while quiet < 3 || self.now < begin + Duration::from_secs(30) {
            assert!(self.now < begin + Duration::from_secs(600), "the room does not come to rest");
            self.now += Duration::from_millis(self.random.u64(..500));
            let mut is_quiet = true;
            for server in &mut self.servers {
                server.link.mend();
                is_quiet &= !server.listen();
                server.round(&mut self.log, &mut self.serial, self.now, &mut self.random);
                server.check(&self.plan.config);
                is_quiet &= server.is_at_rest(&self.log);
            }
            quiet = if is_quiet { quiet + 1 } else { 0 };
        }
    }

    fn check_members(&mut self) {
        let has_lost = self.lost_at.is_some() || self.plan.trims > 0;
        for server in &self.servers {
            server.check_members();
        }
        for server in self.servers.iter().filter(|_| !has_lost) {
            server.check_said();
        }
    }

    /// The log and all servers agree who is in the room under which name, and which names are free.
    fn check_names(&mut self) {
        assert_eq!(self.log.names().len(), self.log.records.len(), "two members have one name");
        for server in &self.servers {
            server.check_names(&self.log.announced());
        }
        for at in 0..self.servers.len() {
            let (probe, before) = (self.servers[at].accept_probe(), self.log.announced());
            self.wait_for("the welcome", |servers| servers[at].has_welcomed(probe));
            // An earlier probe may have been announced meanwhile.
            let (told, after) = (self.servers[at].welcome_of(probe), self.log.announced());
            assert!(before.is_subset(&told) && told.is_subset(&after), "{told:?} instead of {before:?} to {after:?}");
            let names = self.log.names();
            for name in &names {
                self.servers[at].say(probe, &format!("/name {name}\n"));
            }
            // It may have its own name.
            let answers =
                |server: &Server| [" is taken", " already"].map(|end| server.count_heard(probe, end)).iter().sum();
            self.wait_for("refusals", |servers| usize::eq(&answers(&servers[at]), &names.len()));
            for name in member::NAMES.into_iter().filter(|name| !names.contains(&name.to_lowercase())) {
                let before = self.servers[at].count_heard(probe, " is taken");
                self.servers[at].say(probe, &format!("/name {name}\n"));
                self.wait_for("a free name", |servers| {
                    assert_eq!(servers[at].count_heard(probe, " is taken"), before, "{name} is free");
                    servers[at].count_heard(probe, &format!(" is now {name}")) > 0
                });
            }
        }
    }

    fn wait_for(&mut self, what: &str, is_there: impl Fn(&[Server]) -> bool) {
        for _ in 0..1000 {
            if is_there(&self.servers) {
                return;
            }
            self.now += Duration::from_millis(10);
            for server in &mut self.servers {
                server.link.mend();
                server.listen();
                server.round(&mut self.log, &mut self.serial, self.now, &mut self.random);
            }
        }
        panic!("{what} did not come");
    }

    /// The servers stop, one after the other.
    fn end(&mut self) {
        while let Some(mut server) = self.servers.pop() {
            server.stop();
            for _ in 0..1000 {
                if server.is_empty() {
                    break;
                }
                self.now += Duration::from_millis(10);
                server.link.mend();
                server.listen();
                server.round(&mut self.log, &mut self.serial, self.now, &mut self.random);
            }
            assert!(server.is_empty(), "a server does not stop: {server:#?}");
            self.log.remove(server.link.server, false, &mut self.serial);
            for other in &mut self.servers {
                other.round(&mut self.log, &mut self.serial, self.now, &mut self.random);
            }
        }
    }
}
