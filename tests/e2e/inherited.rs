//! Sockets that somebody else has opened for the server: systemd's socket activation.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{
    Lines, Output, Process, assert_same, clean_command, connect, connect_from, exchange, expect_end, feed, free_port,
    has, is_listening, random_bytes, rng, run, scratch_file, server_command, stop_line_port,
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

/// One echo, from connecting to the end.
fn echo_once(address: std::net::SocketAddr, source: u8, message: &[u8]) {
    let stream = connect_from(source, address, None).unwrap_or_else(|error| panic!("not connected: {error}"));
    assert_same(&exchange(stream, message), message);
}

/// Lets `clients` connect as fast as they can, `connections` in all, and stops the server `restarts` times meanwhile.
fn storm(connections: usize, restarts: usize, clients: u8) {
    if !has(ACTIVATE) {
        return;
    }
    let port = free_port();
    let mut command = activate(&[&format!("127.0.0.1:{port}")]);
    command.args(["sh", "-c", RESTART, env!("CARGO_BIN_EXE_echo-server")]).stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let console = Lines::of(process.take_stdout());
    wait_until_listening(port);

    let address = ([127, 0, 0, 1], port).into();
    let content = random_bytes(&mut rng(), 1000);
    let done = AtomicUsize::new(0);
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
            let pid = console.wait_until(|lines| nth_pid(lines, restart));
            while done.load(Ordering::Relaxed) < connections * restart / (restarts + 1) {
                thread::yield_now();
            }
            kill_process(pid, Signal::TERM).expect("it runs");
        }
    });
    let last = console.wait_until(|lines| nth_pid(lines, restarts + 1));
    drop(process);
    _ = kill_process(last, Signal::KILL);
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
