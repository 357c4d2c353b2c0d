//! Signals, as something that can be waited for together with the terminal and the connection.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::{flag, low_level::pipe};

/// What the signals that came say.
pub(super) struct Signals {
    /// Becomes readable with every signal.
    wake: UnixStream,
    has_resized: Arc<AtomicBool>,
    has_continued: Arc<AtomicBool>,
    /// The signal that is to end the session, or zero.
    ending: Arc<AtomicUsize>,
}

impl Signals {
    pub(super) fn register() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let signals = Self { wake, has_resized: Arc::default(), has_continued: Arc::default(), ending: Arc::default() };
        flag::register(SIGWINCH, Arc::clone(&signals.has_resized))?;
        flag::register(SIGCONT, Arc::clone(&signals.has_continued))?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register_usize(signal, Arc::clone(&signals.ending), signal.cast_unsigned() as usize)?;
        }
        // The flags come first: whoever is woken finds them.
        for signal in [SIGWINCH, SIGCONT, SIGINT, SIGTERM, SIGHUP] {
            pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(signals)
    }

    /// Makes it wait for the next signal.
    pub(super) fn drain(&mut self) {
        let mut buffer = [0; 64];
        while matches!(self.wake.read(&mut buffer), Ok(1..)) {}
    }

    /// Whether the terminal has a new size since last asked.
    pub(super) fn take_resized(&self) -> bool {
        self.has_resized.swap(false, Relaxed)
    }

    /// Whether the program was stopped and goes on since last asked.
    pub(super) fn take_continued(&self) -> bool {
        self.has_continued.swap(false, Relaxed)
    }

    /// The signal that asks for the end.
    pub(super) fn ending(&self) -> Option<i32> {
        i32::try_from(self.ending.load(Relaxed)).ok().filter(|&signal| signal != 0)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
