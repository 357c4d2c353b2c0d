//! One slow client harms nobody, and a thousand clients get every message.

use std::io::Write;
use std::net::TcpStream;
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    Attack, DEADLINE, Member, Server, connect, connect_from, hesitant, memory, needs_tcp, skipped_over_tls,
};

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

/// A member for which the system holds little, and that reads nothing from now on.
fn never_reader(server: &Server, name: &str) -> Member {
    Member::enter(hesitant(server.address()), name).0
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

/// That everything is given back, but for blocks that are kept for what comes next.
fn expect_nothing_to_be_held(server: &Server) {
    let (_, held) = server.connections_and_bytes_held();
    assert!(held <= 128 << 10, "{held} bytes are still held");
}

#[test]
fn a_file_reaches_a_slow_reader_and_members_that_never_read_are_reset() {
    // Longer than a newcomer may take.
    let server = Server::start(&["--chat", "--quiet", "--stall-timeout", "3s"]);
    let at_first = memory(server.process.pid(), "VmRSS");
    let mut slower = Member::join(&server, "slower", "");
    let sender = Member::join(&server, "sender", "slower");
    let stuck = ["stuck1", "stuck2"].map(|name| never_reader(&server, name));
    slower.hears(&["* sender joined", "* stuck1 joined", "* stuck2 joined"]);
    let file = file(FILE);
    thread::scope(|scope| {
        pipe(scope, sender.stream(), &file);
        let address = server.address();
        let newcomer = scope.spawn(move || {
            // The sender waits three seconds for those that never read, and has begun to by then.
            thread::sleep(Duration::from_millis(500));
            let begin = Instant::now();
            let mut newcomer = Member::over(connect(address));
            let welcome = newcomer.line();
            (welcome, begin.elapsed())
        });
        let mut told = hear_file(&mut slower, "<sender> ", &file, Duration::from_millis(3));
        let (welcome, took) = newcomer.join().expect("the newcomer");
        assert_eq!(welcome, "* welcome, user5; here: slower, sender, stuck1, stuck2");
        assert!(took < Duration::from_secs(1), "it took {took:?}");
        told.sort();
        // The newcomer left before it was announced.
        assert_eq!(told, ["* stuck1 left (too slow)", "* stuck2 left (too slow)"]);
    });
    let most = memory(server.process.pid(), "VmHWM") - at_first;
    assert!(most < 4 * MIB + SLACK, "{} MiB were held", most / MIB);
    let last = Member::join(&server, "last", "slower, sender");
    last.say("the room goes on\n");
    slower.hears(&["* last joined", "<last> the room goes on"]);
    expect_nothing_to_be_held(&server);
    drop((stuck, sender));
    server.stop();
}

#[test]
fn a_member_that_half_closes_and_reads_late_gets_all_until_then() {
    let server = room(&["--max-ahead", "32MiB"]);
    let mut ann = Member::join(&server, "ann", "");
    let sender = Member::join(&server, "sender", "ann");
    let mut late = never_reader(&server, "late");
    ann.hears(&["* sender joined", "* late joined"]);
    let (first, second) = (file(8 * MIB), file(16 * MIB));
    thread::scope(|scope| {
        pipe(scope, sender.stream(), &first);
        assert!(hear_file(&mut ann, "<sender> ", &first, Duration::ZERO).is_empty());
    });
    late.half_close();
    ann.hears(&["* late left"]);
    thread::scope(|scope| {
        pipe(scope, sender.stream(), &second);
        assert!(hear_file(&mut ann, "<sender> ", &second, Duration::ZERO).is_empty());
    });
    assert!(hear_file(&mut late, "<sender> ", &first, Duration::ZERO).is_empty());
    late.leaves();
    server.stop();
}

/// It waits for nobody but itself, and nobody waits for it: the others say less than a window.
#[test]
fn a_member_that_sends_without_reading_gets_all_that_the_others_said() {
    // As much as the system holds for it.
    const LINES: usize = 200;
    let server = room(&[]);
    let at_first = memory(server.process.pid(), "VmRSS");
    let mut sender = never_reader(&server, "sender");
    let mut bob = Member::join(&server, "bob", "sender");
    let file = file(FILE);
    thread::scope(|scope| {
        let stream = bob.stream().try_clone().expect("a duplicate");
        pipe(scope, sender.stream(), &file);
        scope.spawn(move || {
            for number in 0..LINES {
                (&stream).write_all(format!("{number} {}\n", "x".repeat(100)).as_bytes()).expect("sent");
            }
        });
        assert!(hear_file(&mut bob, "<sender> ", &file, Duration::ZERO).is_empty());
    });
    let most = memory(server.process.pid(), "VmHWM") - at_first;
    assert!(most < 6 * MIB + SLACK, "{} MiB were held", most / MIB);
    sender.hears(&["* bob joined"]);
    for number in 0..LINES {
        sender.hears(&[&format!("<bob> {number} {}", "x".repeat(100))]);
    }
    server.stop();
}

/// What the system and the window hold goes out at once, the rest at the pace of a person.
#[test]
fn a_talker_beyond_its_window_is_read_slowly_but_not_silenced() {
    if skipped_over_tls("a relay takes what is not read") {
        return;
    }
    const LINE: usize = 32;
    let server = Server::start(&["--chat", "--quiet", "--max-ahead", "16KiB", "--stall-timeout", "1m"]);
    let mut ann = Member::join(&server, "ann", "");
    let talker = Member::join(&server, "talker", "ann");
    let _stuck = never_reader(&server, "stuck");
    ann.hears(&["* talker joined", "* stuck joined"]);
    let mut stream = talker.stream().try_clone().expect("a duplicate");
    // It ends with an error when the server does.
    let talking =
        thread::spawn(move || stream.write_all(&[&[b'x'; LINE - 1][..], b"\n"].concat().repeat(8 * MIB / LINE)));
    let mut hear_for = |period: Duration| {
        let begin = Instant::now();
        std::iter::repeat_with(|| ann.line()).take_while(|_| begin.elapsed() < period).count() * LINE
    };
    let at_once = hear_for(Duration::from_secs(1));
    let later = hear_for(Duration::from_secs(2)) / 2;
    println!("a talker was heard with {} KiB at once, then with {later} bytes a second", at_once >> 10);
    assert!(at_once < 2 * MIB, "{} KiB", at_once >> 10);
    assert!((LINE..2048).contains(&later), "{later} bytes a second");
    server.process.signal(Signal::KILL);
    talking.join().expect("no panic").expect_err("not all is taken");
}

/// A member that does not read holds a talker up for the stall timeout. Those that follow at the same address do not
/// get as much time, but those at another one do.
#[test]
fn one_address_holds_talkers_up_for_one_stall_timeout() {
    if needs_tcp() {
        return;
    }
    const STALL: Duration = Duration::from_millis(2500);
    let server = Server::start(&["--chat", "--quiet", "--stall-timeout", "2500ms"]);
    let mut ann = Member::join(&server, "ann", "");
    let attack = Attack::on(server.address()).pipe(1, usize::MAX);
    let mut hold_up = |source: u8, name: &str| {
        let stream = connect_from(source, server.address(), Some(4096)).expect("connected");
        let begin = Instant::now();
        let _stuck = Member::enter(stream, name);
        let left = format!("* {name} left (too slow)");
        while ann.line() != left {}
        println!("{name} at 127.0.0.{source} was reset after {:.1?}", begin.elapsed());
        begin.elapsed()
    };
    assert!(hold_up(2, "first") >= STALL);
    assert!(hold_up(2, "second") < STALL);
    assert!(hold_up(3, "third") >= STALL);
    attack.end();
    server.stop();
}

/// A member may have little unread that others said to it alone: the rest is refused, and its author told so.
#[test]
fn private_lines_to_a_member_that_does_not_read_are_refused() {
    let server = Server::start(&["--chat", "--quiet"]);
    let mut ann = Member::join(&server, "ann", "");
    let mut stuck = never_reader(&server, "stuck");
    ann.hears(&["* stuck joined"]);
    let said = |number: usize| format!("{number} {}", "x".repeat(1000));
    // More than the system and the server hold for it together.
    let mut sent = 0..2000;
    let mut delivered = 0;
    for number in &mut sent {
        ann.say(format!("/msg stuck {}\n", said(number)));
        let answer = ann.line();
        if answer == "* stuck is not reading; your line was not sent" {
            break;
        }
        assert_eq!(answer, format!("<ann -> stuck> {}", said(number)));
        delivered = number + 1;
    }
    assert!(!sent.is_empty(), "all was sent to a member that does not read");
    println!("{delivered} KB were sent to a member that does not read");
    assert!(delivered > 128, "only {delivered} KB were sent");
    for number in 0..delivered {
        stuck.hears(&[&format!("<ann -> stuck> {}", said(number))]);
    }
    // It reads again: the next one is sent.
    ann.say("/msg stuck welcome back\n");
    stuck.hears(&["<ann -> stuck> welcome back"]);
    server.stop();
}

#[test]
fn memory_is_bounded_however_many_never_read() {
    const STUCK: usize = if cfg!(debug_assertions) { 15 } else { 30 };
    let server = room(&["--max-memory", "8MiB"]);
    let at_first = memory(server.process.pid(), "VmRSS");
    let mut ann = Member::join(&server, "ann", "");
    let sender = Member::join(&server, "sender", "ann");
    let stuck: Vec<Member> = (0..STUCK).map(|number| never_reader(&server, &format!("stuck{number}"))).collect();
    ann.hears(&["* sender joined"]);
    for number in 0..STUCK {
        ann.hears(&[&format!("* stuck{number} joined")]);
    }
    // Each of them is sent much that is for it alone, between short lines for all.
    let mut said = String::new();
    let mut script = String::new();
    for (number, line) in file(4 * STUCK * MIB).lines().enumerate() {
        said += &format!("{number}\n");
        script += &format!("{number}\n/msg stuck{} {line}\n", number % STUCK);
    }
    script += "/name done\n";
    let mut answers = Member::over(sender.stream().try_clone().expect("a duplicate"));
    let refused = thread::scope(|scope| {
        pipe(scope, sender.stream(), &script);
        // Without reading its answers the sender would not be read from.
        let answers = scope.spawn(move || {
            let answers = std::iter::repeat_with(|| answers.line());
            let until_done = answers.take_while(|answer| answer != "* sender is now done");
            until_done.filter(|answer| answer.ends_with(" is not reading; your line was not sent")).count()
        });
        let mut told = hear_file(&mut ann, "<sender> ", &said, Duration::ZERO);
        told.sort();
        let mut expected: Vec<_> = (0..STUCK).map(|number| format!("* stuck{number} left (too slow)")).collect();
        expected.sort();
        assert_eq!(told, expected);
        answers.join().expect("all answers")
    });
    println!("{refused} private lines were refused");
    assert!(refused > 0);
    let most = memory(server.process.pid(), "VmHWM") - at_first;
    assert!(most < 8 * MIB + STUCK * (64 << 10) + SLACK, "{} MiB were held", most / MIB);
    drop(stuck);
    ann.hears(&["* sender is now done"]);
    ann.is_answered("/who", "* here: ann, done");
    drop(sender);
    ann.hears(&["* done left"]);
    ann.is_answered("/who", "* here: ann");
    expect_nothing_to_be_held(&server);
    server.stop();
}

#[test]
fn a_thousand_receivers_get_every_message_once_and_in_order() {
    if skipped_over_tls("a thousand relays take too long") {
        return;
    }
    const RECEIVERS: usize = 1000;
    const MESSAGES: usize = 2000;
    let server = room(&[]);
    let sender = Member::join(&server, "sender", "");
    let mut receivers: Vec<Member> = (0..RECEIVERS).map(|_| Member::over(server.connect())).collect();
    for receiver in &mut receivers {
        assert!(receiver.line().starts_with("* welcome, "));
    }
    for number in 0..MESSAGES {
        sender.say(format!("message {number}\n"));
    }
    sender.half_close();
    for (number, receiver) in receivers.iter_mut().enumerate() {
        let heard = std::iter::repeat_with(|| receiver.line()).take_while(|line| line != "* sender left");
        // The receivers are announced meanwhile.
        let heard = heard.filter(|line| !line.ends_with(" joined"));
        let expected = (0..MESSAGES).map(|number| format!("<sender> message {number}"));
        assert!(heard.eq(expected), "number {number} heard something else");
    }
    server.stop();
}
