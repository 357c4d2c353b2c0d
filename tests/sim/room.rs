//! The room in situations that real sockets rarely make: somebody holds it up, memory runs out, the server
//! stops in the middle of it.

use std::cell::RefCell;
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

    /// A client that is connected and will join in the next turn.
    fn knock(&mut self, send_buffer: usize) -> Member {
        let nature = Nature {
            receive_buffer: ROOMY,
            send_buffer,
            wakes_at: 1,
            interrupts: 0,
            reset_keeps_arrived: true,
            seed: 0,
        };
        Member { client: self.world.accept(nature).1, heard: Vec::new() }
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

/// A room of which `ann` is a member, who can take all, `bob`, who does not read, and `eve`, who has said so
/// much that bob holds the others up: her last line is still waiting to be heard.
fn held_up(config: Config) -> (Room, [Member; 3]) {
    let mut room = Room::open(Config { max_queue: 1000, ..config });
    let mut members = [room.join(ROOMY), room.join(NARROW), room.join(ROOMY)];
    room.settle();
    let eve = &members[2];
    eve.say(&"something\n".repeat(500));
    room.settle();
    eve.say("the last word\n");
    room.settle();
    assert_eq!(eve.client.unread(), "the last word\n".len(), "nobody holds the room up");
    members[0].hears();
    (room, members)
}

#[test]
fn who_holds_the_room_up_and_breaks_is_not_waited_for() {
    let (mut room, [mut ann, bob, _eve]) = held_up(Config::default());
    bob.client.reset();
    room.settle();
    assert_eq!(ann.hears(), "* user2 left\n<user3> the last word\n");
}

#[test]
fn who_holds_the_room_up_is_closed_in_time_and_not_before() {
    const TIMEOUT: Duration = Duration::from_secs(7);
    for max_queue in [0, 15, 1000] {
        let mut room = Room::open(Config { max_queue, stall_timeout: Some(TIMEOUT), ..Config::default() });
        let (mut ann, bob, eve) = (room.join(ROOMY), room.join(NARROW), room.join(ROOMY));
        eve.say(&"something\n".repeat(500));
        room.settle();
        eve.say("the last word\n");
        room.world.pass(TIMEOUT - Duration::from_millis(1));
        room.settle();
        assert!(!ann.hears().contains("left"), "with {max_queue}");
        room.world.pass(Duration::from_millis(1));
        room.settle();
        assert_eq!(ann.hears(), "* user2 left (too slow)\n<user3> the last word\n", "with {max_queue}");
        assert!(bob.client.record().is_dropped);
    }
}

#[test]
fn timeouts_may_be_endless() {
    let endless = Some(Duration::MAX);
    let (mut room, [mut ann, mut bob, _eve]) =
        held_up(Config { stall_timeout: endless, idle_timeout: endless, ..Config::default() });
    room.world.pass(Duration::from_secs(1 << 30));
    room.settle();
    assert_eq!(ann.hears(), "");
    while ann.hears().is_empty() {
        bob.hears();
        room.settle();
    }
}

#[test]
fn who_holds_the_room_up_and_reads_again_loses_nothing() {
    let (mut room, [mut ann, mut bob, _eve]) = held_up(Config::default());
    let mut heard = String::new();
    while ann.hears().is_empty() {
        heard += &bob.hears();
        room.settle();
        // Longer than the timeout in all, but never without reading.
        room.world.pass(Duration::from_secs(1));
    }
    loop {
        let more = bob.hears();
        if more.is_empty() {
            break;
        }
        heard += &more;
        room.settle();
    }
    let said = "<user3> something\n".repeat(500);
    assert_eq!(heard, format!("* welcome, user2; here: user1\n* user3 joined\n{said}<user3> the last word\n"));
}

#[test]
fn a_newcomer_joins_though_the_room_is_held_up() {
    let (mut room, [mut ann, _bob, _eve]) = held_up(Config::default());
    let mut newcomer = room.join(ROOMY);
    assert_eq!(newcomer.hears(), "* welcome, user4; here: user1, user2, user3\n");
    assert_eq!(ann.hears(), "* user4 joined\n");
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

/// What talkers are owed is less than what they keep in the feed, by what they said themselves. To copy it for
/// all of them at once would be what the feed is there to avoid.
#[test]
fn talkers_who_do_not_read_share_what_they_are_owed() {
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
fn all_are_told_of_the_stop_though_somebody_holds_the_room_up() {
    let (mut room, [mut ann, _bob, eve]) = held_up(Config::default());
    eve.say("and this");
    eve.client.finish();
    room.settle();
    room.world.hub.drain();
    room.settle();
    assert_eq!(ann.hears(), "<user3> the last word\n<user3> and this\n* user3 left\n* server is stopping\n");
    assert_eq!(ann.client.reply_end(), Some(ReplyEnd::Clean));
}

/// They have been read when the stop comes, but that they are a line is known only by the end that follows them.
#[test]
fn the_last_words_are_heard_though_the_room_is_held_up() {
    let mut room = Room::open(Config { max_memory: 0, ..Config::default() });
    let (mut ann, mut bob) = (room.join(ROOMY), room.knock(10));
    bob.say("the last words");
    bob.client.finish();
    // In one turn he joins and speaks; that he has ended would be found in the next.
    assert!(room.world.poll());
    room.world.turn(|_| {});
    room.world.hub.drain();
    room.settle();
    assert!(ann.hears().ends_with("* user2 joined\n"), "nobody holds the room up");
    while !bob.hears().is_empty() {
        room.settle();
    }
    assert_eq!(ann.hears(), "<user2> the last words\n* user2 left\n* server is stopping\n");
}

/// What comes after the signal is too late, but it is not the end of who sends it.
#[test]
fn who_talks_on_while_the_server_stops_is_told_so() {
    const MAX_MEMORY: usize = 64 << 10;
    let (mut room, [_, _, mut eve]) = held_up(Config { max_memory: MAX_MEMORY, ..Config::default() });
    let (mut ann, dan) = (room.join(ROOMY), room.join(ROOMY));
    // Memory is so short that the room stays held up.
    ann.hears();
    room.world.hub.drain();
    room.settle();
    dan.say("too late\n");
    room.settle();
    room.wait();
    assert_eq!(ann.hears(), "* user2 left (too slow)\n<user3> the last word\n* server is stopping\n");
    assert!(eve.hears().ends_with("* user2 left (too slow)\n* server is stopping\n"));
}

#[test]
fn nothing_follows_the_notice_of_the_stop() {
    let mut room = Room::open(Config::default());
    let mut ann = room.join(ROOMY);
    // More of them than join in one turn.
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
    let heard = ann.hears();
    assert_eq!(heard.lines().last(), Some("* server is stopping"));
    assert_eq!(heard.lines().count(), late.len() + 1);
    for member in &mut late {
        let heard = member.hears();
        assert!(heard.starts_with("* welcome, ") && heard.ends_with("* server is stopping\n"), "{heard}");
    }
    assert!(!room.shown().iter().any(|line| line.ends_with(" left")));
}

/// A sender that is not listened to because another is slow is not idle.
#[test]
fn who_waits_to_be_heard_is_not_idle() {
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(5));
    let (mut room, [mut ann, _bob, _eve]) = held_up(Config { idle_timeout: TIMEOUT, ..Config::default() });
    for _ in 0..7 {
        room.world.pass(Duration::from_secs(1));
        ann.say("me too\n");
        room.settle();
    }
    assert_eq!(ann.hears(), "* user2 left (idle)\n<user3> the last word\n");
}

/// What everybody in a small room is told while one of them sends `pieces`, and ends its side.
fn told_by(pieces: &[&[u8]]) -> (Vec<String>, Vec<String>) {
    let mut room = Room::open(Config { max_line: 24, ..Config::default() });
    let mut members = [room.join(ROOMY), room.join(ROOMY), room.join(ROOMY)];
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
