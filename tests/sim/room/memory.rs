//! What members make the room hold that send much or read nothing.

use std::time::Duration;

use sockets::Config;
use sockets::config::RESERVE;

use super::{Member, NARROW, ROOMY, Room, held_up};

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
    // The answers fill more than may be pending.
    let mut answers = String::new();
    while eve.client.unread() > 0 {
        answers += &eve.hears();
        room.settle();
    }
    answers += &eve.hears();
    let count = answers.matches("* user1 is not reading; your line was not sent\n").count();
    assert_eq!(answers.matches("<user2 -> user1> x").count() + count, 200);
    assert!((60..80).contains(&count), "{count} of 200 are refused");
    assert!(room.world.hub.held() < 256 << 10, "{} bytes are held", room.world.hub.held());
}

/// What is pending for one alone is nobody's floor, but it takes memory too.
#[test]
fn private_lines_do_not_take_more_memory_than_there_is() {
    const MAX_MEMORY: usize = 1 << 20;
    let mut room = Room::open(Config::with(|config| config.max_memory = MAX_MEMORY));
    let deaf: Vec<Member> = (0..30).map(|_| room.join(NARROW)).collect();
    let mut eve = room.join(ROOMY);
    for at in 0..deaf.len() {
        for _ in 0..10 {
            eve.say(&format!("/msg user{} {}\n", at + 1, "\x1b".repeat(20_000)));
            room.settle();
            eve.hears();
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
    let mut room = Room::open(Config::with(|config| {
        config.max_memory = MAX_MEMORY;
        config.max_ahead = usize::MAX;
    }));
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
        let mut room = Room::open(Config::with(|config| {
            config.max_memory = 256 << 10;
            config.max_line = max_line;
        }));
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
    let mut room = Room::open(Config::with(|config| {
        config.max_memory = MAX_MEMORY;
        config.max_line = 16 << 20;
    }));
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
    let mut room = Room::open(Config::with(|config| config.max_memory = MAX_MEMORY));
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
