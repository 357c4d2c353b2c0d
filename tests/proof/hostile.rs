//! Hostile clients of all kinds together, and honest ones beside them that must not notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::attackers::{FORGED, Kind, OF_A_ROOM, attack};
use crate::chat::Member;
use crate::engine::{Engine, Stage, StopOnDrop};
use crate::harness::{Attack, Pair, Server, memory, parse_time};
use crate::honest::Honest;
use crate::measure::{Footprint, MIB, PATIENCE, Times, address, alone, seconds, seed, start, unnoticed};

const HONEST: usize = 50;
const MEMBERS: usize = 10;
/// How long an honest client waits between two messages.
const PAUSE: Duration = Duration::from_millis(20);

/// The attackers of the echo, and how many of each there are at any time.
const ATTACKERS: &[(Kind, usize)] = &[
    (Kind::Idle, 1000),
    (Kind::NeverReads, 20),
    (Kind::SlowReader, 20),
    (Kind::SlowWriter, 50),
    (Kind::Resetter, 20),
    (Kind::HalfOpen, 4),
    (Kind::ConnectAndClose, 4),
    (Kind::Urgent, 10),
    (Kind::Forger, 10),
];

/// Lets honest clients talk for so long; returns the times of their round trips.
pub(crate) fn talk(server: &Server, seed: u64, count: usize, pause: Duration, period: Duration) -> Times {
    let mut engine = Engine::new(seed);
    for number in 0..count {
        let honest = Honest::lasting(&mut engine.stage, pause);
        engine.connect(0, address(server.port, number), Box::new(honest));
    }
    let nobody = &mut |_: usize, _: &mut Stage| None;
    engine.run(Instant::now() + period, PATIENCE, nobody);
    assert_eq!(engine.len(), count, "somebody left early");
    engine.stage.is_over = true;
    engine.run_to_end(PATIENCE);
    Times::of(engine.stage.times)
}

fn is_of_dropped_lines(line: &str) -> bool {
    line.ends_with(" log lines dropped") || line.ends_with(" log line dropped")
}

/// Whether a line of the log has the form of a message of today: what a forger wrote is inside of one.
fn is_own(line: &str) -> bool {
    let time = line.strip_prefix('[').and_then(|line| line.split_once("] Echoed: '"));
    let is_whole = line.ends_with('\'') || line.ends_with(" bytes)");
    time.is_some_and(|(time, _)| parse_time(time).is_some()) && is_whole && line != FORGED
}

#[test]
#[ignore = "takes 75 s"]
fn honest_clients_do_not_notice_hostile_ones() {
    let _alone = alone();
    let (seed, period) = (seed(), seconds("PROOF_HOSTILE_SECONDS", 60));
    let server = start(&["--max-memory", "64MiB"]);
    let at_first = Footprint::warm(&server);
    let before = talk(&server, seed, HONEST, PAUSE, period / 6);

    let (port, stop) = (server.port, AtomicBool::new(false));
    let (during, attackers) = thread::scope(|scope| {
        let attack = scope.spawn(|| attack(port, ATTACKERS, seed ^ 1, &stop));
        let _stop = StopOnDrop(&stop);
        let during = talk(&server, seed ^ 2, HONEST, PAUSE, period);
        stop.store(true, Ordering::Relaxed);
        (during, attack.join().expect("no panic"))
    });
    let most = memory(server.process.pid(), "VmHWM");
    let at_last = Footprint::settled(&server, at_first.descriptors);
    println!("hostile: {HONEST} honest clients alone: {before}");
    println!("hostile: beside {attackers} hostile ones in {period:?}: {during}");
    println!("hostile: {at_first} before, at most {} MiB, {at_last} after", most / MIB);
    let lines = server.stop_by(Signal::TERM);
    let dropped = lines.iter().filter(|line| is_of_dropped_lines(line)).count();
    for line in lines.iter().filter(|line| !is_of_dropped_lines(line)) {
        assert!(is_own(line), "not a line of the server's own: {line:.200}");
    }
    println!("hostile: {} lines of the log are whole, {dropped} of them tell of lines dropped", lines.len());

    assert!(during.per_mille(999) < unnoticed(&before), "honest clients waited");
    // The limit, 64 KiB for each of some 1,200 clients, the log that waits, and what it needs for itself.
    assert!(most < (64 + 75 + 4 + 32) * MIB, "{} MiB were held", most / MIB);
}

/// Members at several addresses that read nothing or little of what they ask for without end, a file that is piped
/// into the room again and again, and clients that connect and reset, with a line or without.
fn hostile_members(server: &Server) -> Attack {
    let never_and_trickle_readers = |attack: Attack, source| {
        attack.repeat(source, "/help", 0).repeat(source, "/who", 0).repeat(source, "/help", 9000).listen(source, 9000)
    };
    let attack = (2..6).fold(Attack::on(server.address()), never_and_trickle_readers);
    let line = "x".repeat(1000) + "\n";
    attack.pipe(6, 100 * MIB).connect_and_reset(7, b"").connect_and_reset(8, line.as_bytes())
}

/// Members that talk much hear every line of each other, and two that talk like people are heard at once.
#[test]
#[ignore = "takes 30 s"]
fn a_room_goes_on_beside_hostile_clients() {
    let _alone = alone();
    let (seed, period) = (seed(), seconds("PROOF_HOSTILE_SECONDS", 60) / 3);
    let server = start(&["--chat", "--quiet"]);
    let mut pair = Pair::join(&server);
    let before = pair.talk(period / 4);
    let mut engine = Engine::new(seed);
    for number in 0..MEMBERS {
        let member = Member::new(number, MEMBERS, PAUSE);
        engine.connect(0, address(server.port, number), Box::new(member));
    }
    engine.run_to_end(PATIENCE);
    engine.next_round();
    let (port, stop) = (server.port, AtomicBool::new(false));
    let (during, attackers) = thread::scope(|scope| {
        let attack = scope.spawn(|| attack(port, OF_A_ROOM, seed ^ 1, &stop));
        let _stop = StopOnDrop(&stop);
        let hostile_members = hostile_members(&server);
        let talking = scope.spawn(|| pair.talk(period));
        engine.run(Instant::now() + period, PATIENCE, &mut |_, _| None);
        assert_eq!(engine.len(), MEMBERS, "somebody left early");
        engine.stage.is_over = true;
        engine.run(Instant::now() + PATIENCE, PATIENCE, &mut |_, _| None);
        assert_eq!(engine.len(), 0, "not everybody heard everything");
        let during = talking.join().expect("everything is heard");
        stop.store(true, Ordering::Relaxed);
        (during, attack.join().expect("no panic") + hostile_members.end() as u64)
    });
    let lines = engine.stage.checked;
    println!(
        "hostile: {lines} lines arrived in the room in {period:?}, whole and in order, beside {attackers} hostile clients"
    );
    println!("hostile: two who talk like people, without hostile clients: {before}");
    println!("hostile: beside hostile clients: {during}");
    assert!(lines > 1000);
    assert!(during.longest() < Duration::from_secs(1) + before.longest(), "a person was not heard");
    server.stop_by(Signal::TERM);
}
