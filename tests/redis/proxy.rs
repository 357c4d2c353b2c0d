//! A proxy between a server and its Redis that does what networks do.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the proxy does to the bytes that go through it.
#[derive(Default)]
pub(crate) struct Faults {
    /// Cut so many connections when Redis answers a call of the script, and swallow the answer.
    pub(crate) cut_replies: AtomicUsize,
    /// Cut so many connections when a call of the script is on its way to Redis, and keep a copy of it.
    pub(crate) cut_calls: AtomicUsize,
    /// The number of bytes of answers after which each connection is cut; 0 means never.
    pub(crate) cut_after: AtomicUsize,
    /// Pass answers byte by byte, and calls in small pieces.
    pub(crate) is_bytewise: AtomicBool,
    /// Wait for so many milliseconds before each piece.
    pub(crate) delay: AtomicUsize,
    /// Calls that did not arrive.
    pub(crate) kept: Mutex<Vec<Vec<u8>>>,
    /// How many connections were cut.
    pub(crate) cuts: AtomicUsize,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) faults: Arc<Faults>,
}

impl Proxy {
    /// Listens on a free port. Its threads end with their connections, and the listener with the test.
    pub(crate) fn start(redis: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let faults = Arc::new(Faults::default());
        let shared = Arc::clone(&faults);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // While Redis is away, the client sees the end of its connection.
                if let Ok(server) = TcpStream::connect(redis) {
                    Self::join(&client, &server, &shared);
                }
            }
        });
        Self { address, faults }
    }

    fn join(client: &TcpStream, server: &TcpStream, faults: &Arc<Faults>) {
        let has_call = Arc::new(AtomicBool::new(false));
        for is_call in [true, false] {
            let (mut from, mut to) = match is_call {
                true => (client.try_clone().expect("a socket"), server.try_clone().expect("a socket")),
                false => (server.try_clone().expect("a socket"), client.try_clone().expect("a socket")),
            };
            let (faults, has_call) = (Arc::clone(faults), Arc::clone(&has_call));
            thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                let mut total = 0;
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    let piece = &buffer[..count];
                    if is_call {
                        has_call.fetch_or(holds_call(piece), Ordering::Relaxed);
                    }
                    let is_cut = match is_call {
                        true => holds_call(piece) && take(&faults.cut_calls),
                        false => has_call.load(Ordering::Relaxed) && take(&faults.cut_replies),
                    };
                    total += count;
                    let limit = if is_call { 0 } else { faults.cut_after.load(Ordering::Relaxed) };
                    if limit > 0 && total >= limit {
                        faults.cuts.fetch_add(1, Ordering::Relaxed);
                        _ = pass(&piece[..count.saturating_sub(total - limit)], 1, &mut to, &faults);
                        break;
                    }
                    if is_cut {
                        if is_call {
                            faults.kept.lock().expect("no panic").push(piece.to_vec());
                        }
                        faults.cuts.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    // The script is long.
                    let size = if is_call { 64 } else { 1 };
                    if pass(piece, size, &mut to, &faults).is_err() {
                        break;
                    }
                }
                _ = from.shutdown(Shutdown::Both);
                _ = to.shutdown(Shutdown::Both);
            });
        }
    }
}

fn pass(piece: &[u8], size: usize, to: &mut TcpStream, faults: &Faults) -> std::io::Result<()> {
    thread::sleep(Duration::from_millis(faults.delay.load(Ordering::Relaxed) as u64));
    if !faults.is_bytewise.load(Ordering::Relaxed) {
        return to.write_all(piece);
    }
    to.set_nodelay(true)?;
    piece.chunks(size).try_for_each(|bytes| {
        thread::yield_now();
        to.write_all(bytes)
    })
}

fn holds_call(piece: &[u8]) -> bool {
    piece.windows(7).any(|word| word == b"EVALSHA")
}

fn take(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1)).is_ok()
}
