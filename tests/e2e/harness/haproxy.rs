//! HAProxy in front of servers.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use super::{DEADLINE, Process, clean_command, connect, free_port, has, is_listening, scratch_file};

/// HAProxy in TCP mode. Dropped, it ends.
pub(crate) struct HaProxy {
    process: Process,
    port: u16,
    configuration: PathBuf,
    socket: PathBuf,
}

impl HaProxy {
    /// Starts it before the servers of `backend`, which is the section of that name in its configuration; not at all, and
    /// says so, where it is not installed.
    pub(crate) fn start(backend: &str) -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        if !has("haproxy") {
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let configuration = scratch_file(&format!("haproxy-{number}.cfg"));
        let (socket, port) = (configuration.with_extension("sock"), free_port());
        let text = format!(
            "global\n  stats socket {}\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  \
             timeout server 1m\nfrontend in\n  bind 127.0.0.1:{port}\n  default_backend servers\n\
             backend servers\n{backend}\n",
            socket.display()
        );
        fs::write(&configuration, text).expect("written");
        let mut command = clean_command("haproxy");
        command.arg("-db").arg("-f").arg(&configuration);
        let proxy = Self { process: Process::spawn(command), port, configuration, socket };
        proxy.wait_until("listen", || is_listening(port));
        Some(proxy)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address())
    }

    /// Waits until this column of its statistics has this value for a server, such as `NOLB` for `status`.
    pub(crate) fn wait_for(&self, server: &str, column: &str, value: &str) {
        self.wait_until(value, || self.statistic(server, column) == value);
    }

    fn statistic(&self, server: &str, column: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).expect("connected");
        stream.write_all(b"show stat\n").expect("asked");
        let mut table = String::new();
        stream.read_to_string(&mut table).expect("the answer");
        let mut rows = table.lines().map(|row| row.split(','));
        let at = rows.next().and_then(|mut names| names.position(|name| name == column)).expect("the column");
        let mut row = rows.find(|row| row.clone().take(2).eq(["servers", server])).expect("the server");
        row.nth(at).expect("the value").to_owned()
    }

    fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_so() {
            assert!(begin.elapsed() < DEADLINE, "HAProxy {} does not {what}", self.process.pid());
            thread::yield_now();
        }
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.configuration);
        _ = fs::remove_file(&self.socket);
    }
}
