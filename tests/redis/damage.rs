//! What others may write to the data of a room by hand: it is repaired or made anew, and the room goes on.

use std::time::{Duration, Instant};

use crate::harness::DEADLINE;
use crate::has_redis;
use crate::node::{Node, Nodes};
use crate::redis::Redis;

/// Two servers that go on after each of these commands, in which `@` stands for the keys' prefix and `#` for the id of the
/// first server.
fn goes_on_after(commands: &[&str]) {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let mut nodes = Nodes::start(2, redis.address());
    for command in commands {
        let command = command.replace('@', "echo:{lobby}:").replace('#', &nodes.0[0].id.to_string());
        let answer = redis.ask(&command);
        assert!(!answer.starts_with('-'), "{command}: {answer}");
        go_on(&mut nodes, &command);
    }
}

/// Waits until both hear what both say. What they say before may be lost, with an announcement.
fn go_on(nodes: &mut Nodes, command: &str) {
    let begin = Instant::now();
    for round in 0.. {
        let line = format!("{round} after {command}");
        nodes.0.iter_mut().for_each(|node| node.say(&line));
        nodes.run_for(Duration::from_millis(20));
        let has_heard = |node: &Node| node.texts().iter().filter(|text| **text == line).count() == 2;
        if nodes.0.iter().all(|node| node.is_in && has_heard(node)) {
            break;
        }
        let reasons: Vec<_> = nodes.0.iter().map(|node| node.engine.trouble()).collect();
        assert!(begin.elapsed() < DEADLINE, "{command}: it does not go on: {reasons:?}");
    }
    let names: Vec<_> = nodes.0.iter().map(|node| &node.names).collect();
    assert!(names[0].len() == 2 && names[0] == names[1], "{command}: {names:?}");
}

#[test]
fn keys_of_another_type_begin_anew() {
    let keys = ["meta", "log", "srv", "seq", "pos", "members", "names"];
    let commands: Vec<String> = keys.iter().map(|key| format!("SET @{key} garbage")).collect();
    goes_on_after(&commands.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn what_is_no_number_is_dropped_or_begins_anew() {
    goes_on_after(&[
        "HSET @srv garbage abc",
        "HSET @pos garbage abc",
        "HSET @pos # abc",
        "HSET @seq # abc",
        "HSET @seq garbage abc",
        "HSET @meta users abc",
        "HSET @meta top 99999999999999999999999",
        "HSET @meta top 0",
        "HSET @meta bytes abc",
        "HSET @meta epoch abc",
    ]);
}

#[test]
fn numbers_that_the_log_does_not_have_are_not_believed() {
    // A batch that was never sent would have the next ones taken for repeated.
    goes_on_after(&["HSET @seq # \"1 9999999 1 1\"", "HSET @meta top 1000000", "XSETID @log 18446744073709551614-0"]);
}

#[test]
fn entries_of_others_begin_the_log_anew() {
    goes_on_after(&[
        "XADD @log * foo bar",
        "XADD @log 18446744073709551615-18446744073709551615 foo bar",
        // Its server goes on being heard, though its numbers are lower.
        "EVAL \"local id = string.match(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1], '%d+') \
         return redis.call('XADD', KEYS[1], (id + 1) .. '-0', 's', ARGV[1], 'b', '99999', 'o', '')\" 1 @log #",
    ]);
}

#[test]
fn a_log_that_was_shortened_is_not_shortened_for_ever() {
    goes_on_after(&["HSET @meta bytes 99999999", "DEL @log", "HSET @meta bytes 9000000000000"]);
}

#[test]
fn another_version_is_waited_for_and_named() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let mut nodes = Nodes::start(2, redis.address());
    redis.ask("HSET echo:{lobby}:meta version 2");
    nodes.run_until("they are away", |nodes| nodes.iter().all(|node| node.aways == 1));
    assert_eq!(nodes.0[0].engine.trouble(), "servers of another version use this room");
    redis.ask("HSET echo:{lobby}:meta version 1");
    go_on(&mut nodes, "the version is back");
    assert!(nodes.0[0].gaps.is_empty());
}
