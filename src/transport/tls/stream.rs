//! What is read from and written to a connection that speaks TLS.

use std::io::{self, ErrorKind, IoSlice, Write};

use super::{End, Ending, LEAST_READ, RECORD, Side, Tls};
use crate::transport::{Received, Sent, Stream};

impl<S: Stream, C: Side> Stream for Tls<S, C> {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let taken = self.take(buffer);
        if taken == buffer.len() {
            return Ok(Received { count: taken, is_drained: false });
        }
        // What was taken had come with earlier reads: whether the stream is drained now, only another one can tell.
        let count = match self.decrypt(&mut buffer[taken..], LEAST_READ) {
            Ok(more) => taken + more,
            Err(_) if taken > 0 => taken,
            Err(error) => return Err(error),
        };
        // At the end there is one more thing to be told.
        Ok(Received { count, is_drained: !self.may_receive() })
    }

    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Sent> {
        // What waits besides, as session tickets do, can be written together with what is taken now.
        if self.unsent > 0 || slices.is_empty() {
            self.flush()?;
        }
        if slices.is_empty() {
            return Ok(Sent { count: 0, is_blocked: false });
        }
        let count = match slices {
            [first, rest @ ..] if rest.is_empty() || first.len() >= RECORD => self.connection.writer().write(first)?,
            _ => self.gather(slices)?,
        };
        if count == 0 {
            // With TLS 1.2, the keys are used up after some millions of records.
            return Err(ErrorKind::ConnectionAborted.into());
        }
        self.unsent += count;
        match self.flush().map_err(|error| error.kind()) {
            Ok(()) | Err(ErrorKind::Interrupted) => Ok(Sent { count, is_blocked: false }),
            Err(ErrorKind::WouldBlock) => Ok(Sent { count, is_blocked: true }),
            Err(kind) => {
                self.unsent = 0;
                Err(kind.into())
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.ending == Ending::Open {
            self.connection.send_close_notify();
            self.ending = Ending::Finishing;
        }
        match self.flush() {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            outcome => outcome,
        }
    }

    fn unread(&self) -> io::Result<usize> {
        // More cannot have arrived than there is ciphertext.
        Ok(self.plaintext + self.undelivered + self.stream.unread()?)
    }

    fn has_unsent(&self) -> io::Result<bool> {
        Ok(self.wants_write() || self.stream.has_unsent()?)
    }

    fn reset_on_drop(&mut self) {
        self.ending = Ending::Finished;
        self.stream.reset_on_drop();
    }

    fn unsent(&self) -> usize {
        self.unsent
    }

    fn wants_write(&self) -> bool {
        self.connection.wants_write() || self.ending == Ending::Finishing
    }

    fn held(&self) -> usize {
        self.plaintext + self.undelivered + self.unsent
    }

    fn ends_on_drop(&self) -> bool {
        false
    }
}

impl<S: Stream, C: Side> Drop for Tls<S, C> {
    /// A stream that ends without this looks cut off, as it has to where the protocol or the stream below was broken.
    fn drop(&mut self) {
        let is_sound = matches!(self.end, None | Some(End::Closed)) && !self.connection.is_handshaking();
        if self.ending == Ending::Open && is_sound {
            self.connection.send_close_notify();
            while self.flush().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {}
        }
    }
}

/// Where ciphertext is written to.
pub(super) struct Writer<'a, S> {
    pub(super) stream: &'a mut S,
    pub(super) is_blocked: bool,
}

impl<S: Stream> Write for Writer<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Sent { count, is_blocked } = self.stream.send(slices)?;
        self.is_blocked = is_blocked;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
