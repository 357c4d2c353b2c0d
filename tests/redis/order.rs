//! One order on all servers, each line once, each name once.

use std::time::Duration;

use sockets::shared_log::Position;

use crate::has_redis;
use crate::node::{Node, Nodes};
use crate::redis::Redis;

#[test]
fn all_servers_hear_all_lines_once_and_in_one_order() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let mut nodes = Nodes::start(3, redis.address());
    for line in 0..1000 {
        nodes.0.iter_mut().enumerate().for_each(|(at, node)| node.say(format!("{at} {line}")));
        nodes.turn();
    }
    nodes.run_until_heard(3000);
    nodes.assert_same();
    for at in 0..3 {
        let begin = format!("{at} ");
        let own: Vec<&str> = nodes.0[0].texts().into_iter().filter(|text| text.starts_with(&begin)).collect();
        assert_eq!(own, (0..1000).map(|line| format!("{at} {line}")).collect::<Vec<_>>());
    }
    assert!(nodes.0.iter().all(|node| node.aways == 0 && node.engine.pending_bytes() == 0));
}

#[test]
fn of_simultaneous_renames_to_one_name_one_wins() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let mut nodes = Nodes::start(3, redis.address());
    // Letters that look alike, in two cases.
    for (node, name) in nodes.0.iter_mut().zip(["ann", "Ann", "\u{430}nn"]) {
        node.rename(1, name);
    }
    nodes.run_until("two were refused", |nodes| nodes.iter().all(|node| node.refused.len() == 2));
    let names: Vec<_> = nodes.0[0].names.values().cloned().collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("user")).count(), 2, "{names:?}");
    assert!(nodes.0.iter().all(|node| node.names == nodes.0[0].names));
}

#[test]
fn a_server_is_told_how_far_the_others_are() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let mut nodes = Nodes::start(2, redis.address());
    let stuck_at = nodes.0[1].engine.position();
    nodes.run_until("all is taken", |nodes| nodes[0].floor == Some(Position(stuck_at.0 + 1)));
    nodes.0[1].is_stuck = true;
    nodes.0[0].say("hello");
    nodes.run_until_heard(1);
    nodes.run_until("the floor stays", |nodes| nodes[0].floor == Some(Position(stuck_at.0 + 1)));
    nodes.0[1].is_stuck = false;
    nodes.run_until("the floor moves on", |nodes| nodes[0].floor == Some(Position(stuck_at.0 + 2)));
    nodes.0[1].engine.leave();
    nodes.run_until("nobody is left to wait for", |nodes| nodes[0].floor == Some(Position(u64::MAX)));
    assert_eq!(nodes.0[0].gone, [(nodes.0[1].id, false)]);
    assert!(nodes.0[1].engine.has_left());
    redis.ask("CONFIG RESETSTAT");
    nodes.run_for(Duration::from_millis(50));
    let calls = redis.ask("INFO commandstats");
    let calls = calls.split("evalsha:calls=").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0);
    assert!(calls < 10, "{calls} calls: it says goodbye again and again");
}

#[test]
fn the_log_stays_within_its_limits_and_who_falls_behind_is_told() {
    if !has_redis() {
        return;
    }
    const ENTRIES: usize = 16_384;
    let redis = Redis::start(&[]);
    let mut nodes = Nodes::start(2, redis.address());
    let mut slow = Nodes(vec![nodes.0.remove(1)]);
    let length = || redis.ask("XLEN echo:{lobby}:log")[1..].parse::<usize>().expect("a number");
    // Entries without changes, of a server that is not there.
    redis.ask(&format!(
        "EVAL \"local top = redis.call('HGET', KEYS[1], 'top') for n = top + 1, top + ARGV[1] do \
         redis.call('XADD', KEYS[2], n .. '-0', 's', '7', 'b', 'x', 'o', '') end \
         redis.call('HINCRBY', KEYS[1], 'top', ARGV[1]) redis.call('HINCRBY', KEYS[1], 'bytes', ARGV[1] * 64)\" \
         2 echo:{{lobby}}:meta echo:{{lobby}}:log {}",
        ENTRIES - 100
    ));
    let mut longest = 0;
    for _ in 0..200 {
        nodes.0[0].say("short");
        nodes.run_until("it is in the log", |nodes| nodes[0].engine.pending_bytes() == 0);
        longest = longest.max(length());
    }
    assert_eq!(longest, ENTRIES);
    for _ in 0..80 {
        nodes.0[0].say("x".repeat(1 << 20));
        nodes.run_until("it is in the log", |nodes| nodes[0].engine.pending_bytes() == 0);
    }
    assert!((60..64).contains(&length()), "{} entries of 1 MiB", length());
    nodes.0.append(&mut slow.0);
    nodes.run_until("the gap is announced", |nodes| nodes[1].gaps.len() == 1 && nodes[1].is_in);
    nodes.0[1].say("here again");
    nodes.run_until("they go on", |nodes| nodes.iter().all(|node| node.texts().last() == Some(&"here again")));
    assert!(nodes.0[0].gaps.is_empty(), "the other server has missed nothing");
    assert_eq!(nodes.0[0].names, nodes.0[1].names);
}

#[test]
fn a_server_that_enters_later_is_told_what_was_said_last() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let mut nodes = Nodes::start(2, redis.address());
    assert_eq!(nodes.0[0].earlier, []);
    let name = nodes.0[0].name(nodes.0[0].member(1)).expect("a name").to_owned();
    nodes.0[0].say("as before");
    nodes.0[0].rename(1, "ann");
    nodes.0[0].say("as ann");
    nodes.run_until_heard(2);
    let lines = |node: &Node| {
        let text = |(name, text): &(String, Vec<u8>)| format!("{name}: {}", String::from_utf8_lossy(text));
        node.earlier.iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(lines(&Nodes::start(1, redis.address()).0[0]), [format!("{name}: as before"), "ann: as ann".to_owned()]);
    // Whatever was said, the answer is short.
    for line in 0..100 {
        nodes.0[1].say(format!("{line}").repeat(2000));
        nodes.run_until_heard(3 + line);
    }
    let later = Nodes::start(1, redis.address());
    let lines = lines(&later.0[0]);
    assert!((10..20).contains(&lines.len()) && lines[lines.len() - 1].ends_with("99"), "{} lines", lines.len());
}

#[test]
fn two_servers_that_start_at_the_same_moment_agree() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    for round in 0..5 {
        redis.ask("FLUSHALL");
        let mut nodes = Nodes::start(4, redis.address());
        nodes.0.iter_mut().for_each(|node| node.say(format!("{round}")));
        nodes.run_until_heard(4);
        nodes.assert_same();
        let names: Vec<_> = nodes.0[0].names.values().cloned().collect();
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(sorted, ["user1", "user2", "user3", "user4"]);
    }
}
