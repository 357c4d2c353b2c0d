//! Reading certificates and keys from PEM files (RFC 7468).

use std::fs;
use std::io;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::reason;

/// Reads a file that is called `what` in errors.
pub(crate) fn read(what: &str, path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot read {what} {}: {}", path.display(), reason(&error)))
    })
}

/// The certificates in `text`, the contents of the file at `path`: at least one.
pub(crate) fn certificates(what: &str, path: &Path, text: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(pem::Error::NoItemsFound) => Err(useless(what, path, "there is no PEM certificate in it")),
        Err(error) => Err(useless(what, path, &error.to_string())),
    }
}

/// The private key in `text`, the contents of the file at `path`: PKCS#8, PKCS#1 or SEC1.
pub(crate) fn key(what: &str, path: &Path, text: &[u8]) -> io::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound if is_encrypted(text) => {
            useless(what, path, &format!("it is encrypted (decrypt it with: openssl pkey -in {})", path.display()))
        }
        pem::Error::NoItemsFound => useless(what, path, "there is no PEM private key in it"),
        error => useless(what, path, &error.to_string()),
    })
}

/// The authorities in `text`, the contents of the file at `path`.
pub(crate) fn authorities(what: &str, path: &Path, text: &[u8]) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, path, text)? {
        roots.add(certificate).map_err(|error| useless(what, path, &super::reason(&error)))?;
    }
    Ok(roots)
}

/// The error for a file whose contents are of no use.
pub(crate) fn useless(what: &str, path: &Path, reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("cannot use {what} {}: {reason}", path.display()))
}

fn is_encrypted(text: &[u8]) -> bool {
    memchr::memmem::find(text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----").is_some()
}
