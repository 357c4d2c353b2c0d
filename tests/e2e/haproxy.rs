//! The server behind HAProxy, as people run it.

use std::net::TcpStream;

use rustix::process::Signal;

use crate::harness::{HaProxy, Server, round_trip};

/// What the README shows, with these servers.
fn checked(servers: &[&Server]) -> String {
    let mut backend =
        "  option httpchk\n  http-check send meth GET uri /readyz\n  http-check disable-on-404\n".to_owned();
    for (number, server) in servers.iter().enumerate() {
        let (port, admin) = (server.port, server.admin().port());
        backend += &format!("  server echo{number} 127.0.0.1:{port} check port {admin} inter 50ms\n");
    }
    backend
}

#[test]
fn a_draining_server_gets_no_new_connections_and_keeps_the_old_ones() {
    let options = ["--admin", "0", "--drain", "20s"];
    let servers = [Server::start(&options), Server::start(&options)];
    let Some(proxy) = HaProxy::start(&checked(&[&servers[0], &servers[1]])) else { return };
    for name in ["echo0", "echo1"] {
        proxy.wait_for(name, "UP");
    }
    let mut old: Vec<TcpStream> = (0..8).map(|_| proxy.connect()).collect();
    old.iter_mut().for_each(|stream| round_trip(stream, b"old"));
    let [leaving, staying] = servers;
    leaving.process.signal(Signal::TERM);
    proxy.wait_for("echo0", "NOLB");
    let mut new: Vec<TcpStream> = (0..8).map(|_| proxy.connect()).collect();
    new.iter_mut().for_each(|stream| round_trip(stream, b"new"));
    old.iter_mut().for_each(|stream| round_trip(stream, b"old"));
    let (left, stayed) = (leaving.stop_by(Signal::TERM), staying.stop_by(Signal::INT));
    let count = |lines: &[String], text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!((count(&left, "'old'"), count(&left, "'new'")), (8, 0));
    assert_eq!((count(&stayed, "'old'"), count(&stayed, "'new'")), (8, 8));
}
