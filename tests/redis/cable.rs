//! The cable between a server and its Redis is pulled: nothing arrives, and nobody says so.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{DEADLINE, Member, Server, scratch_file, server_command};
use crate::has_redis;
use crate::namespace::Namespace;
use crate::redis::Redis;
use crate::servers::{AWAY, BACK};

/// In a network of their own, one server reaches Redis over TCP and one over a Unix socket, as both are reached by their
/// clients: so there is a cable for one of them only.
#[test]
#[ignore = "takes a lease of ten seconds, root and iproute2"]
fn a_server_whose_cable_is_pulled_is_announced_as_gone_and_comes_back_with_what_it_missed() {
    if !has_redis() {
        return;
    }
    let network = match Namespace::new() {
        Ok(network) => network,
        Err(error) if std::env::var_os("CI").is_some() => panic!("no network can be made: {error}"),
        Err(error) => {
            println!("skipped: no network can be made, which takes root ({error})");
            return;
        }
    };
    let set_cable = |state: &str| {
        let run = || Command::new("ip").args(["link", "set", "dev", "lo", state]).status();
        assert!(network.inside(run).expect("ip").success(), "the cable is not {state}");
    };
    set_cable("up");
    let redis = network.inside(|| Redis::start(&[]));
    let start = |name: &str, url: &str| {
        let path = scratch_file(name);
        let bind = format!("unix:{}", path.display());
        let command =
            server_command(&["--chat", "--port", "0", "--bind", "127.0.0.1", "--bind", &bind, "--redis", url]);
        (network.inside(|| Server::launch(command)), path)
    };
    let (near, near_path) = start("near", &format!("unix://{}", redis.socket().display()));
    let (far, far_path) = start("far", &redis.url());
    let connect = |path| {
        let stream = TcpStream::from(OwnedFd::from(UnixStream::connect(path).expect("connected")));
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream
    };
    let mut ann = Member::enter(connect(&near_path), "ann").0;
    let mut bob = Member::enter(connect(&far_path), "bob").0;
    ann.hears(&["* bob joined"]);
    set_cable("down");
    let begin = Instant::now();
    bob.hears(&[AWAY]);
    assert!(begin.elapsed() < Duration::from_secs(3), "told after {:?}", begin.elapsed());
    bob.say("said meanwhile\n");
    ann.hears(&["* bob left (their server is gone)"]);
    assert!(begin.elapsed() < Duration::from_secs(12), "gone after {:?}", begin.elapsed());
    ann.say("are you there?\n");
    set_cable("up");
    let begin = Instant::now();
    bob.hears(&["<ann> are you there?", BACK]);
    assert!(begin.elapsed() < Duration::from_secs(5), "back after {:?}", begin.elapsed());
    ann.hears(&["* bob joined (their server is back)", "<bob> said meanwhile"]);
    near.stop();
    far.stop();
}
