//! TLS on the side of the client.
//!
//! The two threads of an exchange share one [`ClientConnection`]. Its lock is held while it works in memory, and never
//! during a call of the system, so neither thread waits for the other's socket.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection};
use socket2::Socket;

use super::Stream;
use crate::tls::{client, pem, reason, server_name, system_authorities};
use crate::transport::listener::UNIX_PREFIX;
use trust::Unverified;

#[cfg(test)]
mod tests;
mod trust;

/// The most bytes of ciphertext that one read takes.
const READ: usize = 16 << 10;

/// The length of a record's header.
const HEADER: usize = 5;

/// How to speak TLS with a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// Which certificates of the server are accepted.
    pub trust: Trust,
    /// The files, in PEM, with our own certificate and its key, for a server that asks for them.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate has to have, and that the server is asked for. Default: the host's.
    pub server_name: Option<String>,
}

/// Which certificates of a server are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// Those that an authority of the system has issued for its name.
    #[default]
    System,
    /// Those that an authority in this file, in PEM, has issued for its name.
    Authorities(PathBuf),
    /// The one with this SHA-256, whatever else it says.
    Pin([u8; 32]),
    /// Any.
    Anything,
}

impl Tls {
    /// Loads the files.
    pub(super) fn load(&self, host: &str) -> io::Result<Settings> {
        let builder = client::builder()?;
        let builder = match &self.trust {
            Trust::System => builder.with_root_certificates(system_authorities("--cacert")?),
            Trust::Authorities(path) => {
                let what = "the authorities";
                builder.with_root_certificates(pem::authorities(what, path, &pem::read(what, path)?)?)
            }
            Trust::Pin(digest) => builder.dangerous().with_custom_certificate_verifier(Unverified::new(Some(*digest))),
            Trust::Anything => builder.dangerous().with_custom_certificate_verifier(Unverified::new(None)),
        };
        let mut config = client::with_identity(builder, self.identity.as_ref())?;
        // There is only one connection.
        config.resumption = Resumption::disabled();
        Ok(Settings { config: Arc::new(config), name: self.name(host)? })
    }

    fn name(&self, host: &str) -> io::Result<ServerName<'static>> {
        match &self.server_name {
            Some(name) => server_name(name),
            // A Unix socket is of this machine.
            None if host.starts_with(UNIX_PREFIX) => server_name("localhost"),
            None => server_name(host),
        }
    }
}

/// What is loaded, for any number of connections to one server.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Settings {
    /// Does the handshake over `socket`, until `deadline` at most.
    pub(super) fn connect(&self, socket: &Socket, deadline: Option<Instant>) -> io::Result<Shared> {
        let connection =
            ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(io::Error::other)?;
        let mut records = Records { socket, header: [0; HEADER], known: 0, rest: 0 };
        let mut connection = Box::new(connection);
        loop {
            let remaining = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if remaining.is_some_and(|remaining| remaining.is_zero()) {
                return Err(io::Error::new(ErrorKind::TimedOut, "the TLS handshake took too long"));
            }
            // The system accepts no timeout of zero.
            let timeout = remaining.map(|remaining| remaining.max(Duration::from_millis(1)));
            socket.set_read_timeout(timeout)?;
            socket.set_write_timeout(timeout)?;
            let outcome = if connection.wants_write() {
                connection.write_tls(&mut &*socket).map(drop)
            } else if connection.is_handshaking() {
                shake(&mut connection, &mut records)
            } else {
                return Ok(Shared(Arc::new(Mutex::new(connection))));
            };
            match outcome {
                Err(error) if super::exchange::is_pause(&error) => {}
                outcome => outcome?,
            }
        }
    }
}

/// Does the handshake with `host` over a socket that is connected already, for tests that need a client of their own.
///
/// # Errors
///
/// What is wrong with the files of `tls` or with the server, or the system's.
pub fn tls_over(stream: TcpStream, host: &str, tls: &Tls) -> io::Result<Stream> {
    let socket = Socket::from(stream);
    let shared = tls.load(host)?.connect(&socket, None)?;
    Stream::pair(socket, Some(&shared)).map(|(stream, _)| stream)
}

/// Reads a part of a record, and goes on with the handshake if it was the last one.
fn shake(connection: &mut ClientConnection, records: &mut Records<'_>) -> io::Result<()> {
    if connection.read_tls(records)? == 0 {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server ended the connection in the TLS handshake"));
    }
    connection.process_new_packets().map(drop).map_err(|error| {
        // The alert that says why.
        _ = connection.write_tls(&mut records.socket);
        io::Error::new(ErrorKind::InvalidData, handshake_reason(&error))
    })
}

fn handshake_reason(error: &rustls::Error) -> String {
    match error {
        // An echo server sends our own greeting back.
        rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateHandshakeMessage { .. } => {
            "the server does not speak TLS".to_owned()
        }
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            format!("{} (--cacert accepts an authority, and --pin one certificate)", reason(error))
        }
        error => reason(error),
    }
}

/// Reads a socket up to the end of each record: what comes after the handshake stays in the socket, where a poll finds it.
struct Records<'a> {
    socket: &'a Socket,
    header: [u8; HEADER],
    /// How much of the header is known.
    known: usize,
    /// How much of the record is still to come.
    rest: usize,
}

impl Read for Records<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = if self.rest > 0 { self.rest } else { HEADER - self.known }.min(buffer.len());
        let count = self.socket.read(&mut buffer[..limit])?;
        if self.rest > 0 {
            self.rest -= count;
            return Ok(count);
        }
        self.header[self.known..][..count].copy_from_slice(&buffer[..count]);
        self.known += count;
        if self.known == HEADER {
            self.known = 0;
            self.rest = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
        }
        Ok(count)
    }
}

/// A connection that several halves share.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Box<ClientConnection>>>);

impl Shared {
    pub(super) fn half(&self) -> Half {
        Half {
            connection: self.clone(),
            ciphertext: Vec::new(),
            fed: 0,
            has_failed: false,
            outgoing: Vec::new(),
            is_finishing: false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Box<ClientConnection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One half of a connection, to be read or written, or both of them in one thread.
pub(super) struct Half {
    connection: Shared,
    /// What was read, and how much of it is decrypted.
    ciphertext: Vec<u8>,
    fed: usize,
    has_failed: bool,
    /// Encrypted bytes that are to be written.
    outgoing: Vec<u8>,
    is_finishing: bool,
}

impl Half {
    /// Reads as much as fits into `buffer`: nothing that has come is left, unless that is full.
    pub(super) fn read(&mut self, socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.decrypt(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            self.ciphertext.resize(READ, 0);
            let outcome = (&*socket).read(&mut self.ciphertext);
            self.ciphertext.truncate(outcome.as_ref().map_or(0, |count| *count));
            self.fed = 0;
            if outcome? == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "it ended without close_notify"));
            }
        }
    }

    /// Decrypts what was read. The error is `WouldBlock` if that is not enough for a byte.
    fn decrypt(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut connection = self.connection.lock();
        let mut count = 0;
        while count < buffer.len() {
            match connection.reader().read(&mut buffer[count..]) {
                Ok(0) => return Ok(count),
                Ok(more) => count += more,
                Err(_) if self.fed == self.ciphertext.len() || self.has_failed => break,
                Err(_) => {
                    self.fed += connection.read_tls(&mut &self.ciphertext[self.fed..])?;
                    self.has_failed = connection.process_new_packets().is_err();
                }
            }
        }
        match connection.process_new_packets() {
            _ if count > 0 => Ok(count),
            Err(error) => Err(io::Error::new(ErrorKind::InvalidData, reason(&error))),
            Ok(_) => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Takes as much as fits into a buffer, and writes what the socket takes of it.
    pub(super) fn write(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        self.flush(socket)?;
        let mut connection = self.connection.lock();
        let count = connection.writer().write(bytes)?;
        encrypted(&mut connection, &mut self.outgoing)?;
        drop(connection);
        match self.flush(socket) {
            Err(error) if !super::exchange::is_pause(&error) => Err(error),
            _ => Ok(count),
        }
    }

    /// Writes what was taken.
    pub(super) fn flush(&mut self, socket: &Socket) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match (&*socket).write(&self.outgoing)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                count => drop(self.outgoing.drain(..count)),
            }
        }
        Ok(())
    }

    /// Whether there is something to [`flush`](Self::flush).
    pub(super) fn wants_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Ends our side, with the alert that says so. To be repeated if it fails with `WouldBlock` or `TimedOut`.
    pub(super) fn finish(&mut self, socket: &Socket) -> io::Result<()> {
        if !self.is_finishing {
            self.is_finishing = true;
            let mut connection = self.connection.lock();
            connection.send_close_notify();
            encrypted(&mut connection, &mut self.outgoing)?;
        }
        match self.flush(socket) {
            // It is gone already, and reading tells why, as where a shutdown fails.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Err(ErrorKind::NotConnected.into())
            }
            outcome => outcome.and_then(|()| socket.shutdown(Shutdown::Write)),
        }
    }
}

/// Moves what is to be written to `outgoing`.
fn encrypted(connection: &mut ClientConnection, outgoing: &mut Vec<u8>) -> io::Result<()> {
    while connection.wants_write() {
        connection.write_tls(outgoing)?;
    }
    Ok(())
}

impl fmt::Debug for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Half").finish_non_exhaustive()
    }
}
