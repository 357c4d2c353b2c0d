//! The room in situations that real sockets rarely make: a talker waits for a slow member, memory runs out, the
//! server stops in the middle of it.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use sockets::Config;
use sockets::Event;
use sockets::config::RESERVE;

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
    fn open(config: Config) -> Self {
        let config = Config { chat: true, ..config };
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
fn held_up(config: Config) -> (Room, [Member; 3]) {
    let mut room = Room::open(Config { max_ahead: 1000, ..config });
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
fn a_talker_goes_on_when_the_slowest_member_is_gone() {
    let (mut room, [mut ann, bob, _eve]) = held_up(Config::default());
    bob.client.reset();
    room.settle();
    let heard = ann.hears();
    assert!(heard.contains("* user2 left\n") && heard.ends_with("<user3> the last word\n"), "{heard}");
}

#[test]
fn who_makes_a_talker_wait_and_takes_nothing_is_reset_in_time_and_not_before() {
    const TIMEOUT: Duration = Duration::from_secs(7);
    let config = Config { max_ahead: 1000, stall_timeout: Some(TIMEOUT), ..Config::default() };
    let mut room = Room::open(config);
    let (mut ann, bob, eve) = (room.join(ROOMY), room.join(NARROW), room.join(ROOMY));
    room.announce();
    // Bob has had something pending since now.
    eve.say(&"something\n".repeat(TALK));
    eve.say("the last word\n");
    room.settle();
    room.world.pass(TIMEOUT - Duration::from_millis(1));
    room.settle();
    assert!(!ann.hears().contains("left"));
    room.world.pass(Duration::from_millis(1));
    room.settle();
    let heard = ann.hears();
    assert!(heard.contains("* user2 left (too slow)\n") && heard.ends_with("<user3> the last word\n"), "{heard}");
    assert!(bob.client.record().is_dropped);
}

#[test]
fn who_takes_nothing_is_not_reset_while_nobody_waits_for_it() {
    let mut room = Room::open(Config::default());
    let (mut ann, bob, eve) = (room.join(ROOMY), room.join(NARROW), room.join(ROOMY));
    for _ in 0..100 {
        eve.say("something\n");
        room.world.pass(Duration::from_secs(3600));
        room.settle();
    }
    assert_eq!(ann.hears().matches("<user3> something").count(), 100);
    assert!(!bob.client.record().is_dropped);
}

#[test]
fn a_slow_reader_sets_the_pace_and_loses_nothing() {
    const STEP: usize = 66 << 10;
    const STEPS: usize = 20;
    let mut room = Room::open(Config::default());
    let (mut ann, mut bob, eve) = (room.join(ROOMY), room.join(STEP), room.join(ROOMY));
    room.announce();
    bob.hears();
    let line = format!("{}\n", "x".repeat(999));
    let count = STEPS * STEP / line.len();
    eve.say(&line.repeat(count));
    let mut heard = String::new();
    for _ in 0..2 * STEPS {
        room.settle();
        heard += &bob.hears();
        room.world.pass(Duration::from_secs(9));
    }
    let told = format!("<user3> {line}").repeat(count);
    assert!(heard == told, "{} of {} bytes", heard.len(), told.len());
    assert!(ann.hears().ends_with(&told));
}

#[test]
fn people_talk_though_a_file_waits_for_a_reader_that_reads_nothing() {
    let config = Config { stall_timeout: Some(Duration::MAX), ..Config::default() };
    let (mut room, [mut ann, _bob, _eve]) = held_up(config);
    let dan = room.join(ROOMY);
    room.announce();
    ann.hears();
    for second in 0..100 {
        dan.say(&format!("{second} {}\n", "x".repeat(190)));
        room.settle();
        let heard = ann.hears();
        assert!(heard.contains(&format!("<user4> {second} ")), "second {second}: {heard}");
        room.world.pass(Duration::from_secs(1));
    }
}

/// Even the talker that waits may go on at the pace of a person.
#[test]
fn a_talker_that_waits_is_heard_at_the_pace_of_a_person() {
    let (mut room, [mut ann, _bob, eve]) = held_up(Config { stall_timeout: Some(Duration::MAX), ..Config::default() });
    let before = eve.client.unread();
    for _ in 0..10 {
        // It is looked at again whenever it has saved up enough.
        for _ in 0..4 {
            room.world.pass(Duration::from_millis(250));
            room.settle();
        }
    }
    let read = before - eve.client.unread();
    assert!((9 * 256..=11 * 256).contains(&read), "{read} bytes in ten seconds");
    assert!(ann.hears().contains("<user3> something"));
}

/// It waits for the slowest member and then has to read its own answers first: it is left alone until it does.
#[test]
fn a_talker_that_waits_and_does_not_read_its_answers_is_left_alone() {
    let mut room = Room::open(Config { max_ahead: 1000, stall_timeout: Some(Duration::MAX), ..Config::default() });
    let (_bob, eve, mut dan) = (room.join(NARROW), room.join(NARROW), room.join(ROOMY));
    room.announce();
    eve.say(&"something\n".repeat(TALK));
    room.settle();
    eve.say(&"/help\n".repeat(10_000));
    for _ in 0..1000 {
        room.world.pass(SECOND);
        room.settle();
    }
    let unread = eve.client.unread();
    dan.hears();
    for _ in 0..10 {
        room.world.pass(SECOND);
        room.settle();
    }
    assert!(unread > 0, "it was heard to the end");
    assert_eq!((dan.hears().as_str(), eve.client.unread()), ("", unread));
}

/// However many private lines others send to it, a member goes on talking.
#[test]
fn private_lines_of_others_do_not_keep_a_member_from_talking() {
    let mut room = Room::open(Config::default());
    let (bob, eve, mut dan) = (room.join(NARROW), room.join(NARROW), room.join(ROOMY));
    room.announce();
    bob.say(&format!("/msg user2 {}\n", "x".repeat(1000)).repeat(200));
    room.settle();
    dan.hears();
    eve.say("can you hear me?\n");
    room.settle();
    assert_eq!(dan.hears(), "<user2> can you hear me?\n");
}

#[test]
fn an_address_that_has_made_talkers_wait_too_long_gets_a_second() {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let mut room = Room::open(Config { max_ahead: 1000, ..Config::default() });
    let (mut ann, eve) = (room.join(ROOMY), room.join(ROOMY));
    let host = Ipv4Addr::new(192, 0, 2, 7);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let bob = room.knock_from(host, NARROW);
        room.announce();
        eve.say(&"something\n".repeat(TALK));
        room.settle();
        let begin = room.world.now;
        while !bob.client.record().is_dropped && room.world.now < begin + TIMEOUT {
            room.world.pass(Duration::from_millis(100));
            room.settle();
        }
        waits.push(room.world.now - begin);
        room.settle();
        assert_eq!(eve.client.unread(), 0, "she still waits");
        ann.hears();
    }
    assert!(waits[0] >= TIMEOUT - SECOND, "{waits:?}");
    assert!(waits[1] <= SECOND && waits[2] <= SECOND, "{waits:?}");
}

/// It resets the connection itself, just before the server would.
#[test]
fn a_member_that_resets_its_connection_in_time_has_made_talkers_wait_all_the_same() {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let mut room = Room::open(Config { max_ahead: 1000, ..Config::default() });
    let (_ann, eve) = (room.join(ROOMY), room.join(ROOMY));
    let host = Ipv4Addr::new(192, 0, 2, 7);
    for is_last in [false, true] {
        let bob = room.knock_from(host, NARROW);
        room.announce();
        eve.say(&"something\n".repeat(TALK));
        room.settle();
        let begin = room.world.now;
        while !is_last && room.world.now < begin + TIMEOUT - SECOND {
            room.world.pass(SECOND);
            room.settle();
        }
        if is_last {
            room.world.pass(2 * SECOND);
            room.settle();
            assert!(bob.client.record().is_dropped, "its address has more time");
        } else {
            bob.client.reset();
            room.settle();
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

/// Many commands whose answers are long, beside somebody who says a lot.
#[test]
fn members_that_ask_much_do_not_stop_those_that_say_much() {
    let mut room = Room::open(Config::default());
    let speaker = room.join(ROOMY);
    let mut curious: Vec<Member> = (0..10).map(|_| room.join(ROOMY)).collect();
    room.announce();
    speaker.say(&"something\n".repeat(10_000));
    for _ in 0..400 {
        for member in &mut curious {
            if member.client.unread() == 0 {
                member.say(&"/who\n".repeat(400));
            }
            member.hears();
        }
        room.world.poll();
        room.world.turn(|_| {});
        speaker.client.receive(usize::MAX);
    }
    assert_eq!(speaker.client.unread(), 0, "it was not heard to the end");
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
fn timeouts_may_be_endless() {
    let endless = Some(Duration::MAX);
    let (mut room, [mut ann, mut bob, _eve]) =
        held_up(Config { stall_timeout: endless, idle_timeout: endless, ..Config::default() });
    room.world.pass(Duration::from_secs(1 << 30));
    room.settle();
    assert!(!ann.hears().contains("left"));
    let mut heard = String::new();
    while !heard.contains("the last word") {
        bob.hears();
        room.settle();
        heard += &ann.hears();
    }
}

#[test]
fn who_makes_a_talker_wait_and_reads_again_loses_nothing() {
    let (mut room, [mut ann, mut bob, _eve]) = held_up(Config::default());
    let mut heard = String::new();
    room.world.pass(Duration::from_secs(9));
    room.settle();
    loop {
        let more = bob.hears();
        if more.is_empty() {
            break;
        }
        heard += &more;
        room.settle();
    }
    let said = "<user3> something\n".repeat(TALK);
    let told = format!("{said}<user3> the last word\n");
    assert!(heard.ends_with(&told), "{} of {} bytes", heard.len(), told.len());
    assert!(ann.hears().ends_with("<user3> the last word\n"));
}

#[test]
fn a_newcomer_joins_though_somebody_is_slow() {
    let (mut room, [mut ann, _bob, _eve]) = held_up(Config { stall_timeout: Some(Duration::MAX), ..Config::default() });
    let mut newcomer = room.join(ROOMY);
    assert!(newcomer.hears().starts_with("* welcome, user4; here: user1, user2, user3\n"));
    newcomer.say("hello\n");
    room.settle();
    assert!(ann.hears().ends_with("* user4 joined\n<user4> hello\n"));
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

/// A member that does not read its answers has to read some before it is listened to again. Others do not notice.
#[test]
fn who_does_not_read_its_answers_only_stops_itself() {
    let mut room = Room::open(Config::default());
    const COUNT: usize = 30_000;
    let (mut ann, mut bob, eve) = (room.join(ROOMY), room.join(10_000), room.join(ROOMY));
    room.announce();
    bob.say(&"/help\n".repeat(COUNT));
    bob.say("hello\n");
    room.settle();
    assert!(bob.client.unread() > 0, "all of its answers are held");
    assert!(room.world.hub.held() < 256 << 10, "{} bytes are held", room.world.hub.held());
    room.world.pass(Duration::from_secs(3600));
    eve.say("something\n");
    room.settle();
    assert!(ann.hears().ends_with("<user3> something\n"));
    let mut answers = 0;
    while bob.client.unread() > 0 || !bob.client.has_read_all() {
        answers += bob.hears().matches('\n').count();
        room.settle();
    }
    assert!(answers >= COUNT);
    assert!(ann.hears().ends_with("<user2> hello\n"));
}

#[test]
fn private_lines_to_one_who_does_not_read_are_refused() {
    let mut room = Room::open(Config::default());
    let (_bob, mut eve) = (room.join(NARROW), room.join(ROOMY));
    room.announce();
    eve.hears();
    eve.say(&format!("/msg user1 {}\n", "x".repeat(1000)).repeat(200));
    room.settle();
    let refused = eve.hears();
    let count = refused.matches("* user1 is not reading; your line was not sent\n").count();
    assert_eq!(refused.lines().count(), count);
    assert!((60..80).contains(&count), "{count} of 200 are refused");
    assert!(room.world.hub.held() < 256 << 10, "{} bytes are held", room.world.hub.held());
}

/// What is pending for one alone is nobody's floor, but it takes memory too.
#[test]
fn private_lines_do_not_take_more_memory_than_there_is() {
    const MAX_MEMORY: usize = 1 << 20;
    let mut room = Room::open(Config { max_memory: MAX_MEMORY, ..Config::default() });
    let deaf: Vec<Member> = (0..30).map(|_| room.join(NARROW)).collect();
    let mut eve = room.join(ROOMY);
    for at in 0..deaf.len() {
        for _ in 0..10 {
            eve.say(&format!("/msg user{} {}\n", at + 1, "\x1b".repeat(20_000)));
            room.settle();
            let (held, most) = (room.world.hub.held(), MAX_MEMORY + (room.world.hub.len() + 1) * RESERVE);
            assert!(held <= most, "{held} bytes are held, {most} may be");
        }
    }
    assert!(room.world.hub.len() < 31);
    eve.say("/who\n");
    room.settle();
    assert!(eve.hears().contains("* here: "));
}

#[test]
fn where_memory_runs_out_the_members_furthest_behind_go() {
    const MAX_MEMORY: usize = 1 << 20;
    let mut room = Room::open(Config { max_memory: MAX_MEMORY, max_ahead: usize::MAX, ..Config::default() });
    let (bob, eve, mut dan) = (room.join(NARROW), room.join(ROOMY), room.join(ROOMY));
    room.announce();
    let chunk = format!("{}\n", "x".repeat(999)).repeat(100);
    for at in 0..50 {
        if at == 5 {
            // He comes when bob is far behind, and does not read either.
            dan = room.join(NARROW);
        }
        eve.say(&chunk);
        room.settle();
        let (held, most) = (room.world.hub.held(), MAX_MEMORY + (room.world.hub.len() + 1) * RESERVE);
        assert!(held <= most, "{held} bytes are held, {most} may be");
        assert!(!dan.client.record().is_dropped || bob.client.record().is_dropped);
    }
    assert!(bob.client.record().is_dropped);
    assert_eq!(eve.client.unread(), 0);
}

/// Lines that have no end yet are held too, and nobody can make that memory come back but those who sent them.
#[test]
fn lines_without_end_do_not_close_the_room_for_ever() {
    for max_line in [RESERVE, 1 << 20] {
        let mut room = Room::open(Config { max_memory: 256 << 10, max_line, ..Config::default() });
        let mut ann = room.join(ROOMY);
        let greedy: Vec<Member> = (0..20).map(|_| room.join(ROOMY)).collect();
        let half = "x".repeat(40_000);
        for member in &greedy {
            member.say(&half);
            room.settle();
        }
        for member in &greedy {
            member.say("\n");
        }
        room.settle();
        let heard = ann.hears();
        let said = heard.lines().filter(|line| line.ends_with(&half)).count();
        assert_eq!(said, greedy.len(), "with lines of {max_line}");
        assert!(room.world.hub.held() <= 256 << 10);
    }
}

#[test]
fn long_lines_without_end_are_given_up_where_memory_is_short() {
    const MAX_MEMORY: usize = 256 << 10;
    let mut room = Room::open(Config { max_memory: MAX_MEMORY, max_line: 16 << 20, ..Config::default() });
    let greedy: Vec<Member> = (0..20).map(|_| room.join(ROOMY)).collect();
    for _ in 0..10 {
        for member in &greedy {
            member.say(&"x".repeat(100_000));
            room.settle();
            let held = room.world.hub.held();
            assert!(held <= MAX_MEMORY + 21 * RESERVE, "{held} bytes are held");
        }
    }
    let mut ann = room.join(ROOMY);
    greedy[0].say("\nstill here\n");
    room.settle();
    assert!(ann.hears().ends_with("<user1> still here\n"));
}

/// What is pending for talkers is less than what they keep in the feed, by what they said themselves. To copy it for
/// all of them at once would be what the feed is there to avoid.
#[test]
fn talkers_who_do_not_read_share_what_is_pending() {
    const MAX_MEMORY: usize = 8 << 20;
    let mut room = Room::open(Config { max_memory: MAX_MEMORY, ..Config::default() });
    let mut talkers: Vec<Member> = (0..30).map(|_| room.join(10_000)).collect();
    let mut most = 0;
    for at in 0..3000 {
        let talker = &talkers[at % talkers.len()];
        if talker.client.unread() == 0 {
            talker.say(&format!("{}\n", "x".repeat(1000)));
            talker.say(&format!("/msg user{} {}\n", at % 7 + 1, "y".repeat(100)));
        }
        room.settle();
        most = most.max(room.world.hub.held());
    }
    assert!(most > 1 << 20, "it was never much: {most}");
    assert!(most < 4 << 20, "{most} bytes were held");
    room.wait();
    let mut ann = room.join(ROOMY);
    talkers.clear();
    assert!(ann.hears().starts_with("* welcome, user31"));
}

#[test]
fn who_talks_without_reading_does_not_keep_the_feed() {
    let mut room = Room::open(Config::default());
    let (mut ann, eve, mut bob) = (room.join(ROOMY), room.join(NARROW), room.join(ROOMY));
    bob.say(&"hello, eve\n".repeat(5000));
    for _ in 0..300 {
        eve.say(&format!("{}\n", "x".repeat(50_000)));
        room.settle();
        ann.hears();
        bob.hears();
    }
    let held = room.world.hub.held();
    assert!(held < 2 << 20, "{held} bytes are held");
    // She is still owed what bob said, all of it.
    let mut heard = String::new();
    for _ in 0..2000 {
        heard += &String::from_utf8(eve.client.receive(NARROW)).unwrap();
        room.settle();
    }
    assert_eq!(heard.matches("<user3> hello, eve\n").count(), 5000);
}

#[test]
fn all_memory_comes_back() {
    let (mut room, members) = held_up(Config::default());
    for member in &members {
        member.client.finish();
    }
    room.wait();
    for member in &members {
        member.client.receive(usize::MAX);
        room.settle();
    }
    assert!(room.world.hub.is_empty());
    // One block of the feed is kept.
    assert!(room.world.hub.held() <= 64 << 10, "{} bytes are held", room.world.hub.held());
    assert_eq!(room.world.hub.deadline(), None);
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

/// A talker that waits for a slow member is not idle, and the slow one is, when it takes nothing at all.
#[test]
fn who_waits_to_be_heard_is_not_idle() {
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(5));
    let (mut room, [mut ann, _bob, _eve]) = held_up(Config { idle_timeout: TIMEOUT, ..Config::default() });
    for _ in 0..7 {
        room.world.pass(Duration::from_secs(1));
        ann.say("me too\n");
        room.settle();
    }
    let heard = ann.hears();
    assert!(heard.contains("* user2 left (idle)\n") && heard.contains("<user3> the last word\n"), "{heard}");
    assert!(!heard.contains("user3 left"));
}

/// What everybody in a small room is told while one of them sends `pieces`, and ends its side.
fn told_by(pieces: &[&[u8]]) -> (Vec<String>, Vec<String>) {
    let mut room = Room::open(Config { max_line: 24, ..Config::default() });
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
    let script = "h\u{e9}\r\n\n/name \u{93f}\n/name a\u{300}nn\r\n//x\n/msg USER2 a b\n/wh\x1b\n/who\ntoo long to be said at all\r\n\
                  just not too long, is it\r\n* user2 left\n/msg user9 x\n\u{ff}"
        .as_bytes();
    let script = [script, b"\xff\x1b[m\r\n/help\n\r\n/name user3\ntail"].concat();
    let expected = told_by(&[&script]);
    let members = [
        "* welcome, user1; nobody else is here\n* user2 joined\n* user3 joined\n\
         * a name has 1 to 32 letters, digits, - or _\n* user1 is now a\u{300}nn\n\
         * no such command: /wh\\u{1b}; try /help\n* here: a\u{300}nn, user2, user3\n\
         * line too long (limit 24 bytes), not sent\n* nobody is called user9\n\
         * /name NEW, /who, /msg NAME TEXT, /help, /quit; //text says /text\n* user3 is taken\n",
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
        for second in first..=script.len() {
            let pieces = [&script[..first], &script[first..second], &script[second..]];
            assert_eq!(told_by(&pieces), expected, "cut at {first} and {second}");
        }
    }
}
