//! Sockets that somebody else has opened for the server: systemd's socket activation.

use std::fs::File;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, SockRef, Socket, Type};

use crate::harness::{
    DEADLINE, Lines, Output, Process, Server, accept_in_time, assert_same, clean_command, connect, connect_from,
    exchange, free_port, has, is_listening, listener, random_bytes, rng, round_trip, scratch_file, server_command,
    start_line_port, stop_line_port,
};

const ACTIVATE: &str = "systemd-socket-activate";

/// The program that hands over sockets, with those that it is to open.
fn activate(addresses: &[&str]) -> Command {
    let mut command = clean_command(ACTIVATE);
    for address in addresses {
        command.args(["--listen", address]);
    }
    command
}

/// Starts servers one after the other on the same sockets, as a service manager does, and prints the number of each.
const RESTART: &str = r#"
while true; do
    sh -c 'echo "pid $$"; LISTEN_PID=$$ exec "$0" --quiet --grace 5s' "$0"
done
"#;

fn wait_until_listening(port: u16) {
    while !is_listening(port) {
        thread::yield_now();
    }
}

/// One echo, from connecting to the end. The first bytes come late, as over a network, from every fourth client.
fn echo_once(address: SocketAddr, source: u8, message: &[u8]) {
    let stream = connect_from(source, address, None).unwrap_or_else(|error| panic!("not connected: {error}"));
    if source.is_multiple_of(4) {
        thread::sleep(Duration::from_millis(2));
    }
    assert_same(&exchange(stream, message), message);
}

/// A service that starts again whenever it ends.
struct Service {
    manager: Process,
    console: Lines,
}

impl Service {
    fn start(port: u16) -> Self {
        let mut command = activate(&[&format!("127.0.0.1:{port}")]);
        command.args(["sh", "-c", RESTART, env!("CARGO_BIN_EXE_echo-server")]).stdout(Stdio::piped());
        let mut manager = Process::spawn(command);
        let console = Lines::of(manager.take_stdout());
        wait_until_listening(port);
        Self { manager, console }
    }

    /// Stops the server that was started as the `nth`.
    fn stop(&self, nth: usize) {
        let pid = self.console.wait_until(|lines| nth_pid(lines, nth));
        kill_process(pid, Signal::TERM).expect("it runs");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Unless it has ended, it starts no other server from here on.
        self.manager.suspend();
        let last = self.console.wait_until(|lines| Some((1..).map_while(|nth| nth_pid(lines, nth)).last()));
        _ = last.map(|pid| kill_process(pid, Signal::KILL));
    }
}

/// Lets `clients` connect as fast as they can, `connections` in all, and stops the server `restarts` times meanwhile.
fn storm(connections: usize, restarts: usize, clients: u8) {
    if !has(ACTIVATE) {
        return;
    }
    let port = free_port();
    let service = Service::start(port);
    let address = ([127, 0, 0, 1], port).into();
    let content = random_bytes(&mut rng(), 1000);
    let (done, begin) = (AtomicUsize::new(0), Instant::now());
    thread::scope(|scope| {
        for source in 1..=clients {
            let (done, content) = (&done, &content);
            scope.spawn(move || {
                while done.fetch_add(1, Ordering::Relaxed) < connections {
                    echo_once(address, source, &content[..10 * usize::from(source)]);
                }
            });
        }
        for restart in 1..=restarts {
            while done.load(Ordering::Relaxed) < connections * restart / (restarts + 1) {
                assert!(begin.elapsed() < 6 * DEADLINE, "the clients are stuck");
                thread::yield_now();
            }
            service.stop(restart);
        }
    });
}

/// The number of the server that was started as the `nth`, once it has begun.
fn nth_pid(lines: &[String], nth: usize) -> Option<Pid> {
    let mut pids = lines.iter().filter_map(|line| line.strip_prefix("pid ")?.parse().ok());
    pids.nth(nth - 1).and_then(Pid::from_raw)
}

#[test]
fn no_connection_is_lost_when_the_server_is_restarted() {
    storm(2_000, 4, 8);
}

#[test]
#[ignore = "takes long"]
fn no_connection_of_many_is_lost_when_the_server_is_restarted() {
    storm(20_000, 10, 50);
}

#[test]
fn sockets_of_both_kinds_are_handed_over() {
    if !has(ACTIVATE) {
        return;
    }
    let (port, path) = (free_port(), scratch_file("activated.sock"));
    let mut command = activate(&[&format!("127.0.0.1:{port}"), &path.display().to_string()]);
    command.args([env!("CARGO_BIN_EXE_echo-server"), "--bind", "unix:@not-this-one"]).stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let console = Lines::of(process.take_stdout());
    wait_until_listening(port);
    // The first connection starts the server, and is its first client.
    assert_same(&exchange(connect(([127, 0, 0, 1], port).into()), b"by TCP"), b"by TCP");
    let mut stream = UnixStream::connect(&path).expect("connected");
    stream.write_all(b"by a Unix socket").expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(std::io::read_to_string(stream).expect("the echo"), "by a Unix socket");
    process.signal(Signal::TERM);
    let (status, stderr) = process.wait();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(stderr.ends_with("echo-server: --bind and --port have no effect: the sockets are inherited\n"), "{stderr}");
    let lines = console.all();
    assert_eq!(start_line_port(&lines[0]), port);
    assert_eq!(stop_line_port(lines.last().expect("a line")), port);
    // It is not the server's.
    std::fs::remove_file(path).expect("the file is there");
}

/// A server with these options that inherits `socket`, and what the environment says of it. The shell replaces itself by
/// the server, so `$$` is the server.
fn inheriting(socket: impl Into<OwnedFd>, environment: &str, options: &[&str]) -> Command {
    let script = format!(r#"export {environment}; exec "$0" "$@" 3<&0 </dev/null"#);
    let mut command = clean_command("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_echo-server")]).args(options).stdin(socket.into());
    command
}

const OURS: &str = "LISTEN_FDS=1 LISTEN_PID=$$";

#[test]
fn an_inherited_socket_gets_the_options_and_keeps_its_queue() {
    let (listener, port) = listener();
    let waiting = connect(([127, 0, 0, 1], port).into());
    let inherited = listener.try_clone().expect("a descriptor");
    let server = Server::launch(inheriting(inherited, OURS, &["--chat"]));
    assert_eq!(server.port, port);
    let socket = SockRef::from(&listener);
    assert!(socket.tcp_nodelay().expect("an option"));
    assert!(socket.keepalive().expect("an option"));
    assert!(socket.out_of_band_inline().expect("an option"));
    assert_eq!(socket.tcp_notsent_lowat().expect("an option"), 128 << 10);
    assert!(fcntl_getfl(&listener).expect("flags").contains(OFlags::NONBLOCK));
    drop(waiting);
    server.stop();
    // What comes now waits for the next server.
    let mut next = connect(([127, 0, 0, 1], port).into());
    let server = Server::launch(inheriting(listener, OURS, &[]));
    round_trip(&mut next, b"hello");
    drop(next);
    server.stop();
}

#[test]
fn an_inherited_unix_socket_alone_has_port_0() {
    let path = scratch_file("inherited.sock");
    let server = Server::launch(inheriting(UnixListener::bind(&path).expect("bound"), OURS, &["--quiet"]));
    assert_eq!(server.port, 0);
    let mut stream = UnixStream::connect(&path).expect("connected");
    stream.write_all(b"hello").expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(std::io::read_to_string(stream).expect("the echo"), "hello");
    server.stop();
    std::fs::remove_file(path).expect("the file is not the server's");
}

#[test]
fn what_is_no_listening_stream_socket_is_refused() {
    let (listener, port) = listener();
    let connected = connect(([127, 0, 0, 1], port).into());
    let _accepted = accept_in_time(&listener);
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let file = File::open("/dev/null").expect("a file");
    let kinds: [(OwnedFd, &str); 5] = [
        (UdpSocket::bind("127.0.0.1:0").expect("bound").into(), "it is not a stream socket of TCP or Unix"),
        (UnixDatagram::unbound().expect("a socket").into(), "it is not a stream socket of TCP or Unix"),
        (file.into(), "it is not a stream socket of TCP or Unix"),
        (connected.into(), "it does not listen (systemd needs Accept=no)"),
        (bound.into(), "it does not listen (systemd needs Accept=no)"),
    ];
    for (socket, reason) in kinds {
        let Output { code, stderr, stdout } = finish(inheriting(socket, OURS, &[]));
        assert_eq!(stderr, format!("echo-server: cannot use inherited socket 1 of 1: {reason}\n"));
        assert_eq!((code, &*stdout), (Some(1), &b""[..]));
    }
}

/// Runs a command whose standard input is set to its end.
fn finish(mut command: Command) -> Output {
    command.stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let stdout = Lines::of(process.take_stdout());
    let (status, stderr) = process.wait();
    Output { code: status.code(), stdout: stdout.all().concat().into_bytes(), stderr }
}

#[test]
fn numbers_of_sockets_that_cannot_be_are_refused() {
    for (count, reason) in [
        ("many", "LISTEN_FDS is many, which is not a number of sockets"),
        ("-1", "LISTEN_FDS is -1, which is not a number of sockets"),
        ("2147483647", "LISTEN_FDS is 2147483647, which is not a number of sockets"),
        ("2", "cannot use inherited socket 2 of 2: it is not a stream socket of TCP or Unix"),
    ] {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let output = finish(inheriting(socket, &format!("LISTEN_FDS={count} LISTEN_PID=$$"), &[]));
        assert_eq!((output.code, output.stderr), (Some(1), format!("echo-server: {reason}\n")));
    }
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let (listener, port) = listener();
    for environment in ["LISTEN_FDS=1 LISTEN_PID=1", "LISTEN_FDS=0 LISTEN_PID=$$"] {
        let socket = listener.try_clone().expect("a descriptor");
        let server = Server::launch(inheriting(socket, environment, &["--port", "0"]));
        assert_ne!(server.port, port);
        round_trip(&mut server.connect(), b"hello");
        server.stop();
    }
}

#[test]
fn the_service_manager_is_told_when_it_is_ready_and_when_it_stops() {
    let path = scratch_file("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("bound");
    manager.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let next = || {
        let mut buffer = [0; 100];
        let length = manager.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut command = server_command(&["--port", "0"]);
    command.env("NOTIFY_SOCKET", &path);
    let server = Server::launch(command);
    assert_eq!(next(), "READY=1");
    let mut stream = server.connect();
    round_trip(&mut stream, b"hello");
    drop(stream);
    server.process.signal(Signal::TERM);
    assert_eq!(next(), "STOPPING=1");
    server.expect_stopped();
    std::fs::remove_file(&path).expect("the file");
}

#[test]
fn a_service_manager_with_an_abstract_socket_is_told_too() {
    let name = format!("echo-notify-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("an address");
    let manager = UnixDatagram::bind_addr(&address).expect("bound");
    manager.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut command = server_command(&["--port", "0"]);
    command.env("NOTIFY_SOCKET", format!("@{name}"));
    let server = Server::launch(command);
    let mut buffer = [0; 100];
    let length = manager.recv(&mut buffer).expect("told in time");
    assert_eq!(&buffer[..length], b"READY=1");
    server.stop();
}

#[test]
fn a_service_manager_that_does_not_read_or_is_gone_holds_nothing_up() {
    let path = scratch_file("notify-full.sock");
    let manager = UnixDatagram::bind(&path).expect("bound");
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("non-blocking");
    while filler.send_to(b"x", &path).is_ok() {}
    let start = || {
        let mut command = server_command(&["--port", "0"]);
        command.env("NOTIFY_SOCKET", &path);
        Server::launch(command)
    };
    let stop = |server: Server, reason: &str| {
        round_trip(&mut server.connect(), b"hello");
        server.process.signal(Signal::TERM);
        let (status, stderr) = server.process.wait();
        let at = path.display();
        let line = |state| format!("echo-server: cannot send {state} to the service manager at {at}: {reason}\n");
        assert_eq!((status.code(), stderr), (Some(0), line("READY=1") + &line("STOPPING=1")));
    };
    stop(start(), "Resource temporarily unavailable");
    drop(manager);
    stop(start(), "Connection refused");
    std::fs::remove_file(&path).expect("the file");
}
