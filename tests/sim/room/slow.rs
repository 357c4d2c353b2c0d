//! Talkers that wait for slow members, and those that do not have to.

use std::net::Ipv4Addr;
use std::time::Duration;

use sockets::Config;

use super::{NARROW, ROOMY, Room, SECOND, TALK, held_up};

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
    let config = Config::with(|config| {
        config.max_ahead = 1000;
        config.stall_timeout = Some(TIMEOUT);
    });
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
    let config = Config::with(|config| config.stall_timeout = Some(Duration::MAX));
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
    let (mut room, [mut ann, _bob, eve]) = held_up(Config::with(|config| config.stall_timeout = Some(Duration::MAX)));
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
    let mut room = Room::open(Config::with(|config| {
        config.max_ahead = 1000;
        config.stall_timeout = Some(Duration::MAX);
    }));
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

#[test]
fn an_address_that_has_made_talkers_wait_too_long_gets_a_second() {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let mut room = Room::open(Config::with(|config| config.max_ahead = 1000));
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

#[test]
fn timeouts_may_be_endless() {
    let endless = Some(Duration::MAX);
    let (mut room, [mut ann, mut bob, _eve]) = held_up(Config::with(|config| {
        config.stall_timeout = endless;
        config.idle_timeout = endless;
    }));
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
    let (mut room, [mut ann, _bob, _eve]) = held_up(Config::with(|config| config.stall_timeout = Some(Duration::MAX)));
    let mut newcomer = room.join(ROOMY);
    assert!(newcomer.hears().starts_with("* welcome, user4; here: user1, user2, user3\n"));
    newcomer.say("hello\n");
    room.settle();
    assert!(ann.hears().ends_with("* user4 joined\n<user4> hello\n"));
}

/// A talker that waits for a slow member is not idle, and the slow one is, when it takes nothing at all.
#[test]
fn who_waits_to_be_heard_is_not_idle() {
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(5));
    let (mut room, [mut ann, _bob, _eve]) = held_up(Config::with(|config| config.idle_timeout = TIMEOUT));
    for _ in 0..7 {
        room.world.pass(Duration::from_secs(1));
        ann.say("me too\n");
        room.settle();
    }
    let heard = ann.hears();
    assert!(heard.contains("* user2 left (idle)\n") && heard.contains("<user3> the last word\n"), "{heard}");
    assert!(!heard.contains("user3 left"));
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

/// What was said before it came is for it alone: it waits for nobody, and nobody for it.
#[test]
fn a_newcomer_that_does_not_read_the_history_may_talk_and_holds_up_nobody() {
    let mut room = Room::open(Config::with(|config| (config.history, config.max_ahead) = (usize::MAX, 1000)));
    let (mut ann, bob) = (room.join(ROOMY), room.join(ROOMY));
    room.announce();
    bob.say(&"something\n".repeat(TALK));
    bob.say("/me waves\n/msg user1 psst\n");
    room.settle();
    ann.hears();
    let (mut dan, eve) = (room.join(ROOMY), room.join(NARROW));
    let heard = dan.hears();
    let last = format!("* welcome, user3; here: user1, user2\n* earlier:\n{}", "| <user2> something\n".repeat(TALK));
    assert_eq!(heard, last + "| <user2> *waves*\n");
    eve.say("can you hear me?\n");
    room.settle();
    assert!(ann.hears().ends_with("<user4> can you hear me?\n"));
}

/// It resets the connection itself, just before the server would.
#[test]
fn a_member_that_resets_its_connection_in_time_has_made_talkers_wait_all_the_same() {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let mut room = Room::open(Config::with(|config| config.max_ahead = 1000));
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

/// Many commands whose answers are long, beside somebody who says a lot.
#[test]
fn members_that_ask_much_do_not_stop_those_that_say_much() {
    let mut room = Room::open(Config::default());
    let speaker = room.join(ROOMY);
    let mut curious: Vec<_> = (0..10).map(|_| room.join(ROOMY)).collect();
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

/// It says as much as one member may, half-closes, and comes back.
#[test]
fn a_talker_that_leaves_and_comes_back_is_as_far_ahead_as_before() {
    let mut room = Room::open(Config::with(|config| config.max_ahead = 100_000));
    let mut ann = room.join(ROOMY);
    let _slow = room.join(NARROW);
    room.announce();
    let host = Ipv4Addr::new(192, 0, 2, 7);
    let mut heard = 0;
    for _ in 0..50 {
        let talker = room.knock_from(host, ROOMY);
        room.settle();
        talker.say(&"something\n".repeat(5_000));
        talker.client.finish();
        room.settle();
        heard += ann.hears().len();
    }
    assert!(heard < 400_000, "{heard} bytes were said ahead of the slow member");
}
