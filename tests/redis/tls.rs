//! Servers that reach Redis over TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Certificates, DEADLINE, Member, Server, connect, free_port, run, scratch_file, server_command};
use crate::has_redis;
use crate::proxy::Proxy;
use crate::redis::Redis;
use crate::servers::{AWAY, BACK, join, next_line};

/// A Redis that speaks TLS at this port, with the certificate of a server.
fn start_redis(certificates: &Certificates, port: u16, options: &[&str]) -> Redis {
    let port = port.to_string();
    let [certificate, key] = &certificates.server;
    let tls = ["--tls-port", &port, "--tls-cert-file", certificate, "--tls-key-file", key];
    let authority = ["--tls-ca-cert-file", &certificates.authority, "--tls-auth-clients", "no"];
    Redis::start(&[&tls[..], &authority, options].concat())
}

fn start_with(url: &str, options: &[&str]) -> Server {
    Server::start(&[&["--chat", "--grace", "100ms", "--verbose", "--redis", url], options].concat())
}

fn start(url: &str, authority: &str) -> Server {
    start_with(url, &["--redis-cacert", authority])
}

fn wait_for_log(server: &Server, text: &str) {
    server.console.wait_until(|lines| lines.iter().any(|line| line.contains(text)).then_some(()));
}

#[test]
fn servers_share_a_room_over_tls() {
    if !has_redis() {
        return;
    }
    let (certificates, port) = (Certificates::shared(), free_port());
    let redis = start_redis(certificates, port, &["--requirepass", "hunter2"]);
    let [first, second] = ["localhost", "127.0.0.1"].map(|host| {
        let server = start(&format!("rediss://:hunter2@{host}:{port}"), &certificates.authority);
        wait_for_log(&server, &format!("Connected to Redis at rediss://{host}:{port}"));
        server
    });
    let mut ann = join(&first, "ann", &mut []);
    let mut bob = join(&second, "bob", &mut [&mut ann]);
    // Longer than a record.
    let long = "x".repeat(60 << 10);
    for line in ["hello", &long] {
        ann.say(format!("{line}\n"));
        bob.hears(&[&format!("<ann> {line}")]);
    }
    for server in [first, second] {
        let lines = server.stop_by(Signal::TERM);
        assert!(!lines.iter().any(|line| line.contains("hunter2")), "{lines:?}");
    }
    drop(redis);
}

#[test]
fn a_certificate_of_another_authority_is_refused_and_a_better_one_waited_for() {
    if !has_redis() {
        return;
    }
    let (certificates, others, port) = (Certificates::shared(), Certificates::new(), free_port());
    let mut redis = start_redis(&others, port, &[]);
    let server = start(&format!("rediss://localhost:{port}"), &certificates.authority);
    // The authorities have the same name.
    let wrong = "the certificate was not accepted: its signature is wrong (--redis-cacert accepts an authority)";
    wait_for_log(&server, &format!("Redis at rediss://localhost:{port} is out of reach: {wrong}; trying again"));
    let mut ann = Member::over(connect(server.address()));
    ann.hears(&[AWAY]);
    redis.kill();
    redis.set_option("--tls-cert-file", &certificates.server[0]);
    redis.set_option("--tls-key-file", &certificates.server[1]);
    redis.launch();
    ann.hears(&[BACK]);
    assert!(ann.line().starts_with("* welcome"), "no welcome");
    drop(ann);
    server.stop();
}

/// As Redis does it unless it is told not to.
#[test]
fn a_redis_that_asks_for_a_certificate_gets_one() {
    if !has_redis() {
        return;
    }
    let (certificates, port) = (Certificates::shared(), free_port());
    let _redis = start_redis(certificates, port, &["--tls-auth-clients", "yes"]);
    let url = format!("rediss://localhost:{port}");
    let server = start(&url, &certificates.authority);
    let wrong = "the peer sent the alert \"certificate required\" (--redis-cert presents one)";
    wait_for_log(&server, &format!("Redis at {url} is out of reach: {wrong}; trying again"));
    server.stop();
    let [certificate, key] = &certificates.client;
    let files = ["--redis-cacert", &certificates.authority, "--redis-cert", certificate, "--redis-key", key];
    let server = start_with(&url, &files);
    wait_for_log(&server, &format!("Connected to Redis at {url}"));
    server.stop();
}

#[test]
fn a_renewed_certificate_is_presented_to_redis_without_a_restart() {
    if !has_redis() {
        return;
    }
    let (certificates, others, port) = (Certificates::shared(), Certificates::new(), free_port());
    let _redis = start_redis(certificates, port, &["--tls-auth-clients", "yes"]);
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| scratch_file(&format!("redis-{name}")));
    let copy = |[from_certificate, from_key]: &[String; 2]| {
        fs::copy(from_certificate, &certificate).expect("copied");
        fs::copy(from_key, &key).expect("copied");
    };
    copy(&others.client);
    let [certificate_path, key_path] = [&certificate, &key].map(|path| path.to_str().expect("text"));
    let url = format!("rediss://127.0.0.1:{port}");
    let identity = ["--redis-cert", certificate_path, "--redis-key", key_path];
    let server = start_with(&url, &[&["--redis-cacert", &certificates.authority], &identity[..]].concat());
    wait_for_log(&server, &format!("Redis at {url} is out of reach: the peer sent the alert"));
    copy(&certificates.client);
    wait_for_log(&server, &format!("Connected to Redis at {url}"));
    server.stop();
}

#[test]
fn a_port_without_tls_is_told() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("rediss://127.0.0.1:{}", listener.local_addr().expect("its address").port());
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            _ = stream.write_all(b"-ERR unknown command\r\n");
            _ = stream.read(&mut [0; 1024]);
        }
    });
    let server = start(&url, &Certificates::shared().authority);
    wait_for_log(&server, &format!("Redis at {url} is out of reach: it does not speak TLS; trying again"));
    server.stop();
}

#[test]
fn connections_that_are_cut_in_a_record_or_in_the_handshake_lose_nothing() {
    if !has_redis() {
        return;
    }
    let (certificates, port) = (Certificates::shared(), free_port());
    let _redis = start_redis(certificates, port, &[]);
    let proxy = Proxy::start(([127, 0, 0, 1], port).into());
    let near = start(&format!("rediss://localhost:{port}"), &certificates.authority);
    let far = start(&format!("rediss://{}", proxy.address), &certificates.authority);
    let mut ann = join(&near, "ann", &mut []);
    let mut bob = join(&far, "bob", &mut [&mut ann]);
    // Redis' part of the handshake has about 900 bytes.
    for (round, limit) in [2500, 40, 700].into_iter().enumerate() {
        let before = proxy.faults.cuts.load(Ordering::Relaxed);
        proxy.faults.cut_after.store(limit, Ordering::Relaxed);
        let begin = Instant::now();
        let mut said = 0;
        while proxy.faults.cuts.load(Ordering::Relaxed) < before + 2 {
            assert!(begin.elapsed() < DEADLINE, "it is not cut after {limit} bytes");
            if said < 100 {
                bob.say(format!("{round} {said}\n"));
                said += 1;
            }
            thread::sleep(Duration::from_millis(2));
        }
        proxy.faults.cut_after.store(0, Ordering::Relaxed);
        for line in 0..said {
            assert_eq!(next_line(&mut ann), format!("<bob> {round} {line}"));
        }
        ann.say(format!("{round}\n"));
        assert_eq!(next_line(&mut bob), format!("<ann> {round}"));
    }
    drop((ann, bob));
    near.stop();
    far.stop();
}

#[test]
fn a_wrong_authority_file_is_named() {
    let path = scratch_file("no-authority.pem");
    std::fs::write(&path, "nothing").expect("written");
    for (path, problem) in [(path.as_os_str(), "cannot use"), ("/nowhere".as_ref(), "cannot read")] {
        let mut command = server_command(&["--chat", "--port", "0", "--redis", "rediss://:hunter2@127.0.0.1"]);
        command.arg("--redis-cacert").arg(path);
        let output = run(command, Stdio::null());
        let expected = format!("echo-server: {problem} the authority of Redis {}: ", path.display());
        assert!(output.stderr.starts_with(&expected), "{}", output.stderr);
        assert_eq!((output.code, output.stderr.lines().count()), (Some(1), 1));
    }
}
