//! Real servers over a real Redis: what their members see.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Lines, Member, Process, Server, connect, run, server_command};
use crate::has_redis;
use crate::redis::Redis;

pub(crate) const AWAY: &str = "* the room's other servers cannot be reached; new lines wait";
pub(crate) const BACK: &str = "* the room's other servers can be reached again";
const GAP: &str = "* lines may be missing here";

/// A server that does not wait long for its members when it stops.
pub(crate) fn start(redis: &Redis) -> Server {
    Server::start(&["--chat", "--grace", "100ms", "--redis", &redis.url()])
}

/// A member under this name, which has been heard of by all of these.
pub(crate) fn join(server: &Server, name: &str, others: &mut [&mut Member]) -> Member {
    let (member, _) = Member::enter(connect(server.address()), name);
    others.iter_mut().for_each(|other| other.hears(&[&format!("* {name} joined")]));
    member
}

/// What a member hears next, but for how it stands with Redis: on a machine under load, that may be told any time.
pub(crate) fn next_line(member: &mut Member) -> String {
    let mut lines = std::iter::repeat_with(|| member.line());
    lines.find(|line| line != AWAY && line != BACK).expect("a line")
}

/// The names of a list.
fn sorted(list: &str) -> Vec<&str> {
    let mut names: Vec<&str> = list.strip_prefix("here: ").expect("a list").split(", ").collect();
    names.sort_unstable();
    names
}

trait Sees {
    /// Expects these members, whatever their order.
    fn sees(&mut self, names: &[&str]);
}

impl Sees for Member {
    #[track_caller]
    fn sees(&mut self, names: &[&str]) {
        self.say("/who\n");
        let line = next_line(self);
        assert_eq!(sorted(line.strip_prefix("* ").expect("an answer")), names);
    }
}

/// Ends the lease of a server.
fn expire(redis: &Redis, id: &str) {
    redis.ask(&format!("HSET echo:{{lobby}}:srv {id} 1"));
}

/// The servers that are in the room.
fn ids(redis: &Redis) -> Vec<String> {
    redis.ask_for_list("HKEYS echo:{lobby}:srv")
}

/// The id of the server that has entered since there were only these.
fn newest(redis: &Redis, earlier: &[String]) -> String {
    ids(redis).into_iter().find(|id| !earlier.contains(id)).expect("another server")
}

#[test]
fn members_of_two_servers_are_in_one_room() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let (first, second) = (start(&redis), start(&redis));
    let mut ann = join(&first, "ann", &mut []);
    let mut bob = join(&second, "bob", &mut [&mut ann]);
    ann.say("hello\n");
    bob.hears(&["<ann> hello"]);
    bob.sees(&["ann", "bob"]);
    bob.is_answered("/name \u{430}nn", "* \u{430}nn is taken");
    bob.say("/msg ann psst\n");
    bob.hears(&["<bob -> ann> psst"]);
    ann.hears(&["<bob -> ann> psst"]);
    bob.is_answered("/name robert", "* bob is now robert");
    ann.hears(&["* bob is now robert"]);
    let (carol, here) = Member::enter(connect(first.address()), "carol");
    assert_eq!(sorted(&here), ["ann", "robert"]);
    for member in [&mut ann, &mut bob] {
        member.hears(&["* carol joined"]);
    }
    carol.leaves_at_once();
    for member in [&mut ann, &mut bob] {
        member.hears(&["* carol left"]);
    }
    // One that stops says so at once.
    second.process.signal(Signal::TERM);
    ann.hears(&["* robert left (their server is stopping)"]);
    bob.hears(&["* server is stopping"]);
    second.expect_stopped();
    ann.is_answered("/who", "* here: ann");
    first.stop();
}

#[test]
fn newcomers_of_a_server_that_starts_later_are_told_what_was_said() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let first = start(&redis);
    let mut ann = join(&first, "ann", &mut []);
    let mut bob = join(&first, "bob", &mut [&mut ann]);
    for line in ["one", "two\u{7}", "three"] {
        ann.say(format!("{line}\n"));
        bob.hears(&[&format!("<ann> {}", line.escape_default())]);
    }
    let second = Server::start(&["--chat", "--grace", "100ms", "--history", "2", "--redis", &redis.url()]);
    let mut carol = Member::over(connect(second.address()));
    assert!(carol.line().starts_with("* welcome"), "no welcome");
    for line in ["* earlier:", "| <ann> two\\u{7}", "| <ann> three"] {
        assert_eq!(carol.line(), line);
    }
    drop((ann, bob));
    second.stop();
    first.stop();
}

#[test]
fn a_server_that_is_killed_is_announced_and_its_names_are_free() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let first = start(&redis);
    let mut ann = join(&first, "ann", &mut []);
    let own = ids(&redis);
    let second = start(&redis);
    let bob = join(&second, "bob", &mut [&mut ann]);
    let carol = join(&second, "carol", &mut [&mut ann]);
    drop(second);
    let id = newest(&redis, &own);
    expire(&redis, &id);
    ann.hears(&["* bob, carol left (their server is gone)"]);
    ann.is_answered("/name bob", "* ann is now bob");
    drop((bob, carol));
    first.stop();
}

#[test]
#[ignore = "takes a lease of ten seconds"]
fn the_members_of_a_server_that_is_killed_leave_within_its_lease() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let (first, second) = (start(&redis), start(&redis));
    let mut ann = join(&first, "ann", &mut []);
    let bob = join(&second, "bob", &mut [&mut ann]);
    let begin = Instant::now();
    drop(second);
    ann.hears(&["* bob left (their server is gone)"]);
    assert!(begin.elapsed() < Duration::from_secs(12), "after {:?}", begin.elapsed());
    drop(bob);
    first.stop();
}

#[test]
fn a_server_that_was_stopped_for_longer_than_its_lease_comes_back_with_what_it_missed() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let first = start(&redis);
    let mut ann = join(&first, "ann", &mut []);
    let own = ids(&redis);
    let second = start(&redis);
    let mut bob = join(&second, "bob", &mut [&mut ann]);
    second.process.suspend();
    bob.say("said meanwhile\n");
    let id = newest(&redis, &own);
    expire(&redis, &id);
    ann.hears(&["* bob left (their server is gone)"]);
    ann.say("are you there?\n");
    second.process.signal(Signal::CONT);
    bob.hears(&["<ann> are you there?"]);
    ann.hears(&["* bob joined (their server is back)", "<bob> said meanwhile"]);
    bob.say("now I am\n");
    ann.hears(&["<bob> now I am"]);
    ann.sees(&["ann", "bob"]);
    bob.sees(&["ann", "bob"]);
    first.stop();
    second.stop();
}

#[test]
fn while_redis_is_away_lines_wait_and_everybody_is_told() {
    if !has_redis() {
        return;
    }
    let mut redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let (first, second) = (start(&redis), start(&redis));
    let mut ann = join(&first, "ann", &mut []);
    let mut bob = join(&second, "bob", &mut [&mut ann]);
    redis.kill();
    for member in [&mut ann, &mut bob] {
        member.hears(&[AWAY]);
    }
    ann.say("later\n");
    let mut carol = Member::over(connect(second.address()));
    carol.hears(&[AWAY]);
    redis.launch();
    for member in [&mut ann, &mut bob, &mut carol] {
        member.hears(&[BACK]);
    }
    let welcome = carol.line();
    let here = welcome.strip_prefix("* welcome, user3; ").expect("a welcome");
    assert_eq!(sorted(here), ["ann", "bob"]);
    // Which server is back first decides what comes first.
    carol.say("hello\n");
    let mut heard: Vec<String> = (0..3).map(|_| bob.line()).collect();
    heard.sort();
    assert_eq!(heard, ["* user3 joined", "<ann> later", "<user3> hello"]);
    ann.hears(&["* user3 joined", "<user3> hello"]);
    carol.half_close();
    ann.hears(&["* user3 left"]);
    ann.sees(&["ann", "bob"]);
    first.stop();
    second.stop();
}

#[test]
fn a_server_that_stops_while_redis_is_away_waits_for_nothing_but_what_was_said() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let start = || Server::start(&["--chat", "--grace", "15s", "--redis", &redis.url()]);
    let (first, second, third) = (start(), start(), start());
    let mut ann = join(&first, "ann", &mut []);
    let mut bob = join(&second, "bob", &mut [&mut ann]);
    let mut carol = join(&third, "carol", &mut [&mut ann, &mut bob]);
    redis.suspend();
    // Each turn sends what it reads, and one call is on its way at a time: the second line is still here.
    for line in ["one", "two"] {
        bob.say(format!("{line}\n"));
        thread::sleep(Duration::from_millis(50));
    }
    for member in [&mut ann, &mut bob, &mut carol] {
        member.hears(&[AWAY]);
    }
    carol.say("not read any more\n");
    let begin = Instant::now();
    second.process.signal(Signal::TERM);
    third.process.signal(Signal::TERM);
    for member in [&mut bob, &mut carol] {
        member.hears(&["* your last lines may not have been sent", "* server is stopping"]);
    }
    drop((bob, carol));
    third.expect_stopped();
    assert!(begin.elapsed() < Duration::from_secs(5), "stopped after {:?}", begin.elapsed());
    redis.signal(Signal::CONT);
    for line in ["<bob> one", "<bob> two", "* bob left (their server is stopping)"] {
        assert_eq!(next_line(&mut ann), line);
    }
    second.expect_stopped();
    drop(ann);
    first.stop();
}

#[test]
fn a_loss_of_data_is_told_and_members_keep_their_names() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let (first, second) = (start(&redis), start(&redis));
    let mut ann = join(&first, "ann", &mut []);
    let mut bob = join(&second, "bob", &mut [&mut ann]);
    redis.ask("FLUSHALL");
    for member in [&mut ann, &mut bob] {
        member.hears(&[GAP]);
    }
    bob.say("still here\n");
    ann.hears(&["<bob> still here"]);
    ann.sees(&["ann", "bob"]);
    bob.sees(&["ann", "bob"]);
    first.stop();
    second.stop();
}

#[test]
fn what_was_said_since_a_loss_comes_behind_the_gap_on_a_server_that_enters_late() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(&[]);
    let (first, second) = (start(&redis), start(&redis));
    let mut ann = join(&first, "ann", &mut []);
    let mut bob = join(&first, "bob", &mut [&mut ann]);
    let mut carol = join(&second, "carol", &mut [&mut ann, &mut bob]);
    second.process.suspend();
    redis.ask("FLUSHALL");
    ann.hears(&[GAP]);
    ann.say("said since\n");
    bob.hears(&[GAP, "<ann> said since"]);
    second.process.signal(Signal::CONT);
    carol.hears(&[GAP, "<ann> said since"]);
    carol.say("and now\n");
    ann.hears(&["<carol> and now"]);
    drop((ann, bob, carol));
    first.stop();
    second.stop();
}

#[test]
fn a_server_starts_before_its_redis_and_never_shows_the_password() {
    if !has_redis() {
        return;
    }
    let mut redis = Redis::start(&["--requirepass", "another"]);
    let url = format!("redis://:hunter2%3A%40%2F@localhost:{}/3", redis.port);
    for options in
        [&["--log-format", "json"][..], &["--redis", "redis://:hunter2@localhost:x"], &["--help"], &["--room"]]
    {
        let mut command = server_command(&[&["--room", "attic"], options].concat());
        command.env("ECHO_REDIS", &url);
        let output = run(command, Stdio::null());
        let shown = [&*output.stderr, &String::from_utf8_lossy(&output.stdout)].concat();
        assert!(output.code != Some(1) && !shown.contains("hunter2"), "{shown}");
    }
    let mut command = server_command(&["--chat", "--port", "0", "--room", "attic", "--verbose"]);
    command.env("ECHO_REDIS", url);
    let server = Server::launch(command);
    let log =
        |text: &str| server.console.wait_until(|lines| lines.iter().any(|line| line.contains(text)).then_some(()));
    log(": WRONGPASS: it refuses the login; trying again");
    redis.kill();
    redis.set_option("--requirepass", "hunter2:@/");
    redis.launch();
    log("Connected to Redis at redis://localhost:");
    server.process.signal(Signal::USR1);
    log("Redis: connected, epoch 1-");
    assert_eq!(redis.ask("EXISTS echo:{attic}:meta"), "-NOAUTH Authentication required.");
    let lines = server.stop_by(Signal::TERM);
    assert!(!lines.iter().any(|line| line.contains("hunter2")), "{lines:?}");
}

#[test]
fn the_log_for_programs_and_the_counters_tell_how_it_stands_with_redis() {
    if !has_redis() {
        return;
    }
    let mut redis = Redis::start(&[]);
    let url = format!("unix://{}", redis.socket().display());
    let mut command = server_command(&["--chat", "--port", "0", "--redis", &url, "--log-format", "json"]);
    command.stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let console = Lines::of(process.take_stdout());
    let wait_for = |count: usize, event: &str| {
        console.wait_until(|lines| {
            let values = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            values.filter(|value| value["event"] == event).nth(count - 1)
        })
    };
    assert_eq!(wait_for(1, "redis")["state"], "connected");
    process.signal(Signal::USR1);
    let counters = wait_for(1, "counters");
    assert_eq!((&counters["redis_state"], &counters["redis_lag"]), (&json!("connected"), &json!(0)));
    assert!(counters["redis_epoch"].is_string() && counters["redis_position"].as_u64() >= Some(1), "{counters}");
    redis.ask("FLUSHALL");
    assert_eq!(wait_for(2, "redis")["state"], "gap");
    redis.kill();
    let away = wait_for(3, "redis");
    assert_eq!((&away["state"], away["reason"].is_string()), (&json!("away"), true), "{away}");
    process.signal(Signal::USR1);
    assert_eq!(wait_for(2, "counters")["redis_state"], "away");
    process.signal(Signal::TERM);
    assert_eq!(process.wait().0.code(), Some(0));
}
