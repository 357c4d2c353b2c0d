//! What a server needs for TLS, and its renewal while the server runs.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use rustls::crypto::ring::Ticketer;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{Error, RootCertStore, ServerConfig};

use super::{CERTIFICATE, KEY, VERSIONS, pem, provider};

/// How often the files are looked at.
pub(crate) const RENEWAL: Duration = Duration::from_secs(60);

/// How long after that what was in them is taken: reading them takes less most often. If it does not, they are looked at
/// again after as long as it has taken so far, at most [`RENEWAL`].
const READING: Duration = Duration::from_secs(1);

const AUTHORITY: &str = "the client authority";

/// The settings of a server's TLS, with the files that they come from.
#[derive(Debug)]
pub struct Identity {
    config: Arc<ServerConfig>,
    files: Option<Files>,
    /// What the files had in them when they were loaded.
    used: Contents,
    /// The same when they were last looked at, or why they could not be read.
    seen: Result<Contents, String>,
    look_at: Option<Instant>,
    /// What a thread reads now, and since when: a file system that does not answer must not keep the clients waiting.
    reading: Option<(Instant, Receiver<io::Result<Contents>>)>,
}

/// Where a certificate, its key, and the authority of the clients' certificates are.
#[derive(Clone, Debug)]
pub struct Files {
    /// The server's certificate and those that lead to its authority, in PEM.
    pub certificate: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
    /// The authority whose certificates clients have to present.
    pub client_authority: Option<PathBuf>,
}

/// What is in the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_authority: Option<Vec<u8>>,
}

impl Identity {
    /// Loads the files.
    ///
    /// # Errors
    ///
    /// One sentence that names the file and what is wrong with it.
    pub fn load(files: Files, now: Instant) -> io::Result<Self> {
        let used = files.read(pem::read)?;
        let config = files.config(&used)?;
        let seen = Ok(used.clone());
        Ok(Self { config, files: Some(files), used, seen, look_at: Some(now + RENEWAL), reading: None })
    }

    /// Makes a certificate for `localhost`, this machine's name and `addresses`, which nobody vouches for. Returns it
    /// as well.
    ///
    /// # Errors
    ///
    /// If the authority of the clients cannot be loaded, or the system has no random numbers.
    pub fn self_signed(
        addresses: impl IntoIterator<Item = IpAddr>,
        client_authority: Option<&Path>,
    ) -> io::Result<(Self, CertificateDer<'static>)> {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let names = ["localhost".to_owned(), host].into_iter().filter(|name| !name.is_empty());
        let names: Vec<String> = names.chain(addresses.into_iter().map(|address| address.to_string())).collect();
        let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let roots = match client_authority {
            Some(path) => Some(pem::authorities(AUTHORITY, path, &pem::read(AUTHORITY, path)?)?),
            None => None,
        };
        let config = config(vec![certificate.clone()], key, roots).map_err(io::Error::other)?;
        let used = Contents::default();
        let seen = Ok(used.clone());
        Ok((Self { config, files: None, used, seen, look_at: None, reading: None }, certificate))
    }

    /// What new connections are to use.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// When [`renew`](Self::renew) is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.look_at
    }

    /// Has a thread read the files, if it is time, and loads what it has read if they have changed. Returns whether they had.
    ///
    /// # Errors
    ///
    /// One sentence that says what is wrong with the new files, once. Those of before stay in use.
    pub fn renew(&mut self, now: Instant) -> io::Result<bool> {
        let Some(files) = self.files.as_ref().filter(|_| self.look_at.is_some_and(|at| at <= now)) else {
            return Ok(false);
        };
        let Some((since, reading)) = &self.reading else {
            self.reading = files.begin_reading().map(|reading| (now, reading));
            self.look_at = Some(now + READING);
            return Ok(false);
        };
        let found = match reading.try_recv() {
            // There is no other thread until this one is done.
            Err(TryRecvError::Empty) => {
                self.look_at = Some(now + now.duration_since(*since).clamp(READING, RENEWAL));
                return Ok(false);
            }
            outcome => outcome,
        };
        (self.reading, self.look_at) = (None, Some(now + RENEWAL));
        let Ok(found) = found else { return Ok(false) };
        let seen = found.as_ref().cloned().map_err(ToString::to_string);
        if seen == std::mem::replace(&mut self.seen, seen.clone()) {
            return Ok(false);
        }
        let contents = found?;
        if contents == self.used {
            return Ok(false);
        }
        self.config = files.config(&contents)?;
        self.used = contents;
        Ok(true)
    }
}

impl Files {
    fn read(&self, read: fn(&str, &Path) -> io::Result<Vec<u8>>) -> io::Result<Contents> {
        let client_authority = self.client_authority.as_deref().map(|path| read(AUTHORITY, path)).transpose()?;
        Ok(Contents {
            certificate: read(CERTIFICATE, &self.certificate)?,
            key: read(KEY, &self.key)?,
            client_authority,
        })
    }

    /// Has a thread read them, if there can be one.
    fn begin_reading(&self) -> Option<Receiver<io::Result<Contents>>> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let files = self.clone();
        let read = move || drop(sender.send(files.read(pem::read_file)));
        thread::Builder::new().name("certificate reader".to_owned()).spawn(read).is_ok().then_some(receiver)
    }

    fn config(&self, contents: &Contents) -> io::Result<Arc<ServerConfig>> {
        let certificates = pem::certificates(CERTIFICATE, &self.certificate, &contents.certificate)?;
        let key = pem::key(KEY, &self.key, &contents.key)?;
        let authority = self.client_authority.as_deref().zip(contents.client_authority.as_deref());
        let roots = authority.map(|(path, text)| pem::authorities(AUTHORITY, path, text)).transpose()?;
        config(certificates, key, roots).map_err(|error| match error {
            Error::InconsistentKeys(_) => pem::useless(
                KEY,
                &self.key,
                &format!("it does not belong to the certificate {}", self.certificate.display()),
            ),
            Error::InvalidCertificate(_) => pem::useless(CERTIFICATE, &self.certificate, &super::reason(&error)),
            error => pem::useless(KEY, &self.key, &super::key_reason(&error)),
        })
    }
}

/// What all connections of a server share.
fn config(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_authority: Option<RootCertStore>,
) -> Result<Arc<ServerConfig>, Error> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&VERSIONS)?;
    let builder = match client_authority {
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| Error::General(error.to_string()))?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(certificates, key)?;
    // Where both sides have it, the suite is the one that costs least, see [`provider`].
    config.ignore_client_order = true;
    // Sessions are kept by the clients, encrypted, not by the server.
    config.ticketer = Ticketer::new()?;
    // One is enough to come again, and each costs some microseconds.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
