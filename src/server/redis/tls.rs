//! What connections to Redis over TLS need.

use std::io;
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

/// Which certificates of Redis are accepted.
pub(super) struct Trust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Trust {
    /// Accepts certificates for `host` by the authority that `config` names, or else by one that the system trusts, and
    /// presents the certificate that `config` names.
    pub(super) fn load(host: &str, config: &Config) -> io::Result<Self> {
        let roots = match &config.redis_cacert {
            Some(path) => {
                let what = "the authority of Redis";
                pem::authorities(what, path, &pem::read(what, path)?)?
            }
            None => system_authorities(AUTHORITY)?,
        };
        let builder = client::builder()?.with_root_certificates(roots);
        let config = client::with_identity(builder, config.redis_identity.as_ref())?;
        Ok(Self { config: Arc::new(config), name: server_name(host)? })
    }

    /// TLS over a socket that is to be connected.
    pub(super) fn over(&self, socket: Socket) -> io::Result<Tls<Socket, ClientConnection>> {
        Tls::client(socket, Arc::clone(&self.config), self.name.clone())
    }
}

/// Why a connection failed, with the option that may help.
pub(super) fn explained(tls: &mut Tls<Socket, ClientConnection>, error: io::Error) -> io::Error {
    use CertificateError::{BadSignature, UnknownIssuer};

    match tls.error() {
        Some(error @ rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature)) => {
            io::Error::other(format!("{} ({AUTHORITY} accepts an authority)", reason(&error)))
        }
        // With TLS 1.3, this comes when the handshake is done on this side.
        Some(error @ rustls::Error::AlertReceived(AlertDescription::CertificateRequired)) => {
            io::Error::other(format!("{} ({CERTIFICATE} presents one)", reason(&error)))
        }
        Some(rustls::Error::InvalidMessage(_)) => io::Error::other("it does not speak TLS"),
        _ if error.kind() == io::ErrorKind::UnexpectedEof => {
            io::Error::other("it closed the connection in the TLS handshake")
        }
        _ => error,
    }
}
