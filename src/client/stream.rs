//! A connection to a server.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use socket2::Socket;

use super::HalfClose;
use super::tls::{Half, Shared};

/// How an alert of TLS begins.
const ALERT: u8 = 21;

/// The length of one that is not encrypted.
const ALERT_LENGTH: usize = 7;

/// A connection to a server, over TCP or a Unix socket, with TLS or without.
#[derive(Debug)]
pub struct Stream {
    pub(super) socket: Socket,
    layer: Layer,
}

/// What is between the bytes and the socket.
#[derive(Debug)]
enum Layer {
    /// Nothing.
    Plain {
        /// Whether what is sent may look like an alert.
        sends_alert: Arc<AtomicBool>,
        /// Whether anything was received.
        has_received: bool,
    },
    Tls(Box<Half>),
}

impl Stream {
    /// Both halves of a connection, one to read and one to write. Either does for both in one thread.
    pub(super) fn pair(socket: Socket, tls: Option<&Shared>) -> io::Result<(Self, Self)> {
        let sends_alert = Arc::default();
        let layer = || match tls {
            Some(shared) => Layer::Tls(Box::new(shared.half())),
            None => Layer::Plain { sends_alert: Arc::clone(&sends_alert), has_received: false },
        };
        Ok((Self { socket: socket.try_clone()?, layer: layer() }, Self { socket, layer: layer() }))
    }

    /// Whether something that was written waits to be [flushed](Write::flush).
    pub(super) fn wants_write(&self) -> bool {
        matches!(&self.layer, Layer::Tls(half) if half.wants_write())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (sends_alert, has_received) = match &mut self.layer {
            Layer::Plain { sends_alert, has_received } => (sends_alert, has_received),
            Layer::Tls(half) => return half.read(&self.socket, buffer),
        };
        let count = self.socket.read(buffer)?;
        // No echo begins with what was not sent.
        let is_alert = count == ALERT_LENGTH && buffer.starts_with(&[ALERT, 3]);
        if is_alert && !*has_received && !sends_alert.load(Relaxed) {
            return Err(io::Error::new(ErrorKind::InvalidData, "it speaks TLS (use --tls)"));
        }
        *has_received = true;
        Ok(count)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Plain { sends_alert, .. } => {
                if bytes.first() == Some(&ALERT) {
                    sends_alert.store(true, Relaxed);
                }
                self.socket.write(bytes)
            }
            Layer::Tls(half) => half.write(&self.socket, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Plain { .. } => Ok(()),
            Layer::Tls(half) => half.flush(&self.socket),
        }
    }
}

impl HalfClose for Stream {
    fn finish(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Plain { .. } => self.socket.shutdown(Shutdown::Write),
            Layer::Tls(half) => half.finish(&self.socket),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
