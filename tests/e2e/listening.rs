//! Where the server listens, how it says so, and what it says when it cannot.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    DEADLINE, Process, Server, client_name, connect, descriptor_flags, exchange, expect_end, first_line, free_port,
    has_ipv6, needs_tcp, round_trip, run, server_command, server_command_under, skipped_over_tls,
    soft_and_hard_descriptors, start_line_port,
};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn expect_echo(server: &Server, address: IpAddr) {
    round_trip(&mut connect((address, server.port).into()), b"Are you there?");
}

fn is_refused(server: &Server, address: IpAddr) -> bool {
    TcpStream::connect_timeout(&(address, server.port).into(), DEADLINE).is_err()
}

/// A server that cannot start: one sentence on stderr that names `parts`, no start line, status 1.
fn expect_failure(command: Command, parts: &[&str]) {
    let output = run(command, Stdio::null());
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert_eq!(output.stdout, b"");
    assert!(output.stderr.starts_with("echo-server: "), "{}", output.stderr);
    assert_eq!(output.stderr.trim_end().lines().count(), 1, "{}", output.stderr);
    for part in parts {
        assert!(output.stderr.contains(part), "{part:?} is not in {:?}", output.stderr);
    }
}

#[test]
fn whoever_sees_the_start_line_can_connect() {
    for _ in 0..20 {
        let mut command = server_command(&["--port", "0"]);
        let (mut console, stdout) = std::io::pipe().expect("a pipe");
        command.stdout(stdout);
        let _server = Process::spawn(command);
        let port = start_line_port(&first_line(&mut console));
        assert_ne!(port, 0);
        TcpStream::connect((V4, port)).expect("it listens");
    }
}

#[test]
fn by_default_it_listens_on_loopback_alone() {
    let server = Server::start(&[]);
    expect_echo(&server, V4);
    if has_ipv6() {
        expect_echo(&server, V6);
    }
    assert!(is_refused(&server, Ipv4Addr::new(127, 0, 0, 2).into()), "only 127.0.0.1 itself");
    server.stop();
}

#[test]
fn all_addresses_asked_for_share_one_port() {
    let server = Server::start(&["--bind", "127.0.0.2", "-b", "127.0.0.3"]);
    expect_echo(&server, Ipv4Addr::new(127, 0, 0, 2).into());
    expect_echo(&server, Ipv4Addr::new(127, 0, 0, 3).into());
    assert!(is_refused(&server, V4), "127.0.0.1 was not asked for");
    server.stop();
}

#[test]
fn a_name_stands_for_its_addresses() {
    let server = Server::start(&["--bind", "localhost"]);
    expect_echo(&server, V4);
    server.stop();
}

#[test]
fn the_unspecified_address_opens_it_to_all() {
    let server = Server::start(&["--bind", "0.0.0.0"]);
    expect_echo(&server, V4);
    expect_echo(&server, Ipv4Addr::new(127, 1, 2, 3).into());
    server.stop();
}

#[test]
fn both_unspecified_addresses_go_together() {
    if !has_ipv6() {
        return;
    }
    for options in [&["--bind", "::", "--bind", "0.0.0.0"][..], &["--bind", "0.0.0.0", "--bind", "::"]] {
        let server = Server::start(options);
        expect_echo(&server, V4);
        expect_echo(&server, V6);
        server.stop();
    }
    let server = Server::start(&["--bind", "::"]);
    expect_echo(&server, V6);
    server.stop();
}

#[test]
fn an_address_that_cannot_be_had_is_an_error() {
    // 192.0.2.1 is reserved for documentation: no machine has it.
    expect_failure(server_command(&["--port", "0", "--bind", "192.0.2.1"]), &["192.0.2.1"]);
    expect_failure(server_command(&["--port", "0", "--bind", "127.0.0.1", "--bind", "192.0.2.1"]), &["192.0.2.1"]);
    expect_failure(server_command(&["--port", "0", "--bind", "no-such-name.invalid"]), &["no-such-name.invalid"]);
}

#[test]
fn a_port_that_is_taken_is_one_sentence_with_address_port_and_reason() {
    let addresses = if has_ipv6() { &[V4, V6][..] } else { &[V4] };
    for &address in addresses {
        let taken = TcpListener::bind((address, 0)).expect("a free port");
        let port = taken.local_addr().expect("its address").port().to_string();
        expect_failure(server_command(&["--port", &port]), &[&address.to_string(), &port, "in use"]);
    }
}

#[test]
fn two_servers_do_not_share_a_port() {
    let server = Server::start(&[]);
    let port = server.port.to_string();
    expect_failure(server_command(&["--port", &port]), &["127.0.0.1", &port, "in use"]);
    expect_echo(&server, V4);
    server.stop();
}

#[test]
fn a_port_can_be_taken_again_at_once() {
    let server = Server::start(&[]);
    let port = server.port;
    let mut client = server.connect();
    round_trip(&mut client, b"hello");
    // The side that closes first is the one whose port the system keeps back for a while.
    server.process.signal(Signal::TERM);
    expect_end(&mut client);
    drop(client);
    server.expect_stopped();
    let server = Server::launch(server_command(&["--port", &port.to_string()]));
    expect_echo(&server, V4);
    server.stop();
}

#[test]
fn the_environment_sets_port_and_addresses() {
    let port = free_port();
    let mut command = server_command(&[]);
    command.env("ECHO_PORT", port.to_string()).env("ECHO_BIND", "127.0.0.2,127.0.0.3");
    let server = Server::launch(command);
    assert_eq!(server.port, port);
    expect_echo(&server, Ipv4Addr::new(127, 0, 0, 2).into());
    expect_echo(&server, Ipv4Addr::new(127, 0, 0, 3).into());
    assert!(is_refused(&server, V4), "127.0.0.1 was not asked for");
    server.stop();
}

#[test]
fn an_option_prevails_over_the_environment() {
    let mut command = server_command(&["--port", "0", "--bind", "127.0.0.1"]);
    command.env("ECHO_PORT", "1").env("ECHO_BIND", "192.0.2.1");
    let server = Server::launch(command);
    expect_echo(&server, V4);
    server.stop();
}

#[test]
fn wrong_usage_ends_with_status_2() {
    for options in
        [&["--port", "65536"][..], &["--nonsense"], &["--max-memory", "lots"], &["--grace", "-1"], &["a word"]]
    {
        let output = run(server_command(options), Stdio::null());
        assert_eq!(output.code, Some(2), "{options:?}: {}", output.stderr);
        assert_eq!(output.stdout, b"");
        assert!(output.stderr.starts_with("error: "), "{}", output.stderr);
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    for (option, part) in [("--help", "--max-pending"), ("--version", "echo-server ")] {
        let output = run(server_command(&[option]), Stdio::null());
        assert_eq!((output.code, &*output.stderr), (Some(0), ""));
        assert!(String::from_utf8_lossy(&output.stdout).contains(part));
    }
}

/// With the usual backlog of 128 the connections behind it are not even answered: they would wait for a
/// second, then three, then seven.
#[test]
fn a_burst_of_connections_waits_in_the_backlog() {
    if skipped_over_tls("a thousand relays take too long") {
        return;
    }
    let most: usize = std::fs::read_to_string("/proc/sys/net/core/somaxconn")
        .map_or(128, |number| number.trim().parse().expect("a number"));
    let server = Server::start(&["--quiet"]);
    server.process.signal(Signal::STOP);
    let burst: Vec<TcpStream> = (0..most.min(1_500)).map(|_| server.connect()).collect();
    server.process.signal(Signal::CONT);
    for mut stream in burst {
        stream.shutdown(Shutdown::Write).expect("half-closed");
        expect_end(&mut stream);
    }
    server.stop();
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let wrapper = ["sh", "-c", r#"ulimit -Sn 64; ulimit -Hn 128; exec "$0" "$@""#];
    let server = Server::launch(server_command_under(&wrapper, &["--port", "0"]));
    assert_eq!(soft_and_hard_descriptors(server.process.pid()), (128, 128));
    server.stop();
}

#[test]
fn no_descriptor_is_inherited_by_programs() {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let server = Server::start(&[]);
    let mut client = server.connect();
    round_trip(&mut client, b"hello");
    let mut own = descriptor_flags(server.process.pid());
    own.retain(|(descriptor, _)| *descriptor > 2);
    assert!(own.len() >= 3, "a poll, a listener and a connection at least: {own:?}");
    for (descriptor, flags) in own {
        assert_ne!(flags & CLOSE_ON_EXEC, 0, "descriptor {descriptor}");
    }
    server.stop();
}

/// The system's table of connections tells which timer runs for each: the one of keepalive is the only one
/// for an idle connection, and it is due after two hours unless the program says otherwise.
#[test]
fn idle_connections_are_probed_after_a_minute() {
    if needs_tcp() {
        return;
    }
    let server = Server::start(&[]);
    let mut client = server.connect();
    round_trip(&mut client, b"hello");
    let address = client_name(&client).parse().expect("its address");
    // Until the echo is acknowledged, the timer is another one.
    let begin = Instant::now();
    let due = std::iter::repeat_with(|| keepalive_due(server.address(), address))
        .find(|due| due.is_some() || begin.elapsed() > DEADLINE)
        .flatten()
        .expect("a timer");
    assert!(due > Duration::from_secs(30) && due <= Duration::from_secs(60), "{due:?}");
    server.stop();
}

/// When the keepalive timer of the server's end is due, from /proc/net/tcp.
fn keepalive_due(server: SocketAddr, client: SocketAddr) -> Option<Duration> {
    let hex = |address: SocketAddr| format!("0100007F:{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("procfs");
    let (server, client) = (hex(server), hex(client));
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row[1] == server && row[2] == client).expect("the connection");
    let hundredths = row[5].strip_prefix("02:")?;
    Some(Duration::from_millis(10 * u64::from_str_radix(hundredths, 16).expect("hexadecimal digits")))
}

/// How many connections the server has had.
fn connections(server: &Server) -> usize {
    server.process.signal(Signal::USR1);
    let total = |line: &String| line.split_once(" now, ")?.1.split_once(" in total")?.0.parse().ok();
    server.console.wait_until(|lines| lines.iter().find_map(total))
}

#[test]
fn processes_that_share_a_port_share_its_connections() {
    const CONNECTIONS: usize = 1000;
    if needs_tcp() {
        return;
    }
    let first = Server::start(&["--quiet", "--reuse-port"]);
    let port = first.port.to_string();
    let second = Server::launch(server_command(&["--quiet", "--reuse-port", "--port", &port]));
    for number in 0..CONNECTIONS {
        let message = number.to_string();
        assert_eq!(exchange(first.connect(), message.as_bytes()), message.as_bytes());
    }
    let shares = [&first, &second].map(connections);
    println!("{shares:?} of {CONNECTIONS} connections");
    assert_eq!(shares.iter().sum::<usize>(), CONNECTIONS);
    // By chance alone, one that gets less than this does not happen in the life of the universe.
    assert!(shares.iter().all(|share| *share > CONNECTIONS / 3), "{shares:?}");
    second.stop();
    round_trip(&mut first.connect(), b"hello");
    first.stop();
}
