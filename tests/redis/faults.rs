//! What Redis, the network and the servers may do.

use std::time::Duration;

use crate::has_redis;
use crate::node::Nodes;
use crate::redis::Redis;

#[test]
fn flushall_is_announced_and_the_room_goes_on() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let mut nodes = Nodes::start(2, redis.address());
    nodes.0[0].rename(1, "ann");
    nodes.0[0].say("before");
    nodes.run_until_heard(1);
    redis.ask("FLUSHALL");
    nodes.run_until("the gap is announced", |nodes| nodes.iter().all(|node| !node.gaps.is_empty() && node.is_in));
    nodes.0[1].say("after");
    nodes.run_until_heard(2);
    for node in &nodes.0 {
        assert_eq!((node.texts(), &node.gaps[..]), (vec!["before", "after"], &[1][..]));
        assert_eq!(node.name(nodes.0[0].member(1)), Some("ann"));
        assert_eq!(node.aways, 0);
    }
    nodes.run_for(Duration::from_millis(100));
    assert_eq!(nodes.0[0].names, nodes.0[1].names);
}
