//! What the client says when it fails, and how soon.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::harness::{
    Lines, Output, Process, Pty, Server, accept_in_time, assert_same, clean_command, client, feed, free_port, listener,
    reset, run,
};

/// A server that does `play` with its only client. Returns its port.
fn play_server(play: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
    let (listener, port) = listener();
    thread::spawn(move || play(accept_in_time(&listener)));
    port
}

fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("the message and its end");
    all
}

/// Status 1, `stdout`, and one sentence on stderr that names host and port.
fn expect_failure(output: &Output, port: u16, stdout: &[u8]) {
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert_same(&output.stdout, stdout);
    assert_eq!(output.stderr.trim_end().lines().count(), 1, "{}", output.stderr);
    assert!(output.stderr.starts_with("echo-client: "), "{}", output.stderr);
    assert!(output.stderr.contains("127.0.0.1"), "{}", output.stderr);
    assert!(output.stderr.contains(&port.to_string()), "{}", output.stderr);
}

fn run_client(port: u16, arguments: &[&str]) -> Output {
    run(client(port, arguments), Stdio::null())
}

#[test]
fn a_refused_connection_is_reported() {
    let port = free_port();
    let output = run_client(port, &["hello"]);
    expect_failure(&output, port, b"");
    assert!(output.stderr.contains("refused (is echo-server running?)"), "{}", output.stderr);
    expect_failure(&run_client(port, &["--check", "hello"]), port, b"");
}

#[test]
fn an_unknown_host_is_reported() {
    let mut command = clean_command(env!("CARGO_BIN_EXE_echo-client"));
    command.args(["--host", "no-such-name.invalid", "--port", "7", "hello"]);
    let output = run(command, Stdio::null());
    assert_eq!((output.code, output.stdout), (Some(1), Vec::new()));
    assert!(output.stderr.starts_with("echo-client: unknown host no-such-name.invalid: "), "{}", output.stderr);
    assert_eq!(output.stderr.trim_end().lines().count(), 1, "{}", output.stderr);
}

#[test]
fn a_wait_for_the_connection_is_announced_on_a_terminal() {
    let (listener, port) = unanswering();
    let terminal = Pty::open();
    // The harness keeps stderr for itself: the shell exchanges it for the terminal, which comes as stdin.
    let mut command = clean_command("sh");
    command.args(["-c", r#"exec "$0" "$@" 2>&0"#, env!("CARGO_BIN_EXE_echo-client"), "hello"]);
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdin(terminal.stdio()).stdout(Stdio::piped());
    let process = Process::spawn(command);
    let shown = Lines::of(terminal.screen());
    shown.wait_until(|lines| (lines == [format!("connecting to 127.0.0.1 port {port}...")]).then_some(()));
    drop((process, listener));
}

#[test]
fn a_deadline_bounds_the_wait_for_the_connection() {
    let (_listener, port) = unanswering();
    expect_failure(&run_client(port, &["--deadline", "100ms", "hello"]), port, b"");
}

#[test]
fn a_deadline_ends_a_check_of_a_peer_that_drips() {
    let port = play_server(|mut stream| {
        stream.read_exact(&mut [0; 50_000]).expect("half of the message");
        while stream.write_all(b"x").is_ok() {
            thread::park_timeout(Duration::from_millis(20));
        }
    });
    let begin = Instant::now();
    let output = feed(client(port, &["--check", "--deadline", "300ms"]), vec![b'x'; 100_000]);
    expect_failure(&output, port, b"");
    assert!(output.stderr.contains("deadline"), "{}", output.stderr);
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_deadline_prints_what_came_before_it() {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let port = play_server(move |mut stream| {
        stream.write_all(b"he").expect("sent");
        let _ = wait.recv();
    });
    let output = run_client(port, &["--deadline", "300ms", "hello"]);
    expect_failure(&output, port, b"he\n");
    drop(done);
}

#[test]
fn a_deadline_also_bounds_a_wait_for_standard_output() {
    let server = Server::start(&["--quiet"]);
    let mut command = client(server.port, &["--deadline", "300ms", "-"]);
    command.stdin(File::open("/dev/zero").expect("zeros")).stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    // Open, but never read.
    let stdout = process.take_stdout();
    let (status, stderr) = process.wait();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("deadline"), "{stderr}");
    drop(stdout);
    server.stop();
}

#[test]
fn a_check_of_a_peer_that_babbles_fails_at_once() {
    let port = play_server(|mut stream| while stream.write_all(b"blah").is_ok() {});
    expect_failure(&run_client(port, &["--check", "hello"]), port, b"");
}

#[test]
fn wrong_usage_ends_with_status_2_before_anything_is_done() {
    for (arguments, reason) in [
        (&["--nonsense"][..], "--nonsense"),
        (&["--port", "x"], "'x'"),
        (&["--timeout", "0s", "hello"], "longer than zero"),
        (&["--timeout", "5", "hello"], "5 what? for example 5s"),
        (&["--deadline", "1.5", "hello"], "1.5 what? for example 1.5s"),
        (&["--host"], "--host"),
        (&["--host", "", "hello"], "empty"),
        (&["-H", "localhost:1", "-p", "1", "hello"], "twice"),
        (&["--name", "two words", "hello"], "1 to 32 letters"),
    ] {
        let mut command: Command = clean_command(env!("CARGO_BIN_EXE_echo-client"));
        command.args(arguments);
        let output = run(command, Stdio::null());
        assert_eq!((output.code, output.stdout), (Some(2), Vec::new()), "{arguments:?}");
        assert!(output.stderr.starts_with("error: ") && output.stderr.contains(reason), "{}", output.stderr);
    }
}

/// A port of a listener that has no room left and does not answer at all.
fn unanswering() -> (impl Sized, u16) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    listener.listen(0).expect("listening");
    let address = listener.local_addr().ok().and_then(|address| address.as_socket()).expect("its address");
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "this system has room without end");
    }
    ((listener, waiting), address.port())
}

#[test]
fn an_address_that_does_not_answer_is_given_up() {
    let (_listener, port) = unanswering();
    let begin = Instant::now();
    let output = run_client(port, &["--connect-timeout", "300ms", "hello"]);
    expect_failure(&output, port, b"");
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_silent_server_is_given_up() {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let port = play_server(move |_stream| {
        let _ = wait.recv();
    });
    let begin = Instant::now();
    let output = run_client(port, &["--timeout", "300ms", "hello"]);
    let took = begin.elapsed();
    expect_failure(&output, port, b"");
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(10), "{took:?}");
    drop(done);
}

#[test]
fn a_server_that_takes_nothing_is_given_up() {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let port = play_server(move |_stream| {
        let _ = wait.recv();
    });
    // More than the system takes for it.
    let output = feed(client(port, &["--timeout", "500ms", "-"]), vec![b'x'; 64 << 20]);
    expect_failure(&output, port, b"");
    drop(done);
}

#[test]
fn what_came_before_the_silence_is_printed() {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let port = play_server(move |mut stream| {
        stream.write_all(b"he").expect("sent");
        let _ = wait.recv();
    });
    let output = run_client(port, &["--timeout", "300ms", "hello"]);
    assert!(output.stdout.starts_with(b"he"));
    expect_failure(&output, port, &output.stdout);
    drop(done);
}

#[test]
fn a_timeout_is_one_without_any_progress() {
    const STEP: Duration = Duration::from_millis(200);
    // Each byte a step later: all of it takes longer than the timeout, no single one does.
    let port = play_server(|mut stream| {
        let message = read_all(&mut stream);
        stream.set_read_timeout(Some(STEP)).expect("a timeout");
        for byte in message {
            stream.write_all(&[byte]).expect("sent");
            thread::park_timeout(STEP);
        }
    });
    let begin = Instant::now();
    let output = run_client(port, &["--timeout", "1s", "0123456789"]);
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    assert_eq!(output.stdout, b"0123456789\n");
    assert!(begin.elapsed() > Duration::from_secs(1));
}

#[test]
fn a_reset_is_reported() {
    let port = play_server(|mut stream| {
        stream.read_exact(&mut [0; 5]).expect("the message");
        reset(stream);
    });
    expect_failure(&run_client(port, &["hello"]), port, b"");
}

#[test]
fn a_reply_that_ends_too_early_is_printed_and_reported() {
    let port = play_server(|mut stream| {
        read_all(&mut stream);
        stream.write_all(b"hel").expect("sent");
    });
    let output = run_client(port, &["hello"]);
    assert!(output.stdout.starts_with(b"hel"), "what came is printed");
    expect_failure(&output, port, &output.stdout);
    assert_eq!(output.stdout.trim_ascii_end(), b"hel");
}

#[test]
fn a_server_that_closes_at_once_is_reported() {
    let port = play_server(|stream| stream.shutdown(Shutdown::Both).expect("closed"));
    let output = run_client(port, &["hello"]);
    expect_failure(&output, port, output.stdout.trim_ascii_end());
    assert_eq!(output.stdout.trim_ascii_end(), b"");
}

#[test]
fn a_server_that_closes_ends_a_stream_whose_input_goes_on() {
    let port = play_server(|mut stream| {
        stream.read_exact(&mut [0; 5]).expect("the message");
        stream.write_all(b"hel").expect("sent");
    });
    let mut command = client(port, &["-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let (mut stdin, mut stdout) = (process.take_stdin(), process.take_stdout());
    stdin.write_all(b"hello").expect("taken");
    let (status, stderr) = process.wait();
    let mut printed = Vec::new();
    stdout.read_to_end(&mut printed).expect("all that it printed");
    expect_failure(&Output { code: status.code(), stdout: printed, stderr }, port, b"hel");
    drop(stdin);
}

#[test]
fn a_check_fails_where_the_reply_is_not_the_message() {
    for lie in [&b"hellO"[..], b"hello!", b"hell", b"", b"hello\n"] {
        for through_stdin in [false, true] {
            let port = play_server(move |mut stream| {
                read_all(&mut stream);
                stream.write_all(lie).expect("sent");
            });
            let output = if through_stdin {
                feed(client(port, &["--check", "-"]), &b"hello"[..])
            } else {
                run_client(port, &["--check", "hello"])
            };
            expect_failure(&output, port, b"");
        }
    }
}

#[test]
fn ctrl_c_ends_it_with_status_130() {
    let server = Server::start(&[]);
    let mut command = client(server.port, &["-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let mut stdin = process.take_stdin();
    // Its echo is the sign that the client is at work.
    stdin.write_all(b"hello").expect("taken");
    process.take_stdout().read_exact(&mut [0; 5]).expect("given back");
    process.signal(Signal::INT);
    let (status, stderr) = process.wait();
    assert_eq!(status.code(), Some(130), "{stderr}");
    server.stop();
}

#[test]
fn ctrl_c_ends_it_while_it_waits_for_the_server() {
    let (connected, is_connected) = std::sync::mpsc::channel();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let port = play_server(move |mut stream| {
        stream.read_exact(&mut [0; 5]).expect("the message");
        connected.send(()).expect("somebody waits");
        let _ = wait.recv();
    });
    let process = Process::spawn(client(port, &["hello"]));
    is_connected.recv_timeout(crate::harness::DEADLINE).expect("the client connects");
    process.signal(Signal::INT);
    assert_eq!(process.wait().0.code(), Some(130));
    drop(done);
}
