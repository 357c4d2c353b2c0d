//! `echo-client`: sends a message to an echo server and prints what comes back, or talks in a session.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGXFSZ};
use signal_hook::flag;
use sockets::cli::{self, Request};
use sockets::client::{self, End, Error, Options};

/// The exit status after Ctrl-C, as shells count it: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    // Where output may not grow (setrlimit(2)), writing fails with a reason then, and does not end the program.
    let _ = flag::register(SIGXFSZ, Arc::default());
    let outcome = match cli::client_request(env::args_os()).unwrap_or_else(|error| error.exit()) {
        Request::Run(options) => run(&options),
        Request::Print(printout) => printout.print().map(|()| End::Done).map_err(Error::Output),
    };
    match outcome {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            let _ = writeln!(io::stderr(), "echo-client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<End, Error> {
    // Should this fail, Ctrl-C ends the program all the same.
    let ends_at_once = Arc::new(AtomicBool::new(true));
    let _ = flag::register_conditional_shutdown(SIGINT, INTERRUPTED.into(), Arc::clone(&ends_at_once));
    client::run(options, &ends_at_once)
}
