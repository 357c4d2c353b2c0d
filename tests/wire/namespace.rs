//! A network of its own for some of the programs and sockets of a test.

use std::fs::{self, File};
use std::io;
use std::panic::resume_unwind;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use tun_rs::{DeviceBuilder, SyncDevice};

/// A network namespace. It has no name, so the kernel takes it away with the last program and the last
/// descriptor that is in it, however this test ends.
pub(crate) struct Namespace {
    handle: File,
}

impl Namespace {
    pub(crate) fn new() -> io::Result<Self> {
        // A thread moves there and ends; what it opened keeps the place.
        let there = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        };
        Ok(Self { handle: thread::spawn(there).join().expect("no panic")? })
    }

    /// Does `work` in the namespace: the sockets that it opens and the programs that it starts belong there.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let there = || {
            setns(&self.handle, CloneFlags::CLONE_NEWNET).expect("the namespace is there");
            work()
        };
        thread::scope(|scope| scope.spawn(there).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Adds the end of a wire from the address `own` to the address `other`: what is sent to that one can be
    /// read from the device, packet by packet, and what is written to the device comes from there.
    pub(crate) fn add_end(&self, own: &str, other: &str) -> io::Result<SyncDevice> {
        self.inside(|| {
            let device = DeviceBuilder::new().name("wire").build_sync()?;
            device.set_nonblocking(true)?;
            run(&["ip", "address", "add", own, "peer", other, "dev", "wire"])?;
            run(&["ip", "link", "set", "dev", "wire", "mtu", "1500", "up"])?;
            Ok(device)
        })
    }

    /// Lets TCP send with BBR where the kernel has it: others take every loss for a jam, and crawl. Returns
    /// what TCP sends with.
    pub(crate) fn ask_for_bbr(&self) -> String {
        const SETTING: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
        self.inside(|| {
            _ = fs::write(SETTING, "bbr");
            fs::read_to_string(SETTING).expect("a setting of the kernel").trim().to_owned()
        })
    }
}

fn run(line: &[&str]) -> io::Result<()> {
    let output = Command::new(line[0])
        .args(&line[1..])
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", line[0])))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(io::Error::other(format!("{line:?}: {complaint}"))) }
}
