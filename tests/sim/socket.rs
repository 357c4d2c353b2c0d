//! A scripted socket: the stream that the hub holds, its client's end, and a made-up network between them.
//!
//! Readiness is told as edge-triggered epoll tells it, and not once more, because a socket that is generous
//! with events hides just the bugs that a simulation is for: a readable edge only when bytes, FIN or RST
//! arrive; a writable edge only when room opens after a write that was refused or cut short; what arrives
//! before an edge is delivered shares that edge.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;

use fastrand::Rng;
use sockets::transport::{Received, Sent, Stream};

/// What kind of network lies between a client and the hub.
#[derive(Clone, Debug)]
pub(crate) struct Nature {
    /// How many bytes the kernel holds for the hub to read.
    pub(crate) receive_buffer: usize,
    /// How many bytes the kernel takes from the hub before the client reads.
    pub(crate) send_buffer: usize,
    /// How much room has to open after a refused write before the edge comes.
    pub(crate) wakes_at: usize,
    /// One in so many calls is interrupted by a signal; 0 for none.
    pub(crate) interrupts: usize,
    /// Whether a reset leaves the bytes that came before it to be read, as Linux does.
    pub(crate) reset_keeps_arrived: bool,
    pub(crate) seed: u64,
}

/// What one event says of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) read_closed: bool,
    pub(crate) error: bool,
}

/// What the hub did to a socket, for the tests to judge.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Record {
    /// Bytes read before the hub ended its side.
    pub(crate) taken: usize,
    /// Bytes read after that.
    pub(crate) discarded: usize,
    /// Bytes written.
    pub(crate) given: usize,
    /// Calls of `write` that took some.
    pub(crate) writes: usize,
    /// Calls of `read`.
    pub(crate) reads: usize,
    /// Calls that were interrupted.
    pub(crate) interruptions: usize,
    /// Whether a call said that the client is gone or has ended its side.
    pub(crate) has_told_end: bool,
    /// Whether there may be more to read, for all that the hub knows.
    pub(crate) may_hold_more: bool,
    /// Whether the hub ended its side.
    pub(crate) is_finished: bool,
    /// Whether the hub dropped the stream.
    pub(crate) is_dropped: bool,
}

/// How the reply ended, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyEnd {
    /// With the end of file.
    Clean,
    /// With a reset.
    Broken,
}

/// The stream that the hub holds.
#[derive(Debug)]
pub(crate) struct Socket(Rc<RefCell<Wire>>);

/// The client's end, and the view of the kernel for the driver of the simulation.
#[derive(Clone)]
pub(crate) struct Client(Rc<RefCell<Wire>>);

#[derive(Debug)]
struct Wire {
    nature: Nature,
    random: Rng,
    /// What the hub can read.
    arrived: VecDeque<u8>,
    /// What the client can read.
    underway: VecDeque<u8>,
    /// The client has ended its side.
    has_fin: bool,
    /// The client has closed its socket: what is written now is answered with a reset.
    is_closed: bool,
    is_reset: bool,
    /// The verdict of a reset, which only one call gets to hear.
    error: Option<ErrorKind>,
    /// A write was refused or cut short, and no room has opened since.
    wants_room: bool,
    /// What the next poll will say.
    edge: Edge,
    /// An event has told of the end, rightly or not.
    is_told_of_end: bool,
    record: Record,
}

/// Both ends of a new connection.
pub(crate) fn connection(nature: Nature) -> (Socket, Client) {
    assert!(nature.receive_buffer > 0 && (1..=nature.send_buffer).contains(&nature.wakes_at));
    let wire = Rc::new(RefCell::new(Wire {
        random: Rng::with_seed(nature.seed),
        nature,
        arrived: VecDeque::new(),
        underway: VecDeque::new(),
        has_fin: false,
        is_closed: false,
        is_reset: false,
        error: None,
        wants_room: false,
        edge: Edge::default(),
        is_told_of_end: false,
        record: Record::default(),
    }));
    (Socket(Rc::clone(&wire)), Client(wire))
}

/// What the client does.
impl Client {
    /// Sends as many of `bytes` as there is room for on the way, and returns how many.
    pub(crate) fn send(&self, bytes: &[u8]) -> usize {
        let wire = &mut *self.0.borrow_mut();
        if wire.is_reset || wire.has_fin {
            return 0;
        }
        if wire.record.is_dropped {
            // Nobody is there to read it. (Who had been told of the end had its time to read on.)
            if !wire.underway.is_empty() && !wire.record.is_finished {
                wire.reset();
            }
            return 0;
        }
        let count = bytes.len().min(wire.nature.receive_buffer - wire.arrived.len());
        wire.arrived.extend(&bytes[..count]);
        wire.edge.readable |= count > 0;
        count
    }

    /// Reads at most `limit` bytes of the reply.
    pub(crate) fn receive(&self, limit: usize) -> Vec<u8> {
        let wire = &mut *self.0.borrow_mut();
        let mut bytes = vec![0; limit.min(wire.underway.len())];
        wire.underway.read_exact(&mut bytes).expect("so many are there");
        let room = wire.nature.send_buffer - wire.underway.len();
        if wire.wants_room && room >= wire.nature.wakes_at {
            wire.wants_room = false;
            wire.edge.writable = true;
        }
        bytes
    }

    /// How the reply ended; `None` while there is something to read or more may come.
    pub(crate) fn reply_end(&self) -> Option<ReplyEnd> {
        let wire = self.0.borrow();
        match wire.record {
            _ if !wire.underway.is_empty() => None,
            _ if wire.is_reset => Some(ReplyEnd::Broken),
            Record { is_finished, is_dropped, .. } => (is_finished || is_dropped).then_some(ReplyEnd::Clean),
        }
    }

    /// Half-closes: nothing more will be sent.
    pub(crate) fn finish(&self) {
        let wire = &mut *self.0.borrow_mut();
        if wire.has_fin || wire.is_reset {
            return;
        }
        wire.has_fin = true;
        wire.edge = Edge { readable: true, read_closed: true, ..wire.edge };
    }

    /// Closes the socket, which is a reset where something of the reply has not been read.
    pub(crate) fn close(&self) {
        if self.0.borrow().underway.is_empty() {
            self.finish();
            self.0.borrow_mut().is_closed = true;
        } else {
            self.reset();
        }
    }

    /// Breaks the connection.
    pub(crate) fn reset(&self) {
        self.0.borrow_mut().reset();
    }
}

/// What the kernel knows, and nobody else.
impl Client {
    /// Takes what the next poll says of this socket.
    pub(crate) fn take_edge(&self) -> Edge {
        std::mem::take(&mut self.0.borrow_mut().edge)
    }

    /// The hub is told this, whether or not it is so.
    pub(crate) fn note_told(&self, edge: Edge) {
        let wire = &mut *self.0.borrow_mut();
        wire.is_told_of_end |= edge.read_closed;
        wire.record.may_hold_more |= edge.readable || edge.read_closed;
    }

    pub(crate) fn has_edge(&self) -> bool {
        self.0.borrow().edge != Edge::default()
    }

    pub(crate) fn record(&self) -> Record {
        self.0.borrow().record
    }

    /// How many bytes the hub could read.
    pub(crate) fn unread(&self) -> usize {
        self.0.borrow().arrived.len()
    }

    /// Whether the client has read all that the hub wrote.
    pub(crate) fn has_read_all(&self) -> bool {
        self.0.borrow().underway.is_empty()
    }

    /// The last bytes that the hub wrote, as many of the last `count` as the client has not read.
    pub(crate) fn latest(&self, count: usize) -> Vec<u8> {
        let wire = self.0.borrow();
        let start = wire.underway.len().saturating_sub(count);
        wire.underway.range(start..).copied().collect()
    }

    pub(crate) fn has_fin(&self) -> bool {
        self.0.borrow().has_fin
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.0.borrow().is_reset
    }

    /// Whether the hub has to wait for a writable edge.
    pub(crate) fn wants_room(&self) -> bool {
        self.0.borrow().wants_room
    }
}

impl Wire {
    fn reset(&mut self) {
        if self.is_reset {
            return;
        }
        self.is_reset = true;
        self.error = Some(if self.random.bool() { ErrorKind::ConnectionReset } else { ErrorKind::BrokenPipe });
        self.underway.clear();
        if !self.nature.reset_keeps_arrived {
            self.arrived.clear();
        }
        // An error need not say what it is good for.
        self.edge = Edge { readable: self.random.bool(), writable: true, read_closed: true, error: true };
    }

    fn interrupt(&mut self) -> io::Result<()> {
        if self.nature.interrupts == 0 || self.random.usize(..self.nature.interrupts) > 0 {
            return Ok(());
        }
        self.record.interruptions += 1;
        Err(ErrorKind::Interrupted.into())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = self.0.borrow();
        f.debug_struct("Client")
            .field("nature", &wire.nature)
            .field("arrived", &wire.arrived.len())
            .field("underway", &wire.underway.len())
            .field("has_fin", &wire.has_fin)
            .field("is_reset", &wire.is_reset)
            .field("wants_room", &wire.wants_room)
            .field("edge", &wire.edge)
            .field("record", &wire.record)
            .finish_non_exhaustive()
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "a read of nothing looks like the end of the stream");
        let wire = &mut *self.0.borrow_mut();
        wire.record.reads += 1;
        wire.interrupt()?;
        let count = buffer.len().min(wire.arrived.len());
        // A read that does not fill the buffer leaves nothing, but perhaps the end.
        wire.record.may_hold_more = count == buffer.len() || (count > 0 && wire.is_told_of_end);
        if count == 0 {
            wire.record.has_told_end |= wire.is_reset || wire.has_fin;
            return match wire.error.take() {
                Some(kind) => Err(kind.into()),
                None if wire.is_reset || wire.has_fin => Ok(0),
                None => Err(ErrorKind::WouldBlock.into()),
            };
        }
        wire.arrived.read_exact(&mut buffer[..count])?;
        if wire.record.is_finished {
            wire.record.discarded += count;
        } else {
            wire.record.taken += count;
        }
        Ok(count)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(offered > 0, "a write of nothing");
        let wire = &mut *self.0.borrow_mut();
        assert!(!wire.record.is_finished, "a write after the end");
        wire.interrupt()?;
        if wire.is_reset {
            wire.record.has_told_end = true;
            return Err(wire.error.take().unwrap_or(ErrorKind::BrokenPipe).into());
        }
        if wire.is_closed {
            // The kernel takes it and sends it; the answer breaks the connection.
            wire.reset();
            wire.record.given += offered;
            return Ok(offered);
        }
        let mut room = wire.nature.send_buffer - wire.underway.len();
        let written = offered.min(room);
        wire.wants_room = written < offered;
        if written == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        for slice in slices {
            let count = slice.len().min(room);
            wire.underway.extend(&slice[..count]);
            room -= count;
        }
        wire.record.given += written;
        wire.record.writes += 1;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Socket {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let count = self.read(buffer)?;
        Ok(Received::plain(count, buffer.len()))
    }

    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Sent> {
        let count = self.write_vectored(slices)?;
        Ok(Sent::plain(count, slices.iter().map(|slice| slice.len()).sum()))
    }

    fn finish(&mut self) -> io::Result<()> {
        let wire = &mut *self.0.borrow_mut();
        assert!(!wire.record.is_finished, "finished twice");
        wire.record.is_finished = true;
        if wire.is_reset { Err(ErrorKind::NotConnected.into()) } else { Ok(()) }
    }

    fn unread(&self) -> io::Result<usize> {
        Ok(self.0.borrow().arrived.len())
    }

    fn has_unsent(&self) -> io::Result<bool> {
        Ok(!self.0.borrow().underway.is_empty())
    }
}

impl Drop for Socket {
    /// Closing a socket with unread input sends a reset, and what the client has not read yet may be lost.
    fn drop(&mut self) {
        // Borrowed only where an assertion has failed in the middle of a call.
        let Ok(mut wire) = self.0.try_borrow_mut() else { return };
        wire.record.is_dropped = true;
        if !wire.arrived.is_empty() {
            wire.reset();
        }
    }
}
