//! A terminal: what a person types at one end, what a program prints at the other.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::DEADLINE;

/// Both ends of a pseudo-terminal.
pub(crate) struct Pty {
    /// The person's end.
    person: File,
    /// The programs' end, open as long as a program may still be given it.
    pub(crate) programs: File,
    name: PathBuf,
}

/// Opens the programs' end.
fn open(name: &Path, flags: OFlags) -> File {
    let flags = (flags | OFlags::NOCTTY).bits().cast_signed();
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(name).expect("the programs' end")
}

impl Pty {
    pub(crate) fn open() -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&person).expect("granted");
        unlockpt(&person).expect("unlocked");
        let name = ptsname(&person, Vec::new()).expect("a name");
        let name = PathBuf::from(OsString::from_vec(name.into_bytes()));
        Self { person: person.into(), programs: open(&name, OFlags::empty()), name }
    }

    /// The terminal as a standard stream of a program; all that share it share its flags.
    pub(crate) fn stdio(&self) -> Stdio {
        self.programs.try_clone().expect("a duplicate").into()
    }

    /// What is shown. It ends when the last program has closed the terminal and `programs` is dropped.
    pub(crate) fn screen(&self) -> File {
        self.person.try_clone().expect("a duplicate")
    }

    /// Waits until the terminal takes nothing more from programs: what is typed arrives when the system finds
    /// time for it.
    pub(crate) fn wait_until_held(&self) {
        self.wait_until_held_after(std::thread::yield_now);
    }

    fn wait_until_held_after(&self, mut attempt: impl FnMut()) {
        let begin = Instant::now();
        let no_time = Timespec::default();
        while poll(&mut [PollFd::new(&self.programs, PollFlags::OUT)], Some(&no_time)).expect("asked") > 0 {
            assert!(begin.elapsed() < DEADLINE, "the terminal is not held");
            attempt();
        }
    }

    /// Fills the terminal with what nobody reads, until it takes nothing more from programs. What a program writes
    /// itself does not always do: the system may make room later and not wake it for that.
    pub(crate) fn fill(&self) {
        let mut filler = open(&self.name, OFlags::NONBLOCK);
        self.wait_until_held_after(|| while filler.write(&[b'.'; 4096]).is_ok() {});
    }

    pub(crate) fn type_in(&mut self, keys: &[u8]) {
        self.person.write_all(keys).expect("typed");
    }
}
