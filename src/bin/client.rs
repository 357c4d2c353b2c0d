//! `echo-client`: sends a message to an echo server and prints what comes back.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use signal_hook::{consts::SIGINT, flag};
use sockets::{cli::ClientArgs, client};

/// The exit status after Ctrl-C, as shells count it: 128 and the signal's number.
const INTERRUPTED: i32 = 128 + SIGINT;

fn main() -> ExitCode {
    let args = ClientArgs::parse();
    // Should this fail, Ctrl-C ends the program all the same.
    let _ = flag::register_conditional_shutdown(SIGINT, INTERRUPTED, Arc::new(AtomicBool::new(true)));
    match client::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "echo-client: {error}");
            ExitCode::FAILURE
        }
    }
}
