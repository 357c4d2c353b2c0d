//! One slow client harms nobody, and a thousand clients get every message.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{DEADLINE, Member, Server, connect, hesitant, memory};

const MIB: usize = 1 << 20;
/// What a program may need for itself besides what it holds for clients.
const SLACK: usize = 6 * MIB;
/// A file of so many bytes is piped into the room: far more than the system and all queues hold.
const FILE: usize = if cfg!(debug_assertions) { 20 * MIB } else { 100 * MIB };

/// A room in which nobody may hold up the others for longer than a second.
fn room(options: &[&str]) -> Server {
    Server::start(&[&["--chat", "--quiet", "--stall-timeout", "1s"], options].concat())
}

/// Lines of many lengths, each of them another one.
fn file(size: usize) -> String {
    let mut file = String::with_capacity(size + 4096);
    for number in 0.. {
        if file.len() >= size {
            break;
        }
        file += &format!("line {number} {}\n", "-".repeat(number * 7 % 2000));
    }
    file
}

/// A client that has joined, for which the system holds little, and that reads nothing from now on.
fn never_reader(server: &Server) -> Member {
    let mut member = Member::over(hesitant(server.address()));
    assert!(member.line().starts_with("* welcome, "));
    member
}

/// Pipes the content into the room as a program does that reads nothing.
fn pipe<'scope>(scope: &'scope Scope<'scope, '_>, mut stream: &'scope TcpStream, content: &'scope str) {
    stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
    scope.spawn(move || stream.write_all(content.as_bytes()).expect("all of it is taken"));
}

/// Hears all lines of the file, said by `name`, and nothing else but what the server says: returns that. A rest
/// now and then makes the reader slower than the sender.
fn hear_file(member: &mut Member, name: &str, file: &str, rest: Duration) -> Vec<String> {
    let mut told = Vec::new();
    let mut lines = file.lines().enumerate().peekable();
    while let Some((number, expected)) = lines.peek() {
        let line = member.line();
        if line.starts_with("* ") {
            told.push(line);
            continue;
        }
        assert!(line.strip_prefix(name) == Some(expected), "{line:.60} instead of {name}{expected:.60}");
        if number % 200 == 0 {
            thread::sleep(rest);
        }
        lines.next();
    }
    told
}

/// How many bytes the server holds for all clients, by its own account.
fn held(server: &Server) -> usize {
    let count = |lines: &[String]| lines.iter().filter(|line| line.contains("] Connections: ")).count();
    let before = server.console.wait_until(|lines| Some(count(lines)));
    server.process.signal(Signal::USR1);
    server.console.wait_until(|lines| {
        let last = lines.iter().rfind(|line| line.contains("] Connections: ")).filter(|_| count(lines) > before)?;
        let (rest, _) = last.split_once(" held")?;
        rest.rsplit(' ').next()?.parse().ok()
    })
}

/// That everything is given back, but for the block that is kept.
fn expect_nothing_to_be_held(server: &Server) {
    let held = held(server);
    assert!(held <= 64 << 10, "{held} bytes are still held");
}

#[test]
fn a_file_reaches_who_reads_slowly_and_who_never_reads_is_let_go() {
    // Longer than a newcomer may take.
    let server = Server::start(&["--chat", "--quiet", "--stall-timeout", "3s"]);
    let at_first = memory(server.process.pid(), "VmRSS");
    let mut slower = Member::join(&server, "user1", "");
    let sender = Member::join(&server, "user2", "user1");
    let stuck = [never_reader(&server), never_reader(&server)];
    slower.hears(&["* user2 joined", "* user3 joined", "* user4 joined"]);
    let file = file(FILE);
    thread::scope(|scope| {
        pipe(scope, sender.stream(), &file);
        let address = server.address();
        let newcomer = scope.spawn(move || {
            // Those who never read hold up the room for three seconds, and these have begun by then.
            thread::sleep(Duration::from_millis(500));
            let begin = Instant::now();
            let mut newcomer = Member::over(connect(address));
            let welcome = newcomer.line();
            (welcome, begin.elapsed())
        });
        let told = hear_file(&mut slower, "<user2> ", &file, Duration::from_millis(3));
        let (welcome, took) = newcomer.join().expect("the newcomer");
        assert_eq!(welcome, "* welcome, user5; here: user1, user2, user3, user4");
        assert!(took < Duration::from_secs(2), "it took {took:?}");
        let expected =
            ["* user5 joined", "* user5 left", "* user3 left (too slow)", "* user4 left (too slow)"].map(str::to_owned);
        assert!(told.iter().all(|line| expected.contains(line)), "{told:?}");
        assert_eq!(told.len(), expected.len(), "{told:?}");
    });
    let most = memory(server.process.pid(), "VmHWM") - at_first;
    assert!(most < 4 * MIB + SLACK, "{} MiB were held", most / MIB);
    let last = Member::join(&server, "user6", "user1, user2");
    last.say("the room goes on\n");
    slower.hears(&["* user6 joined", "<user6> the room goes on"]);
    expect_nothing_to_be_held(&server);
    drop((stuck, sender));
    server.stop();
}

#[test]
fn who_half_closes_and_reads_late_gets_all_until_then_and_holds_up_nobody() {
    let server = room(&["--max-queue", "16MiB"]);
    let mut ann = Member::join(&server, "user1", "");
    let sender = Member::join(&server, "user2", "user1");
    let mut late = never_reader(&server);
    ann.hears(&["* user2 joined", "* user3 joined"]);
    let (first, second) = (file(8 * MIB), file(40 * MIB));
    thread::scope(|scope| {
        pipe(scope, sender.stream(), &first);
        assert!(hear_file(&mut ann, "<user2> ", &first, Duration::ZERO).is_empty());
    });
    late.half_close();
    ann.hears(&["* user3 left"]);
    thread::scope(|scope| {
        pipe(scope, sender.stream(), &second);
        assert!(hear_file(&mut ann, "<user2> ", &second, Duration::ZERO).is_empty());
    });
    assert!(hear_file(&mut late, "<user2> ", &first, Duration::ZERO).is_empty());
    late.leaves();
    server.stop();
}

#[test]
fn who_sends_without_reading_gets_all_that_the_others_said() {
    const LINES: usize = 3000;
    let server = room(&[]);
    let at_first = memory(server.process.pid(), "VmRSS");
    let mut sender = Member::over(hesitant(server.address()));
    sender.hears(&["* welcome, user1; nobody else is here"]);
    let mut bob = Member::join(&server, "user2", "user1");
    let file = file(FILE);
    thread::scope(|scope| {
        let stream = bob.stream().try_clone().expect("a duplicate");
        pipe(scope, sender.stream(), &file);
        scope.spawn(move || {
            for number in 0..LINES {
                (&stream).write_all(format!("{number} {}\n", "x".repeat(100)).as_bytes()).expect("sent");
            }
        });
        assert!(hear_file(&mut bob, "<user1> ", &file, Duration::ZERO).is_empty());
    });
    let most = memory(server.process.pid(), "VmHWM") - at_first;
    assert!(most < 6 * MIB + SLACK, "{} MiB were held", most / MIB);
    sender.hears(&["* user2 joined"]);
    for number in 0..LINES {
        sender.hears(&[&format!("<user2> {number} {}", "x".repeat(100))]);
    }
    server.stop();
}

#[test]
fn memory_is_bounded_however_many_never_read() {
    const STUCK: usize = if cfg!(debug_assertions) { 15 } else { 30 };
    let server = room(&["--max-memory", "8MiB"]);
    let at_first = memory(server.process.pid(), "VmRSS");
    let mut ann = Member::join(&server, "user1", "");
    let sender = Member::join(&server, "user2", "user1");
    let stuck: Vec<Member> = (0..STUCK).map(|_| never_reader(&server)).collect();
    ann.hears(&["* user2 joined"]);
    for number in 0..STUCK {
        ann.hears(&[&format!("* user{} joined", number + 3)]);
    }
    // Each of them is told much that is for it alone, between short lines for all.
    let mut said = String::new();
    let mut script = String::new();
    for (number, line) in file(4 * STUCK * MIB).lines().enumerate() {
        said += &format!("{number}\n");
        script += &format!("{number}\n/msg user{} {line}\n", number % STUCK + 3);
    }
    thread::scope(|scope| {
        pipe(scope, sender.stream(), &script);
        let mut told = hear_file(&mut ann, "<user2> ", &said, Duration::ZERO);
        told.sort();
        let mut expected: Vec<_> = (0..STUCK).map(|number| format!("* user{} left (too slow)", number + 3)).collect();
        expected.sort();
        assert_eq!(told, expected);
    });
    let most = memory(server.process.pid(), "VmHWM") - at_first;
    assert!(most < 8 * MIB + STUCK * (64 << 10) + SLACK, "{} MiB were held", most / MIB);
    drop(stuck);
    ann.is_answered("/who", "* here: user1, user2");
    // The sender has heard of each message that found nobody.
    drop(sender);
    ann.hears(&["* user2 left"]);
    ann.is_answered("/who", "* here: user1");
    expect_nothing_to_be_held(&server);
    server.stop();
}

#[test]
fn a_thousand_receivers_get_every_message_once_and_in_order() {
    const RECEIVERS: usize = 1000;
    const MESSAGES: usize = 2000;
    let server = room(&[]);
    let sender = Member::join(&server, "user1", "");
    let mut streams: Vec<TcpStream> = (0..RECEIVERS).map(|_| connect(server.address())).collect();
    let mut last = Member::over(streams.pop().expect("there is one"));
    assert!(last.line().starts_with(&format!("* welcome, user{}; ", RECEIVERS + 1)));
    let mut expected = String::new();
    for number in 0..MESSAGES {
        sender.say(format!("message {number}\n"));
        expected += &format!("<user1> message {number}\n");
    }
    sender.half_close();
    expected += "* user1 left\n";
    let mut heard = vec![0; expected.len()];
    last.input.read_exact(&mut heard).expect("all messages");
    assert!(heard == expected.as_bytes(), "the last one heard something else");
    for (number, stream) in streams.into_iter().enumerate() {
        let mut member = Member::over(stream);
        while !member.line().ends_with(&format!("* user{} joined", RECEIVERS + 1)) {}
        member.input.read_exact(&mut heard).expect("all messages");
        assert!(heard == expected.as_bytes(), "number {number} heard something else");
    }
    server.stop();
}
