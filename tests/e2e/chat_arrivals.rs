//! A newcomer is welcomed at once, and announced to the others when it shows that it is more than a probe.

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Member, Server, client_name, hesitant, reset, shown};

const HELP: &str = "* /name NEW, /who, /msg NAME TEXT, /me ACTION, /help, /quit; //text says /text";
/// A newcomer that says nothing is announced after this time.
const UNANNOUNCED: Duration = Duration::from_secs(1);
/// How much later than it should something may come on a machine under load.
const LATE: Duration = Duration::from_secs(2);

/// A newcomer that has been welcomed under this name.
fn newcomer(server: &Server, name: &str) -> Member {
    let mut member = Member::over(server.connect());
    let welcome = member.line();
    assert!(welcome.starts_with(&format!("* welcome, {name}; here: ann")), "{welcome}");
    member
}

#[test]
fn a_newcomer_is_announced_with_its_first_line_name_or_private_line() {
    let server = Server::start(&["--chat"]);
    let mut ann = Member::join(&server, "ann", "");
    for (name, sends, heard) in [
        ("user2", "hello\n", &["* user2 joined", "<user2> hello"][..]),
        ("user3", "/name bob\nI am bob\n", &["* bob joined", "<bob> I am bob"]),
        ("user4", "/msg ann psst\n", &["* user4 joined", "<user4 -> ann> psst"]),
        ("user5", "//help\n", &["* user5 joined", "<user5> /help"]),
    ] {
        let begin = Instant::now();
        let mut member = newcomer(&server, name);
        member.is_answered("/help", HELP);
        ann.is_answered("/help", HELP);
        member.say(sends);
        ann.hears(heard);
        assert!(begin.elapsed() < LATE, "it took {:?}", begin.elapsed());
        member.say("/quit\n");
        ann.hears(&[&heard[0].replace("joined", "left")]);
    }
    let expected = [
        &["* ann joined"][..],
        &["* user2 joined", "<user2> hello", "* user2 left"],
        &["* bob joined", "<bob> I am bob", "* bob left"],
        &["* user4 joined", "* user4 left"],
        &["* user5 joined", "<user5> /help", "* user5 left"],
    ];
    assert_eq!(shown(&server.stop_by(Signal::TERM)), expected.concat());
}

#[test]
fn a_newcomer_that_says_nothing_is_announced_after_a_second() {
    let server = Server::start(&["--chat"]);
    let mut ann = Member::join(&server, "ann", "");
    let begin = Instant::now();
    let members: Vec<Member> = (2..12).map(|number| newcomer(&server, &format!("user{number}"))).collect();
    let welcomed = begin.elapsed();
    ann.hears(&["* user2 joined"]);
    let first = begin.elapsed();
    for number in 3..12 {
        ann.hears(&[&format!("* user{number} joined")]);
    }
    println!("welcomed within {welcomed:.1?}, announced after {first:.1?} to {:.1?}", begin.elapsed());
    assert!((UNANNOUNCED..UNANNOUNCED + LATE).contains(&first), "announced after {first:?}");
    assert!(begin.elapsed() < welcomed + UNANNOUNCED + LATE, "announced after {:?}", begin.elapsed());
    // It is not announced a second time.
    members[0].say("hello\n/name bob\n");
    ann.hears(&["<user2> hello", "* user2 is now bob"]);
    server.stop();
}

/// Health checks and floods are silent, and use up no names.
#[test]
fn a_connection_that_ends_before_it_is_announced_leaves_no_trace() {
    let server = Server::start(&["--chat"]);
    let mut ann = Member::join(&server, "ann", "");
    let probes: [fn(Member); 5] = [
        drop,
        Member::leaves_at_once,
        |probe| reset(probe.input.into_inner()),
        |mut probe| {
            probe.is_answered("/help", HELP);
            probe.say("/who\n/nonsense\n/quit\n");
            probe.stream().shutdown(std::net::Shutdown::Write).expect("half-closed");
        },
        |probe| probe.say("\n\r\n\n/quit\n"),
    ];
    for _ in 0..3 {
        for probe in probes {
            probe(newcomer(&server, "user2"));
            // It keeps its number until the server has noticed that it is gone, which may be after the next one came.
            while server.connections_and_bytes_held().0 > 1 {}
        }
    }
    // Those that do not even wait for their welcome.
    for _ in 0..200 {
        let mut stream = hesitant(server.address());
        stream.write_all(b"/help\n").expect("sent");
        reset(stream);
    }
    let bob = Member::enter(server.connect(), "bob").0;
    ann.hears(&["* bob joined"]);
    bob.leaves_at_once();
    ann.hears(&["* bob left"]);
    let lines = server.stop_by(Signal::TERM);
    let of_the_room: Vec<&str> = shown(&lines).into_iter().filter(|line| line.starts_with("* ")).collect();
    assert_eq!(of_the_room, ["* ann joined", "* bob joined", "* bob left"]);
}

#[test]
fn only_a_verbose_log_shows_a_probe() {
    let server = Server::start(&["--chat", "--verbose"]);
    let mut ann = Member::join(&server, "ann", "");
    let probe = newcomer(&server, "user2");
    let address = client_name(probe.stream());
    probe.leaves_at_once();
    let closed = format!("Closed: {address}, ");
    server.console.wait_until(|lines| lines.iter().any(|line| line.contains(&closed)).then_some(()));
    ann.is_answered("/who", "* here: ann");
    let lines = server.stop_by(Signal::TERM);
    let of_the_room: Vec<&str> = shown(&lines).into_iter().filter(|line| line.starts_with("* ")).collect();
    assert_eq!(of_the_room, ["* ann joined"]);
    assert!(lines.iter().any(|line| line.contains(&format!("Opened: {address}"))), "{lines:?}");
}

/// A number is given again only as long as nobody has heard of it, and no newer one was given.
#[test]
fn numbers_that_were_announced_are_never_given_again() {
    let server = Server::start(&["--chat"]);
    let mut ann = Member::join(&server, "ann", "");
    let (second, third) = (newcomer(&server, "user2"), newcomer(&server, "user3"));
    second.leaves_at_once();
    third.say("hello\n/quit\n");
    ann.hears(&["* user3 joined", "<user3> hello", "* user3 left"]);
    newcomer(&server, "user4").leaves_at_once();
    newcomer(&server, "user4").say("/name bob\n/quit\n");
    ann.hears(&["* bob joined", "* bob left"]);
    newcomer(&server, "user5");
    server.stop();
}

#[test]
fn a_newcomer_is_shown_what_was_said_last() {
    let server = Server::start(&["--chat", "--history", "2"]);
    let mut ann = Member::join(&server, "ann", "");
    let mut bob = newcomer(&server, "user2");
    bob.say("one\n/me waves\n/msg ann psst\nthree\n/name bob\n");
    ann.hears(&["* user2 joined", "<user2> one", "<user2> *waves*", "<user2 -> ann> psst", "<user2> three"]);
    bob.hears(&["<user2 -> ann> psst", "* user2 is now bob"]);
    let mut eve = newcomer(&server, "user3");
    eve.hears(&["* earlier:", "| <user2> *waves*", "| <user2> three"]);
    ann.hears(&["* user2 is now bob"]);
    ann.say("hello\n");
    eve.hears(&["<ann> hello"]);
    server.stop();
}
