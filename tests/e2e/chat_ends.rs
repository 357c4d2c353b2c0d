//! How the room ends, and for whom it is full.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Member, Server, cpu_time, hesitant, shown};

/// A grace that no test waits for.
const LONG_GRACE: &[&str] = &["--chat", "--grace", "20s"];

#[test]
fn all_are_told_that_the_server_is_stopping() {
    let server = Server::start(LONG_GRACE);
    let mut ann = Member::join(&server, "user1", "");
    let mut bob = Member::join(&server, "user2", "user1");
    ann.hears(&["* user2 joined"]);
    server.process.signal(Signal::TERM);
    for member in [&mut ann, &mut bob] {
        member.hears(&["* server is stopping"]);
    }
    ann.leaves();
    bob.leaves();
    assert_eq!(shown(&server.expect_stopped()), ["* user1 joined", "* user2 joined"]);
}

#[test]
fn an_empty_room_stops_at_once() {
    Server::start(LONG_GRACE).stop();
}

#[test]
fn what_had_arrived_before_the_stop_is_relayed() {
    let server = Server::start(LONG_GRACE);
    let mut ann = Member::join(&server, "user1", "");
    let bob = Member::join(&server, "user2", "user1");
    let eve = Member::join(&server, "user3", "user1, user2");
    ann.hears(&["* user2 joined", "* user3 joined"]);
    server.process.signal(Signal::STOP);
    bob.say("last words\nand a beginning");
    eve.say("a tail");
    eve.half_close();
    let mut late = Member::over(server.connect());
    late.say("just in time\n");
    server.process.signal(Signal::TERM);
    server.process.signal(Signal::CONT);
    let mut heard = Vec::new();
    while heard.last().is_none_or(|line| line != "* server is stopping") {
        heard.push(ann.line());
    }
    heard.pop();
    heard.sort();
    // Where eve's end was seen before the stop, she has left too.
    heard.retain(|line| line != "* user3 left");
    assert_eq!(heard, ["* user4 joined", "<user2> last words", "<user3> a tail", "<user4> just in time"]);
    ann.leaves();
    assert!(late.line().starts_with("* welcome, user4; here: "));
    drop((bob, eve, late));
    server.expect_stopped();
}

#[test]
fn who_talks_on_during_the_stop_is_let_go_in_order() {
    let server = Server::start(LONG_GRACE);
    let mut ann = Member::join(&server, "user1", "");
    server.process.signal(Signal::TERM);
    ann.hears(&["* server is stopping"]);
    ann.say("too late\n");
    ann.leaves();
    server.expect_stopped();
}

#[test]
fn a_full_room_says_so_and_has_room_again() {
    let server = Server::start(&["--chat", "--max-connections", "2"]);
    let mut ann = Member::join(&server, "user1", "");
    let bob = Member::join(&server, "user2", "user1");
    ann.hears(&["* user2 joined"]);
    let mut refused: Vec<Member> = (0..4).map(|_| Member::over(server.connect())).collect();
    for member in &mut refused {
        member.hears(&["* server is full"]);
    }
    bob.half_close();
    bob.leaves();
    ann.hears(&["* user2 left"]);
    // That the others were turned away and are still connected is not in the way.
    let eve = Member::join(&server, "user3", "user1");
    ann.hears(&["* user3 joined"]);
    refused.into_iter().for_each(Member::leaves);
    let mut another = Member::over(server.connect());
    another.hears(&["* server is full"]);
    another.leaves();
    drop(eve);
    ann.hears(&["* user3 left"]);
    let lines = server.stop_by(Signal::TERM);
    let expected = ["* user1 joined", "* user2 joined", "* user2 left", "* user3 joined", "* user3 left"];
    assert_eq!(shown(&lines), expected);
}

/// A room in which nothing happens costs nothing, also while somebody holds it up and others wait to be heard.
#[test]
fn a_room_in_which_nothing_happens_sleeps() {
    let server = Server::start(&["--chat", "--quiet", "--max-queue", "10k", "--stall-timeout", "1m"]);
    let mut ann = Member::join(&server, "user1", "");
    let stuck = Member::over(hesitant(server.address()));
    ann.hears(&["* user2 joined"]);
    let listeners: Vec<Member> = (0..20).map(|_| Member::over(server.connect())).collect();
    for busy in [false, true] {
        if busy {
            // More than the system and the queue hold: the rest is not read.
            ann.stream().set_nonblocking(true).expect("set");
            let line = format!("{}\n", "x".repeat(50_000));
            let mut silent = 0;
            while silent < 20 {
                match std::io::Write::write(&mut ann.stream(), line.as_bytes()) {
                    Ok(_) => silent = 0,
                    Err(_) => silent += 1,
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        let before = cpu_time(server.process.pid());
        thread::sleep(Duration::from_secs(1));
        let spent = cpu_time(server.process.pid()) - before;
        assert!(spent <= Duration::from_millis(50), "{spent:?} in a second, busy: {busy}");
    }
    drop((listeners, stuck));
    server.process.signal(Signal::INT);
    server.process.wait();
}
