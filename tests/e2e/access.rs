//! Who is served: how many at once, how many of one address, and whom the rules let in.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::harness::{
    DEADLINE, LIMITED, Server, clean_command, connect, cpu_time, expect_end, has_ipv6, needs_tcp, parse_time, reset,
    round_trip, run, server_command, server_command_under, skipped_over_tls,
};

/// A client with a source address of its own; on Linux all of 127.0.0.0/8 is this machine.
fn connect_from(source: &str, address: SocketAddr) -> TcpStream {
    let source = SocketAddr::new(source.parse().expect("an address"), 0);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.bind(&source.into()).expect("an address of this machine");
    socket.connect_timeout(&address.into(), DEADLINE).expect("connected");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream
}

fn expect_served(stream: &mut TcpStream) {
    round_trip(stream, b"Am I served?");
}

/// Expects a connection that is closed on arrival, with or without a reset.
fn expect_refused(mut stream: TcpStream) {
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        outcome => panic!("not closed: {outcome:?}"),
    }
}

/// Leaves in order: when this returns, the server has closed its side too.
fn leave(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).expect("half-closed");
    expect_end(&mut stream);
}

fn has_input(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("non-blocking");
    let outcome = stream.peek(&mut [0]);
    stream.set_nonblocking(false).expect("blocking");
    outcome.is_ok()
}

#[test]
fn above_the_limit_clients_wait_at_no_cost_and_are_served_in_turn() {
    const LIMIT: usize = 4;
    let server = Server::start(&["--quiet", "--max-connections", "4"]);
    let mut clients: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    for (number, stream) in clients.iter_mut().enumerate() {
        stream.write_all(&[number as u8]).expect("sent");
    }
    let expect_echo = |stream: &mut TcpStream, number: usize| {
        let mut echo = [0];
        stream.read_exact(&mut echo).expect("the echo");
        assert_eq!(usize::from(echo[0]), number);
    };
    for (number, stream) in clients[..LIMIT].iter_mut().enumerate() {
        expect_echo(stream, number);
    }
    let before = cpu_time(server.process.pid());
    clients[LIMIT].set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    clients[LIMIT].read(&mut [0]).expect_err("it has to wait");
    let spent = cpu_time(server.process.pid()) - before;
    assert!(spent < Duration::from_millis(100), "waiting took {spent:?} of processor time in a second");
    clients[LIMIT].set_read_timeout(Some(DEADLINE)).expect("a timeout");

    for number in LIMIT..40 {
        leave(clients.remove(0));
        let (served, waiting) = clients.split_at_mut(LIMIT);
        expect_echo(&mut served[LIMIT - 1], number);
        expect_served(&mut served[LIMIT - 1]);
        assert!(!waiting.iter().any(has_input), "one came before its turn");
    }
    clients.into_iter().for_each(leave);
    server.stop();
}

/// However many wait at one address, those of another have their turn.
#[test]
fn addresses_are_served_by_turns() {
    let server = Server::start(&["--quiet", "--max-connections", "1", "--bind", "127.0.0.1", "--bind", "127.0.0.2"]);
    let mut first = server.connect();
    expect_served(&mut first);
    let waiting: Vec<TcpStream> = (0..10).map(|_| server.connect()).collect();
    let mut other = connect(([127, 0, 0, 2], server.port).into());
    other.write_all(b"x").expect("sent");
    leave(first);
    // One of the many may have been before it, and leaves at once.
    waiting[..2].iter().for_each(|stream| stream.shutdown(Shutdown::Write).expect("half-closed"));
    other.read_exact(&mut [0]).expect("the echo");
    server.stop_by(Signal::TERM);
}

#[test]
fn clients_that_give_up_while_they_wait_keep_nobodys_place() {
    let server = Server::start(&["--quiet", "--max-connections", "1"]);
    let mut first = server.connect();
    expect_served(&mut first);
    let mut waiting: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    let mut last = server.connect();
    last.write_all(b"x").expect("sent");
    waiting.split_off(10).into_iter().for_each(reset);
    drop(waiting);
    leave(first);
    last.read_exact(&mut [0]).expect("the echo");
    expect_served(&mut last);
    server.stop();
}

#[test]
fn the_server_keeps_sixteen_descriptors_for_itself() {
    let server = Server::launch(server_command_under(LIMITED, &["--port", "0"]));
    let mut clients: Vec<TcpStream> = (0..60).map(|_| server.connect()).collect();
    clients[..48].iter_mut().for_each(expect_served);
    clients[48].write_all(b"?").expect("sent");
    server.wait_for_lines(48);
    server.process.signal(Signal::USR1);
    let line = server.console.wait_until(|lines| lines.get(49).cloned());
    assert!(line.contains("Connections: 48 now, 48 in total, 0 refused; "), "{line}");
    assert!(!has_input(&clients[48]), "the 49th is served");
    leave(clients.remove(0));
    clients[47].read_exact(&mut [0]).expect("the echo of the 49th");
    server.stop_by(Signal::TERM);
}

#[test]
fn those_of_many_addresses_come_on_top() {
    if needs_tcp() {
        return;
    }
    let addresses: Vec<String> = (1..=20).map(|last| format!("--bind=127.0.0.{last}")).collect();
    let mut options = vec!["--port", "0", "--quiet"];
    options.extend(addresses.iter().map(String::as_str));
    let server = Server::launch(server_command_under(LIMITED, &options));
    let mut clients: Vec<TcpStream> = (0..33).map(|_| server.connect()).collect();
    clients[..32].iter_mut().for_each(expect_served);
    clients[32].write_all(b"?").expect("sent");
    server.process.signal(Signal::USR1);
    let line = server.console.wait_until(|lines| lines.get(1).cloned());
    assert!(line.contains("Connections: 32 now, 32 in total, 0 refused; "), "{line}");
    leave(clients.remove(0));
    clients[31].read_exact(&mut [0]).expect("the echo of the 33rd");
    server.stop_by(Signal::TERM);
}

#[test]
fn however_few_descriptors_there_are_one_client_is_served() {
    let wrapper = ["sh", "-c", r#"ulimit -n 16; exec "$0" "$@""#];
    let server = Server::launch(server_command_under(&wrapper, &["--port", "0"]));
    let (mut first, mut second) = (server.connect(), server.connect());
    second.write_all(b"x").expect("sent");
    expect_served(&mut first);
    assert!(!has_input(&second));
    leave(first);
    second.read_exact(&mut [0]).expect("the echo");
    server.stop();
}

#[test]
fn one_address_has_so_many_connections_and_gets_new_ones_when_others_leave() {
    if skipped_over_tls("its clients have addresses of their own, and no relay") {
        return;
    }
    let server = Server::start(&["--quiet", "--max-per-ip", "2"]);
    let from = |source| connect_from(source, server.address());
    for _ in 0..3 {
        let (mut one, mut two) = (from("127.0.0.1"), from("127.0.0.1"));
        expect_served(&mut one);
        expect_served(&mut two);
        (0..10).for_each(|_| expect_refused(from("127.0.0.1")));
        let (mut other, mut another) = (from("127.0.0.2"), from("127.0.0.2"));
        expect_served(&mut other);
        expect_served(&mut another);
        expect_refused(from("127.0.0.2"));
        leave(one);
        let mut three = from("127.0.0.1");
        expect_served(&mut three);
        expect_refused(from("127.0.0.1"));
        [two, three, other, another].into_iter().for_each(leave);
    }
    // Those who are cut off leave too.
    let mut lost: Vec<TcpStream> = (0..2).map(|_| from("127.0.0.1")).collect();
    lost.iter_mut().for_each(expect_served);
    lost.into_iter().for_each(reset);
    let begin = Instant::now();
    let is_served = |mut stream: TcpStream| stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok();
    while !is_served(from("127.0.0.1")) {
        assert!(begin.elapsed() < DEADLINE, "connections that were reset still count");
    }
    server.stop_by(Signal::TERM);
}

#[test]
fn the_more_specific_rule_wins_and_a_denial_on_a_tie() {
    if skipped_over_tls("its clients have addresses of their own, and no relay") {
        return;
    }
    for (options, allowed, denied) in [
        (&["--deny", "127.0.0.2"][..], &["127.0.0.1", "127.0.0.3"][..], &["127.0.0.2"][..]),
        (&["--allow", "127.0.0.0/8", "--deny", "127.0.0.2"], &["127.0.0.1"], &["127.0.0.2"]),
        (&["--allow", "127.0.0.2", "--deny", "127.0.0.0/8"], &["127.0.0.2"], &["127.0.0.1", "127.0.0.3"]),
        (&["--allow", "127.0.0.2"], &["127.0.0.2"], &["127.0.0.1"]),
        (&["--allow", "127.0.0.2", "--allow", "127.0.0.4/31"], &["127.0.0.4", "127.0.0.5"], &["127.0.0.6"]),
        (&["--allow", "127.0.0.2/32", "--deny", "127.0.0.2/32"], &[], &["127.0.0.1", "127.0.0.2"]),
        (&["--allow", "10.0.0.0/8"], &[], &["127.0.0.1"]),
        (&["--deny", "::ffff:127.0.0.2"], &["127.0.0.1"], &["127.0.0.2"]),
        (&["--allow", "::ffff:127.0.0.2/127"], &["127.0.0.2", "127.0.0.3"], &["127.0.0.1"]),
    ] {
        let server = Server::start(&[&["--quiet"], options].concat());
        for source in allowed {
            expect_served(&mut connect_from(source, server.address()));
        }
        for source in denied {
            expect_refused(connect_from(source, server.address()));
        }
        server.stop_by(Signal::TERM);
    }
}

#[test]
fn ipv4_rules_match_mapped_addresses() {
    if skipped_over_tls("its clients have addresses of their own, and no relay") {
        return;
    }
    if !has_ipv6() {
        return;
    }
    for (options, allowed, denied, serves_ipv6) in [
        (&["--deny", "127.0.0.2"], "127.0.0.1", "127.0.0.2", true),
        (&["--allow", "127.0.0.2"], "127.0.0.2", "127.0.0.1", false),
    ] {
        let server = Server::start(&[&["--quiet", "--bind", "::"], &options[..]].concat());
        expect_served(&mut connect_from(allowed, server.address()));
        expect_refused(connect_from(denied, server.address()));
        let ipv6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), server.port);
        match serves_ipv6 {
            true => expect_served(&mut connect_from("::1", ipv6)),
            false => expect_refused(connect_from("::1", ipv6)),
        }
        server.stop_by(Signal::TERM);
    }
}

#[test]
fn rules_come_from_the_environment_and_a_wrong_one_is_refused() {
    if skipped_over_tls("its clients have addresses of their own, and no relay") {
        return;
    }
    let mut command = server_command(&["--port", "0", "--quiet"]);
    command.env("ECHO_DENY", "127.0.0.2,127.0.0.3/32");
    let server = Server::launch(command);
    expect_served(&mut connect_from("127.0.0.1", server.address()));
    expect_refused(connect_from("127.0.0.2", server.address()));
    expect_refused(connect_from("127.0.0.3", server.address()));
    server.stop_by(Signal::TERM);

    for wrong in [
        "--allow=127.0.0.1/33",
        "--deny=localhost",
        "--deny=::ffff:127.0.0.0/8",
        "--deny=",
        "--max-per-ip=0",
        "--max-connections=0",
    ] {
        let mut command = clean_command(env!("CARGO_BIN_EXE_echo-server"));
        command.args(["--port", "0", wrong]);
        let output = run(command, std::process::Stdio::null());
        assert_eq!(output.code, Some(2), "{wrong}: {}", output.stderr);
    }
}

/// The number of connections of a refusal's line.
fn refused(line: &str) -> u64 {
    let count = || {
        let (time, rest) = line.strip_prefix('[')?.split_once("] ")?;
        parse_time(time)?;
        let (count, last) = match rest.strip_prefix("1 connection refused: ") {
            Some(last) => (1, last),
            None => {
                let (count, last) = rest.split_once(" connections refused, the last: ")?;
                (count.parse().ok()?, last)
            }
        };
        (last.parse::<SocketAddr>().ok()?.ip() == IpAddr::from([127, 0, 0, 2])).then_some(count)
    };
    count().unwrap_or_else(|| panic!("not the line of a refusal: {line:?}"))
}

#[test]
fn refusals_are_counted_in_at_most_one_line_a_second() {
    let server = Server::start(&["--deny", "127.0.0.2", "--verbose"]);
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < Duration::from_millis(2500) {
        expect_refused(connect_from("127.0.0.2", server.address()));
        count += 1;
    }
    // The last ones are told of though nothing else happens.
    let told = |lines: &[String]| lines[1..].iter().map(|line| refused(line)).sum::<u64>();
    server.console.wait_until(|lines| (told(lines) >= count).then_some(()));
    let seconds = begin.elapsed().as_secs_f64();
    let lines = server.stop_by(Signal::TERM);
    println!("{count} refusals in {} lines", lines.len());
    assert_eq!(lines.iter().map(|line| refused(line)).sum::<u64>(), count);
    assert!(lines.len() as f64 <= seconds + 1.0, "{} lines in {seconds:.1} s", lines.len());
}
