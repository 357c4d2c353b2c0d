//! People are heard within a second, whatever other members do.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Attack, Member, Pair, Server, connect_from, hesitant, is_tls};

/// How long a line of a person may take to be heard.
const SECOND: Duration = Duration::from_secs(1);
/// How long people talk beside an attack.
const PERIOD: Duration = Duration::from_secs(2);
const FILE: usize = 100 << 20;

/// Lets two people talk beside an attack.
fn expect_people_to_be_heard(name: &str, attack: fn(Attack) -> Attack) {
    let server = Server::start(&["--chat", "--quiet"]);
    let mut pair = Pair::join(&server);
    let attack = attack(Attack::on(server.address()));
    let delays = pair.talk(PERIOD);
    let connections = attack.end();
    println!("beside {name}: {delays}; {connections} connections");
    assert!(delays.longest() < SECOND, "a person was not heard for {:?}", delays.longest());
    server.stop_by(Signal::TERM);
}

#[test]
fn beside_a_client_that_asks_for_help_and_never_reads() {
    expect_people_to_be_heard("/help without reading", |attack| attack.repeat(2, "/help", 0));
}

#[test]
fn beside_a_client_that_asks_who_is_there_and_never_reads() {
    expect_people_to_be_heard("/who without reading", |attack| attack.repeat(2, "/who", 0));
}

#[test]
fn beside_a_client_that_asks_for_help_and_reads_slowly() {
    expect_people_to_be_heard("/help at 9 KB/s", |attack| attack.repeat(2, "/help", 9000));
}

#[test]
fn beside_a_client_that_talks_and_never_reads() {
    expect_people_to_be_heard("talking without reading", |attack| attack.repeat(2, "hello", 0));
}

#[test]
fn beside_a_file_that_is_piped_to_a_client_that_never_reads() {
    expect_people_to_be_heard("a file for a member that never reads", |attack| attack.pipe(2, FILE).listen(3, 0));
}

#[test]
fn beside_clients_that_connect_and_reset() {
    expect_people_to_be_heard("connecting and resetting", |attack| {
        let line = "x".repeat(1000) + "\n";
        attack.connect_and_reset(2, b"").connect_and_reset(3, b"hello\n").connect_and_reset(4, line.as_bytes())
    });
}

#[test]
fn beside_attackers_at_several_addresses() {
    expect_people_to_be_heard("attackers at four addresses", |attack| {
        let attack = attack.pipe(2, FILE).connect_and_reset(2, b"hello\n");
        (3..6).fold(attack, |attack, source| attack.repeat(source, "/help", 0).repeat(source, "hello", 9000))
    });
}

/// They take more than 64 KiB in each stall timeout, though the talker could say far more.
#[test]
fn steady_readers_lose_nothing() {
    const STALL: &str = "2s";
    const SLOW: Duration = Duration::from_secs(4);
    // The server sees progress in steps, and over TLS there are the buffers of the relay as well.
    let pace = if is_tls() { 300e3 } else { 100e3 };
    let file: String = (0..12_000).map(|number| format!("{number} {}\n", "-".repeat(number * 7 % 2000))).collect();
    let server = Server::start(&["--chat", "--quiet", "--stall-timeout", STALL]);
    let talker = Member::join(&server, "talker", "");
    let readers = [
        ("one", hesitant(server.address())),
        ("two", connect_from(2, server.address(), Some(64 << 10)).expect("connected")),
        ("three", server.connect()),
    ];
    let readers = readers.map(|(name, stream)| (name, Member::enter(stream, name).0));
    thread::scope(|scope| {
        scope.spawn(|| talker.say(&file));
        for (name, mut reader) in readers {
            let file = &file;
            scope.spawn(move || {
                let begin = Instant::now();
                let mut taken = 0;
                for expected in file.lines() {
                    let line = std::iter::repeat_with(|| reader.line()).find(|line| !line.starts_with("* "));
                    assert_eq!(line.as_deref().and_then(|line| line.strip_prefix("<talker> ")), Some(expected));
                    taken += expected.len();
                    while begin.elapsed() < SLOW && begin.elapsed().as_secs_f64() * pace < taken as f64 {
                        thread::sleep(Duration::from_millis(10));
                    }
                }
                println!("{name} has heard {taken} bytes in {:.1?}", begin.elapsed());
            });
        }
    });
    server.stop();
}
