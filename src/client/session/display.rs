//! What the person sees: what was printed, and the input below it.

use std::io;
use std::os::fd::BorrowedFd;

use super::screen::{Input, Prompt, Screen};
use super::terminal::Terminal;

/// The terminal, and what is still to be written to it.
pub(super) struct Display {
    terminal: Terminal,
    screen: Screen,
    frame: Vec<u8>,
    /// The terminal did not accept the last frame in whole.
    is_stalled: bool,
}

impl Display {
    pub(super) fn open() -> io::Result<Self> {
        let terminal = Terminal::open()?;
        let mut frame = Vec::new();
        terminal.enter(&mut frame)?;
        Ok(Self { terminal, screen: Screen::default(), frame, is_stalled: false })
    }

    /// Whether the terminal accepts nothing at present. What is shown then piles up.
    pub(super) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// Where to append lines that are to be shown above the input, which is painted again by [`show`](Self::show).
    pub(super) fn above(&mut self) -> &mut Vec<u8> {
        self.screen.wipe(&mut self.frame);
        &mut self.frame
    }

    /// Shows input that is done, for good.
    pub(super) fn commit(&mut self, prompt: &Prompt, text: &str) {
        self.screen.commit(&mut self.frame, prompt, text);
    }

    pub(super) fn clear(&mut self) {
        self.screen.clear(&mut self.frame);
    }

    /// Writes what there is, and below it the input if there is one.
    pub(super) fn show(&mut self, input: Option<Input<'_>>) -> io::Result<()> {
        loop {
            if let Some(input) = input
                && !self.is_stalled
            {
                self.screen.paint(&mut self.frame, self.terminal.size(), input);
            }
            let was_stalled = self.is_stalled;
            // After a stall the input is not there yet.
            if !self.flush()? || !was_stalled {
                return Ok(());
            }
        }
    }

    /// Writes what the terminal accepts; returns whether that was everything.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        self.terminal.write(&mut self.frame)?;
        self.is_stalled = !self.frame.is_empty();
        Ok(!self.is_stalled)
    }

    /// Gives the terminal to the shell until that continues the program.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        self.terminal.suspend()?;
        self.resume()
    }

    /// The program was continued. A shell may have moved the cursor below what it printed meanwhile, which stays: only
    /// what follows the cursor is cleared.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        self.screen.wipe(&mut self.frame);
        self.terminal.enter(&mut self.frame)
    }

    /// Reads what has been typed, once the terminal is readable.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.terminal.read(buffer)
    }

    /// Becomes readable when something is typed.
    pub(super) fn input(&self) -> BorrowedFd<'_> {
        self.terminal.input()
    }

    /// Becomes writable when the terminal accepts more.
    pub(super) fn output(&self) -> BorrowedFd<'_> {
        self.terminal.output()
    }
}
