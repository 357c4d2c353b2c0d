//! Certificates for the tests of TLS, made anew for each run.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::scratch_file;

/// Files with an authority, a server's certificate of it, and that of a client called ann.
pub(crate) struct Certificates {
    pub(crate) authority: String,
    pub(crate) server: [String; 2],
    pub(crate) client: [String; 2],
}

impl Certificates {
    /// The certificates that all tests share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: LazyLock<Certificates> = LazyLock::new(Certificates::new);
        &SHARED
    }

    /// Certificates of an authority of their own.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let folder = scratch_file(&format!("tls-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&folder).expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = params(&[], "Test authority");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        let authority = write(folder.join("ca.pem"), &certificate.pem());
        let issuer = Issuer::new(params, key);
        let pair = |name: &str, names: &[&str]| {
            let key = KeyPair::generate().expect("a key");
            let certificate = self::params(names, name).signed_by(&key, &issuer).expect("a certificate");
            let path = |kind: &str| folder.join(format!("{name}-{kind}.pem"));
            [write(path("cert"), &certificate.pem()), write(path("key"), &key.serialize_pem())]
        };
        let (server, client) = (pair("server", &["localhost", "127.0.0.1", "::1"]), pair("ann", &[]));
        Self { authority, server, client }
    }

    /// The options of a server.
    pub(crate) fn server_options(&self) -> [&str; 4] {
        ["--tls-cert", &self.server[0], "--tls-key", &self.server[1]]
    }

    /// The options of a client that accepts the server.
    pub(crate) fn client_options(&self) -> [&str; 3] {
        ["--tls", "--cacert", &self.authority]
    }
}

fn params(names: &[&str], name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("good names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params
}

fn write(path: PathBuf, text: &str) -> String {
    fs::write(&path, text).expect("written");
    path.into_os_string().into_string().expect("a path of text")
}
