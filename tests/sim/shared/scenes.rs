//! Small rooms on two or three servers, in which one thing happens at a time.

mod away;
mod loss;
mod slow;

use std::time::{Duration, Instant};

use fastrand::Rng;
use sockets::Config;
use sockets::hub::Hub;
use sockets::shared_log::ServerId;

use super::link::Link;
use super::log::Log;
use crate::socket::{Client, Nature};
use crate::world::{Poll, World};

const SECOND: Duration = Duration::from_secs(1);

/// Takes all that is said in a short test.
const ROOMY: usize = 64 << 20;
/// Takes the first lines and then, unless it is read, nothing.
const NARROW: usize = 1000;

const AWAY: &str = "* the room's other servers cannot be reached; new lines wait\n";
const BACK: &str = "* the room's other servers can be reached again\n";
const GAP: &str = "* lines may be missing here\n";

/// Some servers, and the log that they share.
struct Stage {
    log: Log,
    serial: u64,
    now: Instant,
    random: Rng,
    config: Config,
    /// Those that are killed are empty.
    servers: Vec<Option<(World, Link)>>,
}

struct Member {
    client: Client,
    heard: Vec<u8>,
}

impl Stage {
    fn open(servers: usize, change: impl Fn(&mut Config)) -> Self {
        let config = Config::with(|config| {
            config.chat = true;
            change(config);
        });
        let (log, random, now) = (Log::default(), Rng::with_seed(0), Instant::now());
        let mut stage = Self { log, serial: 0, now, random, config, servers: Vec::new() };
        for _ in 0..servers {
            stage.start();
        }
        stage.settle();
        stage
    }

    /// Starts another server, and returns which one it is.
    fn start(&mut self) -> usize {
        let id = ServerId(self.servers.len() as u128);
        let mut link = Link::new(id, self.now);
        link.is_reliable = true;
        let hub = Hub::shared(&self.config, id);
        self.servers.push(Some((World::with(hub, Poll::Genuine, Rng::with_seed(0), self.now), link)));
        self.servers.len() - 1
    }

    fn server(&mut self, at: usize) -> &mut (World, Link) {
        self.servers[at].as_mut().expect("it is there")
    }

    /// A member that has joined, and for which the network holds so many bytes.
    fn join(&mut self, at: usize, send_buffer: usize) -> Member {
        let member = self.knock(at, send_buffer);
        self.settle();
        member
    }

    /// Members that have joined and taken these names; what they were told is forgotten.
    fn join_as<const N: usize>(&mut self, names: [(usize, &str); N]) -> [Member; N] {
        let mut members = names.map(|(at, name)| {
            let member = self.join(at, ROOMY);
            member.say(&format!("/name {name}\n"));
            self.settle();
            member
        });
        for member in &mut members {
            member.hears();
        }
        members
    }

    fn knock(&mut self, at: usize, send_buffer: usize) -> Member {
        let nature = Nature {
            receive_buffer: ROOMY,
            send_buffer,
            wakes_at: 1,
            interrupts: 0,
            reset_keeps_arrived: true,
            seed: 0,
        };
        Member { client: self.server(at).0.accept(nature).1, heard: Vec::new() }
    }

    /// Cuts a server off from the log, and gives it a turn: what its members do then waits for the log.
    fn cut_before_a_turn(&mut self, at: usize) {
        let now = self.now;
        let (world, link) = self.server(at);
        link.cut(now);
        assert!(world.poll());
        world.turn(|_| {});
        link.push(world.log_side().take_ops());
    }

    /// Lets all servers work until nothing happens any more, while no time passes.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.round();
        }
    }

    fn round(&mut self) {
        for (world, link) in self.servers.iter_mut().flatten() {
            world.pass(self.now - world.now);
            let mut room = world.log_side();
            let (urgency, floor) = (room.urgency(), &mut || room.report_floor());
            for event in link.step(&mut self.log, &mut self.serial, self.now, &mut self.random, (urgency, floor)) {
                world.tell(event);
            }
            while world.poll() {
                world.turn(|_| {});
                link.push(world.log_side().take_ops());
            }
        }
    }

    /// Lets time pass, a fraction of a second at a time.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_millis(100));
            self.settle_a_little();
        }
    }

    fn settle_a_little(&mut self) {
        for _ in 0..5 {
            self.round();
        }
    }
}

impl Member {
    fn say(&self, text: &str) {
        assert_eq!(self.client.send(text.as_bytes()), text.len());
    }

    /// What it was told since the last time.
    fn hears(&mut self) -> String {
        self.heard.extend(self.client.receive(usize::MAX));
        String::from_utf8(std::mem::take(&mut self.heard)).expect("text")
    }
}

#[test]
fn members_of_two_servers_are_in_one_room() {
    let mut stage = Stage::open(2, |_| {});
    let mut ann = stage.join(0, ROOMY);
    ann.say("/name ann\n");
    stage.settle();
    assert_eq!(ann.hears(), "* welcome, user1; nobody else is here\n* user1 is now ann\n");
    let mut bob = stage.join(1, ROOMY);
    assert_eq!(bob.hears(), "* welcome, user2; here: ann\n");
    bob.say("hello\n/who\n/name Ann\n/name bob\nhello again\n");
    stage.settle();
    assert_eq!(ann.hears(), "* user2 joined\n<user2> hello\n* user2 is now bob\n<bob> hello again\n");
    assert_eq!(bob.hears(), "* here: ann, user2\n* Ann is taken\n* user2 is now bob\n");
    ann.say("/msg bob psst\n/me waves\n/msg eve hi\n/quit\n");
    stage.settle();
    assert_eq!(ann.hears(), "<ann -> bob> psst\n* nobody is called eve\n");
    assert_eq!(bob.hears(), "<ann -> bob> psst\n<ann> *waves*\n* ann left\n");
    let mut eve = stage.join(0, ROOMY);
    assert_eq!(eve.hears(), "* welcome, user3; here: bob\n");
}

#[test]
fn of_two_that_want_one_name_at_the_same_time_one_gets_it() {
    let mut stage = Stage::open(2, |_| {});
    let [mut ann, mut bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    ann.say("/name eve\n/who\n");
    bob.say("/name EVE\n/who\n");
    stage.settle();
    let (ann, bob) = (ann.hears(), bob.hears());
    let (won, lost) = if ann.contains("taken") { (bob, ann) } else { (ann, bob) };
    assert!(won.contains(" is now ") && !won.contains("taken"), "{won}");
    assert!(lost.contains(" is taken\n"), "{lost}");
}

#[test]
fn members_of_a_server_that_is_killed_leave_within_its_lease() {
    let mut stage = Stage::open(2, |_| {});
    let [mut dan, ..] = stage.join_as([(0, "dan"), (1, "ann"), (1, "bob"), (1, "carol"), (1, "eve"), (1, "fay")]);
    stage.servers[1] = None;
    dan.say("anybody there?\n");
    stage.pass(9 * SECOND);
    assert_eq!(dan.hears(), "");
    stage.pass(3 * SECOND);
    assert_eq!(dan.hears(), "* ann, bob, carol and 2 more left (their server is gone)\n");
    dan.say("/name ann\n/who\n");
    stage.settle();
    assert_eq!(dan.hears(), "* dan is now ann\n* here: ann\n");
}

#[test]
fn a_server_that_stops_says_all_that_was_said_and_goodbye() {
    let mut stage = Stage::open(2, |_| {});
    let [mut ann, mut bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    bob.say("the last word\n");
    let now = stage.now;
    let (world, link) = stage.server(1);
    link.cut(now);
    world.hub.drain();
    stage.settle();
    assert_eq!(bob.hears(), "", "what was said has not been heard");
    stage.server(1).1.mend();
    stage.settle();
    assert_eq!(bob.hears(), "* server is stopping\n");
    bob.client.close();
    stage.settle();
    let server = stage.server(1).1.server;
    assert!(stage.server(1).0.hub.is_empty());
    stage.servers[1] = None;
    stage.log.remove(server, false, &mut stage.serial);
    stage.settle();
    assert_eq!(ann.hears(), "<bob> the last word\n* bob left (their server is stopping)\n");
}

#[test]
fn who_ends_its_side_still_gets_its_answers() {
    let mut stage = Stage::open(2, |_| {});
    let [ann, mut bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    let mut eve = stage.knock(0, ROOMY);
    eve.say("/name eve\nhello\n/msg bob psst\n/name ann\n");
    eve.client.finish();
    stage.settle();
    let heard = eve.hears();
    assert!(heard.ends_with("* user3 is now eve\n<eve -> bob> psst\n* ann is taken\n"), "{heard}");
    assert_eq!(bob.hears(), "* eve joined\n<eve> hello\n<eve -> bob> psst\n* eve left\n");
    drop(ann);
}

#[test]
fn who_ends_its_side_sees_the_end_when_it_was_heard() {
    let mut stage = Stage::open(2, |config| config.idle_timeout = Some(5 * SECOND));
    let [ann, mut bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    ann.say("heard?\n");
    ann.client.finish();
    // It is read in the turn in which the log gets out of reach.
    stage.cut_before_a_turn(0);
    for _ in 0..9 {
        stage.pass(SECOND);
        bob.say("/help\n");
    }
    assert!(ann.client.unread() == 0 && !ann.client.record().is_dropped, "it believes that it was heard");
    stage.settle();
    bob.hears();
    stage.server(0).1.mend();
    stage.settle();
    assert_eq!(bob.hears(), "<ann> heard?\n* ann left\n");
    assert!(ann.client.record().is_dropped);
}

#[test]
fn a_newcomer_that_leaves_at_once_leaves_no_trace() {
    let mut stage = Stage::open(2, |_| {});
    let [mut ann, mut bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    for _ in 0..5 {
        let probe = stage.join(0, ROOMY);
        probe.client.finish();
        stage.settle();
        let probe = stage.knock(1, ROOMY);
        probe.client.finish();
        stage.settle();
    }
    stage.pass(2 * SECOND);
    assert_eq!((ann.hears().as_str(), bob.hears().as_str()), ("", ""));
    assert_eq!(stage.log.records.len(), 2);
}

#[test]
fn a_newcomer_is_told_what_was_said_on_any_server() {
    let mut stage = Stage::open(2, |config| config.history = 10);
    let [ann, bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    ann.say("one\n");
    stage.settle();
    bob.say("two\n");
    stage.settle();
    let mut eve = stage.join(1, ROOMY);
    assert_eq!(eve.hears(), "* welcome, user3; here: ann, bob\n* earlier:\n| <ann> one\n| <bob> two\n");
}
