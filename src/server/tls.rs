//! The certificate that the server shows, and its renewal.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use rustls::ServerConfig;

use crate::config::{self, Config};
use crate::tls::fingerprint;
use crate::tls::server::{Files, Identity};

/// What new connections are served with.
pub(super) struct Tls {
    identity: Identity,
    fingerprint: Option<String>,
}

impl Tls {
    /// What a server that listens on `addresses` needs for TLS, if it speaks TLS.
    ///
    /// # Errors
    ///
    /// One sentence about a certificate or a key that cannot be used.
    pub(super) fn new(config: &Config, addresses: &[SocketAddr]) -> io::Result<Option<Self>> {
        let Some(tls) = &config.tls else { return Ok(None) };
        let client_authority = config.tls_client_ca.clone();
        Ok(Some(match tls {
            config::Tls::Files { certificate, key } => {
                let files = Files { certificate: certificate.clone(), key: key.clone(), client_authority };
                Self { identity: Identity::load(files, Instant::now())?, fingerprint: None }
            }
            config::Tls::SelfSigned => {
                let (identity, certificate) = Identity::self_signed(names(addresses), client_authority.as_deref())?;
                Self { identity, fingerprint: Some(fingerprint(&certificate)) }
            }
        }))
    }

    /// The SHA-256 of a certificate that was made for this server.
    pub(super) fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// What new connections are to use.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.identity.config()
    }

    /// When the certificate is to be looked at.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.identity.deadline()
    }

    /// Loads a new certificate if there is one. Returns the outcome if there is something to tell.
    pub(super) fn renew(&mut self, now: Instant) -> Option<io::Result<()>> {
        self.identity.renew(now).map(|has_changed| has_changed.then_some(())).transpose()
    }
}

/// The addresses under which clients reach a server that listens on `addresses`.
fn names(addresses: &[SocketAddr]) -> Vec<IpAddr> {
    let mut names: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).collect();
    if names.len() < addresses.len() {
        names.extend([IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]);
    }
    names.sort();
    names.dedup();
    names
}
