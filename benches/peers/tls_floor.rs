//! The floor with TLS: a bare loop of mio and rustls, as rustls' own example has it.

use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::{ServerConfig, ServerConnection};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);

/// One client.
struct Client {
    stream: TcpStream,
    tls: ServerConnection,
}

pub(crate) fn serve(folder: &Path) -> io::Result<()> {
    let config = super::tls_config(folder)?;
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::from_std(super::listen()?);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut clients: Slab<Client> = Slab::new();
    let mut buffer = vec![0; 64 << 10];
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None)?;
        let mut is_anybody_there = false;
        for event in &events {
            if event.token() == LISTENER {
                is_anybody_there = true;
            } else if !clients[event.token().0].serve(&mut buffer).unwrap_or(false) {
                clients.remove(event.token().0);
            }
        }
        while is_anybody_there {
            match listener.accept() {
                Ok((stream, _)) => accept(stream, &config, &poll, &mut clients)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => is_anybody_there = false,
                Err(error) => return Err(error),
            }
        }
    }
}

fn accept(
    mut stream: TcpStream,
    config: &Arc<ServerConfig>,
    poll: &Poll,
    clients: &mut Slab<Client>,
) -> io::Result<()> {
    let entry = clients.vacant_entry();
    let interests = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(&mut stream, Token(entry.key()), interests)?;
    let tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    entry.insert(Client { stream, tls });
    Ok(())
}

impl Client {
    /// Reads, echoes and writes until the socket has nothing and takes nothing more. Returns whether the client stays.
    fn serve(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            if !self.flush()? {
                return Ok(true);
            }
            match self.tls.read_tls(&mut self.stream) {
                Ok(0) => return Ok(false),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                outcome => outcome?,
            };
            let state = self.tls.process_new_packets().map_err(io::Error::other)?;
            let mut waiting = state.plaintext_bytes_to_read();
            while waiting > 0 {
                let count = self.tls.reader().read(buffer)?;
                self.tls.writer().write_all(&buffer[..count])?;
                waiting -= count;
            }
            if state.peer_has_closed() {
                self.tls.send_close_notify();
                self.flush()?;
                return Ok(false);
            }
        }
    }

    /// Whether nothing is left to send.
    fn flush(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                outcome => outcome?,
            };
        }
        Ok(true)
    }
}
