//! Many members on several servers: every line once, in one order.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{DEADLINE, Member, Server, connect, hesitant};
use crate::has_redis;
use crate::redis::Redis;
use crate::servers::start;

#[test]
fn every_member_of_two_servers_hears_every_line_once_and_in_one_order() {
    one_order(2, 12, 4, 50);
}

#[test]
#[ignore = "takes its time"]
fn every_one_of_200_members_of_two_servers_hears_20_000_lines_in_one_order() {
    one_order(2, 200, 20, 1000);
}

#[test]
#[ignore = "takes its time"]
fn every_one_of_200_members_of_three_servers_hears_20_000_lines_in_one_order() {
    one_order(3, 200, 20, 1000);
}

/// So many members, spread over the servers, of whom some talk as fast as they can. The last line of each is an end.
fn one_order(servers: usize, members: usize, talkers: usize, lines: usize) {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let servers: Vec<Server> = (0..servers).map(|_| start(&redis)).collect();
    let streams: Vec<TcpStream> =
        (0..members).map(|at| join(servers[at % servers.len()].address(), &format!("m{at}"))).collect();
    let begin = Instant::now();
    let (sender, receiver) = mpsc::channel();
    for (at, stream) in streams.iter().enumerate() {
        let (mut input, sender) = (BufReader::new(stream.try_clone().expect("a socket")), sender.clone());
        let expected = (talkers - usize::from(at < talkers)) * lines;
        thread::spawn(move || sender.send((at, hear(&mut input, expected))));
    }
    for (at, stream) in streams.iter().enumerate().take(talkers) {
        let mut stream = stream.try_clone().expect("a socket");
        thread::spawn(move || {
            for line in 0..lines {
                stream.write_all(format!("{at} {line}\n").as_bytes()).expect("sent");
            }
        });
    }
    let mut heard: Vec<Vec<(usize, usize)>> = vec![Vec::new(); members];
    for _ in 0..members {
        let (at, lines) = receiver.recv().expect("no panic");
        heard[at] = lines;
    }
    println!("{members} members heard {} lines in {:.1?}", talkers * lines, begin.elapsed());
    // A member that does not talk has heard all.
    let all = &heard[members - 1];
    for talker in 0..talkers {
        let own: Vec<usize> = all.iter().filter(|line| line.0 == talker).map(|line| line.1).collect();
        assert_eq!(own, (0..lines).collect::<Vec<_>>(), "lines of {talker}");
    }
    for (at, lines) in heard.iter().enumerate() {
        assert!(lines.iter().eq(all.iter().filter(|line| line.0 != at)), "member {at} heard another order");
    }
    servers.into_iter().for_each(Server::stop);
}

/// What was promised last: three servers talk while Redis is killed and comes back, and one of the servers is killed.
#[test]
#[ignore = "takes its time"]
fn what_one_member_hears_all_hear_while_redis_and_a_server_are_killed() {
    if !has_redis() {
        return;
    }
    const LINES: usize = 300;
    let mut redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut servers: Vec<Server> = (0..3).map(|_| start(&redis)).collect();
    let streams: Vec<TcpStream> = (0..6).map(|at| join(servers[at % 3].address(), &format!("m{at}"))).collect();
    // Those of the third server talk too, but nobody knows how far they come.
    let heard: Vec<_> = streams
        .iter()
        .take(2)
        .map(|stream| {
            let stream = stream.try_clone().expect("a socket");
            thread::spawn(move || {
                let mut lines = Vec::new();
                let mut ends = 0;
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    ends += usize::from(line.ends_with("> end"));
                    lines.push(line);
                    if ends == 2 {
                        break;
                    }
                }
                lines
            })
        })
        .collect();
    let talkers: Vec<_> = streams[2..]
        .iter()
        .map(|stream| {
            let mut stream = stream.try_clone().expect("a socket");
            thread::spawn(move || {
                for line in 0..LINES {
                    thread::sleep(Duration::from_millis(10));
                    // The server of some of them is killed.
                    if writeln!(stream, "{line}").is_err() {
                        return;
                    }
                }
                _ = stream.write_all(b"end\n");
            })
        })
        .collect();
    for round in 0..3 {
        thread::sleep(Duration::from_millis(500));
        redis.kill();
        thread::sleep(Duration::from_millis(300));
        redis.launch();
        if round == 1 {
            drop(servers.pop());
        }
    }
    talkers.into_iter().for_each(|talker| talker.join().expect("no panic"));
    let heard: Vec<Vec<String>> = heard.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    let said =
        |lines: &[String]| -> Vec<String> { lines.iter().filter(|line| line.starts_with('<')).cloned().collect() };
    assert_eq!(said(&heard[0]), said(&heard[1]), "the order differs");
    for talker in ["<m3> ", "<m4> "] {
        let own: Vec<usize> =
            said(&heard[0]).iter().filter_map(|line| line.strip_prefix(talker)?.parse().ok()).collect();
        assert_eq!(own, (0..LINES).collect::<Vec<_>>(), "{talker}");
    }
    assert!(heard.iter().flatten().all(|line| !line.contains("may be missing")), "{heard:?}");
    servers.into_iter().for_each(Server::stop);
}

#[test]
#[ignore = "a member with a small receive buffer reads slowly"]
fn a_talker_is_paced_by_a_slow_member_of_another_server_and_a_person_is_not() {
    if !has_redis() {
        return;
    }
    const LINES: usize = 1_200;
    let redis = Redis::start(&[]);
    let options = ["--chat", "--grace", "100ms", "--redis", &redis.url(), "--max-ahead", "64k"];
    let (first, second) = (Server::start(&options), Server::start(&options));
    let mut listener = Member::enter(connect(second.address()), "listener").0;
    // It takes nothing; its system takes little for it.
    let mut slow = Member::enter(hesitant(second.address()), "slow").0;
    let talker = Member::enter(connect(first.address()), "talker").0;
    let person = Member::enter(connect(first.address()), "person").0;
    while listener.line() != "* person joined" {}
    let line = format!("{}\n", "x".repeat(1023));
    let mut stream = talker.stream().try_clone().expect("a socket");
    let piping = thread::spawn(move || {
        for _ in 0..LINES {
            stream.write_all(line.as_bytes()).expect("sent");
        }
    });
    // The talker is held up: the listener hears nothing of it any more.
    listener.stream().set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let mut heard = 0;
    let mut byte = [0];
    while listener.input.read(&mut byte).is_ok() {
        heard += 1;
    }
    assert!((64 << 10..1 << 20).contains(&heard), "{heard} bytes were heard");
    listener.stream().set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let begin = Instant::now();
    person.say("hello\n");
    while !listener.line().ends_with("<person> hello") {}
    assert!(begin.elapsed() < Duration::from_secs(1), "heard after {:?}", begin.elapsed());
    // It reads: all that the talker has said comes.
    slow.stream().set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let draining = thread::spawn(move || _ = listener.input.read_to_end(&mut Vec::new()));
    let mut lines = 0;
    while lines < LINES {
        lines += usize::from(slow.line().starts_with("<talker> x"));
    }
    piping.join().expect("no panic");
    drop((talker, person, slow));
    first.stop();
    second.stop();
    draining.join().expect("no panic");
}

/// A member under this name. (To wait for what others hear of it would take long with many.)
fn join(address: SocketAddr, name: &str) -> TcpStream {
    let (member, _) = Member::enter(connect(address), name);
    member.input.into_inner()
}

/// The lines that were said, by whom and which, until there are so many.
fn hear(input: &mut impl Read, expected: usize) -> Vec<(usize, usize)> {
    let mut lines = Vec::new();
    let mut input = BufReader::new(input);
    let mut line = String::new();
    while lines.len() < expected {
        line.clear();
        input.read_line(&mut line).expect("a line in time");
        // What is left of a line that `join` had begun to read, and who joins.
        let Some((_, said)) = line.split_once("> ") else { continue };
        let (talker, number) = said.trim_end().split_once(' ').expect("two numbers");
        lines.push((talker.parse().expect("a number"), number.parse().expect("a number")));
    }
    lines
}

#[test]
fn of_simultaneous_renames_on_three_servers_one_wins() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let servers: Vec<Server> = (0..3).map(|_| start(&redis)).collect();
    let mut members: Vec<Member> =
        (0..9).map(|at| Member::enter(connect(servers[at % 3].address()), &format!("m{at}")).0).collect();
    for (at, member) in members.iter().enumerate() {
        member.say(["/name best\n", "/name BEST\n", "/name b\u{435}st\n"][at / 3]);
    }
    let mut outcomes = HashMap::new();
    for (at, member) in members.iter_mut().enumerate() {
        let own = format!("* m{at} is now ");
        let outcome = loop {
            let line = member.line();
            if line.starts_with(&own) || line.ends_with(" is taken") {
                break line.ends_with(" is taken");
            }
        };
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    assert_eq!(outcomes, HashMap::from([(false, 1), (true, 8)]));
    servers.into_iter().for_each(Server::stop);
}
