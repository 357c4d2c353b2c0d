//! Reading certificates and keys from PEM files (RFC 7468).

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;

use crate::error::reason;

/// What is wrong with a file that is cut off, or no base64.
const DAMAGED: &str = "its PEM is incomplete or damaged";

/// Reads a file that is called `what` in errors.
pub(crate) fn read(what: &str, path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| unreadable(what, path, error.kind(), &reason(&error)))
}

/// As [`read`], but only a regular file: reading from a pipe would wait for its writer.
pub(crate) fn read_file(what: &str, path: &Path) -> io::Result<Vec<u8>> {
    let read = || {
        // To open a pipe would wait too.
        let mut file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        let mut contents = Vec::new();
        file.read_to_end(&mut contents).map(|_| Some(contents))
    };
    match read() {
        Ok(Some(contents)) => Ok(contents),
        Ok(None) => Err(unreadable(what, path, io::ErrorKind::InvalidInput, "it is not a regular file")),
        Err(error) => Err(unreadable(what, path, error.kind(), &reason(&error))),
    }
}

fn unreadable(what: &str, path: &Path, kind: io::ErrorKind, reason: &str) -> io::Error {
    io::Error::new(kind, format!("cannot read {what} {}: {reason}", path.display()))
}

/// The certificates in `text`, the contents of the file at `path`: at least one.
pub(crate) fn certificates(what: &str, path: &Path, text: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(without_mark(text)).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => {
            // What is behind the first one is not looked at by rustls, but sent.
            for certificate in &certificates {
                ParsedCertificate::try_from(certificate)
                    .map_err(|error| useless(what, path, &super::reason(&error)))?;
            }
            Ok(certificates)
        }
        Ok(_) | Err(pem::Error::NoItemsFound) => Err(useless(what, path, "there is no PEM certificate in it")),
        Err(_) => Err(useless(what, path, DAMAGED)),
    }
}

/// The private key in `text`, the contents of the file at `path`: PKCS#8, PKCS#1 or SEC1.
pub(crate) fn key(what: &str, path: &Path, text: &[u8]) -> io::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(without_mark(text)).map_err(|error| match error {
        pem::Error::NoItemsFound if is_encrypted(text) => {
            useless(what, path, &format!("it is encrypted (decrypt it with: openssl pkey -in {})", path.display()))
        }
        pem::Error::NoItemsFound => useless(what, path, "there is no PEM private key in it"),
        _ => useless(what, path, DAMAGED),
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

/// The text without the byte order mark that some editors put before it, which would hide its first line.
fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

fn is_encrypted(text: &[u8]) -> bool {
    memchr::memmem::find(text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----").is_some()
}
