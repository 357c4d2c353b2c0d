//! The echo goes on, whatever happens to standard output.

use std::fs::{File, OpenOptions};
use std::io::{Cursor, Read};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread;

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::process::Signal;

use crate::harness::{
    Lines, Process, Pty, Server, connect, exchange, first_line, has, message, messages, parse_time, round_trip,
    scratch_file, server_command, start_line_port,
};

/// Far more messages than there is memory for in the console, 4 MiB.
const LINES: usize = 10_000;

/// The message that is sent when the log is read again.
const RESUMED: &str = "The reader reads again.";

/// A message of about 900 bytes that begins with its number.
fn numbered(number: usize) -> String {
    format!("{number} {}", "x".repeat(900))
}

/// The number in "[…] 123 log lines dropped".
fn dropped(line: &str) -> Option<usize> {
    let (time, rest) = line.strip_prefix('[')?.split_once("] ")?;
    parse_time(time)?;
    let (number, what) = rest.split_once(' ')?;
    ["log line dropped", "log lines dropped"].contains(&what).then(|| number.parse().expect("a number"))
}

/// Sends more messages than a stalled console can hold; each must come back meanwhile. Then lets the reader read, and
/// expects whole lines in order and the number of those that are missing.
fn expect_echo_while_stalled(port: u16, resume: impl FnOnce() -> Server) {
    let mut stream = connect((Ipv4Addr::LOCALHOST, port).into());
    for number in 0..LINES {
        round_trip(&mut stream, numbered(number).as_bytes());
    }
    let server = resume();
    server.console.wait_until(|lines| lines.iter().find_map(|line| dropped(line)));
    round_trip(&mut stream, RESUMED.as_bytes());
    drop(stream);
    expect_whole_lines(&server.stop_by(Signal::TERM));
}

fn expect_whole_lines(lines: &[String]) {
    let missing: usize = lines.iter().filter_map(|line| dropped(line)).sum();
    let texts: Vec<&str> = lines.iter().filter(|line| dropped(line).is_none()).map(|line| message(line)).collect();
    let (last, texts) = texts.split_last().expect("a line");
    assert_eq!(*last, RESUMED);
    assert!(missing > 0);
    assert_eq!(texts.len() + missing, LINES);
    assert!(texts.len() > 3_000, "only {} lines were kept", texts.len());
    let numbers: Vec<usize> = texts.iter().map(|text| text.split_once(' ').unwrap().0.parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "lines changed their order");
    assert!(numbers.iter().zip(texts).all(|(number, text)| numbered(*number) == **text), "a line is not whole");
}

/// Starts a server and reads its console up to the start line, no further.
fn start_unread(console: &mut (impl Read + AsFd), stdout: impl Into<Stdio>) -> (Process, String) {
    let mut command = server_command(&["--port", "0"]);
    command.stdout(stdout);
    let process = Process::spawn(command);
    let start = first_line(console);
    (process, start)
}

/// Goes on reading where [`start_unread`] ended.
fn resume(process: Process, start: String, console: impl Read + Send + 'static) -> Server {
    Server::watch(process, Cursor::new(start + "\n").chain(console))
}

fn expect_a_stalled_reader_to_be_harmless(mut console: impl Read + AsFd + Send + 'static, stdout: impl Into<Stdio>) {
    let (process, start) = start_unread(&mut console, stdout);
    expect_echo_while_stalled(start_line_port(&start), || resume(process, start, console));
}

#[test]
fn a_pipe_that_is_not_read_does_not_stop_the_echo() {
    let (console, stdout) = std::io::pipe().expect("a pipe");
    expect_a_stalled_reader_to_be_harmless(console, stdout);
}

#[test]
fn a_socket_that_is_not_read_does_not_stop_the_echo() {
    let (console, stdout) = UnixStream::pair().expect("a pair");
    expect_a_stalled_reader_to_be_harmless(console, OwnedFd::from(stdout));
}

#[test]
fn a_terminal_held_with_ctrl_s_does_not_stop_the_echo() {
    const CTRL_S: &[u8] = b"\x13";
    const CTRL_Q: &[u8] = b"\x11";
    let mut terminal = Pty::open();
    let mut command = server_command(&["--port", "0"]);
    command.stdout(terminal.stdio());
    let server = Server::watch(Process::spawn(command), terminal.screen());
    terminal.type_in(CTRL_S);
    terminal.wait_until_held();
    expect_echo_while_stalled(server.port, || {
        assert_eq!(server.console.wait_until(|lines| Some(lines.len())), 1, "the terminal was not held");
        terminal.type_in(CTRL_Q);
        drop(terminal);
        server
    });
}

#[test]
fn counters_are_printed_while_the_log_is_saturated() {
    let (mut console, stdout) = std::io::pipe().expect("a pipe");
    let (process, start) = start_unread(&mut console, stdout);
    let mut stream = connect((Ipv4Addr::LOCALHOST, start_line_port(&start)).into());
    let mut send = |count| (0..count).for_each(|number| round_trip(&mut stream, numbered(number).as_bytes()));
    send(LINES);
    process.signal(Signal::USR1);
    // The signal is handled before what comes after it.
    send(10);
    let lines = resume(process, start, console).stop_by(Signal::TERM);
    let counters = lines.iter().position(|line| line.contains("] Connections: 1 now")).expect("the counters");
    assert!(dropped(&lines[counters - 1]).is_some_and(|count| count > LINES / 3), "{:.200}", lines[counters - 1]);
    let messages = lines.iter().filter(|line| line.contains("Echoed: '")).count();
    let missing: usize = lines.iter().filter_map(|line| dropped(line)).sum();
    assert_eq!(messages + missing, LINES + 10);
}

#[test]
fn a_stopping_server_does_not_wait_for_its_console() {
    let (mut console, stdout) = std::io::pipe().expect("a pipe");
    let (process, start) = start_unread(&mut console, stdout);
    let port = start_line_port(&start);
    let mut stream = connect((Ipv4Addr::LOCALHOST, port).into());
    for number in 0..LINES / 10 {
        round_trip(&mut stream, numbered(number).as_bytes());
    }
    process.signal(Signal::TERM);
    let (status, stderr) = process.wait();
    assert_eq!((status.code(), &*stderr), (Some(0), ""));
    drop(console);
}

#[test]
fn a_slow_reader_gets_every_line() {
    let (mut console, stdout) = std::io::pipe().expect("a pipe");
    let (process, start) = start_unread(&mut console, stdout);
    // More than a pipe holds, less than the console does.
    let few = LINES / 10;
    let mut stream = connect((Ipv4Addr::LOCALHOST, start_line_port(&start)).into());
    for number in 0..few {
        round_trip(&mut stream, numbered(number).as_bytes());
    }
    let server = resume(process, start, console);
    server.first_messages(few);
    assert_eq!(server.stop_and_read(), (0..few).map(numbered).collect::<Vec<_>>());
}

#[test]
fn a_pipe_whose_reader_is_gone_ends_the_logging_not_the_server() {
    let (mut console, stdout) = std::io::pipe().expect("a pipe");
    let (process, start) = start_unread(&mut console, stdout);
    let port = start_line_port(&start);
    drop(console);
    expect_to_serve_and_stop(Server { process, port, console: Lines::of(std::io::empty()) });
}

#[test]
fn a_server_started_without_stdout_works() {
    expect_to_serve_and_stop(Server::start_blind(&["sh", "-c", r#"exec "$0" "$@" >&-"#], Stdio::null()));
}

#[test]
fn a_full_disk_ends_the_logging_not_the_server() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    expect_to_serve_and_stop(Server::start_blind(&[], full));
}

#[test]
fn a_file_that_may_not_grow_ends_the_logging_not_the_server() {
    if !has("prlimit") {
        return;
    }
    let file = File::create(scratch_file("log")).expect("a file");
    expect_to_serve_and_stop(Server::start_blind(&["prlimit", "--fsize=1024"], file));
}

#[test]
fn a_terminal_that_is_gone_ends_the_logging_not_the_server() {
    let terminal = Pty::open();
    let (process, start) = start_unread(&mut terminal.screen(), terminal.stdio());
    let port = start_line_port(&start);
    drop(terminal);
    expect_to_serve_and_stop(Server { process, port, console: Lines::of(std::io::empty()) });
}

/// Expects everything but the log to work.
fn expect_to_serve_and_stop(server: Server) {
    let mut stream = server.connect();
    for number in 0..100 {
        round_trip(&mut stream, numbered(number).as_bytes());
        assert_eq!(exchange(server.connect(), b"hello"), b"hello");
    }
    drop(stream);
    server.process.signal(Signal::TERM);
    let (status, stderr) = server.process.wait();
    assert_eq!((status.code(), &*stderr), (Some(0), ""));
}

#[test]
fn a_shared_stdout_keeps_its_flags() {
    let (pipe, pipe_stdout) = std::io::pipe().expect("a pipe");
    let (socket, socket_stdout) = UnixStream::pair().expect("a pair");
    let terminal = Pty::open();
    let screen = terminal.screen();
    let cases: [(Box<dyn Read + Send>, OwnedFd); 3] = [
        (Box::new(pipe), pipe_stdout.into()),
        (Box::new(socket), socket_stdout.into()),
        (Box::new(screen), terminal.programs.into()),
    ];
    for (console, stdout) in cases {
        let before = fcntl_getfl(&stdout).expect("flags");
        assert!(!before.contains(OFlags::NONBLOCK));
        let mut command = server_command(&["--port", "0"]);
        command.stdout(stdout.try_clone().expect("a duplicate"));
        let server = Server::watch(Process::spawn(command), console);
        round_trip(&mut server.connect(), b"hello");
        assert_eq!(server.first_messages(1), ["hello"]);
        assert_eq!(fcntl_getfl(&stdout).expect("flags"), before, "while it runs");
        server.process.signal(Signal::TERM);
        let Server { process, console, .. } = server;
        assert_eq!(process.wait().0.code(), Some(0));
        assert_eq!(fcntl_getfl(&stdout).expect("flags"), before, "when it has ended");
        drop(stdout);
        console.all();
    }
}

#[test]
fn lines_are_whole_however_many_clients_write() {
    let server = Server::start(&[]);
    thread::scope(|scope| {
        for client in 0..8 {
            let mut stream = server.connect();
            scope.spawn(move || {
                (0..200).for_each(|number| round_trip(&mut stream, format!("{client}/{number}").as_bytes()));
            });
        }
    });
    let texts = server.stop_and_read();
    assert_eq!(texts.len(), 8 * 200);
    for client in 0..8 {
        let of_one = texts.iter().filter(|text| text.starts_with(&format!("{client}/")));
        assert!(of_one.eq((0..200).map(|number| format!("{client}/{number}")).collect::<Vec<_>>().iter()));
    }
}

#[test]
fn a_terminal_shows_the_same_lines_as_a_pipe() {
    let terminal = Pty::open();
    let mut command = server_command(&["--port", "0"]);
    command.stdout(terminal.stdio());
    let server = Server::watch(Process::spawn(command), terminal.screen());
    drop(terminal);
    round_trip(&mut server.connect(), b"Hello, world!");
    let lines = server.console.wait_until(|lines| (lines.len() == 2).then(|| lines.to_vec()));
    assert_eq!(messages(&lines[1..]), ["Hello, world!"]);
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait().0.code(), Some(0));
}
