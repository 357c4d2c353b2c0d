//! What Redis, the network and the servers may do.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sockets::shared_log::engine::Settings;

use crate::has_redis;
use crate::node::{Node, Nodes};
use crate::proxy::Proxy;
use crate::redis::Redis;

/// Two servers over this Redis that say a line each in every turn, while `disturb` does its work, until `disturb` says
/// that it is done. Every line arrives once on both, in one order, and no gap is announced.
fn nothing_is_lost(nodes: &mut Nodes, mut disturb: impl FnMut(&mut Nodes, usize) -> bool) {
    let (mut line, mut said) = (0, nodes.0[0].heard.len());
    loop {
        let heard = nodes.0.iter().map(|node| node.heard.len()).min().unwrap_or(0);
        for (at, node) in nodes.0.iter_mut().enumerate() {
            // A server reads no more from its members then, either.
            if node.engine.pending_bytes() < 4 << 10 && said < heard + 1000 {
                node.say(format!("{at} {line}"));
                said += 1;
            }
        }
        nodes.turn();
        line += 1;
        if disturb(nodes, line) {
            break;
        }
    }
    nodes.run_until_heard(said);
    nodes.assert_same();
    assert_eq!(nodes.0[0].heard.len(), said);
    for at in 0..2 {
        let begin = format!("{at} ");
        let own = nodes.0[0].heard.iter().filter(|(_, text)| text.starts_with(&begin));
        let lines: Vec<usize> = own.map(|(_, text)| text[2..].parse().expect("a number")).collect();
        assert!(lines.is_sorted_by(|a, b| a < b), "a line came twice or too late");
    }
}

/// Two servers, of which the first one reaches Redis through a proxy.
fn start_behind_proxy(redis: &Redis) -> (Proxy, Nodes) {
    let proxy = Proxy::start(redis.address());
    let mut nodes = Nodes::start(2, redis.address());
    nodes.0[0].redis = proxy.address;
    // Its connections so far did not go through the proxy.
    redis.ask("CLIENT KILL TYPE normal SKIPME yes");
    (proxy, nodes)
}

/// Waits until a loss of data has been announced on all servers, and then says a line that all hear.
fn the_gap_is_announced(nodes: &mut Nodes) {
    let begin = Instant::now();
    nodes.run_until("the gap is announced", |nodes| nodes.iter().all(|node| !node.gaps.is_empty() && node.is_in));
    assert!(begin.elapsed() < Duration::from_secs(5), "announced after {:?}", begin.elapsed());
    nodes.0[0].say("afterwards");
    nodes.run_until("they go on", |nodes| nodes.iter().all(|node| node.texts().last() == Some(&"afterwards")));
    nodes.run_for(Duration::from_millis(100));
    let reasons: Vec<_> = nodes.0.iter().map(|node| &node.reasons).collect();
    assert!(nodes.0.iter().all(|node| node.gaps.len() == 1), "more than one gap: {reasons:?}");
    let names: Vec<_> = nodes.0.iter().map(|node| &node.names).collect();
    assert!(names.iter().all(|each| *each == names[0]), "{names:?}");
}

#[test]
fn a_redis_that_writes_each_command_down_loses_nothing_when_it_is_killed() {
    if !has_redis() {
        return;
    }
    let mut redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut nodes = Nodes::start(2, redis.address());
    nothing_is_lost(&mut nodes, |_, line| {
        if line % 50 == 25 {
            redis.kill();
            redis.launch();
        }
        line == 200
    });
}

#[test]
fn what_a_redis_loses_when_it_is_killed_is_announced() {
    if !has_redis() {
        return;
    }
    let mut redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let mut nodes = Nodes::start(2, redis.address());
    nodes.0[0].rename(1, "ann");
    nodes.run_until("the new name is known", |nodes| {
        nodes.iter().all(|node| node.names.values().any(|name| name == "ann"))
    });
    nodes.0[1].say("before");
    nodes.run_until_heard(1);
    // Else its server would send it again, and nothing would be lost.
    nodes.run_until("it is confirmed", |nodes| nodes[1].engine.pending_bytes() == 0);
    redis.kill_before("before");
    redis.launch();
    the_gap_is_announced(&mut nodes);
    assert_eq!(nodes.0[1].name(nodes.0[0].member(1)), Some("ann"));
}

#[test]
fn a_redis_that_comes_back_with_an_empty_disk_is_filled_again() {
    if !has_redis() {
        return;
    }
    let mut redis = Redis::start(&[]);
    let mut nodes = Nodes::start(3, redis.address());
    nodes.0[0].rename(1, "ann");
    nodes.run_until("the new name is known", |nodes| {
        nodes.iter().all(|node| node.names.values().any(|name| name == "ann"))
    });
    nodes.0[0].say("before");
    nodes.run_until_heard(1);
    redis.kill();
    redis.launch();
    the_gap_is_announced(&mut nodes);
    assert_eq!(nodes.0[2].name(nodes.0[0].member(1)), Some("ann"));
}

#[test]
fn flushall_is_announced_and_the_room_goes_on() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let mut nodes = Nodes::start(2, redis.address());
    nodes.0[0].rename(1, "ann");
    nodes.run_until("the new name is known", |nodes| {
        nodes.iter().all(|node| node.names.values().any(|name| name == "ann"))
    });
    nodes.0[0].say("before");
    nodes.run_until_heard(1);
    redis.ask("FLUSHALL");
    the_gap_is_announced(&mut nodes);
    for node in &nodes.0 {
        assert_eq!((node.texts(), &node.gaps[..]), (vec!["before", "afterwards"], &[1][..]));
        assert_eq!(node.name(nodes.0[0].member(1)), Some("ann"));
        assert_eq!(node.aways, 0);
    }
}

#[test]
fn a_server_that_enters_late_after_a_loss_hears_what_was_said_since() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let mut nodes = Nodes::start(2, redis.address());
    nodes.0[0].rename(1, "ann");
    nodes.0[0].say("before");
    nodes.run_until_heard(1);
    redis.ask("FLUSHALL");
    let mut late = Nodes(vec![nodes.0.remove(1)]);
    nodes.run_until("the gap is announced", |nodes| nodes[0].gaps.len() == 1);
    for line in ["one", "two"] {
        nodes.0[0].say(line);
    }
    nodes.run_until_heard(3);
    nodes.0.append(&mut late.0);
    the_gap_is_announced(&mut nodes);
    let said = |text: &str| ("ann".to_owned(), text.as_bytes().to_vec());
    assert_eq!(nodes.0[1].missed, [said("one"), said("two")]);
    assert_eq!(nodes.0[1].texts(), ["before", "afterwards"]);
    assert_eq!(nodes.0[0].missed, []);
}

#[test]
fn a_redis_that_stands_still_for_a_second_is_waited_for() {
    stands_still(Duration::from_secs(1));
}

#[test]
#[ignore = "takes half a minute"]
fn a_redis_that_stands_still_for_half_a_minute_is_waited_for() {
    stands_still(Duration::from_secs(30));
}

fn stands_still(time: Duration) {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let mut nodes = Nodes::start(2, redis.address());
    redis.suspend();
    let begin = Instant::now();
    while begin.elapsed() < time {
        nodes.turn();
    }
    redis.signal(Signal::CONT);
    nothing_is_lost(&mut nodes, |_, line| line == 50);
    for node in &nodes.0 {
        assert!(time < Duration::from_secs(2) || node.aways == 1, "away {} times", node.aways);
        assert_eq!(node.gone, [], "a server was lost because of Redis");
    }
}

#[test]
fn connections_that_are_killed_all_the_time_lose_nothing() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let mut nodes = Nodes::start(2, redis.address());
    let begin = Instant::now();
    nothing_is_lost(&mut nodes, |_, line| {
        if line % 10 == 0 {
            redis.ask("CLIENT KILL TYPE normal SKIPME yes");
        }
        begin.elapsed() > Duration::from_secs(1)
    });
}

#[test]
fn a_script_that_is_forgotten_all_the_time_is_loaded_again() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let mut nodes = Nodes::start(2, redis.address());
    nothing_is_lost(&mut nodes, |_, line| {
        if line % 5 == 0 {
            redis.ask("SCRIPT FLUSH");
        }
        line == 200
    });
    assert!(nodes.0.iter().all(|node| node.aways == 0));
}

#[test]
fn a_redis_without_memory_is_waited_for() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&["--maxmemory-policy", "noeviction"]);
    let mut nodes = Nodes::start(2, redis.address());
    nothing_is_lost(&mut nodes, |nodes, line| {
        if line == 20 {
            redis.ask("CONFIG SET maxmemory 1");
            nodes.run_until("they are away", |nodes| nodes.iter().all(|node| node.aways == 1));
            assert!(nodes.0[0].engine.trouble().contains("OOM"), "{}", nodes.0[0].engine.trouble());
            redis.ask("CONFIG SET maxmemory 0");
        }
        line == 50
    });
}

#[test]
fn a_database_that_there_is_not_is_named() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let settings = Settings { room: "lobby".to_owned(), user: None, password: None, database: 99 };
    let mut nodes = Nodes(vec![Node::with(1, redis.address(), settings)]);
    nodes.run_until("it is away", |nodes| nodes[0].aways == 1);
    assert_eq!(nodes.0[0].engine.trouble(), "ERR DB index is out of range: it refuses database 99");
}

#[test]
fn a_failover_to_a_lagging_replica_is_announced() {
    failover(false);
}

#[test]
fn a_failover_is_announced_also_if_another_server_writes_first() {
    failover(true);
}

fn failover(another_writes_first: bool) {
    if !has_redis() {
        return;
    }
    let (mut first, second) = (Redis::start(&[]), Redis::start(&[]));
    let mut nodes = Nodes::start(2, first.address());
    nodes.0[0].rename(1, "ann");
    nodes.run_until("the new name is known", |nodes| {
        nodes.iter().all(|node| node.names.values().any(|name| name == "ann"))
    });
    nodes.0[0].say("before");
    nodes.run_until_heard(1);
    second.ask(&format!("REPLICAOF 127.0.0.1 {}", first.port));
    second.wait_for("EXISTS echo:{lobby}:log", |answer| answer == ":1");
    // From here on it lags.
    second.ask("REPLICAOF NO ONE");
    for line in 0..3 {
        nodes.0[0].say(format!("lost {line}"));
        nodes.run_until_heard(2 + line);
    }
    first.kill();
    if another_writes_first {
        let mut others = Nodes::start(1, second.address());
        for line in 0..20 {
            others.0[0].say(format!("other {line}"));
            others.turn();
        }
        others.run_until_heard(20);
    }
    nodes.0.iter_mut().for_each(|node| node.redis = second.address());
    the_gap_is_announced(&mut nodes);
    for node in &nodes.0 {
        let texts = node.texts();
        assert_eq!(texts[..4], ["before", "lost 0", "lost 1", "lost 2"]);
        assert_eq!(node.gaps, [4]);
        assert_eq!(node.name(nodes.0[0].member(1)), Some("ann"));
    }
}

#[test]
fn a_server_that_only_listened_notices_that_others_began_anew_where_it_was() {
    if !has_redis() {
        return;
    }
    let (mut first, second) = (Redis::start(&[]), Redis::start(&[]));
    let mut nodes = Nodes::start(2, first.address());
    second.ask(&format!("REPLICAOF 127.0.0.1 {}", first.port));
    second.wait_for("EXISTS echo:{lobby}:log", |answer| answer == ":1");
    second.ask("REPLICAOF NO ONE");
    nodes.0[0].say("lost");
    nodes.run_until_heard(1);
    first.kill();
    // The one that knows what it said does not come back, and one that knows of nothing writes at the same positions.
    nodes.0.remove(0);
    let mut other = Nodes::start(1, second.address());
    for line in 0..5 {
        other.0[0].say(format!("other {line}"));
        other.run_until_heard(line + 1);
    }
    nodes.0[0].redis = second.address();
    the_gap_is_announced(&mut nodes);
    assert_eq!(nodes.0[0].reasons, ["the last entry was lost"]);
}

#[test]
fn a_connection_that_is_cut_before_the_answer_changes_nothing() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let (proxy, mut nodes) = start_behind_proxy(&redis);
    nothing_is_lost(&mut nodes, |nodes, line| {
        if line % 10 == 0 && nodes.0[0].engine.is_in() {
            proxy.faults.cut_replies.fetch_max(1, Ordering::Relaxed);
        }
        proxy.faults.cuts.load(Ordering::Relaxed) >= 5
    });
}

#[test]
fn a_late_copy_of_a_call_changes_nothing() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let (proxy, mut nodes) = start_behind_proxy(&redis);
    nothing_is_lost(&mut nodes, |nodes, line| {
        if line % 10 == 0 && nodes.0[0].engine.is_in() {
            proxy.faults.cut_calls.fetch_max(1, Ordering::Relaxed);
        }
        for call in proxy.faults.kept.lock().expect("no panic").iter() {
            redis.send(call);
        }
        proxy.faults.cuts.load(Ordering::Relaxed) >= 5
    });
}

#[test]
fn what_comes_byte_by_byte_and_late_is_understood() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let proxy = Proxy::start(redis.address());
    proxy.faults.is_bytewise.store(true, Ordering::Relaxed);
    proxy.faults.delay.store(20, Ordering::Relaxed);
    let mut nodes = Nodes::start(2, proxy.address);
    nothing_is_lost(&mut nodes, |_, line| line == 20);
}

#[test]
fn a_server_whose_lease_has_ended_misses_nothing_and_sends_what_had_not_arrived() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let mut nodes = Nodes::start(2, redis.address());
    nodes.0[1].rename(1, "bob");
    nodes.0[1].say("1 0");
    nodes.run_until_heard(1);
    // As if it had been stopped for longer than its lease.
    let mut stopped = Nodes(vec![nodes.0.remove(1)]);
    stopped.0[0].say("1 1");
    redis.ask(&format!("HSET echo:{{lobby}}:srv {} 1", stopped.0[0].id));
    nodes.0[0].say("0 0");
    nodes.run_until("it is gone", |nodes| nodes[0].gone == [(stopped.0[0].id, true)]);
    assert_eq!(nodes.0[0].names.len(), 1, "its members have left");
    nodes.run_until_heard(2);
    nodes.0.append(&mut stopped.0);
    nodes.run_until_heard(3);
    nodes.assert_same();
    assert_eq!(nodes.0[0].texts(), ["1 0", "0 0", "1 1"]);
    nodes.run_until("it is back", |nodes| nodes[0].names.len() == 2 && nodes[1].is_in);
    assert_eq!(nodes.0[0].name(nodes.0[1].member(1)), Some("bob"));
    assert_eq!(nodes.0[0].names, nodes.0[1].names);
}
