//! Servers to compare with that are part of this program: it starts itself again to be one of them.

mod floor;

use std::io;

use clap::Subcommand;

/// Which server to be. Each listens on a port of 127.0.0.1 that the system picks, prints it, and serves until it is
/// killed.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Role {
    /// The least that an echo server can do
    Floor {
        /// Bytes of its one buffer
        #[arg(long, default_value_t = 64 << 10)]
        read_size: usize,
    },
}

pub(crate) fn serve(role: Role) -> io::Result<()> {
    match role {
        Role::Floor { read_size } => floor::serve(read_size),
    }
}
