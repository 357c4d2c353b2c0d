//! Streams at full speed: as much on its way as there is room for.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use mio::{Events, Poll};

use crate::Result;
use crate::client::{Client, PATIENCE};
use crate::load::wait;
use crate::pattern::Pattern;

/// How long the lines are of which the streams consist. Nobody logs them.
const LINE: usize = 64 << 10;

pub(crate) struct Flood {
    poll: Poll,
    events: Events,
    streams: Vec<Stream>,
    /// The streams that can go on, those who waited longest first.
    busy: VecDeque<usize>,
    pattern: Pattern,
    buffer: Vec<u8>,
}

struct Stream {
    client: Client,
    is_busy: bool,
    can_receive: bool,
    can_send: bool,
}

impl Flood {
    /// So many streams, read and written in pieces of at most `piece` bytes.
    pub(crate) fn connect(address: SocketAddr, streams: usize, piece: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let pattern = Pattern::new(LINE, piece);
        let connect = |number| {
            let origin = (number * LINE) as u64;
            let client = Client::connect(address, (poll.registry(), number), (&pattern, origin), 1)?;
            Ok(Stream { client, is_busy: false, can_receive: false, can_send: true })
        };
        let streams = (0..streams).map(connect).collect::<Result<Vec<Stream>>>()?;
        Ok(Self {
            poll,
            events: Events::with_capacity(64),
            streams,
            busy: VecDeque::new(),
            pattern,
            buffer: vec![0; piece],
        })
    }

    /// Sends so many bytes on each stream, and waits until they have come back. Returns how many there were in all.
    pub(crate) fn transfer(&mut self, bytes: u64) -> Result<u64> {
        self.allow(bytes);
        while !self.is_done() {
            self.step(PATIENCE)?;
        }
        Ok(bytes * self.streams.len() as u64)
    }

    /// Allows so many bytes more on each stream.
    pub(crate) fn allow(&mut self, bytes: u64) {
        for (number, stream) in self.streams.iter_mut().enumerate() {
            stream.client.allowed += bytes;
            if !stream.is_busy {
                stream.is_busy = true;
                self.busy.push_back(number);
            }
        }
    }

    /// Sends nothing more than has been sent already.
    pub(crate) fn stop(&mut self) {
        for stream in &mut self.streams {
            stream.client.allowed = stream.client.sent;
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.streams.iter().all(|stream| stream.client.is_done())
    }

    /// How many bytes have come back on all streams.
    pub(crate) fn received(&self) -> u64 {
        self.streams.iter().map(|stream| stream.client.received).sum()
    }

    /// Takes and sends at most one piece, of the stream whose turn it is. If none can go on, waits for one that can,
    /// for at most so long; with a timeout, that is a failure.
    pub(crate) fn step(&mut self, timeout: Duration) -> Result<()> {
        let timeout = if self.busy.is_empty() { timeout } else { Duration::ZERO };
        wait(&mut self.poll, &mut self.events, timeout)?;
        for event in &self.events {
            let number = event.token().0;
            let stream = &mut self.streams[number];
            stream.can_receive |= event.is_readable();
            stream.can_send |= event.is_writable();
            if !stream.is_busy {
                stream.is_busy = true;
                self.busy.push_back(number);
            }
        }
        let Some(number) = self.busy.pop_front() else {
            return if timeout.is_zero() { Ok(()) } else { Err(format!("nothing came for {timeout:?}").into()) };
        };
        let stream = &mut self.streams[number];
        if stream.can_send && stream.client.sent < stream.client.allowed {
            stream.can_send = stream.client.send_once(&self.pattern)?;
        }
        if stream.can_receive {
            stream.can_receive = stream.client.receive_once(&self.pattern, &mut self.buffer)?;
        }
        stream.is_busy = stream.can_receive || stream.can_send && stream.client.sent < stream.client.allowed;
        if stream.is_busy {
            self.busy.push_back(number);
        }
        Ok(())
    }
}
