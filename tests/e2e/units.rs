//! The systemd units, as systemd sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;

use crate::harness::{
    Certificates, Member, Server, accept_in_time, clean_command, client, has, listener, round_trip, run, scratch_file,
    server_command_under,
};

const SERVER: &str = env!("CARGO_BIN_EXE_echo-server");

/// The units in a directory of their own. They start the server that is tested.
struct Units(PathBuf);

impl Units {
    fn new(name: &str) -> Self {
        let directory = scratch_file(name);
        fs::create_dir(&directory).expect("a directory");
        for unit in ["service", "socket"] {
            let text = printed(unit).replace("ExecStart=echo-server", &format!("ExecStart={SERVER}"));
            fs::write(directory.join(format!("echo-server.{unit}")), text).expect("written");
        }
        Self(directory)
    }

    fn service(&self) -> PathBuf {
        self.0.join("echo-server.service")
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn printed(unit: &str) -> String {
    output(SERVER, &["--print", unit])
}

/// What a command prints that succeeds and has no complaints.
fn output(program: &str, arguments: &[&str]) -> String {
    let mut command = clean_command(program);
    command.args(arguments);
    let output = run(command, Stdio::null());
    let stdout = String::from_utf8(output.stdout).expect("text");
    assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{program} {arguments:?}: {stdout}");
    stdout
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

#[test]
fn systemd_finds_nothing_wrong_with_them() {
    if !has("systemd-analyze") {
        return;
    }
    let units = Units::new("sound-units");
    let socket = units.0.join("echo-server.socket");
    // Whether their manual page is installed is another matter.
    let printed = output("systemd-analyze", &["verify", "--man=no", path(&units.service()), path(&socket)]);
    assert_eq!(printed, "");
}

/// Tenths of what `systemd-analyze security` calls exposure, from 0 to 100.
#[test]
fn they_expose_little() {
    if !has("systemd-analyze") {
        return;
    }
    let units = Units::new("hardened-units");
    let service = units.service();
    let is_below = |tenths: &str| {
        output("systemd-analyze", &["security", "--offline=true", "--threshold", tenths, path(&service)]);
    };
    is_below("15");
    let text = fs::read_to_string(&service).expect("a unit");
    let without_network =
        text.replace("\n#PrivateNetwork=", "\nPrivateNetwork=").replace("\n#RestrictAddress", "\nRestrictAddress");
    assert_ne!(text, without_network);
    fs::write(&service, without_network).expect("written");
    is_below("10");
}

/// The system calls that the service may make, as its lines `SystemCallFilter=` say.
fn allowed_calls() -> BTreeSet<String> {
    let mut command = clean_command("systemd-analyze");
    command.arg("syscall-filter");
    // Without root it complains that it cannot list the calls that are in no set.
    let text = String::from_utf8(run(command, Stdio::null()).stdout).expect("text");
    let mut sets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut members = None;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        match line.strip_prefix("    ") {
            Some(member) => members.iter_mut().for_each(|members: &mut &mut Vec<_>| members.push(member)),
            None => members = Some(sets.entry(line).or_default()),
        }
    }
    let mut allowed = BTreeSet::new();
    for filter in printed("service").lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (is_denied, names) = filter.strip_prefix('~').map_or((false, filter), |names| (true, names));
        let mut names: Vec<&str> = names.split(' ').collect();
        while let Some(name) = names.pop() {
            match sets.get(name) {
                Some(members) => names.extend(members),
                None if is_denied => _ = allowed.remove(name),
                None => _ = allowed.insert(name.to_owned()),
            }
        }
    }
    assert!(allowed.contains("accept4") && !allowed.contains("chroot"), "{allowed:?}");
    allowed
}

/// A server whose system calls are noted.
struct Watched {
    server: Server,
    summary: PathBuf,
}

impl Watched {
    /// `socket` is handed over to it.
    fn start(socket: Option<TcpListener>, options: &[&str], notify: &Path) -> Self {
        let summary = scratch_file(&format!("calls-{}", options.concat().len()));
        // The shell becomes the server; strace stands beside it.
        let inherit = r#"LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@" 3<&0 </dev/null"#;
        let strace = ["strace", "-D", "-f", "-c", "-U", "name", "-o", path(&summary)];
        let wrapper = if socket.is_some() { &["sh", "-c", inherit][..] } else { &[] };
        let mut command = server_command_under(&[wrapper, &strace].concat(), options);
        command.env("NOTIFY_SOCKET", notify);
        if let Some(socket) = socket {
            command.stdin(OwnedFd::from(socket));
        }
        Self { server: Server::launch(command), summary }
    }

    /// Stops the server. Returns the names of the system calls that it has made.
    fn stop(self) -> Vec<String> {
        self.server.process.signal(Signal::USR1);
        self.server.stop_by(Signal::TERM);
        let summary = fs::read_to_string(&self.summary).expect("a summary");
        fs::remove_file(self.summary).expect("removed");
        let names = summary.lines().map(str::trim).filter(|line| !line.starts_with('-') && *line != "syscall");
        names.filter(|name| *name != "total").map(str::to_owned).collect()
    }
}

/// A server and a room, each with what it has for the network, do not call anything that the service forbids.
#[test]
fn every_system_call_is_allowed() {
    if !has("systemd-analyze") || !has("strace") {
        return;
    }
    let (socket, notify) = (scratch_file("watched.sock"), scratch_file("watched-notify.sock"));
    let _manager = UnixDatagram::bind(&notify).expect("bound");
    let unix = format!("unix:{}", socket.display());
    let echo = ["--port=0", "--bind=localhost", "--bind", &unix, "--admin=0", "--drain=1ms", "--proxy-from=127.0.0.9"];
    let echo = Watched::start(None, &echo, &notify);
    round_trip(&mut echo.server.connect(), &[b'x'; 100_000]);
    drop(UnixStream::connect(&socket).expect("connected"));
    drop(TcpStream::connect(echo.server.admin()).expect("connected"));

    // It is no Redis, but connected to.
    let (redis, port) = listener();
    let url = format!("redis://127.0.0.1:{port}");
    let shared = Watched::start(None, &["--port=0", "--chat", "--redis", &url], &notify);
    let _connection = accept_in_time(&redis);
    drop(shared.server.connect());

    let certificates = Certificates::shared();
    let tls = Watched::start(None, &[&certificates.server_options()[..], &["--port=0", "--quiet"]].concat(), &notify);
    let hello = client(tls.server.port, &[&certificates.client_options()[..], &["hello"]].concat());
    assert_eq!(run(hello, Stdio::null()).code, Some(0));

    let (inherited, _) = listener();
    let room = Watched::start(Some(inherited), &["--chat", "--history=9"], &notify);
    let _ann = Member::join(&room.server, "ann", "");
    run(client(room.server.port, &["hello"]), Stdio::null());

    let allowed = allowed_calls();
    let calls: BTreeSet<String> = [echo, shared, tls, room].into_iter().flat_map(Watched::stop).collect();
    assert!(calls.contains("epoll_wait") && calls.contains("sendto"), "{calls:?}");
    let forbidden: Vec<&String> = calls.difference(&allowed).collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
    fs::remove_file(&notify).expect("removed");
}
