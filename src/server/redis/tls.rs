//! What connections to Redis over TLS need.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection};

use crate::config::Config;
use crate::tls::{client, pem, reason, server_name, system_authorities};
use crate::transport::Socket;
use crate::transport::tls::Tls;

/// The options that name the authority of Redis and the certificate for it.
const AUTHORITY: &str = "--redis-cacert";
const CERTIFICATE: &str = "--redis-cert";

/// The host of Redis, and the files that say which certificates of it are accepted and which one it is presented.
#[derive(Clone)]
pub(super) struct Files {
    host: String,
    /// Without one, it is the authorities of the system that are trusted.
    authority: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

/// What the files had in them when they were loaded.
pub(super) struct Settings {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Files {
    pub(super) fn new(host: &str, config: &Config) -> Self {
        let (authority, identity) = (config.redis_cacert.clone(), config.redis_identity.clone());
        Self { host: host.to_owned(), authority, identity }
    }

    /// Loads them. The error names the file and what is wrong with it.
    pub(super) fn load(&self) -> io::Result<Settings> {
        let roots = match &self.authority {
            Some(path) => {
                let what = "the authority of Redis";
                pem::authorities(what, path, &pem::read(what, path)?)?
            }
            None => system_authorities(AUTHORITY)?,
        };
        let builder = client::builder()?.with_root_certificates(roots);
        let config = client::with_identity(builder, self.identity.as_ref())?;
        Ok(Settings { config: Arc::new(config), name: server_name(&self.host)? })
    }
}

impl Settings {
    /// TLS over a socket that is to be connected.
    pub(super) fn over(&self, socket: Socket) -> io::Result<Tls<Socket, ClientConnection>> {
        Tls::client(socket, Arc::clone(&self.config), self.name.clone())
    }
}

/// Why a connection failed, with the option that may help.
pub(super) fn explained(tls: &mut Tls<Socket, ClientConnection>, error: io::Error) -> io::Error {
    use CertificateError::{BadSignature, UnknownIssuer};

    let is_handshaking = tls.connection().is_handshaking();
    match tls.error() {
        Some(error @ rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature)) => {
            io::Error::other(format!("{} ({AUTHORITY} accepts an authority)", reason(&error)))
        }
        // Only TLS 1.3 has this alert, and it comes when the handshake is done on this side.
        Some(error @ rustls::Error::AlertReceived(AlertDescription::CertificateRequired)) => {
            io::Error::other(format!("{} ({CERTIFICATE} presents one)", reason(&error)))
        }
        Some(rustls::Error::InvalidMessage(_)) if is_handshaking => io::Error::other("it does not speak TLS"),
        _ if error.kind() == io::ErrorKind::UnexpectedEof => {
            io::Error::other("it closed the connection in the TLS handshake")
        }
        _ => error,
    }
}
