//! A session in tmux, which wraps its rows anew when its width changes, as most terminals do.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use rustix::process::Pid;

use crate::harness::{DEADLINE, clean_command, scratch_file};

/// A window of a tmux server of its own.
pub(crate) struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    /// Runs `client` in a window of this many columns, until its input is there.
    pub(crate) fn start(name: &str, client: &Command, columns: u16) -> Self {
        let tmux = Self::run_in_window(name, client, columns);
        tmux.wait_until("the prompt", |lines| lines.last().is_some_and(|line| line.ends_with('>')));
        tmux
    }

    /// Runs any program in a window.
    pub(crate) fn run_in_window(name: &str, program: &Command, columns: u16) -> Self {
        let tmux = Self { socket: scratch_file(&format!("{name}.tmux")) };
        let mut command = clean_command("tmux");
        command.env("LC_ALL", "C.UTF-8").args(["-u", "-f", "/dev/null", "-S"]).arg(&tmux.socket);
        command.args(["set", "-g", "history-limit", "9999", ";", "set", "-g", "status", "off", ";"]);
        command.args(["new-session", "-d", "-y", "12", "-x", &columns.to_string(), "--"]);
        command.arg(program.get_program()).args(program.get_args());
        assert!(command.status().expect("tmux").success());
        tmux
    }

    pub(crate) fn type_in(&self, text: &str) {
        self.run(&["send-keys", "-l", "--", text]);
    }

    pub(crate) fn resize(&self, columns: u16) {
        self.run(&["resize-window", "-x", &columns.to_string()]);
    }

    /// The child of the program in the window.
    pub(crate) fn child(&self) -> Pid {
        let parent = self.run(&["list-panes", "-F", "#{pane_pid}"]);
        let parent = parent.trim();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).expect("its children");
        children.trim().parse().ok().and_then(Pid::from_raw).expect("one child")
    }

    /// All lines from the beginning of the scrollback to the last one that is not empty, each in one piece, however
    /// many rows it takes.
    pub(crate) fn lines(&self) -> Vec<String> {
        let shown = self.run(&["capture-pane", "-p", "-J", "-S", "-"]);
        shown.trim_end().lines().map(|line| line.trim_end().to_owned()).collect()
    }

    pub(crate) fn wait_until(&self, what: &str, is_shown: impl Fn(&[String]) -> bool) {
        let begin = Instant::now();
        while !is_shown(&self.lines()) {
            assert!(begin.elapsed() < DEADLINE, "waited in vain for {what}\nshown is {:#?}", self.lines());
        }
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output =
            clean_command("tmux").arg("-u").arg("-S").arg(&self.socket).args(arguments).output().expect("tmux");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        _ = clean_command("tmux").arg("-S").arg(&self.socket).arg("kill-server").status();
    }
}
