//! One peer: what is known of its socket, and what it is still owed.

use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Range;

use crate::feed::Feed;
use crate::outbox::Outbox;
use crate::transport::Stream;

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The client ended its side, and has been sent all that it was owed.
    Finished,
    /// The connection broke, at either end or on the way.
    Broken(ErrorKind),
    /// The server is stopping.
    Stopping,
    /// The client asked to leave the room.
    Quit,
    /// The client did not take what it was owed.
    TooSlow,
    /// Nothing went in either direction.
    Idle,
    /// There is no room for another client.
    Full,
}

impl Close {
    /// Whether the end was our decision, so that the client may still be sending.
    fn is_ours(self) -> bool {
        !matches!(self, Close::Finished | Close::Broken(_))
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Close::Finished => f.write_str("the client finished"),
            Close::Broken(kind) => write!(f, "the connection broke ({kind})"),
            Close::Stopping => f.write_str("the server is stopping"),
            Close::Quit => f.write_str("the client quit"),
            Close::TooSlow => f.write_str("the client was too slow"),
            Close::Idle => f.write_str("nothing came or went"),
            Close::Full => f.write_str("the server is full"),
        }
    }
}

/// Where a connection is on its way from open to closed. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// What comes is taken in.
    Open,
    /// Only so many bytes more are taken in: those that had arrived when the server was told to stop.
    Stopping(usize),
    /// Nothing more is taken in; what is owed goes out.
    Draining(Close),
    /// Our side is ended; what comes is thrown away until the peer ends its side too, because closing a
    /// socket with unread input sends a reset, which can destroy what the peer has not read yet.
    Lingering(Close),
    /// Over: only to be dropped.
    Closed(Close),
}

/// What one attempt to read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// Nothing any more: the connection has left [`Phase::Open`].
    End,
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
    /// An event had said so before the peer was no longer to be listened to: a read of what had arrived by then
    /// should find the end behind it.
    ends_with_stop: bool,
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
            received: 0,
            sent: 0,
        }
    }

    /// Notes what an event says. Does no I/O; events that say too much do no harm.
    pub fn on_ready(&mut self, readable: bool, writable: bool, read_closed: bool) {
        self.readable |= readable | read_closed;
        self.writable |= writable;
        self.read_closed |= read_closed;
    }

    /// Where the connection is on its way.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// How many bytes are owed to the peer.
    pub fn owed(&self) -> usize {
        self.outbox.len()
    }

    /// Whether all that the peer was owed is sent, by us and by the system. Dropped before that, the stream would lose
    /// the rest as soon as the peer sends something: nobody is there to read it, and the answer is a reset. (That still
    /// costs the peer what has just been sent, if the network loses it at that very moment.)
    pub fn has_sent_all(&self) -> bool {
        self.outbox.is_empty() && !self.stream.has_unsent().unwrap_or(true)
    }

    /// How many of the bytes owed to the peer are held for it alone.
    pub fn held(&self) -> usize {
        self.outbox.own_len()
    }

    /// How many bytes have been taken in from the peer.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How many bytes have been handed to the peer's socket.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether what comes from the peer is still wanted.
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

    /// Whether something is owed and a write may take some of it.
    pub fn can_flush(&self) -> bool {
        self.writable && !self.outbox.is_empty() && !matches!(self.phase, Phase::Closed(_))
    }

    /// Reads once into `buffer`, which must not be empty.
    ///
    /// A read that does not fill the buffer has drained the stream: on epoll and kqueue whatever comes later
    /// is a new event (epoll(7), questions and answers), so no second read is needed to find that out.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let limit = match self.phase {
            Phase::Stopping(unread) => unread.clamp(1, buffer.len()),
            _ => buffer.len(),
        };
        match self.stream.read(&mut buffer[..limit]) {
            Ok(0) => self.end_of_input(),
            Ok(count) => {
                if count < limit && !self.read_closed {
                    self.readable = false;
                }
                match &mut self.phase {
                    // There was no end, whatever the event said, and what came is too late.
                    Phase::Stopping(0) => {
                        self.ends_with_stop = false;
                        return Received::Nothing;
                    }
                    Phase::Stopping(unread) => *unread -= count,
                    _ => {}
                }
                // What comes after the end that we decided on is thrown away.
                if self.takes_input() {
                    self.received += count as u64;
                }
                Received::Bytes(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                Received::Nothing
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Received::Nothing,
            Err(error) => self.fail(error.kind()),
        }
    }

    /// As [`receive`](Self::receive), but where an event has told of the end, and what came before it leaves room in
    /// `buffer`, it is looked for at once: who sends a message and half-closes needs no second turn. The phase tells
    /// whether the end was found.
    pub fn receive_to_end(&mut self, buffer: &mut [u8]) -> Received {
        match self.receive(buffer) {
            Received::Bytes(count) if self.read_closed && self.phase == Phase::Open && count < buffer.len() => {
                match self.receive(&mut buffer[count..]) {
                    Received::Bytes(more) => Received::Bytes(count + more),
                    Received::Nothing | Received::End => Received::Bytes(count),
                }
            }
            received => received,
        }
    }

    fn end_of_input(&mut self) -> Received {
        self.readable = false;
        self.phase = match self.phase {
            Phase::Lingering(close) => Phase::Closed(close),
            _ => Phase::Draining(Close::Finished),
        };
        Received::End
    }

    fn fail(&mut self, kind: ErrorKind) -> Received {
        self.phase = match self.phase {
            Phase::Lingering(close) => Phase::Closed(close),
            _ => Phase::Closed(Close::Broken(kind)),
        };
        Received::End
    }

    /// Sends `bytes`: straight to the socket while nothing is queued before them, and what the socket does
    /// not take is queued.
    pub fn send(&mut self, bytes: &[u8]) {
        let mut sent = 0;
        if self.writable && self.outbox.is_empty() && !matches!(self.phase, Phase::Closed(_)) {
            let outcome = self.stream.write(bytes).map(|written| (written, bytes.len()));
            sent = self.wrote(outcome);
        }
        self.outbox.push(&bytes[sent..]);
    }

    /// Sends a range of the feed, as [`send`](Self::send) does.
    pub fn send_shared(&mut self, mut range: Range<u64>, feed: &mut Feed) {
        while self.writable && self.outbox.is_empty() && !range.is_empty() {
            let bytes = feed.slice(range.clone());
            let outcome = self.stream.write(bytes).map(|written| (written, bytes.len()));
            match self.wrote(outcome) {
                0 => break,
                written => range.start += written as u64,
            }
        }
        self.outbox.push_shared(range, feed);
    }

    /// Queues a copy of `bytes` without sending anything yet.
    pub fn owe(&mut self, bytes: &[u8]) {
        self.outbox.push(bytes);
    }

    /// Queues a range of the feed without sending anything yet.
    pub fn owe_shared(&mut self, range: Range<u64>, feed: &mut Feed) {
        self.outbox.push_shared(range, feed);
    }

    /// How far the peer is behind the end of the feed, in bytes; 0 if it is owed nothing of the feed.
    pub fn lag(&self, feed: &Feed) -> u64 {
        self.outbox.first_shared().map_or(0, |position| feed.end() - position)
    }

    /// Copies what is owed from the feed, so that the feed need not keep it for this peer.
    pub fn detach(&mut self, feed: &mut Feed) {
        self.outbox.detach(feed);
    }

    /// Writes what is owed until nothing is, the socket takes no more, or `budget` bytes have been written,
    /// so that one peer with a long queue does not keep the others waiting.
    pub fn flush(&mut self, feed: &mut Feed, budget: usize) {
        let mut written = 0;
        while self.can_flush() && written < budget {
            let outcome = self.outbox.write_to(&mut self.stream, feed);
            match self.wrote(outcome) {
                0 => break,
                count => written += count,
            }
        }
    }

    /// Draws the conclusions from a write of `(written, offered)` bytes; returns how many were written.
    ///
    /// A write that takes less than it is offered has filled the socket, and an event follows when there is
    /// room again, as after one that is refused: the kernel notes both alike (`SOCK_NOSPACE`).
    fn wrote(&mut self, outcome: io::Result<(usize, usize)>) -> usize {
        match outcome {
            Ok((written, offered)) => {
                self.writable = written == offered;
                self.sent += written as u64;
                written
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                0
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => {
                self.fail(error.kind());
                0
            }
        }
    }

    /// Takes in only what has arrived by now.
    pub fn stop_reading(&mut self) {
        if self.phase == Phase::Open {
            let unread = self.stream.unread().unwrap_or(0);
            self.phase = Phase::Stopping(unread);
            self.ends_with_stop = self.read_closed;
            self.readable |= unread > 0;
        }
    }

    /// Takes nothing more in, and ends the connection when what is owed has been sent.
    pub fn end(&mut self, close: Close) {
        if self.takes_input() {
            self.phase = Phase::Draining(close);
        }
    }

    /// Ends the connection at once, whatever is owed.
    pub fn abort(&mut self, close: Close) {
        self.phase = Phase::Closed(close);
    }

    /// Forgets what is owed; to be called before the connection is dropped.
    pub fn clear(&mut self, feed: &mut Feed) {
        self.outbox.clear(feed);
    }

    /// Goes on to the next phase where the present one has nothing left to do. Returns whether the
    /// connection waits for [`depart`](Self::depart) now.
    pub fn settle(&mut self) -> bool {
        match self.phase {
            Phase::Draining(close) if self.outbox.is_empty() => {
                if !close.is_ours() {
                    self.phase = Phase::Closed(close);
                }
                true
            }
            Phase::Closed(_) => true,
            _ => false,
        }
    }

    /// To be called before the connection is dropped. A peer that was owed something sees a reset then: an
    /// orderly end would tell it that it has got everything. And what the system holds for a peer that takes
    /// nothing, up to some megabytes, would stay for minutes.
    pub fn break_off_if_owed(&mut self) {
        if !self.outbox.is_empty() {
            self.stream.break_off();
        }
    }

    /// Ends our side of a connection that has [settled](Self::settle). Returns whether it can be dropped;
    /// otherwise it lingers until the peer has read everything and ended its side too.
    pub fn depart(&mut self) -> bool {
        let Phase::Draining(close) = self.phase else {
            self.break_off_if_owed();
            return true;
        };
        // Where this fails, the next read says why.
        _ = self.stream.finish();
        self.phase = Phase::Lingering(close);
        self.readable = true;
        false
    }
}
