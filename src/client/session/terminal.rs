//! The person's terminal: every key at once while the session runs, and as it was before when it ends.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::process::{Signal, kill_current_process_group};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};

use super::screen::Size;

/// Has the terminal put marks around what is pasted.
const MARK_PASTES: &[u8] = b"\x1b[?2004h";
const LEAVE_PASTES: &[u8] = b"\x1b[?2004l";

/// The size of a terminal that does not know its own.
const USUAL: Size = Size { columns: 80, rows: 24 };

/// Standard input and output, both of them a terminal, in the mode for editing. Dropped, it puts the terminal back.
pub(super) struct Terminal {
    stdin: io::Stdin,
    /// The mode before.
    original: Termios,
}

impl Terminal {
    pub(super) fn open() -> io::Result<Self> {
        let stdin = io::stdin();
        let original = tcgetattr(&stdin)?;
        let terminal = Self { stdin, original };
        terminal.enter()?;
        Ok(terminal)
    }

    /// Sets the mode for editing, once more after the program was stopped, when a shell may have changed it.
    pub(super) fn enter(&self) -> io::Result<()> {
        let mut mode = self.original.clone();
        // Output stays as it is, so that a newline still begins a line.
        mode.input_modes -= InputModes::BRKINT | InputModes::ICRNL | InputModes::INLCR | InputModes::ISTRIP;
        mode.input_modes -= InputModes::IXON | InputModes::INPCK;
        mode.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::IEXTEN | LocalModes::ISIG;
        mode.special_codes[SpecialCodeIndex::VMIN] = 1;
        mode.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&self.stdin, OptionalActions::Now, &mode)?;
        self.write(MARK_PASTES)
    }

    fn leave(&self) -> io::Result<()> {
        self.write(LEAVE_PASTES)?;
        Ok(tcsetattr(&self.stdin, OptionalActions::Now, &self.original)?)
    }

    /// Gives the terminal back to the shell until that continues the program, as Ctrl-Z does.
    pub(super) fn suspend(&self) -> io::Result<()> {
        self.leave()?;
        kill_current_process_group(Signal::TSTP)?;
        self.enter()
    }

    pub(super) fn size(&self) -> Size {
        match tcgetwinsize(&self.stdin) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Size { columns: size.ws_col, rows: size.ws_row },
            _ => USUAL,
        }
    }

    /// What has been typed, once the terminal is readable. Nothing where it is gone.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not through the buffer of the standard library, which poll(2) would not see.
        Ok(rustix::io::read(&self.stdin, buffer)?)
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stdin.as_fd()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        _ = self.leave();
    }
}
