//! Clients that misuse TLS, and honest ones beside them that must not notice.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::engine::StopOnDrop;
use crate::harness::{Certificates, Server, connect, cpu_time, memory, reset};
use crate::measure::{MIB, Times, alone, seconds};

type Client = StreamOwned<ClientConnection, TcpStream>;

const HONEST: usize = 4;
/// How long an honest client waits between two messages.
const PAUSE: Duration = Duration::from_millis(5);

/// What an attacker does again and again.
#[derive(Clone, Copy, Debug)]
enum Attack {
    /// Connects, and says nothing until it is sent away.
    Silent,
    /// Says hello, and resets.
    Hello,
    /// Speaks plain text.
    PlainText,
    /// Writes without end, and reads nothing.
    NeverReads,
    /// Sends each byte in a record of its own.
    SmallRecords,
    /// Asks for new keys without end.
    KeyUpdates,
    /// Shakes hands, and goes without a word.
    Truncates,
}

const ATTACKS: [(Attack, usize); 7] = [
    (Attack::Silent, 40),
    (Attack::Hello, 2),
    (Attack::PlainText, 2),
    (Attack::NeverReads, 4),
    (Attack::SmallRecords, 2),
    (Attack::KeyUpdates, 2),
    (Attack::Truncates, 2),
];

fn config() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&Certificates::shared().authority).expect("there")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn client(server: SocketAddr, config: &Arc<ClientConfig>) -> Client {
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = ClientConnection::new(Arc::clone(config), name).expect("good settings");
    StreamOwned::new(tls, connect(server))
}

/// Exchanges messages for the whole `period`. Returns how long each exchange took.
fn talk(server: SocketAddr, config: &Arc<ClientConfig>, period: Duration) -> Vec<Duration> {
    let mut client = client(server, config);
    let (end, mut times) = (Instant::now() + period, Vec::new());
    for number in 0_u64.. {
        let begin = Instant::now();
        if begin > end {
            break;
        }
        client.write_all(&number.to_le_bytes()).expect("sent");
        let mut echo = [0; 8];
        client.read_exact(&mut echo).expect("the echo");
        assert_eq!(u64::from_le_bytes(echo), number);
        times.push(begin.elapsed());
        thread::sleep(PAUSE);
    }
    times
}

fn honest(server: SocketAddr, config: &Arc<ClientConfig>, period: Duration) -> Times {
    let times = thread::scope(|scope| {
        let clients: Vec<_> = (0..HONEST).map(|_| scope.spawn(|| talk(server, config, period))).collect();
        clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect()
    });
    Times::of(times)
}

impl Attack {
    /// Attacks once. What the server does about it ends the attack with an error, which is as it should be.
    fn run(self, server: SocketAddr, config: &Arc<ClientConfig>, stop: &AtomicBool) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let is_over = || stop.load(Ordering::Relaxed);
        match self {
            Self::Silent => {
                let mut stream = connect(server);
                stream.read(&mut buffer).map(drop)?;
            }
            Self::Hello => {
                let mut client = client(server, config);
                client.conn.write_tls(&mut client.sock)?;
                reset(client.sock);
            }
            Self::PlainText => {
                let mut stream = connect(server);
                stream.write_all(&[b'x'; 2000])?;
                while stream.read(&mut buffer)? > 0 {}
            }
            Self::NeverReads => {
                let mut client = client(server, config);
                client.sock.set_write_timeout(Some(Duration::from_secs(1)))?;
                while !is_over() {
                    client.write_all(&buffer)?;
                }
            }
            Self::SmallRecords => {
                let mut client = client(server, config);
                while !is_over() {
                    for _ in 0..500 {
                        client.conn.writer().write_all(b"x")?;
                    }
                    client.flush()?;
                    client.read_exact(&mut buffer[..500])?;
                }
            }
            Self::KeyUpdates => {
                let mut client = client(server, config);
                client.write_all(b"x")?;
                while !is_over() {
                    client.conn.refresh_traffic_keys().map_err(io::Error::other)?;
                    client.flush()?;
                }
            }
            Self::Truncates => {
                let mut client = client(server, config);
                client.write_all(b"x")?;
                client.read_exact(&mut buffer[..1])?;
            }
        }
        Ok(())
    }
}

#[test]
#[ignore = "takes 20 s"]
fn honest_clients_do_not_notice_that_others_misuse_tls() {
    let _alone = alone();
    let (period, config) = (seconds("PROOF_TLS_SECONDS", 15), config());
    let own = Certificates::shared().server_options();
    let limits = ["--quiet", "--max-memory", "16MiB", "--max-connections", "200", "--handshake-timeout", "2s"];
    let server = Server::start(&[&own[..], &limits, &["--stall-timeout", "5s"]].concat());
    let address = server.address();
    let before = honest(address, &config, period / 5);
    let stop = AtomicBool::new(false);
    let (during, count) = thread::scope(|scope| {
        let mut attackers = Vec::new();
        for (attack, count) in ATTACKS {
            for _ in 0..count {
                let (config, stop) = (&config, &stop);
                attackers.push(scope.spawn(move || {
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) {
                        _ = attack.run(address, config, stop);
                        count += 1;
                    }
                    count
                }));
            }
        }
        let guard = StopOnDrop(&stop);
        let during = honest(address, &config, period);
        drop(guard);
        let count: u64 = attackers.into_iter().map(|attacker| attacker.join().expect("no panic")).sum();
        (during, count)
    });
    let most = memory(server.process.pid(), "VmHWM");
    println!("TLS: {HONEST} honest clients alone: {before}");
    println!("TLS: beside {count} attacks in {period:?}: {during}");
    println!("TLS: at most {} MiB", most / MIB);
    // The attackers are gone, and with them what they cost.
    while server.connections_and_bytes_held().0 > 0 {
        thread::sleep(Duration::from_millis(20));
    }
    let spent = cpu_time(server.process.pid());
    thread::sleep(Duration::from_secs(1));
    let spent = cpu_time(server.process.pid()) - spent;
    assert!(spent < Duration::from_millis(20), "it spins: {spent:?} in a second");
    // Attackers share the machine's cores with those that must not notice.
    assert!(during.per_mille(990) < Duration::from_millis(250), "honest clients waited");
    // The limit, 64 KiB for each of 200 clients, and what rustls and the program need.
    assert!(most < (16 + 13 + 40) * MIB, "{} MiB were held", most / MIB);
    server.stop_by(Signal::TERM);
}
