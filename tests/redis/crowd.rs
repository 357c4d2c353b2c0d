//! Many members on several servers: every line once, in one order.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use crate::harness::{Member, Server, connect};
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

/// A member under this name. (To wait for what others hear of it would take long with many.)
fn join(address: SocketAddr, name: &str) -> TcpStream {
    let (member, _) = Member::enter(connect(address), name);
    assert!(member.input.buffer().iter().filter(|byte| **byte == b'\n').count() < 1000);
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
