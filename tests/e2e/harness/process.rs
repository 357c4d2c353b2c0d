//! Programs under test: never left behind, never waited for without a deadline.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Once};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use signal_hook::consts::{FORBIDDEN, SIGPIPE, SIGSYS};
use signal_hook::flag;

use super::descriptor_flags;

use super::is_suspended;

/// How long anything may take that should come at once. Long, for machines under load.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A running program. Dropped, it is killed.
pub(crate) struct Process {
    child: Child,
    /// All of stderr, once it is closed: that is when the program ends.
    stderr: Receiver<Vec<u8>>,
}

impl Process {
    pub(crate) fn spawn(mut command: Command) -> Self {
        prepare();
        let program = format!("{:?}", command.get_program());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        let stderr = collect(child.stderr.take().expect("stderr is a pipe"));
        Self { child, stderr }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The program's end of a pipe made by `Stdio::piped`.
    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("stdin is a pipe")
    }

    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("stdout is a pipe")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the program is there");
    }

    /// Makes the program stand still until it gets SIGCONT.
    pub(crate) fn suspend(&self) {
        self.signal(Signal::STOP);
        while !is_suspended(self.pid()) {
            thread::yield_now();
        }
    }

    /// Waits until the program has ended; returns its status and what it wrote to stderr.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let stderr = self.stderr.recv_timeout(DEADLINE).expect("the program ends in time");
        let status = self.child.wait().expect("a child can be waited for");
        (status, String::from_utf8(stderr).expect("stderr is text"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Without effect where the program has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program that has ended left behind.
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Runs a program to its end.
pub(crate) fn run(mut command: Command, stdin: impl Into<Stdio>) -> Output {
    command.stdin(stdin).stdout(Stdio::piped());
    finish(Process::spawn(command))
}

/// Runs a program to its end with `input`, then the end of file, on its stdin.
pub(crate) fn feed(mut command: Command, input: impl Into<Arc<[u8]>>) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let mut stdin = process.take_stdin();
    let input = input.into();
    // A program may end without having read all: no error of this test.
    thread::spawn(move || stdin.write_all(&input));
    finish(process)
}

fn finish(mut process: Process) -> Output {
    let stdout = collect(process.take_stdout());
    let (status, stderr) = process.wait();
    Output { code: status.code(), stdout: stdout.recv_timeout(DEADLINE).expect("stdout is closed"), stderr }
}

/// Whether the tool is here. Where it is not, a person is told so and the test is skipped; in CI it fails.
pub(crate) fn has(tool: &str) -> bool {
    has_if(tool, &format!("command -v {tool}"))
}

/// The same for what is here if the shell says so.
pub(crate) fn has_if(tool: &str, condition: &str) -> bool {
    let found = Command::new("sh").args(["-c", condition]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.expect("a shell").success();
    assert!(found || std::env::var_os("CI").is_none(), "{tool} is missing, and this is CI");
    if !found {
        println!("skipped: {tool} is not installed");
    }
    found
}

/// A command without the variables that would change what the programs do, in a time zone, a language and a
/// terminal that are not the machine's.
pub(crate) fn clean_command(program: impl AsRef<OsStr>) -> Command {
    const OF_TERMINALS: [&str; 5] = ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES"];
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"ECHO_")) {
        command.env_remove(name);
    }
    for name in OF_TERMINALS {
        command.env_remove(name);
    }
    command.env("TZ", "UTC").env("LC_ALL", "C.UTF-8").env("TERM", "xterm").stdin(Stdio::null());
    command
}

/// The path of a file that no other test uses, nor this one when it runs beside itself.
pub(crate) fn scratch_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()))
}

/// Reads `input` to its end in the background.
fn collect(mut input: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = input.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// Makes programs start in the same state however the tests were started.
fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        raise_descriptor_limit();
        close_inherited_descriptors();
        restore_signals();
    });
}

/// Tests with a thousand connections run beside each other.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the hard limit");
}

/// Programs inherit the descriptors of whoever started the tests, and some tests count theirs. Those that the tests
/// open themselves are closed in new programs.
fn close_inherited_descriptors() {
    let own = rustix::process::getpid();
    for (number, flags) in descriptor_flags(own) {
        if number > 2 && flags & OFlags::CLOEXEC.bits() == 0 {
            nix::unistd::close(number).expect("it is open");
        }
    }
}

/// Programs inherit which signals are ignored: SIGHUP from nohup, SIGINT and SIGQUIT from a script that runs the
/// tests in the background. A signal that is caught has its default effect in a new program (execve(2)), so this
/// catches those that are ignored, and does nothing when they come. (SIGPIPE, which Rust ignores, is its matter.)
fn restore_signals() {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask").trim();
    let mask = u64::from_str_radix(mask, 16).expect("hexadecimal digits");
    for signal in (1..=SIGSYS).filter(|signal| *signal != SIGPIPE && mask >> (signal - 1) & 1 == 1) {
        if !FORBIDDEN.contains(&signal) {
            flag::register(signal, Arc::default()).expect("it can be caught");
        }
    }
}
