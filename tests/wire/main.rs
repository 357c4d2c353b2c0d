//! The real programs over a bad wire: packets are lost, late, doubled and out of order, 20 Mbit/s is all there
//! is, and in the middle the wire is cut for seconds. Still every byte arrives, once and in order.
//!
//! The wire is made by the test: two network namespaces, a TUN device in each, and a thread that carries
//! packets from one to the other and spoils them as a seed says, which is printed; `WIRE_SEED` draws the same
//! again. (What packets there are depends on the time, too.) It takes root and iproute2. Without them the tests
//! say so and do nothing, except where the variable `CI` is set: there they fail.

mod chat;
mod echo;
#[path = "../e2e/harness/mod.rs"]
#[allow(dead_code, unused_imports)]
mod harness;
mod namespace;
mod wire;

use std::fmt;
use std::io::{Write, stderr};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::harness::{Process, Server, clean_command, server_command};
use crate::wire::{SERVER, Wire};

/// How long both programs are told to wait for the other. When the wire has been cut for five seconds, TCP may try
/// again as late as five seconds after that; where this try or its answer is lost, after twice as long, and so on.
/// Those who cannot wait so long have given up by then, and rightly so.
const PATIENCE: &str = "2m";

/// How long a test goes on sending. It takes less over the wire as it is meant to be; but without BBR, as on some
/// machines, TCP takes every lost packet for congestion, and would take half an hour.
const LONGEST: Duration = Duration::from_secs(120);

/// A wire with a server at its far end.
struct Scene {
    wire: Wire,
    server: Server,
}

impl Scene {
    /// Starts a server with these options; `None` where there can be no wire.
    fn new(options: &[&str]) -> Option<Self> {
        let seed =
            std::env::var("WIRE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
        let wire = match Wire::new(seed) {
            Ok(wire) => wire,
            Err(error) if std::env::var_os("CI").is_some() => panic!("no wire can be laid: {error}"),
            Err(error) => {
                report(format_args!("skipped: no wire can be laid, which takes root and iproute2 ({error})"));
                return None;
            }
        };
        report(format_args!("WIRE_SEED={seed}, over {}", wire.congestion_control));
        let command = server_command(&[&["--bind", SERVER, "--port", "0", "--quiet"], options].concat());
        let server = wire.server.inside(|| Server::launch(command));
        Some(Self { wire, server })
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(SERVER.parse().expect("an address"), self.server.port)
    }

    /// Starts an echo-client at the near end of the wire.
    fn start_client(&self, prepare: impl FnOnce(&mut Command) + Send) -> Process {
        let mut command = clean_command(env!("CARGO_BIN_EXE_echo-client"));
        command.args(["--host", SERVER, "--port", &self.server.port.to_string(), "--timeout", PATIENCE]);
        prepare(&mut command);
        self.wire.client.inside(|| Process::spawn(command))
    }

    /// Stops the server, which must not have noticed anything, and takes the wire away.
    fn end(self, what: impl fmt::Display) {
        self.server.stop();
        report(format_args!("{what}: {}", self.wire.end()));
    }
}

/// Tells a figure, also of a test that has not failed.
fn report(line: fmt::Arguments<'_>) {
    _ = writeln!(stderr(), "{line}");
}
