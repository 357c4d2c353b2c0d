//! How the room ends, and for whom it is full.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Attack, Member, Server, cpu_time, hesitant, shown, skipped_over_tls};

/// How long anything may take that does not depend on other members.
const SECOND: Duration = Duration::from_secs(1);

/// A grace that no test waits for.
const LONG_GRACE: &[&str] = &["--chat", "--grace", "20s"];

#[test]
fn all_are_told_that_the_server_is_stopping() {
    let server = Server::start(LONG_GRACE);
    let mut ann = Member::join(&server, "ann", "");
    let mut bob = Member::join(&server, "bob", "ann");
    ann.hears(&["* bob joined"]);
    server.process.signal(Signal::TERM);
    for member in [&mut ann, &mut bob] {
        member.hears(&["* server is stopping"]);
    }
    ann.leaves();
    bob.leaves();
    assert_eq!(shown(&server.expect_stopped()), ["* ann joined", "* bob joined"]);
}

#[test]
fn an_empty_room_stops_at_once() {
    Server::start(LONG_GRACE).stop();
}

#[test]
fn what_had_arrived_before_the_stop_is_relayed() {
    if skipped_over_tls("a stopping server does not finish handshakes") {
        return;
    }
    let server = Server::start(LONG_GRACE);
    let mut ann = Member::join(&server, "ann", "");
    let bob = Member::join(&server, "bob", "ann");
    let eve = Member::join(&server, "eve", "ann, bob");
    ann.hears(&["* bob joined", "* eve joined"]);
    server.process.suspend();
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
    heard.retain(|line| line != "* eve left");
    assert_eq!(heard, ["* user4 joined", "<bob> last words", "<eve> a tail", "<user4> just in time"]);
    ann.leaves();
    assert!(late.line().starts_with("* welcome, user4; here: "));
    drop((bob, eve, late));
    server.expect_stopped();
}

#[test]
fn who_talks_on_during_the_stop_is_let_go_in_order() {
    let server = Server::start(LONG_GRACE);
    let mut ann = Member::join(&server, "ann", "");
    server.process.signal(Signal::TERM);
    ann.hears(&["* server is stopping"]);
    ann.say("too late\n");
    ann.leaves();
    server.expect_stopped();
}

#[test]
fn a_full_room_says_so_and_has_room_again() {
    let server = Server::start(&["--chat", "--max-connections", "2"]);
    let mut ann = Member::join(&server, "ann", "");
    let bob = Member::join(&server, "bob", "ann");
    ann.hears(&["* bob joined"]);
    let mut refused: Vec<Member> = (0..4).map(|_| Member::over(server.connect())).collect();
    for member in &mut refused {
        member.hears(&["* server is full"]);
    }
    bob.half_close();
    bob.leaves();
    ann.hears(&["* bob left"]);
    // That the others were turned away and are still connected is not in the way.
    let eve = Member::join(&server, "eve", "ann");
    ann.hears(&["* eve joined"]);
    refused.into_iter().for_each(Member::leaves);
    let mut another = Member::over(server.connect());
    another.hears(&["* server is full"]);
    another.leaves();
    drop(eve);
    ann.hears(&["* eve left"]);
    let lines = server.stop_by(Signal::TERM);
    let expected = ["* ann joined", "* bob joined", "* bob left", "* eve joined", "* eve left"];
    assert_eq!(shown(&lines), expected);
}

/// They are still connected: `netcat` waits for its input to end, and so do people.
#[test]
fn the_next_client_is_told_at_once_however_many_refused_ones_stay() {
    const REFUSED: usize = 32;
    let server = Server::start(&["--chat", "--max-connections", "2"]);
    let mut ann = Member::join(&server, "ann", "");
    let _bob = Member::join(&server, "bob", "ann");
    let mut refused = Vec::new();
    let mut longest = Duration::ZERO;
    for _ in 0..REFUSED + 5 {
        let begin = Instant::now();
        let mut member = Member::over(server.connect());
        member.hears(&["* server is full"]);
        longest = longest.max(begin.elapsed());
        refused.push(member);
        assert!(longest < SECOND, "client {} waited {longest:?}", refused.len());
    }
    println!("{} clients were told that the server is full within {longest:.1?}", refused.len());
    ann.hears(&["* bob joined"]);
    server.stop();
}

/// Beside a member that reads nothing and a file that somebody pipes.
#[test]
fn leaving_is_noticed_at_once_while_another_member_is_slow() {
    let server = Server::start(&["--chat", "--quiet"]);
    let mut ann = Member::join(&server, "ann", "");
    let _stuck = Member::enter(hesitant(server.address()), "stuck");
    let bob = Member::enter(server.connect(), "bob").0;
    let eve = Member::enter(server.connect(), "eve").0;
    let attack = Attack::on(server.address()).pipe(2, usize::MAX);
    let mut hear = |line: &str| while ann.line() != line {};
    hear("* eve joined");
    let mut expect_to_leave = |name: &str, leave: &dyn Fn()| {
        // By then the pipe waits for the member that reads nothing.
        thread::sleep(Duration::from_millis(500));
        let begin = Instant::now();
        leave();
        hear(&format!("* {name} left"));
        let took = begin.elapsed();
        println!("that {name} left was heard after {took:.1?}");
        assert!(took < SECOND, "{took:?}");
    };
    expect_to_leave("bob", &|| bob.half_close());
    expect_to_leave("eve", &|| eve.say("/quit\n"));
    attack.end();
    server.stop();
}

/// Its connection is reset because it closes with unread input: writing to it fails before all that it said is read.
#[test]
fn the_last_lines_of_a_member_that_never_read_are_heard() {
    if skipped_over_tls("a relay forwards a reset at once") {
        return;
    }
    const LINES: usize = 100;
    let server = Server::start(&["--chat", "--quiet", "--max-ahead", "16MiB"]);
    let mut ann = Member::join(&server, "ann", "");
    let mut bob = Member::enter(hesitant(server.address()), "bob").0;
    ann.hears(&["* bob joined"]);
    // More than the system holds for bob.
    let line = format!("{}\n", "x".repeat(50_000));
    for _ in 0..200 {
        ann.say(&line);
    }
    bob.line();
    server.process.suspend();
    // In one packet, so that it has arrived: what bob's system has not sent yet is lost with the connection.
    bob.say((0..LINES).map(|number| format!("{number} {}\n", "-".repeat(90))).collect::<String>());
    ann.say("hello\n");
    drop(bob);
    server.process.signal(Signal::CONT);
    for number in 0..LINES {
        ann.hears(&[&format!("<bob> {number} {}", "-".repeat(90))]);
    }
    ann.hears(&["* bob left"]);
    server.stop();
}

/// A room in which nothing happens costs nothing, also while a talker waits for a member that reads nothing.
#[test]
fn a_room_in_which_nothing_happens_sleeps() {
    let server = Server::start(&["--chat", "--quiet", "--max-ahead", "10k", "--stall-timeout", "1m"]);
    let mut ann = Member::join(&server, "ann", "");
    let (stuck, _) = Member::enter(hesitant(server.address()), "stuck");
    ann.hears(&["* stuck joined"]);
    let listeners: Vec<Member> = (0..20).map(|_| Member::over(server.connect())).collect();
    for number in 3..23 {
        ann.hears(&[&format!("* user{number} joined")]);
    }
    for busy in [false, true] {
        if busy {
            // More than the system and the window hold: the rest is hardly read.
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
