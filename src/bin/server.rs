//! `echo-server`: the TCP echo daemon.

use std::env;
use std::io::Write;
use std::process::ExitCode;

use rustix::process::{Resource, getrlimit, setrlimit};
use sockets::cli;
use sockets::error::reason;
use sockets::server::{ADMIN_DESCRIPTORS, End, Server};

/// What a shell reports of a program that `SIGINT` ended: 128 and the number of the signal.
const INTERRUPTED: u8 = 130;

/// How many descriptors are kept from the clients: standard streams, poll, signals, listeners, time zone.
const OWN_DESCRIPTORS: usize = 16;

/// How many of them are for others than listeners.
const WITHOUT_LISTENERS: usize = 12;

fn main() -> ExitCode {
    let mut config = cli::server_config(env::args_os()).unwrap_or_else(|error| error.exit());
    let descriptors = raise_descriptor_limit();
    let admin_descriptors = config.admin.map_or(0, |_| ADMIN_DESCRIPTORS);
    let own_descriptors = OWN_DESCRIPTORS.max(WITHOUT_LISTENERS + config.bind.len()) + admin_descriptors;
    config.max_connections = config.max_connections.min(descriptors.saturating_sub(own_descriptors).max(1));
    let outcome = Server::bind(&config).and_then(|mut server| {
        server.handle_signals()?;
        if let Some(fingerprint) = server.fingerprint() {
            writeln!(std::io::stderr(), "sha256 fingerprint: {fingerprint}")?;
        }
        server.run()
    });
    match outcome {
        Ok(End::Stopped) => ExitCode::SUCCESS,
        Ok(End::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            // If standard error is closed too, the exit status has to tell it alone.
            _ = writeln!(std::io::stderr(), "echo-server: {}", reason(&error));
            ExitCode::FAILURE
        }
    }
}

/// Raises the limit of descriptors, of which each client needs one, and returns it. The soft limit, usually 1,024, is
/// there for programs that use select(2); this one may have all that the hard limit allows. If that is refused, it goes
/// on with what it has.
fn raise_descriptor_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    _ = setrlimit(Resource::Nofile, limit);
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors).unwrap_or(usize::MAX)
}
