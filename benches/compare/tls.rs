//! TLS: handshakes, messages, streams, and the memory of connections that say nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::accounting::Memory;
use crate::programs::{self, AGAIN, DAEMON, FLOOR};
use crate::report::{Cell, MemoryPerConnection, bytes};
use crate::rounds::{self, Entrant, Rounds, Spread};
use crate::servers::{Program, Server};
use crate::{Bench, Result};

const SCENARIO: &str = "tls";

/// What is compared with the daemon because its memory is a target.
pub(crate) const TOKIO_RUSTLS: &str = "tokio-rustls";

/// What a client sends before it reads, where it sends a stream: no more than the kernel holds for both sides.
const PIECE: usize = 256 << 10;

type Client = StreamOwned<ClientConnection, TcpStream>;

/// What clients do.
#[derive(Clone, Copy)]
enum Work {
    /// They come, shake hands, and go.
    Handshakes { is_resumed: bool },
    /// So many clients send a message each and wait for all echoes.
    Echo { clients: usize, size: usize },
}

/// Clients of one server.
struct Load {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    work: Work,
    clients: Vec<Client>,
    message: Vec<u8>,
    echo: Vec<u8>,
}

pub(crate) fn run(bench: &Bench) -> Result<Vec<Cell>> {
    let folder = certificates()?;
    let programs = programs(bench, &folder)?;
    let servers = programs::start(bench, &programs)?;
    let works = [
        Work::Handshakes { is_resumed: false },
        Work::Handshakes { is_resumed: true },
        Work::Echo { clients: 50, size: 64 },
        Work::Echo { clients: 50, size: 16 << 10 },
        Work::Echo { clients: 4, size: PIECE },
    ];
    let mut cells = Vec::new();
    for (done, work) in works.into_iter().enumerate() {
        bench.progress.part(done, works.len() + 1);
        cells.extend(work.measure(bench, &servers, &folder).map_err(|error| format!("{}: {error}", work.describe()))?);
    }
    drop(servers);
    cells.extend(idle(bench, &programs, &folder)?);
    Ok(cells)
}

fn programs(bench: &Bench, folder: &Path) -> Result<Vec<Program>> {
    let path = folder.to_str().ok_or("a path that is no text")?;
    let (certificate, key) = (format!("{path}/cert.pem"), format!("{path}/key.pem"));
    let socat =
        format!("OPENSSL-LISTEN:{{port}},bind=127.0.0.1,cert={certificate},key={key},verify=0,backlog=4096,fork");
    let mut programs = vec![
        Program::own(FLOOR, &["tls-floor", path]).central(),
        Program::daemon(DAEMON, &["--quiet", "--tls-cert", &certificate, "--tls-key", &key]).central(),
        Program::own(AGAIN, &["tls-floor", path]).central(),
        Program::own(TOKIO_RUSTLS, &["tls-tokio", path]),
        Program::new("socat", ["socat", &socat, "PIPE"]).forking(),
    ];
    match programs::go() {
        Ok(words) => programs.push(Program::new("go", [words, vec![certificate.into(), key.into()]].concat())),
        Err(why) => bench.note_missing("go", why.to_string()),
    }
    Ok(programs)
}

/// A certificate and its key, in files.
fn certificates() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-tls");
    fs::create_dir_all(&folder)?;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    fs::write(folder.join("cert.pem"), made.cert.pem())?;
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())?;
    Ok(folder)
}

fn client_config(folder: &Path, is_resumed: bool) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("cert.pem"))?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = if is_resumed { Resumption::in_memory_sessions(64) } else { Resumption::disabled() };
    Ok(Arc::new(config))
}

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Client> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let connection = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
    Ok(StreamOwned::new(connection, stream))
}

impl Work {
    fn measure(self, bench: &Bench, servers: &[Server], folder: &Path) -> Result<Vec<Cell>> {
        bench.progress.show(&self.describe());
        let mut entrants = Vec::new();
        // A server with a process for each connection only passes on what fits into a pipe.
        for server in servers.iter().filter(|server| !server.forks || matches!(self, Self::Handshakes { .. })) {
            entrants.push(Entrant::new(server, Load::new(server.address, self, folder)?));
        }
        let milliseconds = if bench.quick { (20, 60) } else { (30, 200) };
        let warm_up = |load: &mut Load| load.run(Duration::from_millis(milliseconds.0));
        let work = |load: &mut Load| load.run(Duration::from_millis(milliseconds.1));
        rounds::alternate(bench, &self.describe(), bench.rounds(15, 5), &mut entrants, warm_up, work)?;
        let figures = rounds::figures(&entrants, 0);
        let cells = entrants.iter().zip(figures).map(|(entrant, figures)| Cell {
            scenario: SCENARIO,
            what: self.describe(),
            server: entrant.server.name,
            connections: self.clients(),
            size: self.size(),
            unit: if self.size().is_some() { "message" } else { "connection" },
            left_out: entrant.failure.clone(),
            figures,
            ..Cell::default()
        });
        Ok(cells.collect())
    }

    fn describe(self) -> String {
        match self {
            Self::Handshakes { is_resumed: false } => "handshakes".to_owned(),
            Self::Handshakes { is_resumed: true } => "handshakes, resumed".to_owned(),
            Self::Echo { clients, size } => format!("{clients} × {}, TLS", bytes(size)),
        }
    }

    fn clients(self) -> usize {
        match self {
            Self::Handshakes { .. } => 1,
            Self::Echo { clients, .. } => clients,
        }
    }

    fn size(self) -> Option<usize> {
        match self {
            Self::Handshakes { .. } => None,
            Self::Echo { size, .. } => Some(size),
        }
    }
}

impl Load {
    fn new(address: SocketAddr, work: Work, folder: &Path) -> Result<Self> {
        let config = client_config(folder, matches!(work, Work::Handshakes { is_resumed: true }))?;
        let size = work.size().unwrap_or(1);
        let message = (0..size).map(|at| at as u8).collect();
        let mut load = Self { address, config, work, clients: Vec::new(), message, echo: vec![0; size] };
        if let Work::Echo { clients, .. } = work {
            for _ in 0..clients {
                load.clients.push(connect(address, &load.config)?);
            }
        }
        Ok(load)
    }

    /// Works for `duration`. Returns how many units of work were done.
    fn run(&mut self, duration: Duration) -> Result<u64> {
        let end = Instant::now() + duration;
        let mut count = 0;
        while Instant::now() < end {
            count += match self.work {
                Work::Handshakes { .. } => self.shake_hands()?,
                Work::Echo { .. } => self.echo()?,
            };
        }
        Ok(count)
    }

    /// One client comes, and goes when it has had an echo: by then it has the means to resume its session.
    fn shake_hands(&mut self) -> Result<u64> {
        let mut client = connect(self.address, &self.config)?;
        client.write_all(&self.message)?;
        client.read_exact(&mut self.echo)?;
        client.conn.send_close_notify();
        client.flush()?;
        Ok(1)
    }

    fn echo(&mut self) -> Result<u64> {
        for client in &mut self.clients {
            client.write_all(&self.message)?;
            client.flush()?;
        }
        for client in &mut self.clients {
            client.read_exact(&mut self.echo)?;
            if self.echo != self.message {
                return Err("a wrong echo".into());
            }
        }
        Ok(self.clients.len() as u64)
    }
}

/// What memory a connection costs that has had one echo and is silent since.
fn idle(bench: &Bench, programs: &[Program], folder: &Path) -> Result<Vec<Cell>> {
    let connections = if bench.quick { 500 } else { 2_000 };
    let Rounds { central, all } = bench.rounds(5, 3);
    let mut cells = Vec::new();
    for program in programs.iter().filter(|program| !program.forks) {
        bench.progress.show(&format!("{connections} idle, TLS, {}", program.name));
        let (mut resident, mut own) = (Vec::new(), Vec::new());
        for _ in 0..if program.is_central { central } else { all } {
            let Some(server) = bench.start(program)? else { break };
            let mut load = Load::new(server.address, Work::Echo { clients: 1, size: 1 }, folder)?;
            load.echo()?;
            let before = Memory::of(server.pid())?;
            for _ in 0..connections {
                load.clients.push(connect(server.address, &load.config)?);
                let Some(client) = load.clients.last_mut() else { continue };
                client.write_all(b"?")?;
                client.read_exact(&mut [0])?;
            }
            let after = Memory::of(server.pid())?;
            let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / connections as f64;
            resident.push(each(after.resident, before.resident));
            own.push(each(after.own, before.own));
        }
        if resident.is_empty() {
            continue;
        }
        cells.push(Cell {
            scenario: SCENARIO,
            what: format!("{connections} idle, TLS"),
            server: program.name,
            connections,
            unit: "connection",
            memory: Some(MemoryPerConnection {
                resident: Spread::of(resident.into_iter()),
                own: Spread::of(own.into_iter()),
            }),
            ..Cell::default()
        });
    }
    Ok(cells)
}
