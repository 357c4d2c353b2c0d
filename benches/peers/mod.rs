//! Servers to compare with that are part of this program: it starts itself again to be one of them. (The others in this
//! folder are for the languages that people use instead.)

mod floor;
mod room_floor;
mod room_tokio;
mod threads;
mod tls_floor;
mod tls_tokio;
mod tokio;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use socket2::{Domain, Socket, Type};

/// As the daemon has it: the length of the kernel's queue decides how a burst of connections fares.
const BACKLOG: i32 = 4096;

/// What those have for each connection that have a buffer for each: enough for most messages at once.
const BUFFER: usize = 16 << 10;

/// Which server to be. Each listens on a port of 127.0.0.1 that the system picks, prints it, and serves until it is
/// killed.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Role {
    /// The least that an echo server can do
    Floor {
        /// Bytes of its one buffer
        #[arg(long, default_value_t = 64 << 10)]
        read_size: usize,
    },
    /// tokio, a task for each connection
    Tokio,
    /// The standard library, a thread for each connection
    Threads,
    /// The least that a chat room can do
    RoomFloor,
    /// A chat room on tokio's broadcast channel
    RoomTokio,
    /// The least that an echo server with TLS can do
    TlsFloor {
        /// The folder of its certificate and key
        folder: PathBuf,
    },
    /// tokio-rustls, a task for each connection
    TlsTokio {
        /// The folder of its certificate and key
        folder: PathBuf,
    },
}

pub(crate) fn serve(role: Role) -> io::Result<()> {
    match role {
        Role::Floor { read_size } => floor::serve(read_size),
        Role::Tokio => tokio::serve(),
        Role::Threads => threads::serve(),
        Role::RoomFloor => room_floor::serve(),
        Role::RoomTokio => room_tokio::serve(),
        Role::TlsFloor { folder } => tls_floor::serve(&folder),
        Role::TlsTokio { folder } => tls_tokio::serve(&folder),
    }
}

/// A listening socket, whose port is printed. It does not block, and what it accepts has no delay.
fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    println!("listening on port {}", listener.local_addr()?.port());
    Ok(listener)
}

/// What the daemon's settings for TLS are, too.
fn tls_config(folder: &Path) -> io::Result<Arc<ServerConfig>> {
    let certificate = CertificateDer::from_pem_file(folder.join("cert.pem")).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).map_err(io::Error::other)?;
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key);
    let mut config = config.map_err(io::Error::other)?;
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(io::Error::other)?;
    Ok(Arc::new(config))
}
