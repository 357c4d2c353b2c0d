//! Servers that are restarted while clients keep coming.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use fastrand::Rng;
use rustix::process::Signal;

use crate::harness::{DEADLINE, HaProxy, Server, expect_end, free_port, round_trip, server_command};
use crate::measure::{alone, seed};

/// How many connections there are at least.
const CONNECTIONS: usize = 100_000;
/// How often one of the servers is restarted, by turns.
const RESTARTS: usize = 10;
/// How many clients come at the same time.
const AT_A_TIME: usize = 16;
/// How many others are silent while a server is restarted.
const SILENT: usize = 8;

/// A server that HAProxy knows, on ports that stay the same.
struct Node {
    name: &'static str,
    port: u16,
    admin: u16,
    server: Option<Server>,
}

impl Node {
    fn new(name: &'static str) -> Self {
        let mut node = Self { name, port: free_port(), admin: free_port(), server: None };
        node.start();
        node
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn start(&mut self) {
        let (port, admin) = (self.port.to_string(), self.admin.to_string());
        let options = ["--quiet", "--port", &port, "--admin", &admin, "--drain", "1s", "--proxy-from", "127.0.0.1"];
        self.server = Some(Server::launch(server_command(&options)));
    }

    /// Tells it to stop, and waits until it has.
    fn drain(&mut self) {
        let lines = self.server.take().expect("it runs").stop_by(Signal::TERM);
        assert_eq!(lines.len(), 2, "{lines:?}");
    }

    /// How HAProxy is told of it.
    fn line(&self) -> String {
        let Self { name, port, admin, .. } = self;
        format!("  server {name} 127.0.0.1:{port} send-proxy-v2 check port {admin} inter 50ms\n")
    }
}

/// A connection that says something, half-closes, and expects it back before the end.
fn visit(address: SocketAddr, rng: &mut Rng) -> io::Result<()> {
    let mut message = vec![0; rng.usize(1..2000)];
    rng.fill(&mut message);
    let mut stream = connect(address)?;
    stream.write_all(&message)?;
    stream.shutdown(Shutdown::Write)?;
    let mut echo = Vec::with_capacity(message.len());
    stream.read_to_end(&mut echo)?;
    if echo == message { Ok(()) } else { Err(io::Error::other(format!("{} of {} bytes", echo.len(), message.len()))) }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Two servers behind HAProxy, which tries each connection only once.
#[test]
#[ignore = "takes 15 s"]
fn no_client_notices_that_servers_behind_a_balancer_are_restarted() {
    let _alone = alone();
    let nodes = ["one", "two"].map(Node::new);
    let backend = format!(
        "  retries 0\n  option httpchk\n  http-check send meth GET uri /readyz\n  http-check disable-on-404\n{}{}",
        nodes[0].line(),
        nodes[1].line()
    );
    let Some(proxy) = HaProxy::start(&backend) else { return };
    let (address, seed, begin) = (proxy.address(), seed(), Instant::now());
    let (is_over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let storm = |number: usize| {
        let mut rng = Rng::with_seed(seed ^ number as u64);
        let mut failures = Vec::new();
        while !is_over.load(Ordering::Relaxed) || count.load(Ordering::Relaxed) < CONNECTIONS {
            count.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = visit(address, &mut rng) {
                failures.push(format!("after {:?}: {error}", begin.elapsed()));
            }
        }
        failures
    };
    let storm = &storm;
    let failures: Vec<String> = thread::scope(|scope| {
        let clients: Vec<_> = (0..AT_A_TIME).map(|number| scope.spawn(move || storm(number))).collect();
        let mut nodes = nodes;
        let restarts = scope.spawn(move || {
            (0..RESTARTS).for_each(|number| restart(&mut nodes[number % 2], &proxy));
            (nodes, proxy)
        });
        // Whether or not that has failed, the clients end.
        let outcome = restarts.join();
        is_over.store(true, Ordering::Relaxed);
        let failures = clients.into_iter().flat_map(|client| client.join().expect("it does not panic")).collect();
        outcome.expect("the servers are restarted").0.iter_mut().for_each(Node::drain);
        failures
    });
    let (count, took) = (count.load(Ordering::Relaxed), begin.elapsed());
    println!("restarts: {count} connections, {RESTARTS} restarts, {} failures, in {took:.1?}", failures.len());
    assert!(failures.is_empty(), "{:#?}", &failures[..failures.len().min(10)]);
}

/// Restarts a server, beside connections to it that say nothing meanwhile: they end in order.
fn restart(node: &mut Node, proxy: &HaProxy) {
    let mut silent: Vec<TcpStream> = (0..SILENT).map(|_| connect(node.address()).expect("connected")).collect();
    for stream in &mut silent {
        stream.write_all(b"PROXY UNKNOWN\r\n").expect("sent");
        round_trip(stream, b"hello");
    }
    node.drain();
    silent.iter_mut().for_each(expect_end);
    node.start();
    proxy.wait_for(node.name, "status", "UP");
}
