//! The room in situations that real sockets rarely make: a talker waits for a slow member, memory runs out, the
//! server stops in the middle of it.

mod memory;
mod slow;

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use sockets::Config;
use sockets::Event;

use crate::socket::{Client, Nature, ReplyEnd};
use crate::world::{Poll, World};

/// Takes all that is said in a short test.
const ROOMY: usize = 16 << 20;
/// Takes the first lines and then, unless it is read, nothing.
const NARROW: usize = 100;

/// How many lines are more than a small window and what a person may say at once.
const TALK: usize = 500;

const SECOND: Duration = Duration::from_secs(1);

struct Room {
    world: World,
    /// What the operator was shown.
    shown: Rc<RefCell<Vec<String>>>,
}

struct Member {
    client: Client,
    heard: Vec<u8>,
}

impl Room {
    fn open(mut config: Config) -> Self {
        config.chat = true;
        let world = World::new(&config, Poll::Genuine, Rng::with_seed(0));
        Self { world, shown: Rc::default() }
    }

    /// A client that has joined, and for which the network holds so many bytes.
    fn join(&mut self, send_buffer: usize) -> Member {
        let member = self.knock(send_buffer);
        self.settle();
        member
    }

    /// A client that is connected and will be welcomed in the next turn.
    fn knock(&mut self, send_buffer: usize) -> Member {
        Member { client: self.world.accept(nature(send_buffer)).1, heard: Vec::new() }
    }

    fn knock_from(&mut self, host: Ipv4Addr, send_buffer: usize) -> Member {
        Member { client: self.world.accept_from(host, nature(send_buffer)).1, heard: Vec::new() }
    }

    /// Lets a second pass, so that all newcomers are announced.
    fn announce(&mut self) {
        self.settle();
        self.world.pass(SECOND);
        self.settle();
    }

    /// Lets the hub work until it would wait. The time stands still.
    fn settle(&mut self) {
        while self.world.poll() {
            self.world.turn(|event| {
                if let Event::Room { notice, .. } = event {
                    self.shown.borrow_mut().push(notice.to_string());
                }
            });
        }
    }

    /// The same with the time passing, until nothing is due any more.
    fn wait(&mut self) {
        self.settle();
        while self.world.sleep() {
            self.settle();
        }
    }

    fn shown(&self) -> Vec<String> {
        self.shown.borrow().clone()
    }
}

fn nature(send_buffer: usize) -> Nature {
    Nature { receive_buffer: ROOMY, send_buffer, wakes_at: 1, interrupts: 0, reset_keeps_arrived: true, seed: 0 }
}

impl Member {
    fn say(&self, text: &str) {
        assert_eq!(self.client.send(text.as_bytes()), text.len());
    }

    /// What it has been told since it was last asked.
    fn hears(&mut self) -> String {
        self.heard.clear();
        self.heard.extend(self.client.receive(usize::MAX));
        String::from_utf8(self.heard.clone()).expect("what is told is text")
    }
}

/// A room in which `ann` takes all, `bob` does not read, and `eve` has said so much that she has to wait for bob: her
/// last line has not been said.
fn held_up(mut config: Config) -> (Room, [Member; 3]) {
    config.max_ahead = 1000;
    let mut room = Room::open(config);
    let mut members = [room.join(ROOMY), room.join(NARROW), room.join(ROOMY)];
    room.announce();
    let eve = &members[2];
    eve.say(&"something\n".repeat(TALK));
    eve.say("the last word\n");
    room.settle();
    assert!(eve.client.unread() >= "the last word\n".len(), "nobody holds her up");
    members[0].hears();
    (room, members)
}

#[test]
fn a_newcomer_is_announced_when_it_says_something_or_after_a_second() {
    let mut room = Room::open(Config::default());
    let (mut ann, mut bob) = (room.join(ROOMY), room.join(ROOMY));
    room.announce();
    ann.hears();
    bob.hears();
    let (mut silent, named) = (room.join(ROOMY), room.join(ROOMY));
    named.say("/who\n");
    room.settle();
    assert_eq!(ann.hears(), "");
    named.say("/name dan\n");
    room.settle();
    assert_eq!(ann.hears(), "* dan joined\n");
    assert_eq!(silent.hears(), "* welcome, user3; here: user1, user2\n* dan joined\n");
    silent.say("/who\n");
    room.world.pass(SECOND - Duration::from_millis(1));
    room.settle();
    assert_eq!((ann.hears().as_str(), silent.hears().as_str()), ("", "* here: user1, user2, dan, user3\n"));
    room.world.pass(Duration::from_millis(1));
    room.settle();
    assert_eq!(ann.hears(), "* user3 joined\n");
}

#[test]
fn a_connection_that_ends_before_it_is_announced_leaves_no_trace() {
    let mut room = Room::open(Config::default());
    let mut ann = room.join(ROOMY);
    room.announce();
    ann.hears();
    let before = room.shown();
    for end in [Client::finish, Client::reset, Client::close] {
        let mut probe = room.join(ROOMY);
        assert_eq!(probe.hears(), "* welcome, user2; here: user1\n");
        end(&probe.client);
        room.wait();
        assert!(probe.client.record().is_dropped);
    }
    assert_eq!(ann.hears(), "");
    assert_eq!(room.shown(), before);
}

#[test]
fn a_line_that_has_arrived_is_said_though_a_write_to_its_author_fails() {
    let mut room = Room::open(Config::default());
    let (mut ann, bob, eve) = (room.join(ROOMY), room.join(ROOMY), room.join(ROOMY));
    room.announce();
    // More than one read takes.
    let count = (1 << 20) / 1000;
    bob.say(&format!("{}\n", "x".repeat(999)).repeat(count));
    bob.client.reset();
    eve.say("something\n");
    room.settle();
    let heard = ann.hears();
    assert_eq!(heard.matches("<user2> x").count(), count);
    assert!(heard.ends_with("* user2 left\n") && heard.contains("<user3> something\n"));
}

#[test]
fn all_are_told_of_the_stop_though_a_talker_waits() {
    let (mut room, [mut ann, _bob, eve]) = held_up(Config::default());
    eve.say("and this");
    eve.client.finish();
    room.settle();
    room.world.hub.drain();
    room.settle();
    let end = "<user3> the last word\n<user3> and this\n* user3 left\n* server is stopping\n";
    assert!(ann.hears().ends_with(end));
    assert_eq!(ann.client.reply_end(), Some(ReplyEnd::Clean));
}

/// They have been read when the stop comes, but that they are a line is known only by the end that follows them.
#[test]
fn the_last_words_are_heard_though_the_server_stops() {
    let mut room = Room::open(Config::default());
    let (mut ann, bob) = (room.join(ROOMY), room.knock(ROOMY));
    bob.say("the last words");
    bob.client.finish();
    // In one turn he speaks; that he has ended is found in the next.
    assert!(room.world.poll());
    room.world.turn(|_| {});
    room.world.hub.drain();
    room.settle();
    assert!(ann.hears().ends_with("* user2 joined\n<user2> the last words\n* user2 left\n* server is stopping\n"));
}

/// What comes after the signal is too late, but it is not the end of who sends it.
#[test]
fn who_talks_on_while_the_server_stops_is_told_so() {
    let (mut room, [mut ann, _bob, mut eve]) = held_up(Config::default());
    let mut dan = room.join(ROOMY);
    room.world.hub.drain();
    dan.say("too late\n");
    room.settle();
    let heard = ann.hears();
    assert!(heard.ends_with("<user3> the last word\n* server is stopping\n") && !heard.contains("too late"), "{heard}");
    for member in [&mut eve, &mut dan] {
        assert!(member.hears().ends_with("* server is stopping\n"));
        assert_eq!(member.client.reply_end(), Some(ReplyEnd::Clean));
    }
}

#[test]
fn nothing_follows_the_notice_of_the_stop() {
    let mut room = Room::open(Config::default());
    let mut ann = room.join(ROOMY);
    // More of them than are welcomed in one turn.
    let names = "n".repeat(30);
    let old: Vec<Member> = (0..20).map(|_| room.join(ROOMY)).collect();
    for (at, member) in old.iter().enumerate() {
        member.say(&format!("/name {names}{at:02}\n"));
    }
    room.settle();
    ann.hears();
    let mut late: Vec<Member> = (0..300).map(|_| room.knock(ROOMY)).collect();
    room.world.hub.drain();
    room.settle();
    assert_eq!(ann.hears(), "* server is stopping\n");
    for member in &mut late {
        let heard = member.hears();
        assert!(heard.starts_with("* welcome, ") && heard.ends_with("* server is stopping\n"), "{heard}");
    }
    assert!(!room.shown().iter().any(|line| line.ends_with(" left")));
}

/// What everybody in a small room is told while one of them sends `pieces`, and ends its side.
fn told_by(pieces: &[&[u8]]) -> (Vec<String>, Vec<String>) {
    let mut room = Room::open(Config::with(|config| config.max_line = 24));
    let mut members = [(); 3].map(|()| {
        let member = room.join(ROOMY);
        room.announce();
        member
    });
    for (at, piece) in pieces.iter().enumerate() {
        assert_eq!(members[0].client.send(piece), piece.len());
        if at + 1 == pieces.len() {
            members[0].client.finish();
        }
        room.settle();
    }
    assert_eq!(members[0].client.reply_end(), None, "what was told is still to be read");
    (members.each_mut().map(Member::hears).to_vec(), room.shown())
}

#[test]
fn every_way_to_cut_a_script_gives_the_same_room() {
    // Without optimization, all pairs of cuts take too long.
    const STEP: usize = if cfg!(debug_assertions) { 7 } else { 1 };
    let script = "h\u{e9}\r\n\n/name \u{93f}\n/name a\u{300}nn\r\n//x\n/msg USER2 a b\n/wh\x1b\n/who\ntoo long to be said at all\r\n\
                  just not too long, is it\r\n* user2 left\n/msg user9 x\n\u{ff}"
        .as_bytes();
    let script = [script, b"\xff\x1b[m\r\n/help\n\r\n/name user3\ntail"].concat();
    let expected = told_by(&[&script]);
    let members = [
        "* welcome, user1; nobody else is here\n* user2 joined\n* user3 joined\n\
         * a name has 1 to 32 letters, digits, - or _\n* user1 is now a\u{300}nn\n\
         <a\u{300}nn -> user2> a b\n* no such command: /wh\\u{1b}; try /help\n* here: a\u{300}nn, user2, user3\n\
         * line too long (limit 24 bytes), not sent\n* nobody is called user9\n\
         * /name NEW, /who, /msg NAME TEXT, /me ACTION, /help, /quit; //text says /text\n* user3 is taken\n",
        "* welcome, user2; here: user1\n* user3 joined\n<user1> h\u{e9}\n* user1 is now a\u{300}nn\n\
         <a\u{300}nn> /x\n<a\u{300}nn -> user2> a b\n<a\u{300}nn> just not too long, is it\n\
         <a\u{300}nn> * user2 left\n<a\u{300}nn> \u{ff}\\xff\\u{1b}[m\n<a\u{300}nn> tail\n* a\u{300}nn left\n",
    ];
    assert_eq!(expected.0[..2], members);
    let others = members[1].replace("<a\u{300}nn -> user2> a b\n", "");
    let others =
        others.replace("* welcome, user2; here: user1\n* user3 joined", "* welcome, user3; here: user1, user2");
    assert_eq!(expected.0[2], others);
    for first in 0..=script.len() {
        for second in (first..=script.len()).step_by(STEP) {
            let pieces = [&script[..first], &script[first..second], &script[second..]];
            assert_eq!(told_by(&pieces), expected, "cut at {first} and {second}");
        }
    }
}

/// Newcomers are welcomed between two turns, with lines that are longer than all that a turn may say.
#[test]
fn a_flood_of_newcomers_does_not_stop_the_room() {
    let mut room = Room::open(Config::default());
    let members: Vec<Member> = (0..20).map(|_| room.join(ROOMY)).collect();
    let names = "ж".repeat(30);
    for (at, member) in members.iter().enumerate() {
        member.say(&format!("/name {names}{at:02}\n"));
    }
    room.settle();
    let (ann, eve) = (&members[0], &members[1]);
    for round in 0..20 {
        let _newcomers: Vec<Member> = (0..60).map(|_| room.knock(ROOMY)).collect();
        eve.say(&format!("line {round}\n"));
        room.world.poll();
        room.world.turn(|_| {});
        let heard = String::from_utf8(ann.client.receive(usize::MAX)).expect("text");
        assert!(heard.contains(&format!("line {round}\n")), "not heard in the turn in which it came");
    }
}

/// The server stood still, and when it goes on, the second is over and the end has arrived.
#[test]
fn a_connection_that_ended_in_time_is_not_announced_late() {
    let mut room = Room::open(Config::default());
    let mut ann = room.join(ROOMY);
    room.announce();
    let probe = room.join(ROOMY);
    probe.client.finish();
    room.world.pass(2 * SECOND);
    room.settle();
    assert_eq!((ann.hears().as_str(), room.shown().len()), ("* welcome, user1; nobody else is here\n", 1));
}

#[test]
fn a_member_that_breaks_with_unread_answers_is_gone() {
    let mut room = Room::open(Config::default());
    let (mut ann, bob) = (room.join(ROOMY), room.join(NARROW));
    room.announce();
    bob.say(&"/help\n".repeat(50_000));
    room.settle();
    assert!(bob.client.unread() > 0, "all of it was answered");
    bob.client.reset();
    room.settle();
    assert!(bob.client.record().is_dropped && ann.hears().ends_with("* user2 left\n"));
}
