//! A redis-server of the test's own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{DEADLINE, Process, free_port, scratch_file};

/// A running redis-server with a folder of its own. Both are gone when this is dropped.
pub(crate) struct Redis {
    process: Option<Process>,
    folder: PathBuf,
    options: Vec<String>,
    pub(crate) port: u16,
}

impl Redis {
    /// Starts a redis-server that saves nothing unless these options say so.
    pub(crate) fn start(options: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = scratch_file(&format!("redis-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&folder).expect("a folder");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut redis = Self { process: None, folder, options, port: free_port() };
        redis.launch();
        redis
    }

    /// Starts it again, at the same port and with what it finds on its disk.
    pub(crate) fn launch(&mut self) {
        let mut command = Command::new(program());
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(&self.folder).args(["--unixsocket", "redis.sock", "--logfile", "redis.log"]);
        command.args(["--repl-diskless-sync-delay", "0"]).args(&self.options).stdout(Stdio::null());
        self.process = Some(Process::spawn(command));
        let begin = Instant::now();
        let is_up = |answer: String| answer.starts_with("+PONG") || answer.starts_with("-NOAUTH");
        while TcpStream::connect(self.address()).is_err() || !is_up(self.ask("PING")) {
            assert!(begin.elapsed() < DEADLINE, "redis-server does not start");
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The Unix socket on which it listens too.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    /// Changes an option for the next [`launch`](Self::launch).
    pub(crate) fn set_option(&mut self, name: &str, value: &str) {
        let at = self.options.iter().position(|option| option == name).expect("it is set");
        self.options[at + 1] = value.to_owned();
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    pub(crate) fn suspend(&self) {
        self.process.as_ref().expect("it runs").suspend();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    /// Sends a command of plain words; returns the answer as it comes: its type, and its text or the number of its parts.
    pub(crate) fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(self.address()).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.write_all(format!("{command}\r\n").as_bytes()).expect("sent");
        let mut input = BufReader::new(stream);
        let mut line = String::new();
        input.read_line(&mut line).expect("an answer");
        if line.starts_with('$') && !line.starts_with("$-") {
            return format!("${}", bulk(&line, &mut input));
        }
        line.trim_end().to_owned()
    }

    /// The same for a command whose answer is a list of texts.
    pub(crate) fn ask_for_list(&self, command: &str) -> Vec<String> {
        let mut stream = TcpStream::connect(self.address()).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.write_all(format!("{command}\r\n").as_bytes()).expect("sent");
        let mut input = BufReader::new(stream);
        let mut next = || {
            let mut line = String::new();
            input.read_line(&mut line).expect("an answer");
            if line.starts_with('$') { bulk(&line, &mut input) } else { line }
        };
        let count = next().trim_end().strip_prefix('*').and_then(|count| count.parse().ok()).expect("a list");
        (0..count).map(|_| next()).collect()
    }

    /// Sends these bytes, and waits until they are answered or refused.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut stream = TcpStream::connect(self.address()).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.write_all(bytes).expect("sent");
        _ = stream.read(&mut [0; 1024]).expect("an answer");
    }

    /// Ends it with SIGKILL, as if its machine had lost what was appended from this text on. (Redis writes it a little
    /// later than it answers.)
    pub(crate) fn kill_before(&mut self, text: &str) {
        let begin = Instant::now();
        while self.appended(text).is_none() {
            assert!(begin.elapsed() < DEADLINE, "{text} is not appended");
            thread::sleep(Duration::from_millis(2));
        }
        self.kill();
        let (file, rest) = self.appended(text).expect("it was there before");
        fs::write(file, rest).expect("it can be written");
    }

    /// The file to which commands are appended, and what it has before the last of these texts.
    fn appended(&self, text: &str) -> Option<(PathBuf, Vec<u8>)> {
        // Redis 6 has no folder for it, and one file.
        let folders = [self.folder.join("appendonlydir"), self.folder.clone()];
        let mut files = folders.iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path());
        let file = files.find(|path| [".incr.aof", "/appendonly.aof"].iter().any(|end| ends_with(path, end)))?;
        let mut bytes = fs::read(&file).expect("it can be read");
        bytes.truncate(memchr::memmem::rfind(&bytes, text.as_bytes())?);
        Some((file, bytes))
    }

    /// Waits until a command is answered so.
    pub(crate) fn wait_for(&self, command: &str, what: impl Fn(&str) -> bool) {
        let begin = Instant::now();
        while !what(&self.ask(command)) {
            assert!(begin.elapsed() < DEADLINE, "{command}: {}", self.ask(command));
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process = None;
        _ = fs::remove_dir_all(&self.folder);
    }
}

fn ends_with(path: &Path, end: &str) -> bool {
    path.to_string_lossy().ends_with(end)
}

/// The program that is started.
pub(crate) fn program() -> String {
    std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// The text that follows this line of an answer.
fn bulk(line: &str, input: &mut impl BufRead) -> String {
    let length = line[1..].trim_end().parse::<usize>().expect("a length");
    let mut text = vec![0; length + 2];
    input.read_exact(&mut text).expect("the rest of the answer");
    String::from_utf8_lossy(&text[..length]).into_owned()
}
