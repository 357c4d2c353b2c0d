//! Is the reply the message? Both directions are digested as they pass, so the length does not matter.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::{Error, Failure, HalfClose, Peer, Progress, exchange};

/// Does as [`exchange()`] does, but instead of putting the reply out compares it with the message, by length and
/// SHA-256, in constant memory.
///
/// # Errors
///
/// Those of [`exchange()`], and [`Error::Peer`] with [`Failure::Differs`] unless the reply is the message, byte
/// for byte.
pub fn check<R, W>(input: impl Read + Send + 'static, peer: Peer<R, W>, progress: &Arc<Progress>) -> Result<(), Error>
where
    R: Read,
    W: HalfClose + Send + 'static,
{
    let name = peer.name.clone();
    let sent = Arc::new(Mutex::new(Sha256::new()));
    let mut received = Digesting(Sha256::new());
    exchange(Digested { input, digest: Arc::clone(&sent) }, peer, &mut received, progress)?;

    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if progress.sent() == progress.received() && sent.finalize() == received.0.finalize() {
        return Ok(());
    }
    Err(progress.failure(&name, Failure::Differs))
}

/// An input that is digested as it is read.
struct Digested<R> {
    input: R,
    digest: Arc<Mutex<Sha256>>,
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.digest.lock().unwrap_or_else(PoisonError::into_inner).update(&buffer[..length]);
        Ok(length)
    }
}

/// An output that keeps nothing but the digest.
struct Digesting(Sha256);

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
