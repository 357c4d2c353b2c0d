//! One connection of the load: it sends its pattern as far as it is allowed to, and checks what comes back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::Result;
use crate::pattern::Pattern;

/// How long nothing at all may happen before a measurement has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    stream: TcpStream,
    /// Where in the pattern it began.
    origin: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// How much may be sent in all.
    pub(crate) allowed: u64,
}

impl Client {
    /// Connects, and exchanges the first `greeting` bytes at once, so that the server has accepted it before the next one
    /// connects: one with a short queue and a process for each connection would make the others try again a second
    /// later. Then registers for all events under this number.
    pub(crate) fn connect(
        address: SocketAddr,
        (registry, number): (&Registry, usize),
        (pattern, origin): (&Pattern, u64),
        greeting: u64,
    ) -> Result<Self> {
        let mut stream = std::net::TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let message = pattern.at(origin, greeting);
        stream.write_all(message)?;
        let mut echo = vec![0; message.len()];
        stream.read_exact(&mut echo)?;
        pattern.check(origin, &echo)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        let count = echo.len() as u64;
        Ok(Self { stream, origin, sent: count, received: count, allowed: count })
    }

    /// Whether all that was allowed has come back.
    pub(crate) fn is_done(&self) -> bool {
        self.received == self.allowed
    }

    /// Writes once; `false` if there is no room for more, which an event will tell.
    pub(crate) fn send_once(&mut self, pattern: &Pattern) -> Result<bool> {
        let piece = pattern.at(self.origin + self.sent, self.allowed - self.sent);
        let count = ready(self.stream.write(piece))?.unwrap_or(0);
        self.sent += count as u64;
        Ok(count == piece.len())
    }

    /// Writes until all is sent that is allowed, or there is no room.
    pub(crate) fn send(&mut self, pattern: &Pattern) -> Result<()> {
        while self.sent < self.allowed && self.send_once(pattern)? {}
        Ok(())
    }

    /// Reads once and checks what came; `false` if there is nothing more, which an event will tell.
    pub(crate) fn receive_once(&mut self, pattern: &Pattern, buffer: &mut [u8]) -> Result<bool> {
        let Some(count) = ready(self.stream.read(buffer))? else { return Ok(false) };
        if count == 0 {
            return Err("the server has closed a connection".into());
        }
        if self.received + count as u64 > self.sent {
            return Err("more came back than was sent".into());
        }
        pattern.check(self.origin + self.received, &buffer[..count])?;
        self.received += count as u64;
        Ok(count == buffer.len())
    }

    /// Takes all that has come. Returns the numbers of the messages that are complete with it.
    pub(crate) fn take_messages(&mut self, pattern: &Pattern, buffer: &mut [u8], size: u64) -> Result<Range<u64>> {
        let first = self.received / size;
        while self.receive_once(pattern, buffer)? {}
        Ok(first..self.received / size)
    }
}

/// What a read or write did; `None` where it would have to wait.
pub(crate) fn ready(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
        outcome => outcome.map(Some),
    }
}
