//! One peer's connection: what is known of its stream, and what is still to be sent to it.

use std::collections::TryReserveError;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;

use crate::feed::Feed;
use crate::outbox::{Outbox, SLICES};
use crate::transport::{self, Sent, Stream};

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Close {
    /// The client ended its side, and has been sent everything that was queued for it.
    Finished,
    /// The same, but the stream ended without the client having said so as its protocol wants it: with TLS, by
    /// `close_notify`. Something that it sent may be missing.
    Truncated,
    /// The connection broke, at either end or on the way.
    Broken(ErrorKind),
    /// The server is stopping.
    Stopping,
    /// The client asked to leave the room.
    Quit,
    /// The client did not read what was queued for it.
    TooSlow,
    /// No byte went in either direction for the idle timeout.
    Idle,
    /// The server is full.
    Full,
}

impl Close {
    /// Whether the server ended the connection, so that the client may still be sending.
    fn is_ours(self) -> bool {
        !matches!(self, Close::Finished | Close::Truncated | Close::Broken(_))
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Close::Finished => f.write_str("the client finished"),
            Close::Truncated => f.write_str("ended without close_notify"),
            Close::Broken(kind) => write!(f, "the connection broke ({kind})"),
            Close::Stopping => f.write_str("the server is stopping"),
            Close::Quit => f.write_str("the client quit"),
            Close::TooSlow => f.write_str("the client was too slow"),
            Close::Idle => f.write_str("idle timeout"),
            Close::Full => f.write_str("the server is full"),
        }
    }
}

/// Where a connection is on its way from open to closed. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Input is read.
    Open,
    /// Only this many more bytes are read: those that had arrived when the server was told to stop.
    Stopping(u32),
    /// No more input is read; what is queued goes out.
    Draining(Close),
    /// Our side has ended; input is discarded until the peer ends its side too, because closing a
    /// socket with unread input sends a reset, which can destroy what the peer has not read yet.
    Lingering(Close),
    /// Over: only to be dropped.
    Closed(Close),
}

/// What an event says of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// A read may bring something.
    pub readable: bool,
    /// A write may be taken.
    pub writable: bool,
    /// The peer's side has ended, or reads stop short for another reason.
    pub read_closed: bool,
    /// The connection broke.
    pub error: bool,
}

/// What one attempt to read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// This many bytes, at least one.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The end of the input: the peer has ended its side, and all that it sent has been read.
    End,
    /// The end of the input: the connection broke.
    Failure,
}

/// The state machine of one peer. Readiness events only set flags; [`receive`](Self::receive) and
/// [`flush`](Self::flush) do the work, and their verdict counts.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    outbox: Outbox,
    phase: Phase,
    /// A read may bring something. Set by an event, cleared only by a read that shows the stream is drained.
    readable: bool,
    /// A write may be taken. Set by an event, cleared by a write that was refused or cut short.
    writable: bool,
    /// An event said that the peer's side has ended, or that it has sent urgent data, where reads stop short
    /// too (tcp(7), `SO_OOBINLINE`). No further event will come for what is behind, so from now on a short
    /// read does not mean that the stream is drained.
    read_closed: bool,
    /// An event had said so before the server was told to stop: a read of what had arrived by then should find
    /// the end behind it.
    ends_with_stop: bool,
    /// An event said that the connection broke. What had arrived before can still be read.
    has_failed: bool,
    /// It must not end yet, though nothing is queued.
    is_held: bool,
    /// A write failed for this reason. What was queued is dropped, and nothing more is written.
    write_error: Option<ErrorKind>,
    received: u64,
    sent: u64,
}

impl<S: Stream> Connection<S> {
    /// A connection just accepted. It reads once an event says so; a new socket can be written to at once.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            outbox: Outbox::default(),
            phase: Phase::Open,
            readable: false,
            writable: true,
            read_closed: false,
            ends_with_stop: false,
            has_failed: false,
            is_held: false,
            write_error: None,
            received: 0,
            sent: 0,
        }
    }

    /// Notes what an event says. Does no I/O; events that say too much do no harm.
    pub fn on_ready(&mut self, ready: Ready) {
        self.readable |= ready.readable | ready.read_closed;
        self.writable |= ready.writable;
        self.read_closed |= ready.read_closed;
        self.has_failed |= ready.error;
    }

    /// Whether an event said that the connection broke.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Whether the peer has ended its side and everything before that has been read.
    pub fn has_ended(&self) -> bool {
        self.read_closed && self.stream.unread().is_ok_and(|unread| unread == 0)
    }

    /// Notes that a write may be taken although no event said so. The kernel reports room in a socket only after
    /// about a third of its buffer has drained, so the progress of a slow reader shows only when a write is tried.
    pub fn assume_writable(&mut self) {
        self.writable = true;
    }

    /// Where the connection is on its way.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Bytes that are queued for the peer, or wait to be written by its stream.
    pub fn pending(&self) -> usize {
        let own = self.stream.unsent().max(usize::from(self.stream.wants_write()));
        self.outbox.len() + own
    }

    /// Bytes that are queued for the peer alone, not in the feed.
    pub fn private_pending(&self) -> usize {
        self.outbox.own_len()
    }

    /// Bytes of memory that are held for the peer alone.
    pub fn held(&self) -> usize {
        self.outbox.held() + self.stream.held()
    }

    /// The position in the feed of the first byte that is queued for the peer.
    pub fn first_shared(&self) -> Option<u64> {
        self.outbox.first_shared()
    }

    /// Whether everything that was queued for the peer is sent, by us and by the system. If it is dropped before that,
    /// the stream loses the rest as soon as the peer sends something: nobody is there to read it, and the answer is a
    /// reset. (That still costs the peer what has just been sent, if the network loses it at that very moment.)
    pub fn has_sent_all(&self) -> bool {
        self.outbox.is_empty() && !self.stream.has_unsent().unwrap_or(true)
    }

    /// Bytes that have been received from the peer. What is discarded at the end does not count.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether the peer has sent nothing so far.
    pub fn is_new(&self) -> bool {
        self.phase == Phase::Open && self.received == 0 && self.stream.unread().is_ok_and(|unread| unread == 0)
    }

    /// Bytes that have been written to the peer's socket.
    pub fn sent(&self) -> u64 {
        self.sent - self.stream.unsent() as u64
    }

    /// Why writing failed, if it did.
    pub fn write_error(&self) -> Option<ErrorKind> {
        self.write_error
    }

    /// Whether input from the peer is still wanted.
    pub fn takes_input(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Stopping(_))
    }

    /// Whether a read may bring something: input, or the end of it where that is still of interest.
    pub fn can_receive(&self) -> bool {
        match self.phase {
            Phase::Open | Phase::Stopping(1..) | Phase::Lingering(_) => self.readable,
            Phase::Stopping(0) => self.readable && self.ends_with_stop,
            Phase::Draining(_) | Phase::Closed(_) => false,
        }
    }

    /// Whether anything is queued for the peer. What its stream has to write by itself does not count.
    pub fn has_queued(&self) -> bool {
        !self.outbox.is_empty() || self.stream.unsent() > 0
    }

    /// Whether something waits to be sent and a write may take some of it.
    pub fn can_flush(&self) -> bool {
        self.writable && !self.has_flushed() && !matches!(self.phase, Phase::Closed(_))
    }

    /// Whether all that was queued for the peer has been written.
    fn has_flushed(&self) -> bool {
        self.outbox.is_empty() && !self.stream.wants_write()
    }

    /// Reads once into `buffer`, which must not be empty.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let limit = match self.phase {
            Phase::Stopping(unread) => (unread as usize).clamp(1, buffer.len()),
            _ => buffer.len(),
        };
        match self.stream.recv(&mut buffer[..limit]) {
            Ok(transport::Received { count: 0, .. }) => self.end_of_input(Close::Finished),
            Ok(transport::Received { count, is_drained }) => {
                let is_drained = is_drained && !self.read_closed;
                if is_drained {
                    self.readable = false;
                }
                match &mut self.phase {
                    // There was no end, whatever the event said, and what came is too late.
                    Phase::Stopping(0) => {
                        self.ends_with_stop = false;
                        return Received::Nothing;
                    }
                    // What had arrived has been read.
                    Phase::Stopping(unread) if is_drained => *unread = 0,
                    Phase::Stopping(unread) => *unread -= count as u32,
                    _ => {}
                }
                // What comes after the end that we decided on is discarded.
                if self.takes_input() {
                    self.received += count as u64;
                }
                Received::Bytes(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                if let Phase::Stopping(unread) = &mut self.phase {
                    *unread = 0;
                }
                match self.write_error {
                    Some(kind) => self.fail(kind),
                    None => Received::Nothing,
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Received::Nothing,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.end_of_input(Close::Truncated),
            Err(error) => self.fail(error.kind()),
        }
    }

    /// As [`receive`](Self::receive), but where an event has told of the end, and what came before it leaves room in
    /// `buffer`, the end is looked for at once: a client that sends a message and half-closes needs no second turn.
    /// The phase tells whether the end was found.
    pub fn receive_to_end(&mut self, buffer: &mut [u8]) -> Received {
        match self.receive(buffer) {
            Received::Bytes(count) if self.read_closed && self.phase == Phase::Open && count < buffer.len() => {
                match self.receive(&mut buffer[count..]) {
                    Received::Bytes(more) => Received::Bytes(count + more),
                    Received::Nothing | Received::End | Received::Failure => Received::Bytes(count),
                }
            }
            received => received,
        }
    }

    fn end_of_input(&mut self, end: Close) -> Received {
        self.readable = false;
        // After a write that failed nobody knows whether the peer had ended its side.
        if let Some(kind) = self.write_error {
            return self.fail(kind);
        }
        self.phase = match self.phase {
            Phase::Lingering(close) => Phase::Closed(close),
            _ => Phase::Draining(end),
        };
        Received::End
    }

    fn fail(&mut self, kind: ErrorKind) -> Received {
        self.phase = match self.phase {
            Phase::Lingering(close) => Phase::Closed(close),
            _ => Phase::Closed(Close::Broken(self.write_error.unwrap_or(kind))),
        };
        Received::Failure
    }

    /// Sends as many of `bytes` as the stream takes now, if nothing is queued before them. Returns how many.
    pub fn send_now(&mut self, bytes: &[u8]) -> usize {
        if bytes.is_empty() || !self.can_send_now() {
            return 0;
        }
        let outcome = self.stream.send(&[IoSlice::new(bytes)]);
        self.wrote(outcome)
    }

    /// Queues a copy of `bytes`, without sending anything yet.
    ///
    /// # Errors
    ///
    /// If the system refuses memory; then nothing of `bytes` is queued.
    pub fn queue(&mut self, bytes: &[u8]) -> Result<(), TryReserveError> {
        if self.write_error.is_some() {
            return Ok(());
        }
        self.outbox.push(bytes)
    }

    /// Sends a range of the feed: straight to the stream while nothing is queued before it, and what the stream does
    /// not take is queued.
    pub fn send_shared(&mut self, mut range: Range<u64>, feed: &mut Feed) {
        while !range.is_empty() && self.can_send_now() {
            let outcome = self.stream.send(&[IoSlice::new(feed.slice(range.clone()))]);
            match self.wrote(outcome) {
                0 => break,
                written => range.start += written as u64,
            }
        }
        self.queue_shared(range, feed);
    }

    /// Queues a range of the feed, without sending anything yet.
    pub fn queue_shared(&mut self, range: Range<u64>, feed: &mut Feed) {
        if self.write_error.is_none() {
            self.outbox.push_shared(range, feed);
        }
    }

    /// Writes what is queued until nothing is, the stream takes no more, or `budget` bytes have been written,
    /// so that one peer with a long queue does not keep the others waiting.
    pub fn flush(&mut self, feed: &mut Feed, budget: usize) {
        let mut written = 0;
        while self.can_flush() && written < budget {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.outbox.fill(&mut slices, feed);
            let outcome = self.stream.send(&slices[..count]);
            match self.wrote(outcome) {
                0 => break,
                count => {
                    self.outbox.advance(count, feed);
                    written += count;
                }
            }
        }
        if self.write_error.is_some() {
            self.outbox.clear(feed);
        }
    }

    fn can_send_now(&self) -> bool {
        self.writable && self.outbox.is_empty() && !matches!(self.phase, Phase::Closed(_))
    }

    /// Draws the conclusions from a write; returns how many bytes were written.
    ///
    /// A write that fails ends the writing, not the reading: what had arrived before is still there to be read.
    fn wrote(&mut self, outcome: io::Result<Sent>) -> usize {
        match outcome {
            Ok(Sent { count, is_blocked }) => {
                self.writable = !is_blocked;
                self.sent += count as u64;
                count
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                0
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => {
                self.write_error = Some(error.kind());
                self.writable = false;
                // The read tells what had arrived, and that nothing more will.
                self.readable = true;
                0
            }
        }
    }

    /// Reads only what has arrived by now.
    pub fn stop_reading(&mut self) {
        if self.phase == Phase::Open {
            let unread = self.stream.unread().unwrap_or(0);
            self.phase = Phase::Stopping(u32::try_from(unread).unwrap_or(u32::MAX));
            self.ends_with_stop = self.read_closed;
            self.readable |= unread > 0;
        }
    }

    /// Reads no more, and ends the connection when what is queued has been sent.
    pub fn end(&mut self, close: Close) {
        if self.takes_input() {
            self.phase = Phase::Draining(close);
        }
    }

    /// Ends the connection at once, and drops what is queued. A peer for which something was queued sees a reset: a
    /// normal end would tell it that it has got everything. And what the system holds for a peer that reads nothing,
    /// up to some megabytes, would stay for minutes.
    pub fn abort(&mut self, close: Close, feed: &mut Feed) {
        if !self.has_flushed() {
            self.stream.reset_on_drop();
            self.outbox.clear(feed);
        }
        self.phase = Phase::Closed(close);
    }

    /// Keeps the connection from [settling](Self::settle) for now, though nothing is queued, or lets it. One that broke is
    /// not kept.
    pub fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// Whether it is kept from settling.
    pub fn is_held(&self) -> bool {
        self.is_held && !self.has_failed
    }

    /// Goes on to the next phase where the present one has nothing left to do. Returns whether the
    /// connection waits for [`half_close`](Self::half_close) now.
    pub fn settle(&mut self, feed: &mut Feed) -> bool {
        match (self.phase, self.write_error) {
            (Phase::Closed(close), _) => self.abort(close, feed),
            (Phase::Draining(_), Some(kind)) => self.abort(Close::Broken(kind), feed),
            (Phase::Draining(close), None) if self.has_flushed() && !self.is_held() => {
                if !close.is_ours() && self.stream.ends_on_drop() {
                    self.phase = Phase::Closed(close);
                }
            }
            _ => return false,
        }
        true
    }

    /// Ends our side of a connection that has [settled](Self::settle). Returns whether it can be dropped; otherwise it
    /// lingers until the peer has read everything and ended its side too, as soon as the stream has taken the end.
    pub fn half_close(&mut self) -> bool {
        let Phase::Draining(close) = self.phase else { return true };
        // If this fails, the next read says why.
        _ = self.stream.finish();
        if !self.stream.wants_write() {
            self.phase = Phase::Lingering(close);
            self.readable = true;
        }
        false
    }
}
