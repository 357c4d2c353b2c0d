//! What connections to Redis over TLS need.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection};

use crate::tls::{VERSIONS, pem, provider, reason, server_name, system_authorities};
use crate::transport::Socket;
use crate::transport::tls::Tls;

/// The option that names the authority.
const OPTION: &str = "--redis-cacert";

/// Which certificates of Redis are accepted.
pub(super) struct Trust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Trust {
    /// Accepts certificates for `host` by an authority in this file, or else by one that the system trusts.
    pub(super) fn load(host: &str, authority: Option<&Path>) -> io::Result<Self> {
        let roots = match authority {
            Some(path) => {
                let what = "the authority of Redis";
                pem::authorities(what, path, &pem::read(what, path)?)?
            }
            None => system_authorities(OPTION)?,
        };
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(&VERSIONS).map_err(io::Error::other)?;
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { config: Arc::new(config), name: server_name(host)? })
    }

    /// TLS over a socket that is to be connected.
    pub(super) fn over(&self, socket: Socket) -> io::Result<Tls<Socket, ClientConnection>> {
        Tls::client(socket, Arc::clone(&self.config), self.name.clone())
    }
}

/// Why a handshake failed.
pub(super) fn handshake_error(tls: &mut Tls<Socket, ClientConnection>, error: io::Error) -> io::Error {
    use CertificateError::{BadSignature, UnknownIssuer};

    match tls.error() {
        Some(error @ rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature)) => {
            io::Error::other(format!("{} ({OPTION} accepts an authority)", reason(&error)))
        }
        Some(rustls::Error::InvalidMessage(_)) => io::Error::other("it does not speak TLS"),
        _ if error.kind() == io::ErrorKind::UnexpectedEof => {
            io::Error::other("it closed the connection in the TLS handshake")
        }
        _ => error,
    }
}
