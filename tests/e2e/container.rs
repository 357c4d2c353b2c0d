//! What the container image promises: both programs need no other file than their libraries, and no rights.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::harness::{Server, clean_command, feed, has, has_if, needs_tcp, round_trip, run, scratch_file};

const CONTAINERFILE: &str = include_str!("../../.container/Containerfile");

/// A root directory with nothing but both programs and their libraries.
struct EmptyRoot(PathBuf);

impl EmptyRoot {
    fn new() -> Self {
        let root = Self(scratch_file("root"));
        fs::create_dir(&root.0).expect("a directory");
        fs::set_permissions(&root.0, fs::Permissions::from_mode(0o755)).expect("for everybody");
        for program in [env!("CARGO_BIN_EXE_echo-server"), env!("CARGO_BIN_EXE_echo-client")] {
            let name = Path::new(program).file_name().expect("a name");
            fs::hard_link(program, root.0.join(name))
                .or_else(|_| fs::copy(program, root.0.join(name)).map(drop))
                .expect("there");
            let mut ldd = clean_command("ldd");
            ldd.arg(program);
            let libraries = String::from_utf8(run(ldd, Stdio::null()).stdout).expect("text");
            for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
                let copy = root.0.join(&library[1..]);
                fs::create_dir_all(copy.parent().expect("a directory")).expect("made");
                fs::copy(library, copy).expect("copied");
            }
        }
        root
    }

    /// A program in this root, without rights.
    fn command(&self, program: &str) -> Command {
        let mut command = clean_command("chroot");
        command.arg("--userspec=65534:65534").arg(&self.0).arg(program);
        command
    }
}

impl Drop for EmptyRoot {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn both_programs_run_in_an_empty_root() {
    if needs_tcp() || !has("ldd") || !has_if("root", "test $(id -u) = 0") {
        return;
    }
    let root = EmptyRoot::new();
    let mut command = root.command("/echo-server");
    command.args(["--port", "0", "--bind", "0.0.0.0"]);
    let server = Server::launch(command);
    round_trip(&mut server.connect(), b"hello");
    let check = CONTAINERFILE.lines().find(|line| line.starts_with("HEALTHCHECK")).expect("a health check");
    let (_, words) = check.split_once(" CMD ").expect("a command");
    let words: Vec<String> = serde_json::from_str(words).expect("a list");
    let mut command = root.command(&words[0]);
    command.args(&words[1..]).env("ECHO_PORT", server.port.to_string());
    let output = feed(command, *b"");
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    assert_eq!(server.stop_by(Signal::TERM).len(), 2);
}
