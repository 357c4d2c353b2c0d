//! A running echo-server, and the command line of echo-client.

use std::ffi::OsStr;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use super::{
    DEADLINE, Lines, Process, clean_command, connect, is_listening, messages, start_line_port, stop_line_port,
    transport,
};

/// A wrapper for [`server_command_under`]: at most 64 descriptors, which the server cannot raise.
pub(crate) const LIMITED: &[&str] = &["sh", "-c", r#"ulimit -n 64; exec "$0" "$@""#];

/// A server that listens, on a port that the system picked unless the command said otherwise.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) port: u16,
    pub(crate) console: Lines,
}

impl Server {
    /// Starts a server with these options besides `--port 0`.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::launch(server_command(&[&["--port", "0"], options].concat()))
    }

    pub(crate) fn launch(mut command: Command) -> Self {
        command.stdout(Stdio::piped());
        let mut process = Process::spawn(command);
        let stdout = process.take_stdout();
        Self::watch(process, stdout)
    }

    /// Takes over a server just started whose standard output arrives at `console`.
    pub(crate) fn watch(process: Process, console: impl Read + Send + 'static) -> Self {
        let console = Lines::of(console);
        let port = console.wait_until(|lines| lines.first().map(|line| start_line_port(line)));
        Self { process, port, console }
    }

    /// Starts a server whose console cannot tell when it listens, and tries until it does.
    pub(crate) fn start_blind(wrapper: &[&str], stdout: impl Into<Stdio>) -> Self {
        let port = free_port();
        let mut command = server_command_under(wrapper, &["--port", &port.to_string()]);
        command.stdout(stdout);
        let process = Process::spawn(command);
        wait_until_listening_is(true, port);
        Self { process, port, console: Lines::of(std::io::empty()) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where it answers health checks, if it was started with `--admin`.
    pub(crate) fn admin(&self) -> SocketAddr {
        let line = self.console.wait_until(|lines| lines.get(1).cloned());
        let (_, address) = line.split_once("] Answering health checks on ").expect("the line of the address");
        address.parse().expect("an address")
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address())
    }

    /// The texts of the first `count` messages, as soon as so many have been logged.
    pub(crate) fn first_messages(&self, count: usize) -> Vec<String> {
        self.console.wait_until(|lines| (lines.len() > count).then(|| messages(&lines[1..=count])))
    }

    /// Waits until so many lines have followed the start line.
    pub(crate) fn wait_for_lines(&self, count: usize) {
        self.console.wait_until(|lines| (lines.len() > count).then_some(()));
    }

    /// Waits until a stopping server no longer listens: from here on it is waiting for its clients.
    pub(crate) fn wait_until_it_refuses(&self) {
        wait_until_listening_is(false, self.port);
    }

    /// Asks for the counters. Returns how many clients are connected, and how many bytes are held for all of them.
    pub(crate) fn connections_and_bytes_held(&self) -> (usize, usize) {
        let counters = |lines: &[String]| -> Vec<String> {
            lines.iter().filter_map(|line| Some(line.split_once("] Connections: ")?.1.to_owned())).collect()
        };
        let before = self.console.wait_until(|lines| Some(counters(lines).len()));
        self.process.signal(Signal::USR1);
        let line = self.console.wait_until(|lines| counters(lines).get(before).cloned());
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).expect("a number");
        let (rest, _) = line.split_once(" held").expect("the bytes held");
        (number(line.split(' ').next()), number(rest.rsplit(' ').next()))
    }

    /// Stops the server with SIGTERM.
    pub(crate) fn stop(self) {
        self.stop_by(Signal::TERM);
    }

    /// Stops the server with SIGTERM; returns the texts of all it has logged, which must be whole messages.
    pub(crate) fn stop_and_read(self) -> Vec<String> {
        messages(&self.stop_by(Signal::TERM))
    }

    /// Stops the server with `signal`; returns the lines between the start line and the stop line.
    pub(crate) fn stop_by(self, signal: Signal) -> Vec<String> {
        self.process.signal(signal);
        self.expect_stopped()
    }

    /// Waits for the end of a server that was told to stop, and checks that it is as promised: status 0,
    /// nothing on stderr, the stop line last. Returns the lines between the start line and the stop line.
    pub(crate) fn expect_stopped(self) -> Vec<String> {
        let (status, stderr) = self.process.wait();
        assert_eq!(stderr, "");
        assert_eq!(status.code(), Some(0));
        let mut lines = self.console.all();
        let last = lines.pop().expect("a line");
        assert_eq!(stop_line_port(&last), self.port);
        assert_eq!(start_line_port(&lines.remove(0)), self.port);
        lines
    }
}

/// The server with exactly these options.
pub(crate) fn server_command(options: &[&str]) -> Command {
    server_command_under(&[], options)
}

/// The server, run by a program that replaces itself by it.
pub(crate) fn server_command_under(wrapper: &[&str], options: &[&str]) -> Command {
    let line = [wrapper, &[env!("CARGO_BIN_EXE_echo-server")]].concat();
    let mut command = clean_command(line[0]);
    command.args(&line[1..]).args(transport::server_options(options));
    command
}

/// The client, talking to 127.0.0.1.
pub(crate) fn client(port: u16, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = clean_command(env!("CARGO_BIN_EXE_echo-client"));
    command.args(transport::client_options(port)).args(arguments);
    command
}

/// Looks until somebody listens on the port, or nobody does. (To try connecting would not do: where nobody
/// listens, a socket may connect to itself.)
fn wait_until_listening_is(expected: bool, port: u16) {
    let begin = Instant::now();
    while is_listening(port) != expected {
        assert!(begin.elapsed() < DEADLINE, "whether it listens is still {}", !expected);
        std::thread::yield_now();
    }
}

/// A port on which nobody listens, and that neither the system nor this process gives to anybody else: it is below those
/// that the system picks.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(61).wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (number % 20_000) as u16;
        // It must not listen: a program that another test starts meanwhile may have it for a moment.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("set");
        if socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).is_ok() {
            return port;
        }
    }
}
