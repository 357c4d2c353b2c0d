//! Accepting a server's certificate without asking an authority.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::tls::{fingerprint, provider};

/// Accepts one certificate, or all. The server has to show all the same that it has the key.
#[derive(Debug)]
pub(super) struct Unverified {
    provider: Arc<CryptoProvider>,
    /// The SHA-256 of the only one that is accepted.
    pin: Option<[u8; 32]>,
}

impl Unverified {
    pub(super) fn new(pin: Option<[u8; 32]>) -> Arc<Self> {
        Arc::new(Self { provider: provider(), pin })
    }
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.pin.is_none_or(|pin| Sha256::digest(certificate)[..] == pin) {
            return Ok(ServerCertVerified::assertion());
        }
        let found = fingerprint(certificate);
        Err(Error::General(format!("the server's certificate is not the pinned one; its SHA-256 is {found}")))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
