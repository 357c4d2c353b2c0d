//! `echo-server`: the TCP echo daemon.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, getrlimit, setrlimit};
use sockets::cli::ServerArgs;
use sockets::error::reason;
use sockets::server::{End, Server};

/// What a shell reports of a program that `SIGINT` ended: 128 and the number of the signal.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let config = ServerArgs::parse().into();
    raise_descriptor_limit();
    let outcome = Server::bind(&config).and_then(|mut server| {
        server.stop_on_signals()?;
        server.run()
    });
    match outcome {
        Ok(End::Stopped) => ExitCode::SUCCESS,
        Ok(End::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            // Where standard error is closed too, the exit status has to tell it alone.
            _ = writeln!(std::io::stderr(), "echo-server: {}", reason(&error));
            ExitCode::FAILURE
        }
    }
}

/// Each client needs a descriptor. The soft limit, usually 1,024, is there for programs that use select(2);
/// this one may have all that the hard limit allows. Where that is refused, it goes on with what it has.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    _ = setrlimit(Resource::Nofile, limit);
}
