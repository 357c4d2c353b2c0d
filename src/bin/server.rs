//! `echo-server`: the TCP echo daemon.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit, setrlimit};
use signal_hook::consts::SIGXFSZ;
use signal_hook::flag;
use sockets::cli::{self, Printout, Request, ServerOptions};
use sockets::error::reason;
use sockets::server::{ADMIN_DESCRIPTORS, End, Inherited, Server};

/// What a shell reports of a program that `SIGINT` ended: 128 and the number of the signal.
const INTERRUPTED: u8 = 130;

/// How many descriptors are kept from the clients: standard streams, poll, signals, listeners, time zone.
const OWN_DESCRIPTORS: usize = 16;

/// How many of them are for others than listeners.
const WITHOUT_LISTENERS: usize = 12;

fn main() -> ExitCode {
    // Where output may not grow (setrlimit(2)), writing fails then as on a full disk, and does not end the program.
    _ = flag::register(SIGXFSZ, Arc::default());
    let outcome = match cli::server_request(env::args_os()).unwrap_or_else(|error| error.exit()) {
        Request::Run(options) => serve(options),
        Request::Print(printout) => print(printout),
    };
    match outcome {
        Ok(End::Stopped) => ExitCode::SUCCESS,
        Ok(End::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            tell(&reason(&error));
            ExitCode::FAILURE
        }
    }
}

fn print(printout: Printout) -> io::Result<End> {
    let outcome = printout.print().map(|()| End::Stopped);
    outcome.map_err(|error| io::Error::other(format!("cannot write the output: {}", reason(&error))))
}

fn serve(options: ServerOptions) -> io::Result<End> {
    // First of all, see there.
    let inherited = Inherited::from_env()?;
    if !inherited.is_empty() && options.names_sockets {
        tell("--bind and --port have no effect: the sockets are inherited");
    }
    let mut config = options.config;
    let descriptors = raise_descriptor_limit();
    let admin_descriptors = config.admin.map_or(0, |_| ADMIN_DESCRIPTORS);
    let listeners = config.bind.len().max(inherited.len());
    let own_descriptors = OWN_DESCRIPTORS.max(WITHOUT_LISTENERS + listeners) + admin_descriptors;
    config.max_connections = config.max_connections.min(descriptors.saturating_sub(own_descriptors).max(1));
    let mut server = Server::adopt(&config, inherited)?;
    server.handle_signals()?;
    if let Some(fingerprint) = server.fingerprint() {
        _ = writeln!(io::stderr(), "sha256 fingerprint: {fingerprint}");
    }
    server.notify_manager();
    server.run()
}

/// Tells a person on standard error. If that is closed, the exit status has to tell it alone.
fn tell(sentence: &str) {
    _ = writeln!(io::stderr(), "echo-server: {sentence}");
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
