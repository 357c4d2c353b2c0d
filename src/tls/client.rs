//! What a client needs for TLS: the command-line client, and the server towards Redis.

use std::io;
use std::path::PathBuf;

use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier};

use super::{CERTIFICATE, KEY, VERSIONS, key_reason, pem, provider};

/// How the settings of a client begin. Which certificates of a server it accepts comes next.
pub(crate) fn builder() -> io::Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    ClientConfig::builder_with_provider(provider()).with_protocol_versions(&VERSIONS).map_err(io::Error::other)
}

/// Completes the settings of a client: with its own certificate and the key, in the files of `identity`, if it has one.
/// The error names the file and what is wrong with it.
pub(crate) fn with_identity(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    identity: Option<&(PathBuf, PathBuf)>,
) -> io::Result<ClientConfig> {
    let Some((certificate, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = pem::certificates(CERTIFICATE, certificate, &pem::read(CERTIFICATE, certificate)?)?;
    let private = pem::key(KEY, key, &pem::read(KEY, key)?)?;
    builder.with_client_auth_cert(chain, private).map_err(|error| pem::useless(KEY, key, &key_reason(&error)))
}
