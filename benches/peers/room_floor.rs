//! The least a chat room can do: what one connection sends goes straight to all the others. No lines, no names,
//! nothing kept but what a socket did not take.

use std::io::{self, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::listen;

const LISTENER: Token = Token(usize::MAX);

/// How much is read at once.
const CHUNK: usize = 64 << 10;

struct Member {
    stream: TcpStream,
    /// What the socket did not take, in order.
    unsent: Vec<u8>,
}

impl Member {
    /// Writes at once, and keeps what does not go out. Returns whether the connection still works.
    fn send(&mut self, bytes: &[u8]) -> bool {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return true;
        }
        let Some(count) = written(&mut self.stream, bytes) else { return false };
        self.unsent.extend_from_slice(&bytes[count..]);
        true
    }

    fn flush(&mut self) -> bool {
        let Some(count) = written(&mut self.stream, &self.unsent) else { return false };
        self.unsent.drain(..count);
        true
    }
}

pub(crate) fn serve() -> io::Result<()> {
    let mut listener = TcpListener::from_std(listen()?);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut members: Slab<Member> = Slab::new();
    let mut chunk = vec![0; CHUNK];
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    loop {
        if let Err(error) = poll.poll(&mut events, None)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        let mut has_newcomers = false;
        for event in &events {
            if event.token() == LISTENER {
                has_newcomers = true;
                continue;
            }
            let key = event.token().0;
            if event.is_writable() && members.get_mut(key).is_some_and(|member| !member.flush()) {
                members.remove(key);
            }
            if event.is_readable() {
                hear(&mut members, key, &mut chunk, event.is_read_closed());
            }
        }
        // Not before, or a newcomer could be taken for the one who had its key when the events were made.
        while has_newcomers && let Ok((mut stream, _)) = listener.accept() {
            let entry = members.vacant_entry();
            let interests = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(entry.key()), interests)?;
            entry.insert(Member { stream, unsent: Vec::new() });
        }
    }
}

/// Passes on what a member has sent. A short read means that there is no more, unless the end has been seen.
fn hear(members: &mut Slab<Member>, key: usize, chunk: &mut [u8], is_read_closed: bool) {
    while let Some(member) = members.get_mut(key) {
        let count = match member.stream.read(chunk) {
            Ok(0) => return drop(members.remove(key)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => return drop(members.remove(key)),
        };
        members.retain(|other, member| other == key || member.send(&chunk[..count]));
        if count < chunk.len() && !is_read_closed {
            return;
        }
    }
}

/// How much of `bytes` the socket took; `None` if the connection is broken.
fn written(stream: &mut TcpStream, bytes: &[u8]) -> Option<usize> {
    let mut count = 0;
    while count < bytes.len() {
        match stream.write(&bytes[count..]) {
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) => return None,
        }
    }
    Some(count)
}
