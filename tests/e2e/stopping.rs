//! Every way of stopping: what is owed is sent, nobody waits longer than he must.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    Process, Pty, Server, assert_same, clean_command, expect_end, expect_loss, hesitant, messages, needs_tcp,
    random_bytes, rng, round_trip, run, server_command_under, skipped_over_tls, stop_line_port,
};

/// A grace that no test waits for.
const LONG_GRACE: &[&str] = &["--grace", "20s"];
/// What is surely shorter than the long grace, also on a machine under load.
const SOON: Duration = Duration::from_secs(8);

/// More than the system holds for a client with a small buffer: some of it is still the server's to send.
const MUCH: usize = 12 << 20;

/// More than the system sends to a client with a small buffer, and not more than it holds for it.
const LITTLE: usize = 512 << 10;

/// Stops the server and checks that it takes far less than its grace.
fn expect_to_stop_soon(server: Server, signal: Signal) -> Vec<String> {
    let begin = Instant::now();
    let lines = server.stop_by(signal);
    assert!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());
    lines
}

/// Asks the server for its counters until they say `text`.
fn wait_for_counters(server: &Server, text: &str) {
    let counters = |lines: &[String]| -> Vec<String> {
        lines.iter().filter(|line| line.contains("Connections: ")).cloned().collect()
    };
    let before = server.console.wait_until(|lines| Some(counters(lines).len()));
    for asked in before.. {
        server.process.signal(Signal::USR1);
        if server.console.wait_until(|lines| counters(lines).get(asked).cloned()).contains(text) {
            break;
        }
    }
}

/// A client that has sent much and read nothing, all of which the server has taken in. (That there is a line says
/// nothing: where the machine is busy, it may be that of a part of it.)
fn owed_much(server: &Server, content: &[u8]) -> TcpStream {
    let mut stream = hesitant(server.address());
    stream.write_all(content).expect("sent");
    wait_for_counters(server, &format!("bytes: {} in", content.len()));
    stream
}

fn read_all_owed(stream: &mut TcpStream, content: &[u8]) {
    let mut echo = vec![0; content.len()];
    stream.read_exact(&mut echo).expect("the whole echo");
    assert_same(&echo, content);
}

#[test]
fn each_signal_stops_it_in_order() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let server = Server::start(LONG_GRACE);
        let mut stream = server.connect();
        round_trip(&mut stream, b"hello");
        expect_to_stop_soon(server, signal);
        expect_end(&mut stream);
    }
}

/// As nohup(1) starts it.
#[test]
fn a_hang_up_that_it_was_started_to_ignore_does_not_stop_it() {
    let wrapper = ["sh", "-c", r#"trap '' HUP; exec "$0" "$@""#];
    let server = Server::launch(server_command_under(&wrapper, &["--port", "0"]));
    server.process.signal(Signal::HUP);
    round_trip(&mut server.connect(), b"hello");
    assert_eq!(server.stop_and_read(), ["hello"]);
}

/// Started with signals ignored, the tests start programs that do not ignore them.
#[test]
fn the_tests_themselves_may_be_started_to_ignore_signals() {
    let mut command = clean_command("sh");
    let script = r#"trap '' HUP INT QUIT TERM USR1 CHLD; exec "$0" --exact stopping::each_signal_stops_it_in_order"#;
    command.arg("-c").arg(script).arg(std::env::current_exe().expect("this program"));
    let output = run(command, Stdio::null());
    assert_eq!(output.code, Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn idle_clients_do_not_delay_it() {
    if skipped_over_tls("it may stop before the handshake") {
        return;
    }
    let server = Server::start(LONG_GRACE);
    let mut idle: Vec<TcpStream> = (0..500).map(|_| server.connect()).collect();
    for stream in idle.iter_mut().step_by(2) {
        round_trip(stream, b"hello");
    }
    expect_to_stop_soon(server, Signal::TERM);
    idle.iter_mut().for_each(expect_end);
}

/// A time that the parser of durations takes, but no clock.
#[test]
fn a_grace_may_be_endless() {
    let server = Server::start(&["--grace", "400000000000years", "--idle-timeout", "400000000000years"]);
    let mut stream = server.connect();
    round_trip(&mut stream, b"hello");
    expect_to_stop_soon(server, Signal::TERM);
    expect_end(&mut stream);
}

#[test]
fn what_is_owed_is_delivered() {
    let server = Server::start(LONG_GRACE);
    let content = random_bytes(&mut rng(), MUCH);
    let mut stream = owed_much(&server, &content);
    server.process.signal(Signal::TERM);
    server.wait_until_it_refuses();
    read_all_owed(&mut stream, &content);
    expect_end(&mut stream);
    let begin = Instant::now();
    drop(stream);
    server.expect_stopped();
    assert!(begin.elapsed() < SOON, "it went on waiting for a client that had closed");
}

/// A client may be slow to read what the system holds for it. Were the server to close while unread input
/// arrives, the reset would destroy that.
#[test]
fn a_client_that_goes_on_sending_gets_what_it_was_owed() {
    let server = Server::start(LONG_GRACE);
    let content = random_bytes(&mut rng(), MUCH);
    let mut stream = owed_much(&server, &content);
    server.process.signal(Signal::TERM);
    server.wait_until_it_refuses();
    stream.write_all(b"This comes too late to be answered.").expect("sent");
    read_all_owed(&mut stream, &content);
    stream.write_all(b"So does this.").expect("the server has not reset the connection");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an orderly end");
    drop(stream);
    server.expect_stopped();
}

/// Also where the server is through with it, and only the system still holds what it has not read.
#[test]
fn a_client_that_goes_on_sending_gets_what_the_system_held() {
    if needs_tcp() {
        return;
    }
    let server = Server::start(&["--grace", "20s", "--quiet"]);
    let content = random_bytes(&mut rng(), LITTLE);
    let mut stream = owed_much(&server, &content);
    wait_for_counters(&server, &format!("bytes: {LITTLE} in, {LITTLE} out, 0 held"));
    server.process.signal(Signal::TERM);
    server.wait_until_it_refuses();
    stream.write_all(b"This comes too late to be answered.").expect("sent");
    read_all_owed(&mut stream, &content);
    expect_end(&mut stream);
    drop(stream);
    server.expect_stopped();
}

#[test]
fn a_client_that_never_reads_ends_with_the_grace() {
    let server = Server::start(&["--grace", "300ms"]);
    let _stuck = owed_much(&server, &vec![b'x'; MUCH]);
    let begin = Instant::now();
    server.stop_by(Signal::TERM);
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(300) && took < SOON, "it took {took:?}");
}

#[test]
fn a_client_that_has_got_all_but_does_not_close_ends_with_the_grace() {
    // Long enough to read all of it on a machine under load.
    const GRACE: Duration = Duration::from_secs(6);
    let server = Server::start(&["--grace", "6s"]);
    let content = random_bytes(&mut rng(), MUCH);
    let mut stream = owed_much(&server, &content);
    let begin = Instant::now();
    server.process.signal(Signal::TERM);
    read_all_owed(&mut stream, &content);
    expect_end(&mut stream);
    server.expect_stopped();
    assert!(begin.elapsed() >= GRACE, "it did not wait for the client: {:?}", begin.elapsed());
}

#[test]
fn what_arrived_before_the_signal_is_answered() {
    if skipped_over_tls("a stopping server does not finish handshakes") {
        return;
    }
    let server = Server::start(LONG_GRACE);
    let mut clients: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    for stream in &mut clients {
        round_trip(stream, b"hello");
    }
    server.process.signal(Signal::STOP);
    // Those that the server has not seen yet are among them: the system has connected them for it.
    clients.extend((0..20).map(|_| server.connect()));
    for (number, stream) in clients.iter_mut().enumerate() {
        stream.write_all(format!("last words of {number:02}").as_bytes()).expect("sent");
    }
    server.process.signal(Signal::TERM);
    server.process.signal(Signal::CONT);
    for (number, stream) in clients.iter_mut().enumerate() {
        read_all_owed(stream, format!("last words of {number:02}").as_bytes());
        expect_end(stream);
    }
    drop(clients);
    let mut texts = messages(&server.expect_stopped());
    texts.sort();
    let mut expected: Vec<String> = (0..40).map(|number| format!("last words of {number:02}")).collect();
    expected.splice(0..0, std::iter::repeat_n("hello".to_owned(), 20));
    assert_eq!(texts, expected);
}

/// Over a network, the first bytes come a round trip after the connection.
#[test]
fn first_bytes_that_come_after_the_signal_are_answered() {
    let server = Server::start(LONG_GRACE);
    let (mut new, mut silent, mut spoken) = (server.connect(), server.connect(), server.connect());
    round_trip(&mut spoken, b"hello");
    server.process.signal(Signal::TERM);
    expect_end(&mut spoken);
    round_trip(&mut new, b"just in time");
    expect_end(&mut new);
    expect_end(&mut silent);
    drop((new, silent, spoken));
    assert_eq!(messages(&server.expect_stopped()), ["hello", "just in time"]);
}

#[test]
fn a_half_closed_client_is_answered_too() {
    let server = Server::start(LONG_GRACE);
    let content = random_bytes(&mut rng(), MUCH);
    let mut stream = owed_much(&server, &content);
    stream.shutdown(Shutdown::Write).expect("half-closed");
    server.process.signal(Signal::TERM);
    read_all_owed(&mut stream, &content);
    expect_end(&mut stream);
    drop(stream);
    server.expect_stopped();
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let server = Server::start(LONG_GRACE);
    let mut stuck = owed_much(&server, &vec![b'x'; MUCH]);
    server.process.signal(Signal::INT);
    // Two signals of a kind that are pending at once are one.
    server.wait_until_it_refuses();
    let begin = Instant::now();
    server.process.signal(Signal::INT);
    let (status, stderr) = server.process.wait();
    assert_eq!((status.code(), &*stderr), (Some(130), ""));
    assert!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());
    expect_loss(&mut stuck, MUCH);
}

#[test]
fn after_ctrl_c_on_a_terminal_the_stop_line_stands_alone() {
    const CTRL_C: &[u8] = b"\x03";
    let mut terminal = Pty::open();
    let wrapper = ["setsid", "--ctty"];
    let mut command = server_command_under(&wrapper, &[&["--port", "0"], LONG_GRACE].concat());
    command.stdin(terminal.stdio()).stdout(terminal.stdio());
    let server = Server::watch(Process::spawn(command), terminal.screen());
    round_trip(&mut server.connect(), b"hello");
    assert_eq!(server.first_messages(1), ["hello"]);
    terminal.type_in(CTRL_C);
    let (status, stderr) = server.process.wait();
    assert_eq!((status.code(), &*stderr), (Some(0), ""));
    drop(terminal);
    let lines = server.console.all();
    assert!(lines[2].starts_with("^C"), "the terminal did not show the key: {lines:?}");
    assert_eq!(stop_line_port(lines.last().expect("a line")), server.port);
}

#[test]
fn a_start_and_a_stop_at_once_are_two_lines() {
    for _ in 0..20 {
        let lines = Server::start(LONG_GRACE).stop_by(Signal::TERM);
        assert!(lines.is_empty(), "{lines:?}");
    }
}
