//! The terminal: in raw mode while the session runs, and as it was before when it ends.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Signal, kill_current_process_group};
use rustix::termios::{OptionalActions, OutputModes, Termios, tcgetattr, tcgetwinsize, tcsetattr, ttyname};

use super::screen::Size;

/// Makes the terminal put marks around what is pasted.
const MARK_PASTES: &[u8] = b"\x1b[?2004h";
const LEAVE: &[u8] = b"\x1b[?2004l\x1b[?25h";

/// The size of a terminal that does not know its own.
const USUAL: Size = Size { columns: 80, rows: 24 };

/// Standard input and output, both of them a terminal. Dropping it restores the mode.
pub(super) struct Terminal {
    stdin: io::Stdin,
    output: File,
    /// The mode before the session.
    original: Termios,
}

impl Terminal {
    pub(super) fn open() -> io::Result<Self> {
        let stdin = io::stdin();
        let original = tcgetattr(&stdin)?;
        let terminal = Self { stdin, output: open_output()?, original };
        terminal.enter_raw_mode()?;
        Ok(terminal)
    }

    /// Prepares the terminal for the session: at its start, and whenever another program may have used it. What
    /// appends to `out` has to be written.
    pub(super) fn enter(&self, out: &mut Vec<u8>) -> io::Result<()> {
        out.extend_from_slice(MARK_PASTES);
        self.enter_raw_mode()
    }

    fn enter_raw_mode(&self) -> io::Result<()> {
        let mut mode = self.original.clone();
        mode.make_raw();
        // A newline still begins a line.
        mode.output_modes = self.original.output_modes | OutputModes::OPOST | OutputModes::ONLCR;
        Ok(tcsetattr(&self.stdin, OptionalActions::Now, &mode)?)
    }

    /// Restores the mode as far as that is possible: a terminal that is gone needs nothing.
    fn leave(&self) {
        _ = (&self.output).write(LEAVE);
        _ = tcsetattr(&self.stdin, OptionalActions::Now, &self.original);
    }

    /// Gives the terminal to the shell, as Ctrl-Z does. Returns when the program is continued.
    pub(super) fn suspend(&self) -> io::Result<()> {
        self.leave();
        Ok(kill_current_process_group(Signal::TSTP)?)
    }

    pub(super) fn size(&self) -> Size {
        match tcgetwinsize(&self.output) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Size { columns: size.ws_col, rows: size.ws_row },
            _ => USUAL,
        }
    }

    /// Reads what has been typed, once the terminal is readable. Zero bytes mean that the terminal is gone.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not through the buffer of the standard library, which poll(2) would not see.
        Ok(rustix::io::read(&self.stdin, buffer)?)
    }

    /// Takes from `bytes` what the terminal accepts without blocking.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            match (&self.output).write(bytes) {
                Ok(length) => drop(bytes.drain(..length)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Becomes readable when something is typed.
    pub(super) fn input(&self) -> BorrowedFd<'_> {
        self.stdin.as_fd()
    }

    /// Becomes writable when the terminal accepts more.
    pub(super) fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Opens standard output anew, so that it does not block and the programs that share it do not notice.
fn open_output() -> io::Result<File> {
    let stdout = io::stdout();
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = ttyname(&stdout, Vec::new()).and_then(|name| open(&*name, flags, Mode::empty()));
    match opened.or_else(|_| open("/dev/stdout", flags, Mode::empty())) {
        Ok(own) => Ok(own.into()),
        // Another user's terminal, as after su(1), cannot be opened: writing to it may block.
        Err(_) => Ok(stdout.as_fd().try_clone_to_owned()?.into()),
    }
}
