//! The floor: what any event loop must do to echo, and nothing else.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);

/// Where the buffer begins matters: 16 bytes into a page, which is where an allocator puts large ones, the processor's
/// string instructions copy from the kernel's pages at half the speed (seen on AMD Zen 3).
const PAGE: usize = 4096;

/// One client, and what it has not taken yet.
struct Client {
    stream: TcpStream,
    unsent: Vec<u8>,
    is_ending: bool,
}

pub(crate) fn serve(read_size: usize) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::from_std(super::listen()?);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut clients: Slab<Client> = Slab::new();
    let mut memory = vec![0; PAGE + read_size];
    let begin = memory.as_ptr().align_offset(PAGE);
    let buffer = &mut memory[begin..begin + read_size];
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None)?;
        let mut is_anybody_there = false;
        for event in &events {
            if event.token() == LISTENER {
                is_anybody_there = true;
                continue;
            }
            let key = event.token().0;
            let client = &mut clients[key];
            let is_over = match client.serve(buffer, event.is_read_closed()) {
                Ok(()) => client.is_ending && client.unsent.is_empty(),
                Err(_) => true,
            };
            if is_over {
                clients.remove(key);
            }
        }
        // Not before the events of old clients are through, whose keys may be used again.
        while is_anybody_there {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    let entry = clients.vacant_entry();
                    let interests = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(entry.key()), interests)?;
                    entry.insert(Client { stream, unsent: Vec::new(), is_ending: false });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => is_anybody_there = false,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Client {
    /// Reads and writes back until there is nothing to read, or no room to write. The poll is edge-triggered: after a
    /// read that fills less than the buffer nothing is left, unless the end has come already.
    fn serve(&mut self, buffer: &mut [u8], is_read_closed: bool) -> io::Result<()> {
        if !self.flush()? {
            return Ok(());
        }
        while !self.is_ending {
            let Some(count) = ready(self.stream.read(buffer))? else { break };
            self.is_ending = count == 0;
            let sent = ready(self.stream.write(&buffer[..count]))?.unwrap_or(0);
            if sent < count {
                // Room will be told by an event, which goes on here.
                self.unsent.extend_from_slice(&buffer[sent..count]);
                break;
            }
            if count < buffer.len() && !is_read_closed {
                break;
            }
        }
        Ok(())
    }

    /// Whether nothing is left to send.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            let Some(count) = ready(self.stream.write(&self.unsent))? else { return Ok(false) };
            self.unsent.drain(..count);
        }
        Ok(true)
    }
}

/// What a read or write did; `None` where it would have to wait.
fn ready(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        outcome => outcome.map(Some),
    }
}
