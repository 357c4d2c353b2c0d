//! Whether the peer is a room and no echo: then a reply shorter than the message is no failure.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// What a room says first to everyone who joins.
pub(super) const GREETING: &[u8] = b"* welcome, ";

/// The first bytes of a stream, as many as the greeting has.
#[derive(Clone, Debug, Default)]
pub(super) struct Beginning(Arc<Mutex<Vec<u8>>>);

impl Beginning {
    /// The stream itself, which is noted here as it is read or written.
    pub(super) fn of<T>(&self, stream: T) -> Noted<T> {
        Noted { stream, beginning: self.clone() }
    }

    pub(super) fn is_greeting(&self) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) == GREETING
    }

    fn note(&self, bytes: &[u8]) {
        let mut beginning = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = GREETING.len() - beginning.len();
        beginning.extend_from_slice(&bytes[..missing.min(bytes.len())]);
    }
}

/// A stream whose beginning is noted.
pub(super) struct Noted<T> {
    pub(super) stream: T,
    beginning: Beginning,
}

impl<R: Read> Read for Noted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.beginning.note(&buffer[..length]);
        Ok(length)
    }
}

impl<W: Write> Write for Noted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.stream.write(bytes)?;
        self.beginning.note(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_recognized_however_it_is_cut() {
        let is_greeting = |pieces: &[&str]| {
            let beginning = Beginning::default();
            let mut stream = beginning.of(io::sink());
            for piece in pieces {
                stream.write_all(piece.as_bytes()).unwrap();
            }
            beginning.is_greeting()
        };
        assert!(is_greeting(&["* welcome, user1; nobody else is here\n"]));
        assert!(is_greeting(&["* wel", "come, ", "ann"]));
        assert!(!is_greeting(&["* welcome"]));
        assert!(!is_greeting(&["x* welcome, "]));
    }
}
