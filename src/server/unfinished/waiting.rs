//! A connection that is not let in yet, and how far it is.

use std::io::{self, ErrorKind};
use std::time::Instant;

use mio::{Interest, Registry, Token};

use super::{Client, Step};
use crate::address::{PeerAddress, QuotaKey};
use crate::connection::Ready;
use crate::tls::subject;
use crate::transport::tls::Tls;
use crate::transport::{Socket, Stream};

/// How many bytes of what follows a failed handshake are discarded at once.
const DISCARD: usize = 4 << 10;

pub(super) struct Waiting {
    pub(super) stage: Stage,
    /// The proxy's address, until the header has come.
    pub(super) address: PeerAddress,
    pub(super) since: Instant,
    pub(super) deadline: Instant,
    /// An event told of the end of what the client sends: no other will follow for what is behind the last read.
    pub(super) read_closed: bool,
    /// Its time is up: what is not done with the next step fails.
    pub(super) is_final: bool,
}

pub(super) enum Stage {
    /// Its PROXY header has not come yet.
    Header(Socket),
    /// Its TLS handshake is under way.
    Handshake {
        tls: Box<Tls<Socket>>,
        /// It has been sent an alert and our end, and what it still sends is discarded: closing a socket with unread
        /// input could destroy the alert.
        has_failed: bool,
    },
}

impl Waiting {
    pub(super) fn key(&self) -> QuotaKey {
        self.address.into()
    }

    /// Whether its end came before its handshake had begun: whatever it sent, it does not read an answer, or not in time.
    pub(super) fn has_ended_early(&self) -> bool {
        (self.read_closed || self.is_final) && !self.stage.has_begun()
    }

    /// What becomes of it when its handshake is done.
    pub(super) fn into_step(self) -> Step {
        let Stage::Handshake { tls, .. } = self.stage else { return Step::Nothing };
        let certificates = tls.connection().peer_certificates();
        // What came with the end of the handshake is not in the socket any more.
        let ready = Ready { readable: tls.may_receive(), read_closed: self.read_closed, ..Ready::default() };
        Step::Done(Client {
            subject: certificates.and_then(|chain| chain.first()).map(subject),
            stream: Socket::Tls(tls),
            address: self.address,
            is_exempt: false,
            registered: Some(ready),
        })
    }
}

impl Stage {
    pub(super) fn is_header(&self) -> bool {
        matches!(self, Self::Header(_))
    }

    /// Whether a handshake has begun with something from the client. There is none before the header.
    pub(super) fn has_begun(&self) -> bool {
        match self {
            Self::Header(_) => true,
            Self::Handshake { tls, .. } => tls.has_begun(),
        }
    }

    /// Bytes of memory that are held for it.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Header(_) => 0,
            Self::Handshake { tls, .. } => size_of_val(&**tls) + tls.held(),
        }
    }

    /// Goes on with a handshake. Returns whether it is done, or, if it had failed, `false` once the client is gone.
    /// `None` before the header.
    pub(super) fn step(&mut self) -> Option<io::Result<bool>> {
        let Self::Handshake { tls, has_failed } = self else { return None };
        if !*has_failed {
            return Some(tls.handshake().map(|()| true));
        }
        Some(match tls.stream_mut().recv(&mut [0; DISCARD]) {
            Ok(received) if received.count > 0 => Err(ErrorKind::Interrupted.into()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Err(error),
            _ => Ok(false),
        })
    }

    /// Has an event tell when the socket takes more, if that is waited for. In most handshakes it never is, and to ask for it
    /// from the beginning would bring events that mean nothing.
    pub(super) fn await_writable(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Handshake { tls, .. } if tls.wants_write() => {
                registry.reregister(tls.stream_mut(), token, Interest::READABLE | Interest::WRITABLE)
            }
            _ => Ok(()),
        }
    }

    /// Ends our side of a handshake after the alert.
    pub(super) fn fail(&mut self) {
        if let Self::Handshake { tls, has_failed } = self {
            // If this fails, the client is gone.
            _ = tls.finish();
            *has_failed = true;
        }
    }
}
