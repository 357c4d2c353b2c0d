//! Certificates, keys and authorities for TLS, as both programs use them.
//!
//! The cryptography is ring's: it needs nothing but a C compiler, and builds in half the time of aws-lc-rs.

pub(crate) mod client;
pub mod pem;
pub mod server;

use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, Error, RootCertStore};
use sha2::{Digest, Sha256};
use x509_cert::der::Decode;

use crate::escape::{Style, escape};

/// What files are called in errors.
const CERTIFICATE: &str = "the certificate";
const KEY: &str = "the key";

/// The versions that are spoken: nothing older is safe.
const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// The cryptography. All of its suites are forward-secret and authenticate what they encrypt. Those with SHA-256 come first,
/// which means AES-128: processors have instructions for SHA-256 and not for SHA-384, which a handshake spends a tenth of
/// its time on.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite().as_str().is_some_and(|name| name.ends_with("SHA384")));
    Arc::new(provider)
}

/// The SHA-256 of a certificate, in 64 hex digits.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate).iter().fold(String::new(), |mut digits, byte| {
        _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// The subject of a certificate, `CN=ann,O=Example` (RFC 4514), on one line that is safe to print.
pub fn subject(certificate: &CertificateDer<'_>) -> String {
    let parsed = x509_cert::Certificate::from_der(certificate);
    let subject = parsed.map(|parsed| parsed.tbs_certificate().subject().to_string()).unwrap_or_default();
    let mut line = String::new();
    escape(&mut line, subject.as_bytes(), Style::Log);
    line
}

/// The authorities that the system trusts. The error names the option by which others can be given.
pub(crate) fn system_authorities(option: &str) -> io::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        let text = format!("this system has no certificates of authorities{reason} (name some with {option})");
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    Ok(roots)
}

/// The name that a server's certificate has to have, where the server is called so.
pub(crate) fn server_name(name: &str) -> io::Result<ServerName<'static>> {
    // The zone of an IPv6 address concerns this machine alone.
    let without_zone = name.split_once('%').map_or(name, |(address, _)| address);
    if let Ok(address) = without_zone.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let error = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("'{name}' is not a server name"));
    ServerName::try_from(name.to_owned()).map_err(error)
}

/// What is wrong, in words for people: those of rustls name the types of its source.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate_reason(error),
        Error::AlertReceived(AlertDescription::UnknownCA) => "the peer sent the alert \"unknown CA\"".to_owned(),
        Error::AlertReceived(alert) => {
            let words = format!("{alert:?}");
            let words = words.char_indices().fold(String::new(), |mut words, (at, letter)| {
                if letter.is_uppercase() && at > 0 {
                    words.push(' ');
                }
                words.push(letter.to_ascii_lowercase());
                words
            });
            format!("the peer sent the alert \"{words}\"")
        }
        Error::General(reason) => reason.clone(),
        Error::NoCertificatesPresented => "no certificate was presented".to_owned(),
        Error::PeerIncompatible(_) => "there is no version or cipher suite that both sides accept".to_owned(),
        Error::InvalidMessage(_) => "what came is not TLS, or damaged".to_owned(),
        error => error.to_string(),
    }
}

/// Why a private key, which belongs to a certificate, is of no use.
fn key_reason(error: &Error) -> String {
    match error {
        Error::InconsistentKeys(_) => "it does not belong to the certificate".to_owned(),
        // So rustls reports what the cryptography does not know.
        Error::General(_) => "keys are RSA of 2048 to 8192 bits, ECDSA with P-256 or P-384, or Ed25519".to_owned(),
        error => reason(error),
    }
}

fn certificate_reason(error: &CertificateError) -> String {
    let reason = match error {
        CertificateError::NotValidForNameContext { expected, .. } => {
            return format!("the certificate was not accepted: it is not for {}", expected.to_str());
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet",
        CertificateError::UnknownIssuer => "its issuer is unknown",
        CertificateError::Revoked => "it was revoked",
        CertificateError::BadEncoding => "it is damaged",
        CertificateError::BadSignature => "its signature is wrong",
        CertificateError::NotValidForName => "it is for another name",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is for another purpose"
        }
        _ => "its signature cannot be checked",
    };
    format!("the certificate was not accepted: {reason}")
}
