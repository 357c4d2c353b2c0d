//! What slow readers of a room are promised, and what they may cost.

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Attack, Member, connect, connect_from, memory};
use crate::measure::{KIB, MIB, alone, start};

/// Who reads how many bytes a second.
const READERS: [(&str, usize); 3] = [("reader20", 20_000), ("reader50", 50_000), ("reader100", 100_000)];
/// The talker waits for the slowest of them: for the whole file it would take more than an hour.
const FILE: usize = 100 * MIB;
const PERIOD: Duration = Duration::from_secs(25);

/// Each line is another one, and tells its number.
fn line(number: usize) -> String {
    format!("line {number} {}", "-".repeat(number * 7 % 2000))
}

/// Reads `pace` bytes a second, as steadily as it can, and checks that it hears all lines whole and in order. Returns
/// how many bytes these are.
fn read_steadily(member: &mut Member, pace: usize) -> usize {
    let begin = Instant::now();
    let (mut number, mut taken) = (0, 0);
    while begin.elapsed() < PERIOD {
        let heard = member.line();
        taken += heard.len() + 1;
        if !heard.starts_with("* ") {
            assert_eq!(heard, format!("<talker> {}", line(number)));
            number += 1;
        }
        let until = begin + Duration::from_secs_f64(taken as f64 / pace as f64);
        thread::sleep(until.saturating_duration_since(Instant::now()));
    }
    taken
}

#[test]
#[ignore = "takes 30 s"]
fn steady_readers_lose_nothing_of_a_file() {
    let _alone = alone();
    let server = start(&["--chat", "--quiet"]);
    let talker = Member::join(&server, "talker", "");
    let readers = READERS.map(|(name, pace)| {
        let stream = connect_from(1, server.address(), Some(16 * KIB)).expect("connected");
        (Member::enter(stream, name).0, pace)
    });
    let taken = thread::scope(|scope| {
        scope.spawn(|| {
            let mut said = 0;
            for number in 0.. {
                let line = line(number) + "\n";
                said += line.len();
                // It ends when the readers have heard enough.
                if said > FILE || talker.stream().write_all(line.as_bytes()).is_err() {
                    break;
                }
            }
        });
        let reading = readers.map(|(mut member, pace)| {
            scope.spawn(move || {
                let taken = read_steadily(&mut member, pace);
                (taken, member)
            })
        });
        let reading = reading.map(|reader| reader.join());
        let here = Member::enter(connect(server.address()), "late").1;
        talker.stream().shutdown(Shutdown::Both).expect("connected");
        let taken = reading.map(|reader| reader.expect("a reader heard everything").0);
        assert_eq!(here, "here: talker, reader20, reader50, reader100");
        taken
    });
    for ((name, pace), taken) in READERS.into_iter().zip(taken) {
        let rate = taken as f64 / PERIOD.as_secs_f64();
        println!("steady: {name} may read {pace} bytes a second beside a piped file, and has read {rate:.0}");
        assert!(rate > 0.8 * READERS[0].1 as f64, "{name} was held up");
    }
    server.stop_by(Signal::TERM);
}

#[test]
#[ignore = "takes 25 s"]
fn memory_stays_within_its_limit_beside_a_slow_reader_and_a_flood() {
    const LIMIT: usize = 8 * MIB;
    const EACH: usize = 64 * KIB;
    /// The clients have one connection each at a time; the others are over.
    const MOST_CONNECTIONS: usize = 4000;
    /// What one turn may bring on top.
    const BATCH: usize = 512 * KIB;
    /// What a program may need besides what it holds for clients, and for each connection.
    const SLACK: usize = 12 * MIB;
    const SLACK_EACH: usize = 2 * KIB;
    let _alone = alone();
    let period = Duration::from_secs(20);
    let server = start(&["--chat", "--quiet", "--max-memory", "8MiB"]);
    let at_first = memory(server.process.pid(), "VmRSS");
    let line = "x".repeat(1000) + "\n";
    let name = format!("/name {}\n", "語".repeat(32));
    let attack = Attack::on(server.address()).listen(2, 5_000);
    let attack = attack.connect_and_reset(3, b"").connect_and_reset(4, line.as_bytes());
    let attack = attack.connect_and_reset(5, name.as_bytes());
    let begin = Instant::now();
    let (mut most_connections, mut most_held, mut most_above) = (0, 0, 0);
    while begin.elapsed() < period {
        thread::sleep(Duration::from_millis(50));
        let (connections, held) = server.connections_and_bytes_held();
        most_connections = most_connections.max(connections);
        most_held = most_held.max(held);
        most_above = most_above.max(held.saturating_sub(LIMIT + connections * EACH));
    }
    let rate = attack.end() as f64 / period.as_secs_f64();
    let most = memory(server.process.pid(), "VmHWM") - at_first;
    println!(
        "flood: {rate:.0} connects and resets a second beside a slow reader: at most {} KiB held for {most_connections} \
         connections, {} KiB above the limits, {} KiB of memory",
        most_held / KIB,
        most_above / KIB,
        most / KIB
    );
    assert!(rate > 500.0, "that was no flood");
    assert!(most_connections < MOST_CONNECTIONS, "{most_connections} connections that are over piled up");
    assert!(most_above <= BATCH, "{} KiB above the limits", most_above / KIB);
    assert!(most < LIMIT + BATCH + SLACK + most_connections * SLACK_EACH, "{} MiB of memory", most / MIB);
    server.stop_by(Signal::TERM);
}
