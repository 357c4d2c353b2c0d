//! Hostile members of a room, in threads of their own.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{connect_from, reset};

/// How long an attacker waits when it can neither read nor write.
const REST: Duration = Duration::from_millis(2);
/// The length of the script that an attacker repeats, about, in bytes.
const SCRIPT: usize = 60_000;

/// Attackers, which go on until the attack ends.
pub(crate) struct Attack {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    attackers: Vec<JoinHandle<usize>>,
}

impl Attack {
    /// An attack on the room at `address` that nobody has joined yet.
    pub(crate) fn on(address: SocketAddr) -> Self {
        Self { address, stop: Arc::default(), attackers: Vec::new() }
    }

    /// Adds a client at 127.0.0.`source` that repeats `command` without end, reads `pace` bytes a second, and
    /// connects again whenever it is disconnected.
    pub(crate) fn repeat(self, source: u8, command: &str, pace: usize) -> Self {
        let script = format!("{command}\n").repeat(SCRIPT / (command.len() + 1));
        self.with_connections(move |address, stop| {
            let stream = connect_from(source, address, Some(4096)).ok()?;
            exchange(stream, script.as_bytes(), usize::MAX, pace, stop);
            Some(())
        })
    }

    /// Adds a client at 127.0.0.`source` that says nothing, reads `pace` bytes a second, and connects again whenever it
    /// is disconnected.
    pub(crate) fn listen(self, source: u8, pace: usize) -> Self {
        self.with_connections(move |address, stop| {
            let stream = connect_from(source, address, Some(4096)).ok()?;
            exchange(stream, &[], usize::MAX, pace, stop);
            Some(())
        })
    }

    /// Adds a client at 127.0.0.`source` that connects, sends `content`, resets the connection and starts anew, as
    /// fast as it can.
    pub(crate) fn connect_and_reset(self, source: u8, content: &[u8]) -> Self {
        let content = content.to_vec();
        self.with_connections(move |address, _| {
            let mut stream = connect_from(source, address, None).ok()?;
            _ = stream.write_all(&content);
            reset(stream);
            Some(())
        })
    }

    /// Adds a client at 127.0.0.`source` that pipes `size` bytes of lines into the room, as fast as the server takes
    /// them, and reads everything that the others say.
    pub(crate) fn pipe(self, source: u8, size: usize) -> Self {
        let script: String = (0..).map(|number| "-".repeat(number * 7 % 2000) + "\n").take(SCRIPT / 1000).collect();
        self.with_connections(move |address, stop| {
            let stream = connect_from(source, address, None).ok()?;
            exchange(stream, script.as_bytes(), size, usize::MAX, stop);
            Some(())
        })
    }

    /// Ends the attack. Returns how many connections it made.
    pub(crate) fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.attackers.drain(..).map(|attacker| attacker.join().expect("an attacker does not fail")).sum()
    }

    /// Adds a client that makes one connection after the other, and counts those that it could make.
    fn with_connections(mut self, act: impl Fn(SocketAddr, &AtomicBool) -> Option<()> + Send + 'static) -> Self {
        let (address, stop) = (self.address, Arc::clone(&self.stop));
        self.attackers.push(thread::spawn(move || {
            let mut connections = 0;
            while !stop.load(Ordering::Relaxed) {
                match act(address, &stop) {
                    Some(()) => connections += 1,
                    None => thread::sleep(REST),
                }
            }
            connections
        }));
        self
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Sends `script`, if there is one, again and again until `size` bytes are sent, and reads `pace` bytes a second.
fn exchange(mut stream: TcpStream, script: &[u8], size: usize, pace: usize, stop: &AtomicBool) {
    stream.set_nonblocking(true).expect("set");
    let mut input = vec![0; SCRIPT];
    let begin = Instant::now();
    let (mut sent, mut taken) = (0, 0);
    while sent < size && !stop.load(Ordering::Relaxed) {
        let written = match script.len() {
            0 => Err(ErrorKind::WouldBlock.into()),
            length => stream.write(&script[sent % length..length.min((sent % length).saturating_add(size - sent))]),
        };
        let due = (pace as f64 * begin.elapsed().as_secs_f64()) as usize - taken;
        let read = match due {
            0 => Err(ErrorKind::WouldBlock.into()),
            _ => stream.read(&mut input[..due.min(SCRIPT)]).and_then(|count| match count {
                0 => Err(ErrorKind::UnexpectedEof.into()),
                _ => Ok(count),
            }),
        };
        match (&written, &read) {
            (Err(error), _) | (_, Err(error)) if error.kind() != ErrorKind::WouldBlock => return,
            (Err(_), Err(_)) => thread::sleep(REST),
            _ => {}
        }
        sent += written.unwrap_or(0);
        taken += read.unwrap_or(0);
    }
}
