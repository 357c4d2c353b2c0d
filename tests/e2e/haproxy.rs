//! The server behind HAProxy, as people run it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use rustix::process::Signal;

use crate::harness::{
    HaProxy, Server, assert_same, connect_from, exchange, expect_end, random_bytes, reset, rng, round_trip,
};

/// What the manual page shows, with these servers and more frequent checks.
fn backend_of_manual(servers: &[Server; 2]) -> String {
    let manual = include_str!("../../src/cli/print/echo-server.roff").replace("\\-", "-");
    let (_, rest) = manual.split_once("\nbackend echo\n").expect("a backend");
    let (options, _) = rest.split_once("\n.EE\n").expect("its end");
    let mut backend = options.replace(" check ", " check inter 50ms ") + "\n";
    for (address, server) in ["10.0.0.1:8888", "10.0.0.2:8888"].iter().zip(servers) {
        let (line, _) = backend[backend.find(address).expect("a server")..].split_once('\n').expect("its end");
        let with_ports = line.replace(address, &server.address().to_string());
        backend = backend.replace(line, &with_ports.replace("9100", &server.admin().port().to_string()));
    }
    backend
}

#[test]
fn a_draining_server_gets_no_new_connections_and_keeps_the_old_ones() {
    let options = ["--admin", "0", "--drain", "20s", "--proxy-from", "127.0.0.1"];
    let servers = [Server::start(&options), Server::start(&options)];
    let Some(proxy) = HaProxy::start(&backend_of_manual(&servers)) else { return };
    for name in ["one", "two"] {
        proxy.wait_for(name, "check_status", "L7OK");
    }
    let mut old: Vec<TcpStream> = (0..8).map(|_| proxy.connect()).collect();
    old.iter_mut().for_each(|stream| round_trip(stream, b"old"));
    let [leaving, staying] = servers;
    leaving.process.signal(Signal::TERM);
    proxy.wait_for("one", "status", "NOLB");
    let mut new: Vec<TcpStream> = (0..8).map(|_| proxy.connect()).collect();
    new.iter_mut().for_each(|stream| round_trip(stream, b"new"));
    old.iter_mut().for_each(|stream| round_trip(stream, b"old"));
    let (left, stayed) = (leaving.stop_by(Signal::TERM), staying.stop_by(Signal::INT));
    let count = |lines: &[String], text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!((count(&left, "'old'"), count(&left, "'new'")), (8, 0));
    assert_eq!((count(&stayed, "'old'"), count(&stayed, "'new'")), (8, 8));
}

/// The ways to announce clients, and a server behind each.
fn for_both_versions(options: &[&str], test: impl Fn(&HaProxy, Server)) {
    for send_proxy in ["send-proxy", "send-proxy-v2"] {
        let server = Server::start(&[&["--proxy-from", "127.0.0.1"], options].concat());
        let backend = format!("  server echo 127.0.0.1:{} {send_proxy}", server.port);
        let Some(proxy) = HaProxy::start(&backend) else { return };
        test(&proxy, server);
    }
}

#[test]
fn the_log_shows_the_clients_and_not_the_proxy() {
    for_both_versions(&["--verbose"], |proxy, server| {
        let stream = connect_from(7, proxy.address(), None).expect("connected");
        let client = stream.local_addr().expect("an address");
        assert_same(&exchange(stream, b"hello"), b"hello");
        let closed = format!("Closed: {client}, 5 bytes in, 5 bytes out: the client finished");
        server.console.wait_until(|lines| lines.iter().any(|line| line.ends_with(&closed)).then_some(()));
        server.stop();
    });
}

#[test]
fn a_client_may_write_everything_before_it_reads() {
    let content = random_bytes(&mut rng(), 48 << 20);
    for_both_versions(&["--quiet"], |proxy, server| {
        let mut stream = proxy.connect();
        stream.write_all(&content).expect("sent");
        stream.shutdown(Shutdown::Write).expect("half-closed");
        let mut echo = Vec::with_capacity(content.len());
        stream.read_to_end(&mut echo).expect("the echo and its end");
        assert_same(&echo, &content);
        server.stop_by(Signal::TERM);
    });
}

#[test]
fn a_reset_passes_from_either_side() {
    for_both_versions(&["--verbose", "--log-max", "10", "--grace", "200ms"], |proxy, server| {
        let mut stream = proxy.connect();
        round_trip(&mut stream, b"hello");
        let client = stream.local_addr().expect("an address");
        reset(stream);
        let closed = format!("Closed: {client}, 5 bytes in, 5 bytes out: ");
        server.console.wait_until(|lines| lines.iter().any(|line| line.contains(&closed)).then_some(()));
        // One that reads nothing of what is pending for it, when the server stops.
        let mut stuck = proxy.connect();
        stuck.write_all(&vec![b'x'; 48 << 20]).expect("sent");
        server.stop_by(Signal::TERM);
        let mut echo = Vec::new();
        match stuck.read_to_end(&mut echo) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            // HAProxy has passed on what it had, and an end: it does not tell a reset from it once it has data.
            Ok(_) => assert!(echo.len() < 48 << 20),
        }
    });
}

#[test]
fn one_address_has_so_many_connections_through_the_proxy() {
    for_both_versions(&["--quiet", "--max-per-ip", "2", "--deny", "127.0.0.1"], |proxy, server| {
        let from = |source| connect_from(source, proxy.address(), None).expect("connected");
        for source in [7, 8] {
            let (mut one, mut two) = (from(source), from(source));
            round_trip(&mut one, b"hello");
            round_trip(&mut two, b"hello");
            _ = from(source).read(&mut [0]).map(|count| assert_eq!(count, 0));
            one.shutdown(Shutdown::Write).expect("half-closed");
            expect_end(&mut one);
            round_trip(&mut from(source), b"hello");
        }
        _ = proxy.connect().read(&mut [0]).map(|count| assert_eq!(count, 0));
        server.stop_by(Signal::TERM);
    });
}

/// Checks that only connect, as HAProxy makes them without `option httpchk`, with a header and without one.
#[test]
fn its_checks_leave_no_trace() {
    for check in ["check", "check send-proxy", "check send-proxy-v2", "check send-proxy-v2 no-check-send-proxy"] {
        let server = Server::start(&["--proxy-from", "127.0.0.1"]);
        let backend = format!("  server echo 127.0.0.1:{} {check} inter 20ms", server.port);
        let Some(proxy) = HaProxy::start(&backend) else { return };
        println!("{check}");
        proxy.wait_for("echo", "check_status", "L4OK");
        drop(proxy);
        let lines = server.stop_and_read();
        assert!(lines.is_empty(), "{lines:?}");
    }
}
