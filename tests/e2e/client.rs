//! What the client sends, what it prints, and when it succeeds.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::thread;

use rustix::termios::{Winsize, tcsetwinsize};

use crate::harness::{
    Lines, Process, Pty, Server, assert_same, clean_command, client, feed, has_ipv6, memory, random_bytes, rng, run,
    scratch_file, skipped_over_tls, wait_for_input,
};

/// The client succeeds and prints exactly this.
fn expect_output(command: Command, stdout: &[u8]) {
    let output = run(command, Stdio::null());
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    assert_same(&output.stdout, stdout);
}

/// The client without host and port on its command line.
fn bare_client(arguments: &[&str]) -> Command {
    let mut command = clean_command(env!("CARGO_BIN_EXE_echo-client"));
    command.args(arguments);
    command
}

#[test]
fn words_are_joined_by_one_space() {
    let server = Server::start(&[]);
    expect_output(client(server.port, &["Hello,", "world!"]), b"Hello, world!\n");
    expect_output(client(server.port, &["two  spaces", "", "and none"]), b"two  spaces  and none\n");
    assert_eq!(server.stop_and_read(), ["Hello, world!", "two  spaces  and none"]);
}

#[test]
fn after_two_dashes_everything_is_the_message() {
    let server = Server::start(&[]);
    expect_output(client(server.port, &["--", "--check", "-H"]), b"--check -H\n");
    expect_output(client(server.port, &["a", "-", "b"]), b"a - b\n");
    assert_eq!(server.stop_and_read(), ["--check -H", "a - b"]);
}

#[test]
fn the_reply_ends_with_one_newline() {
    let server = Server::start(&[]);
    for (message, output) in [("none", "none\n"), ("one\n", "one\n"), ("two\n\n", "two\n\n"), ("\n", "\n")] {
        expect_output(client(server.port, &[message]), output.as_bytes());
    }
    server.stop();
}

#[test]
fn an_argument_that_is_no_utf8_is_sent_as_it_is() {
    let server = Server::start(&[]);
    expect_output(client(server.port, &[OsStr::from_bytes(b"caf\xe9"), OsStr::new("x")]), b"caf\xe9 x\n");
    assert_eq!(server.stop_and_read(), [r"caf\xe9 x"]);
}

#[test]
fn standard_input_comes_back_exactly() {
    let server = Server::start(&[]);
    for input in [&b""[..], b"no newline", b"a newline\n", b"\0\xff\r\n\n"] {
        for arguments in [&[][..], &["-"]] {
            let output = feed(client(server.port, arguments), input);
            assert_eq!((output.code, &*output.stderr), (Some(0), ""));
            assert_same(&output.stdout, input);
        }
    }
    server.stop();
}

#[test]
fn a_file_of_100_mib_comes_back_exactly() {
    let server = Server::start(&[]);
    let content = random_bytes(&mut rng(), 100 << 20);
    let path = scratch_file("100-mib-of-random-bytes");
    std::fs::write(&path, &content).expect("room for a file");
    let output = run(client(server.port, &["-"]), File::open(&path).expect("the file"));
    std::fs::remove_file(&path).expect("the file is ours");
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    assert_same(&output.stdout, &content);
    server.stop();
}

#[test]
fn memory_does_not_grow_with_the_stream() {
    let server = Server::start(&["--quiet"]);
    let mut command = client(server.port, &["-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let (mut stdin, mut stdout) = (process.take_stdin(), process.take_stdout());
    let (block, mut echo) = (vec![b'x'; 1 << 20], vec![0; 1 << 20]);
    for _ in 0..64 {
        thread::scope(|scope| {
            scope.spawn(|| stdin.write_all(&block).expect("taken"));
            stdout.read_exact(&mut echo).expect("given back");
        });
    }
    // All has come back while standard input is still open: it is indeed a stream.
    let most = memory(process.pid(), "VmHWM");
    assert!(most < 32 << 20, "{} KiB", most >> 10);
    drop(stdin);
    assert_eq!(process.wait().0.code(), Some(0));
    server.stop();
}

#[test]
fn a_check_prints_nothing_and_succeeds() {
    let server = Server::start(&[]);
    expect_output(client(server.port, &["--check", "healthy?"]), b"");
    let output = feed(client(server.port, &["--check", "-"]), random_bytes(&mut rng(), 3 << 20));
    assert_eq!((output.code, output.stdout, &*output.stderr), (Some(0), Vec::new(), ""));
    server.stop();
}

#[test]
fn every_address_of_a_name_is_tried() {
    if skipped_over_tls("its command lines are without TLS") {
        return;
    }
    // Where localhost has two addresses, this server has but one of them.
    for address in if has_ipv6() { &["127.0.0.1", "::1"][..] } else { &["127.0.0.1"] } {
        let server = Server::start(&["--bind", address]);
        let port = server.port.to_string();
        expect_output(bare_client(&["--host", address, "--port", &port, "hello"]), b"hello\n");
        let names_v6 = std::fs::read_to_string("/etc/hosts").is_ok_and(|hosts| {
            hosts.lines().any(|line| line.starts_with("::1") && line.split_whitespace().any(|name| name == "localhost"))
        });
        if *address == "::1" && !names_v6 {
            println!("skipped: localhost does not stand for ::1 here");
        } else {
            expect_output(bare_client(&["--port", &port, "hello"]), b"hello\n");
        }
        server.stop();
    }
}

#[test]
fn the_environment_sets_what_the_command_line_does_not() {
    if skipped_over_tls("its command lines are without TLS") {
        return;
    }
    let server = Server::start(&["--bind", "127.0.0.2"]);
    let port = server.port.to_string();
    let mut command = bare_client(&["hello"]);
    command.env("ECHO_HOST", "127.0.0.2").env("ECHO_PORT", &port);
    expect_output(command, b"hello\n");
    let mut command = bare_client(&["hello"]);
    command.env("ECHO_HOST", "127.0.0.2").env("ECHO_PORT", &port).env("ECHO_CHECK", "1");
    expect_output(command, b"");
    let mut command = bare_client(&["-H", "127.0.0.2", "-p", &port, "hello"]);
    command.env("ECHO_HOST", "192.0.2.1").env("ECHO_PORT", "1");
    expect_output(command, b"hello\n");
    server.stop();
}

#[test]
fn a_port_may_follow_the_host_and_comes_before_the_environment() {
    if skipped_over_tls("its command lines are without TLS") {
        return;
    }
    for (bind, host) in [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "localhost"), ("::1", "[::1]")] {
        if bind == "::1" && !has_ipv6() {
            continue;
        }
        let server = Server::start(&["--bind", bind]);
        let mut command = bare_client(&["-H", &format!("{host}:{}", server.port), "hello"]);
        command.env("ECHO_PORT", "1");
        expect_output(command, b"hello\n");
        // An option says more than the environment.
        let mut command = bare_client(&["-p", &server.port.to_string(), "hello"]);
        command.env("ECHO_HOST", format!("{host}:1"));
        expect_output(command, b"hello\n");
        server.stop();
    }
}

/// What the client prints on a terminal, line by line.
fn on_a_terminal(command: Command, input: &[u8]) -> Vec<String> {
    let terminal = Pty::open();
    let screen = Lines::of(terminal.screen());
    let mut command = command;
    command.stdin(Stdio::piped()).stdout(terminal.stdio());
    let mut process = Process::spawn(command);
    process.take_stdin().write_all(input).expect("taken");
    let (status, stderr) = process.wait();
    assert_eq!((status.code(), &*stderr), (Some(0), ""));
    drop(terminal);
    screen.all()
}

#[test]
fn on_a_terminal_control_characters_are_escaped() {
    let server = Server::start(&[]);
    let message = "\x1b[31mred\x07 \u{202e}gnp\u{9b} a\tb\\\nβ";
    let shown = [r"\u{1b}[31mred\u{7} \u{202e}gnp\u{9b} a".to_owned() + "\tb\\", "β".to_owned()];
    assert_eq!(on_a_terminal(client(server.port, &[message]), b""), shown);
    let input = [message.as_bytes(), b"\n"].concat();
    assert_eq!(on_a_terminal(client(server.port, &["-"]), &input), shown);
    assert_eq!(on_a_terminal(client(server.port, &["one\r\ntwo\r\n"]), b""), ["one", "two"]);
    server.stop();
}

#[test]
fn raw_leaves_control_characters_as_they_are() {
    let server = Server::start(&[]);
    let lines = on_a_terminal(client(server.port, &["--raw", "\x1b[31mred\x07"]), b"");
    assert_eq!(lines, ["\x1b[31mred\x07"]);
    server.stop();
}

#[test]
fn what_goes_to_a_pipe_is_not_escaped() {
    let server = Server::start(&[]);
    expect_output(client(server.port, &["\x1b[31mred\x07"]), b"\x1b[31mred\x07\n");
    server.stop();
}

#[test]
fn a_closed_stdout_is_a_quiet_end() {
    let server = Server::start(&["--quiet"]);
    let mut command = client(server.port, &["-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let (mut stdin, mut stdout) = (process.take_stdin(), process.take_stdout());
    let writer = thread::spawn(move || while stdin.write_all(&[b'x'; 65_536]).is_ok() {});
    stdout.read_exact(&mut [0]).expect("one byte, as head -c 1 reads it");
    drop(stdout);
    let (status, stderr) = process.wait();
    assert_eq!((status.code(), &*stderr), (Some(0), ""));
    writer.join().expect("no panic");
    server.stop();
}

#[test]
fn a_long_transfer_shows_its_progress_on_one_row_of_any_terminal() {
    if skipped_over_tls("its command lines are without TLS") {
        return;
    }
    let server = Server::start(&["--quiet"]);
    let path = scratch_file("a-gibibyte-of-zeros");
    File::create(&path).and_then(|file| file.set_len(1 << 30)).expect("a sparse file");
    let file = path.to_str().expect("text");
    // They stall and so take long, because nobody reads their output.
    let start = |input: &str, columns| {
        let terminal = Pty::open();
        let size = Winsize { ws_row: 5, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal.programs, size).expect("a size");
        // The harness keeps stderr for itself: the shell exchanges it for the terminal, which comes as stdin.
        let mut command = clean_command("sh");
        command.args(["-c", r#"exec "$0" "$@" 2>&0 <"$INPUT""#, env!("CARGO_BIN_EXE_echo-client")]).env("INPUT", input);
        command.args(["-H", "127.0.0.1", "-p", &server.port.to_string(), "-"]);
        command.stdin(terminal.stdio()).stdout(Stdio::piped()).env("TERM", "xterm");
        (columns, terminal, Process::spawn(command))
    };
    let transfers = [start(file, 100), start(file, 40), start("/dev/zero", 10)];
    let rows = transfers.map(|(columns, terminal, _process)| {
        let [height, width] = [5, columns].map(|length| NonZeroU16::new(length).expect("not zero"));
        let mut emulator = vt100::Parser::new(height, width, 0);
        // Drawn twice, a line that wraps would leave its first row behind.
        for _ in 0..2 {
            wait_for_input(&terminal.screen());
            let mut buffer = [0; 4096];
            let length = terminal.screen().read(&mut buffer).expect("read");
            emulator.process(&buffer[..length]);
        }
        emulator.screen().rows(0, columns).collect::<Vec<_>>().join("\n").trim_end().to_owned()
    });
    std::fs::remove_file(&path).expect("the file is ours");
    assert!(rows.iter().all(|row| !row.contains('\n')), "{rows:#?}");
    assert!(rows[0].contains("of 1.00 GiB back") && rows[0].contains("[>"), "{rows:#?}");
    assert!(rows[1].contains("of 1.00 GiB back"), "{rows:#?}");
    assert!(rows[2].ends_with("iB"), "{rows:#?}");
}
