//! `echo-client`: sends a message to an echo server and prints what comes back, or talks in a session.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::{consts::SIGINT, flag};
use sockets::cli;
use sockets::client::{self, End};

/// The exit status after Ctrl-C, as shells count it: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let options = cli::client_options(env::args_os()).unwrap_or_else(|error| error.exit());
    // Should this fail, Ctrl-C ends the program all the same.
    let ends_at_once = Arc::new(AtomicBool::new(true));
    let _ = flag::register_conditional_shutdown(SIGINT, INTERRUPTED.into(), Arc::clone(&ends_at_once));
    match client::run(&options, &ends_at_once) {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            let _ = writeln!(io::stderr(), "echo-client: {error}");
            ExitCode::FAILURE
        }
    }
}
