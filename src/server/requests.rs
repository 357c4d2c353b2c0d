//! What tells a server to stop: signals, and [`Stopper`]s of other threads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::{Interest, Registry, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;

/// Stops a [`Server`](super::Server) from another thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    waker: Arc<Waker>,
    stop_requested: Arc<AtomicBool>,
}

impl Stopper {
    /// Tells the server to stop, as `SIGTERM` does; [`Server::run`](super::Server::run) returns soon after, within
    /// [`Config::drain`](crate::Config::drain) and [`Config::grace`](crate::Config::grace). A second call ends the
    /// draining. Once the server has ended this does nothing.
    ///
    /// # Errors
    ///
    /// The system's, if the server cannot be woken.
    pub fn stop(&self) -> io::Result<()> {
        self.stop_requested.store(true, Ordering::Release);
        self.waker.wake()
    }
}

/// Where requests come from.
pub(super) struct Requests {
    signals: Option<Signals>,
    stopper: Stopper,
}

/// What was asked for since the last time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// To print the counters.
    pub(super) counters: bool,
    /// To stop, after draining: `SIGTERM`, or a [`Stopper`].
    pub(super) drain: bool,
    /// To stop at once: `SIGINT` or `SIGHUP`.
    pub(super) stop: bool,
    /// It was `SIGINT`.
    pub(super) is_interrupted: bool,
}

impl Requests {
    /// Takes no signals yet. [`Stopper`]s are events of `token`.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let waker = Arc::new(Waker::new(registry, token)?);
        Ok(Self { signals: None, stopper: Stopper { waker, stop_requested: Arc::default() } })
    }

    /// Takes signals too, as events of `token`.
    pub(super) fn handle_signals(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
        if !is_ignored(SIGHUP) {
            signals.add_signal(SIGHUP)?;
        }
        registry.register(&mut signals, token, Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    pub(super) fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// What was asked for since this was called last.
    pub(super) fn take(&mut self) -> Asked {
        let pending: Vec<_> = self.signals.as_mut().map(|signals| signals.pending().collect()).unwrap_or_default();
        let is_interrupted = pending.contains(&SIGINT);
        Asked {
            counters: pending.contains(&SIGUSR1),
            drain: self.stopper.stop_requested.swap(false, Ordering::AcqRel) || pending.contains(&SIGTERM),
            stop: is_interrupted || pending.contains(&SIGHUP),
            is_interrupted,
        }
    }
}

/// Whether this process was started with `signal` ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}
