//! Unix sockets: their files, their names, and what is different from TCP.

use std::fs;
use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::cmsg_space;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::Signal;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::harness::{
    DEADLINE, Output, Server, clean_command, feed, random_bytes, rng, run, scratch_file, server_command,
    server_command_under, skipped_over_tls,
};
use crate::session_person::Person;

/// A path for a socket, where nothing is yet.
fn socket_path(name: &str) -> PathBuf {
    let path = scratch_file(name);
    _ = fs::remove_file(&path);
    path
}

fn address(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// A server that listens on this path alone.
fn start(path: &Path, options: &[&str]) -> Server {
    Server::launch(server_command(&[&["--bind", &address(path)], options].concat()))
}

fn client(path: &Path, arguments: &[&str]) -> Command {
    let mut command = clean_command(env!("CARGO_BIN_EXE_echo-client"));
    command.args(["-H", &address(path)]).args(arguments);
    command
}

fn echo(stream: io::Result<UnixStream>) {
    let mut stream = stream.expect("connected");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream.write_all(b"hello").expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(io::read_to_string(stream).expect("the echo"), "hello");
}

/// Expects that the server does not start, and the reason that it gives.
fn expect_refusal(address: &str, reason: &str) {
    let Output { code, stderr, .. } = run(server_command(&["--bind", address]), Stdio::null());
    assert_eq!(stderr, format!("echo-server: cannot listen on {address}: {reason}\n"));
    assert_eq!(code, Some(1));
}

#[test]
fn it_listens_on_a_file_until_it_stops() {
    let path = socket_path("echo.sock");
    let server = start(&path, &["--verbose"]);
    assert_eq!(server.port, 0);
    echo(UnixStream::connect(&path));
    let peer = format!("Opened: unix:pid={},uid={}", std::process::id(), rustix::process::getuid().as_raw());
    server.console.wait_until(|lines| lines.iter().any(|line| line.ends_with(&peer)).then_some(()));
    server.stop_by(Signal::TERM);
    assert!(!path.exists());
}

#[test]
fn it_listens_on_sockets_of_both_kinds() {
    if skipped_over_tls("its clients are plain") {
        return;
    }
    let (one, two) = (socket_path("one.sock"), socket_path("two.sock"));
    let list = format!("127.0.0.1,{},{}", address(&one), address(&two));
    let server = Server::start(&["--bind", &list, "--bind", &address(&one)]);
    echo(UnixStream::connect(&one));
    echo(UnixStream::connect(&two));
    assert_ne!(server.port, 0);
    crate::harness::round_trip(&mut server.connect(), b"hello");
    server.stop();
    assert!(!one.exists() && !two.exists());
}

#[test]
fn the_umask_decides_who_may_connect() {
    for (umask, mode) in [("007", 0o770), ("077", 0o700), ("000", 0o777)] {
        let path = socket_path("umask.sock");
        let wrapper = ["sh", "-c", &format!(r#"umask {umask}; exec "$0" "$@""#)];
        let server = Server::launch(server_command_under(&wrapper, &["--bind", &address(&path)]));
        assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, mode);
        server.stop();
    }
}

#[test]
fn the_file_is_also_removed_by_a_second_ctrl_c() {
    let path = socket_path("interrupted.sock");
    let server = start(&path, &["--grace", "20s"]);
    let mut stuck = UnixStream::connect(&path).expect("connected");
    let content = vec![b'x'; 4 << 20];
    stuck.write_all(&content).expect("sent");
    server.process.signal(Signal::INT);
    while path.exists() {
        std::thread::yield_now();
    }
    server.process.signal(Signal::INT);
    assert_eq!(server.process.wait().0.code(), Some(130));
    assert!(!path.exists());
}

#[test]
fn the_file_of_a_dead_server_is_replaced() {
    let path = socket_path("stale.sock");
    for _ in 0..3 {
        let server = start(&path, &[]);
        echo(UnixStream::connect(&path));
        server.process.signal(Signal::KILL);
        server.process.wait();
        assert!(path.exists());
    }
    start(&path, &[]).stop();
    assert!(!path.exists());
}

#[test]
fn a_socket_on_which_somebody_listens_is_left_alone() {
    let path = socket_path("live.sock");
    let server = start(&path, &[]);
    expect_refusal(&address(&path), "a server listens there");
    // Even if it is busy and has no place for another connection.
    server.process.suspend();
    expect_refusal(&address(&path), "a server listens there");
    server.process.signal(Signal::CONT);
    echo(UnixStream::connect(&path));
    server.stop();
}

#[test]
fn a_file_that_is_not_its_own_any_more_stays() {
    let path = socket_path("replaced.sock");
    let (one, two) = (start(&path, &[]), {
        fs::remove_file(&path).expect("the first one's file");
        start(&path, &[])
    });
    one.stop();
    echo(UnixStream::connect(&path));
    // Somebody has removed it: that is no error.
    fs::remove_file(&path).expect("the second one's file");
    two.stop();
}

#[test]
fn of_servers_that_start_at_once_one_gets_the_path() {
    for round in 0..10 {
        let path = socket_path("raced.sock");
        // Left over, in half of the rounds.
        if round % 2 == 0 {
            drop(UnixListener::bind(&path).expect("bound"));
        }
        let mut servers: Vec<_> = (0..4)
            .map(|_| {
                let mut command = server_command(&["--bind", &address(&path)]);
                command.stdout(Stdio::null());
                crate::harness::Process::spawn(command)
            })
            .collect();
        let begin = Instant::now();
        while UnixStream::connect(&path).is_err() {
            assert!(begin.elapsed() < DEADLINE, "nobody listens");
        }
        // The others end by themselves, so the one that is there is told last.
        let (mut refused, mut pids) = (0, Vec::new());
        for server in &servers {
            pids.push(server.pid());
        }
        let winner = loop {
            let alive: Vec<_> = pids.iter().copied().filter(|pid| !has_ended(*pid)).collect();
            if let [winner] = alive[..] {
                break winner;
            }
            assert!(begin.elapsed() < DEADLINE && !alive.is_empty(), "{} have the path", alive.len());
        };
        echo(UnixStream::connect(&path));
        rustix::process::kill_process(winner, Signal::TERM).expect("it is there");
        for server in servers.drain(..) {
            let (status, stderr) = server.wait();
            if status.code() == Some(1) {
                assert_eq!(
                    stderr,
                    format!("echo-server: cannot listen on {}: a server listens there\n", address(&path))
                );
                refused += 1;
            }
        }
        assert_eq!(refused, 3);
        assert!(!path.exists());
    }
}

/// Whether a program that nobody has waited for has ended.
fn has_ended(pid: rustix::process::Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("procfs");
    stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('Z'))
}

#[test]
fn an_abstract_name_needs_no_file() {
    let name = format!("echo-unix-{}", std::process::id());
    let server = Server::launch(server_command(&["--bind", &format!("unix:@{name}")]));
    echo(UnixStream::connect_addr(&SocketAddr::from_abstract_name(&name).expect("a name")));
    expect_refusal(&format!("unix:@{name}"), "Address already in use");
    let mut command = clean_command(env!("CARGO_BIN_EXE_echo-client"));
    command.args(["-H", &format!("unix:@{name}"), "hello"]);
    assert_eq!(run(command, Stdio::null()).stdout, b"hello\n");
    server.stop();
}

#[test]
fn what_is_no_path_for_a_socket_is_refused_in_one_sentence() {
    let (file, link, target) = (socket_path("file"), socket_path("link.sock"), socket_path("target.sock"));
    fs::write(&file, "precious").expect("a file");
    drop(UnixListener::bind(&target).expect("bound"));
    symlink(&target, &link).expect("a link");
    for path in [&file, &link] {
        expect_refusal(&address(path), "there is a file that is not a socket");
    }
    expect_refusal("unix:/", "there is a file that is not a socket");
    expect_refusal("unix:/no/such/directory/echo.sock", "No such file or directory");
    expect_refusal(&format!("{}/echo.sock", address(&file)), "Not a directory");
    expect_refusal("unix:", "the path is missing");
    expect_refusal("unix:@", "the name is missing");
    let long = "x".repeat(109);
    expect_refusal(&format!("unix:{long}"), "the path is too long for a socket: more than 108 bytes");
    expect_refusal(&format!("unix:@{long}"), "the path is too long for a socket: more than 108 bytes");
    assert_eq!(fs::read_to_string(&file).expect("the file is there"), "precious");
    assert!(fs::symlink_metadata(&target).expect("it is there").file_type().is_socket());
    [file, link, target].iter().for_each(|path| fs::remove_file(path).expect("it is there"));
}

#[test]
fn the_client_does_all_it_does_over_unix_sockets() {
    let path = socket_path("client.sock");
    let server = start(&path, &["--quiet"]);
    assert_eq!(run(client(&path, &["Hello,", "world!"]), Stdio::null()).stdout, b"Hello, world!\n");
    let content = random_bytes(&mut rng(), 3 << 20);
    assert_eq!(feed(client(&path, &[]), &*content).stdout, content);
    let checked = feed(client(&path, &["--check", "--deadline", "20s"]), content);
    assert_eq!((checked.code, &*checked.stderr), (Some(0), ""));
    server.stop();

    let room = start(&path, &["--chat"]);
    let mut ann = Person::start(client(&path, &["--name", "ann"]), 24);
    ann.wait_for("is now ann");
    feed(client(&path, &["--name", "bob"]), *b"hello\n");
    ann.wait_for("<bob> hello");
    ann.type_in("\x04");
    ann.expect_end();
    room.stop();
}

#[test]
fn the_client_says_why_it_cannot_connect() {
    let path = socket_path("nobody.sock");
    for reason in ["No such file or directory", "Connection refused"] {
        let Output { code, stderr, .. } = run(client(&path, &["hello"]), Stdio::null());
        let sentence = format!("cannot connect to {}: {reason} (is echo-server running?)", address(&path));
        assert_eq!((code, stderr), (Some(1), format!("echo-client: {sentence}\n")));
        // Then there is a file on which nobody listens.
        _ = UnixListener::bind(&path);
    }
    let Output { code, stderr, .. } = run(client(&path, &["-p", "7", "hello"]), Stdio::null());
    assert_eq!(code, Some(2));
    assert!(stderr.starts_with("error: a Unix socket has no port\n"), "{stderr}");
    fs::remove_file(path).expect("the file");
}

/// While the queue of a Unix socket is full, connecting waits.
#[test]
fn the_client_gives_up_a_server_that_does_not_accept() {
    let path = socket_path("full.sock");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let place = SockAddr::unix(&path).expect("a path");
    listener.bind(&place).expect("bound");
    listener.listen(0).expect("listening");
    let mut waiting = Vec::new();
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("set");
        if socket.connect(&place).is_err() {
            break;
        }
        waiting.push(socket);
    }
    let begin = Instant::now();
    let Output { code, stderr, .. } = run(client(&path, &["--connect-timeout", "300ms", "hello"]), Stdio::null());
    assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
    let sentence = format!("echo-client: cannot connect to {}: connection timed out\n", address(&path));
    assert_eq!((code, stderr), (Some(1), sentence));
    let Output { code, stderr, .. } = run(client(&path, &["--deadline", "300ms", "hello"]), Stdio::null());
    let sentence = format!("echo-client: cannot connect to {}: the deadline has passed\n", address(&path));
    assert_eq!((code, stderr), (Some(1), sentence));
    fs::remove_file(path).expect("the file");
}

#[test]
fn rules_for_addresses_are_not_about_unix_sockets() {
    let path = socket_path("rules.sock");
    let server = start(&path, &["--deny", "0.0.0.0/0,::/0", "--allow", "192.0.2.1", "--max-per-ip", "1"]);
    let _there = [UnixStream::connect(&path), UnixStream::connect(&path)];
    echo(UnixStream::connect(&path));
    server.process.signal(Signal::TERM);
    server.console.all();
}

/// A read stops short behind a descriptor that was sent along, and no event tells that more waits. (In an echo, one does:
/// when the client reads the echo.)
#[test]
fn lines_behind_descriptors_that_were_sent_along_are_heard() {
    let path = socket_path("descriptors.sock");
    let server = start(&path, &["--chat"]);
    let [mut ann, mut bob] = [(); 2].map(|()| {
        let stream = UnixStream::connect(&path).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        BufReader::new(stream)
    });
    let next = |member: &mut BufReader<UnixStream>| {
        let mut line = String::new();
        member.read_line(&mut line).expect("a line in time");
        line
    };
    assert!(next(&mut ann).starts_with("* welcome"));
    assert!(next(&mut bob).starts_with("* welcome"));
    assert_eq!(next(&mut ann), "* user2 joined\n");
    for _ in 0..10 {
        // Stopped, the server finds all of it at once.
        server.process.suspend();
        let stream = bob.get_ref();
        for part in [b"one\n", b"two\n"] {
            let descriptors = [stream.as_fd()];
            let mut space = [std::mem::MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
            sendmsg(stream, &[IoSlice::new(part)], &mut control, SendFlags::empty()).expect("sent");
        }
        bob.get_mut().write_all(b"three\n").expect("sent");
        server.process.signal(Signal::CONT);
        for said in ["one", "two", "three"] {
            assert_eq!(next(&mut ann), format!("<user2> {said}\n"));
        }
    }
    drop((ann, bob));
    server.stop();
}
