//! Servers under measurement: each a process of its own, on a core of its own, ended when it is dropped.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, kill_process, set_parent_process_death_signal, setrlimit,
};

use crate::Result;
use crate::accounting;

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// Stands for the port in the command line of a program that must be told one.
const PORT: &str = "{port}";

/// A program that can be measured: its name in the tables, and its command line.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    words: Vec<OsString>,
    /// Whether it has a process for each connection, whose time counts too.
    pub(crate) forks: bool,
    /// Whether it takes part in every round: those do that a target compares. The others do in some.
    pub(crate) is_central: bool,
}

impl Program {
    /// A program with this command line. Where a word has `{port}` in it, the program is told a port that was free
    /// a moment ago; otherwise its first line on standard output says `port N`.
    pub(crate) fn new<W: AsRef<OsStr>>(name: &'static str, words: impl IntoIterator<Item = W>) -> Self {
        let words = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        Self { name, words, forks: false, is_central: false }
    }

    /// The daemon of this package.
    pub(crate) fn daemon(name: &'static str, options: &[&str]) -> Self {
        let always = [env!("CARGO_BIN_EXE_echo-server"), "--bind", "127.0.0.1", "--port", "0"];
        Self::new(name, always.iter().chain(options))
    }

    /// This program in another role: see [`crate::peers::Role`].
    pub(crate) fn own(name: &'static str, role: &[&str]) -> Self {
        let mut program = Self::new(name, ["serve"].iter().chain(role));
        program.words.insert(0, this_program());
        program
    }

    pub(crate) fn central(mut self) -> Self {
        self.is_central = true;
        self
    }

    pub(crate) fn forking(mut self) -> Self {
        self.forks = true;
        self
    }

    /// The same program run by another one, by which name it goes then.
    pub(crate) fn under(mut self, name: &'static str, command_line: &[&str]) -> Self {
        self.name = name;
        self.words.splice(0..0, command_line.iter().map(OsString::from));
        self
    }

    /// Its command line with this port, if it wants to be told one.
    pub(crate) fn command_line(&self, port: u16) -> Vec<OsString> {
        let told = |word: &OsString| match word.to_str() {
            Some(text) => text.replace(PORT, &port.to_string()).into(),
            None => word.clone(),
        };
        self.words.iter().map(told).collect()
    }

    fn is_told_its_port(&self) -> bool {
        self.words.iter().any(|word| word.to_str().is_some_and(|text| text.contains(PORT)))
    }

    /// Whether its program is found, in the path or where its name says.
    pub(crate) fn is_installed(&self) -> bool {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        // Joining an absolute path gives that path.
        std::env::split_paths(&folders).any(|folder| folder.join(&self.words[0]).is_file())
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) forks: bool,
    pub(crate) is_central: bool,
    /// Servers that it works with, whose time counts too.
    companions: Vec<Server>,
    child: Child,
    lines: Arc<AtomicU64>,
    /// What it said on standard error, once that is closed.
    complaint: Receiver<String>,
}

impl Server {
    /// Starts the program on the servers' core, and waits until it listens.
    pub(crate) fn start(program: &Program, cores: Option<Cores>) -> Result<Self> {
        Self::start_by(program, |command_line| {
            let mut command = Command::new(this_program());
            command.arg("launch");
            if let Some(cores) = cores {
                command.args(["--core", &cores.servers.to_string()]);
            }
            set_up(command.arg("--").args(command_line)).spawn()
        })
    }

    /// The same for a moment only: without the launcher, so that nothing but the program itself takes time.
    pub(crate) fn start_at_once(program: &Program, cores: Option<Cores>) -> Result<Self> {
        Self::start_by(program, |command_line| {
            let mut command = Command::new(&command_line[0]);
            let spawn = || -> io::Result<Child> {
                if let Some(cores) = cores {
                    // What is started from here inherits it.
                    pin(cores.servers).map_err(|error| io::Error::other(error.to_string()))?;
                }
                set_up(command.args(&command_line[1..])).spawn()
            };
            let outcome = thread::scope(|scope| scope.spawn(spawn).join());
            outcome.unwrap_or_else(|_| Err(io::Error::other("it could not be started")))
        })
    }

    fn start_by(program: &Program, spawn: impl FnOnce(&[OsString]) -> io::Result<Child>) -> Result<Self> {
        let port = if program.is_told_its_port() { Some(free_port()?) } else { None };
        let mut child = spawn(&program.command_line(port.unwrap_or(0)))?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let stderr = child.stderr.take().ok_or("no standard error")?;
        let lines = Arc::new(AtomicU64::new(0));
        let first_line = watch(stdout, Arc::clone(&lines));
        let complaint = collect(stderr);
        let address = (Ipv4Addr::LOCALHOST, port.unwrap_or(0)).into();
        let Program { name, forks, is_central, .. } = *program;
        // From here on an early return ends the child.
        let companions = Vec::new();
        let mut server = Self { name, address, forks, is_central, companions, child, lines, complaint };
        let is_up = match port {
            Some(_) => server.wait_until_listening()?,
            None => match first_line.recv_timeout(PATIENCE).ok().as_deref().and_then(port_of) {
                Some(port) => {
                    server.address.set_port(port);
                    true
                }
                None => false,
            },
        };
        if !is_up {
            _ = server.child.kill();
            let complaint = server.complaint.recv_timeout(PATIENCE).unwrap_or_default();
            return Err(format!("it does not start: {}", complaint.trim()).into());
        }
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The same server together with these.
    pub(crate) fn with(mut self, companions: impl IntoIterator<Item = Self>) -> Self {
        self.companions.extend(companions);
        self
    }

    /// The servers that it works with.
    pub(crate) fn companions(&self) -> &[Self] {
        &self.companions
    }

    /// The time it has spent on a processor, with its ended threads, its children and its companions.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let mut time = accounting::cpu_time(self.pid())?;
        if self.forks {
            time += accounting::cpu_time_of_children(self.pid())?;
        }
        for companion in &self.companions {
            time += companion.cpu_time()?;
        }
        Ok(time)
    }

    /// How many lines have come from its standard output.
    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Acquire)
    }

    /// Tells it to stop, and waits until it has, and who watches it too.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.child.wait()?;
        self.complaint.recv_timeout(PATIENCE).map_err(|_| "it does not come to its end")?;
        Ok(())
    }

    /// Tries until somebody listens on the port; `false` if the program has ended.
    fn wait_until_listening(&mut self) -> Result<bool> {
        let begin = Instant::now();
        while !is_listening(self.address) {
            if self.child.try_wait()?.is_some() || begin.elapsed() > PATIENCE {
                return Ok(false);
            }
            thread::yield_now();
        }
        Ok(true)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let children = if self.forks { accounting::children(self.pid()).unwrap_or_default() } else { Vec::new() };
        // Without effect where it has been waited for.
        _ = self.child.kill();
        _ = self.child.wait();
        for pid in children.into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            _ = kill_process(pid, Signal::KILL);
        }
    }
}

const THIS_THREAD: nix::unistd::Pid = nix::unistd::Pid::from_raw(0);

/// Which core is for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) servers: usize,
    pub(crate) load: usize,
}

impl Cores {
    /// The first two cores that this process may use; `None` where there is only one.
    pub(crate) fn find() -> Result<Option<Self>> {
        let allowed = sched_getaffinity(THIS_THREAD)?;
        let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
        Ok(cores.next().zip(cores.next()).map(|(servers, load)| Self { servers, load }))
    }
}

/// Keeps the calling thread, and those that it starts from now on, on one core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(THIS_THREAD, &cores)?)
}

/// What a new process does first, in the place of the server that it is to become: takes the server's core and all
/// descriptors it can get, and sees to it that the server ends when the benchmark does, however that ends.
pub(crate) fn launch(core: Option<usize>, command_line: &[OsString]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    raise_descriptor_limit()?;
    if let Some(core) = core {
        pin(core)?;
    }
    let (program, arguments) = command_line.split_first().ok_or("nothing to launch")?;
    let error = Command::new(program).args(arguments).exec();
    Err(format!("{}: {error}", program.display()).into())
}

pub(crate) fn raise_descriptor_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// A server's standard streams, and none of the variables that would change what the daemon does.
fn set_up(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"ECHO_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn this_program() -> OsString {
    std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into()).into()
}

/// Whether a connection can be made. (Where nobody listens, a socket may be given that very port, and connect to
/// itself.)
fn is_listening(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok_and(|stream| stream.local_addr().is_ok_and(|own| own != address))
}

/// The number after the word `port`.
fn port_of(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("port ")?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// Reads a server's output to its end, in big pieces and without looking at it, so that it costs next to nothing:
/// it is the load's core on which this runs. Hands out the first line, and counts all of them.
fn watch(output: impl Read + Send + 'static, count: Arc<AtomicU64>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut output = BufReader::with_capacity(1 << 16, output);
        let mut first = String::new();
        if output.read_line(&mut first).is_ok() {
            _ = sender.send(first);
            count.store(1, Ordering::Release);
        }
        while let Ok(bytes) = output.fill_buf()
            && !bytes.is_empty()
        {
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
            let length = bytes.len();
            count.fetch_add(lines as u64, Ordering::Release);
            output.consume(length);
        }
    });
    receiver
}

/// Reads what a server complains about, to its end.
fn collect(mut output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        _ = output.read_to_end(&mut bytes);
        _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}
