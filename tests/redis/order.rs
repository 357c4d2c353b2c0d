//! One order on all servers, each line once, each name once.

use sockets::shared_log::Position;

use crate::has_redis;
use crate::node::Nodes;
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
}
