//! The echo: every byte is sent back to the peer that sent it.

use std::io::ErrorKind;
use std::mem;

use crate::config::{Config, Log, RESERVE};
use crate::connection::{Close, Phase, Received};
use crate::event::Event;
use crate::feed::Feed;
use crate::hub::memory::Memory;
use crate::hub::peer::{Id, Peer, State};
use crate::hub::peers::{Peers, Turn};
use crate::hub::service::{BULK, Next, Served, Service};
use crate::message::{Message, PAUSE, Unfinished, looks_whole};
use crate::transport::Stream;

/// What may be kept of the text of a message where memory is short, in bytes.
const SHORT_TEXT: usize = RESERVE / 4;

/// The echo service (RFC 862).
#[derive(Debug)]
pub(crate) struct Echo {
    /// The most bytes held for one peer.
    max_pending: usize,
    /// The most bytes kept of the text of a message: what the log shows of it and its line ending.
    max_text: usize,
    /// Whether anyone wants to know of messages. Otherwise nothing is remembered of them, and a pause ends none.
    reports_messages: bool,
    /// Messages that were echoed.
    messages: u64,
}

impl Echo {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            max_pending: config.max_pending.max(RESERVE),
            max_text: config.log_max.saturating_add("\r\n".len()),
            reports_messages: config.log >= Log::Messages,
            messages: 0,
        }
    }

    /// Messages that were echoed.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Reads once and sends back what came.
    fn echo<S: Stream>(&mut self, peer: &mut Peer<S>, feed: &mut Feed, memory: &mut Memory, turn: &mut Turn<'_>) {
        let room = self.room(peer, memory).min(turn.buffer.len());
        if room == 0 {
            return;
        }
        match peer.connection.receive_to_end(&mut turn.buffer[..room]) {
            Received::Bytes(count) => {
                let sent = peer.connection.send_now(&turn.buffer[..count]);
                queue(&turn.buffer[sent..count], peer, feed, memory);
                self.note_message(count, peer, memory, turn);
            }
            Received::Nothing if !peer.connection.can_receive() => {
                if let State::Echo(Message::Kept(unfinished)) = &peer.state
                    && unfinished.looks_whole()
                {
                    self.end_message(peer, turn);
                }
            }
            Received::Nothing | Received::End | Received::Failure => {}
        }
    }

    /// Finds out whether the first `count` bytes of the buffer, just read, complete a message. The common one, which
    /// comes whole in one read, is reported straight from the buffer.
    fn note_message<S: Stream>(&mut self, count: usize, peer: &mut Peer<S>, memory: &Memory, turn: &mut Turn<'_>) {
        let (bytes, length) = (&turn.buffer[..count], count as u64);
        let is_drained = !peer.connection.can_receive();
        let has_ended = !peer.connection.takes_input();
        let room = peer.room(memory, self.max_pending);
        let address = peer.address;
        let State::Echo(message) = &mut peer.state else { return };
        let is_first = matches!(message, Message::Between);
        if is_first && (has_ended || (is_drained && looks_whole(length, bytes))) {
            self.messages += 1;
            if self.reports_messages {
                (turn.on_event)(Event::Message { peer: address, text: bytes, length });
            }
            return;
        }
        let is_whole = if self.reports_messages {
            if is_first {
                *message = Message::Kept(Box::new(Unfinished::new(turn.now)));
            }
            let Message::Kept(unfinished) = message else { return };
            unfinished.push(bytes, self.max_text, room, turn.now);
            unfinished.looks_whole()
        } else {
            *message = Message::Inside;
            // Its length is not remembered, so only a newline can end it.
            bytes.ends_with(b"\n")
        };
        if is_drained && is_whole {
            self.end_message(peer, turn);
        }
    }

    fn end_message<S: Stream>(&mut self, peer: &mut Peer<S>, turn: &mut Turn<'_>) {
        let State::Echo(message) = &mut peer.state else { return };
        match mem::take(message) {
            Message::Between => return,
            Message::Inside => {}
            Message::Kept(message) => {
                let (text, length) = (message.text(), message.length());
                (turn.on_event)(Event::Message { peer: peer.address, text, length });
            }
        }
        self.messages += 1;
    }

    /// How much may be read. A text that is kept for the log must not stand in the way of the echo.
    fn room<S: Stream>(&self, peer: &mut Peer<S>, memory: &Memory) -> usize {
        let room = peer.room(memory, self.max_pending);
        match &mut peer.state {
            State::Echo(Message::Kept(unfinished)) if room < SHORT_TEXT && peer.connection.pending() == 0 => {
                unfinished.shorten(SHORT_TEXT);
                peer.room(memory, self.max_pending)
            }
            _ => room,
        }
    }

    fn next<S: Stream>(&self, peer: &Peer<S>, memory: &Memory) -> Next {
        if !peer.connection.can_receive() {
            Next::Event
        } else if peer.connection.pending() == 0 || peer.room(memory, self.max_pending) > 0 {
            // Where nothing is pending, only the text of a message is in the way, which is shortened then.
            Next::Turn
        } else if peer.room(memory, usize::MAX) == 0 {
            Next::Memory
        } else {
            Next::Event
        }
    }
}

impl Service for Echo {
    fn serve<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id, turn: &mut Turn<'_>) -> Served {
        let Some((peer, feed, memory)) = peers.borrow(id) else { return Served::NOTHING };
        let before = peer.connection.received() + peer.connection.sent();
        let is_behind = peer.connection.has_queued();
        if is_behind {
            peer.connection.flush(feed, turn.buffer.len());
        }
        if peer.connection.can_receive() && peer.connection.phase() != Phase::Stopping(0) {
            self.echo(peer, feed, memory, turn);
        }
        if !is_behind {
            // What the stream has to write by itself, as at the end of a handshake, has gone out with the echo, if any.
            peer.connection.flush(feed, turn.buffer.len());
        }
        if let Some(kind) = peer.connection.write_error() {
            // What comes now cannot be sent back any more.
            peer.connection.abort(Close::Broken(kind), feed);
        } else if peer.connection.phase() == Phase::Stopping(0) {
            peer.connection.end(Close::Stopping);
        }
        if let State::Echo(message) = &peer.state
            && message.last_arrival().is_some_and(|at| at + PAUSE <= turn.noted)
            && !peer.connection.can_receive()
        {
            self.end_message(peer, turn);
        }
        let moved = peer.connection.received() + peer.connection.sent() - before;
        Served { next: self.next(peer, memory), moved, is_bulky: moved >= BULK }
    }

    fn leave<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id, turn: &mut Turn<'_>) {
        if let Some((peer, ..)) = peers.borrow(id) {
            self.end_message(peer, turn);
        }
    }

    fn report_messages(&mut self) {
        self.reports_messages = true;
    }

    fn stop<S: Stream>(&mut self, peers: &mut Peers<S>) {
        peers.for_each(|_, peer, feed| {
            let is_silent = peer.connection.phase() == Phase::Stopping(0);
            if is_silent && peer.connection.has_sent_all() {
                peer.connection.abort(Close::Stopping, feed);
            }
            true
        });
    }

    fn spares_new(&self) -> bool {
        true
    }

    fn abandon<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id, turn: &mut Turn<'_>) {
        self.leave(peers, id, turn);
    }
}

/// Queues what the stream did not take. If the system refuses memory for it even after the emergency's was given back,
/// the echo cannot be whole: the peer sees a reset.
fn queue<S: Stream>(bytes: &[u8], peer: &mut Peer<S>, feed: &mut Feed, memory: &mut Memory) {
    if peer.connection.queue(bytes).is_err() {
        memory.refused(feed.held());
        if peer.connection.queue(bytes).is_err() {
            peer.connection.abort(Close::Broken(ErrorKind::OutOfMemory), feed);
        }
    }
}
