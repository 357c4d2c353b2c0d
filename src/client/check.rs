//! Compares the reply with the message. Both directions are digested as they pass, so the length does not matter.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::room::Dialog;
use super::{Error, Failure, HalfClose, Peer, Progress, exchange};

/// Does what [`exchange()`] does, but compares the reply with the message by length and SHA-256 instead of writing it
/// to an output. Memory stays constant.
///
/// # Errors
///
/// Those of [`exchange()`], and [`Error::Peer`] with [`Failure::Differs`] unless the reply is the message, byte
/// for byte. A reply that becomes longer than what has been sent so far is a failure at once. Where it begins as that of
/// a room does, and the message does not, the failure is [`Failure::Room`].
pub fn check<R, W>(input: impl Read + Send + 'static, peer: Peer<R, W>, progress: &Arc<Progress>) -> Result<(), Error>
where
    R: Read,
    W: HalfClose + Send + 'static,
{
    let name = peer.name.clone();
    let sent = Arc::new(Mutex::new(Sha256::new()));
    let mut received = Received { digest: Sha256::new(), progress: Arc::clone(progress) };
    let dialog = Dialog::default();
    let input = dialog.message(Sent { input, digest: Arc::clone(&sent) });
    let outcome = exchange(input, peer, &mut dialog.reply(&mut received), progress);
    if dialog.is_with_room() {
        return Err(progress.failure(&name, Failure::Room));
    }
    match outcome {
        // The only error of this output: the reply is longer than the message.
        Err(Error::Output(_)) => return Err(progress.failure(&name, Failure::Differs)),
        outcome => outcome?,
    }
    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if progress.sent() == progress.received() && sent.finalize() == received.digest.finalize() {
        return Ok(());
    }
    Err(progress.failure(&name, Failure::Differs))
}

/// The message: an input that is digested as it is read.
struct Sent<R> {
    input: R,
    digest: Arc<Mutex<Sha256>>,
}

impl<R: Read> Read for Sent<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.digest.lock().unwrap_or_else(PoisonError::into_inner).update(&buffer[..length]);
        Ok(length)
    }
}

/// The reply: an output that keeps only the digest, and fails when it is longer than what has been sent.
struct Received {
    digest: Sha256,
    progress: Arc<Progress>,
}

impl Write for Received {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.progress.received() > self.progress.sent() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.digest.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
