//! What the hub does for a peer that is echoed.

use std::time::Instant;

use super::peer::{Limits, Outlook, Peer};
use crate::config::RESERVE;
use crate::connection::{Close, Phase, Received};
use crate::event::Event;
use crate::message::{self, PAUSE, Unfinished};
use crate::transport::Stream;

impl<S: Stream> Peer<S> {
    /// Takes in what one read brings and sends it back, and finds the messages in it.
    pub(super) fn echo(
        &mut self,
        buffer: &mut [u8],
        limits: &Limits,
        held_by_others: usize,
        now: Instant,
        on_event: &mut impl FnMut(Event<'_>),
    ) {
        if self.connection.can_receive() && self.connection.phase() != Phase::Stopping(0) {
            let room = self.room_for_echo(limits, held_by_others).min(buffer.len());
            if room > 0 {
                self.echo_once(&mut buffer[..room], limits, held_by_others, now, on_event);
            }
        }
        if self.connection.phase() == Phase::Stopping(0) {
            self.connection.end(Close::Stopping);
        }
        if !self.connection.takes_input() {
            self.end_message(on_event);
        }
    }

    pub(super) fn echo_outlook(&self, limits: &Limits, held_by_others: usize) -> Outlook {
        if !self.connection.can_receive() {
            return Outlook::Waiting;
        }
        let held = self.held();
        match limits.room(held, held_by_others) {
            // Nothing but the text of its message is in the way, which is shortened then.
            0 if self.connection.owed() == 0 => Outlook::Busy,
            0 if held < limits.max_pending => Outlook::Starved,
            0 => Outlook::Waiting,
            _ => Outlook::Busy,
        }
    }

    /// How much may be read. A text that is kept for the log must not stand in the way of the echo.
    fn room_for_echo(&mut self, limits: &Limits, held_by_others: usize) -> usize {
        let room = limits.room(self.held(), held_by_others);
        match &mut self.unfinished {
            Some(unfinished) if room < RESERVE / 2 && self.connection.owed() == 0 => {
                unfinished.shorten(RESERVE / 2);
                limits.room(self.held(), held_by_others)
            }
            _ => room,
        }
    }

    fn echo_once(
        &mut self,
        buffer: &mut [u8],
        limits: &Limits,
        held_by_others: usize,
        now: Instant,
        on_event: &mut impl FnMut(Event<'_>),
    ) {
        let takes_input = self.connection.takes_input();
        match self.connection.receive_to_end(buffer) {
            Received::Bytes(count) if takes_input => {
                let bytes = &buffer[..count];
                self.connection.send(bytes);
                let room = limits.room(self.held(), held_by_others);
                self.note_message(bytes, limits.max_text, room, now, on_event);
            }
            Received::Nothing if !self.connection.can_receive() => {
                if self.unfinished.as_ref().is_some_and(|unfinished| unfinished.looks_whole()) {
                    self.end_message(on_event);
                }
            }
            Received::Bytes(_) | Received::Nothing | Received::End => {}
        }
    }

    /// Finds out whether `bytes`, just read, complete a message. The common one, which comes whole in one
    /// read, is told straight from the read buffer.
    fn note_message(
        &mut self,
        bytes: &[u8],
        max_text: usize,
        room: usize,
        now: Instant,
        on_event: &mut impl FnMut(Event<'_>),
    ) {
        let is_drained = !self.connection.can_receive();
        let length = bytes.len() as u64;
        let is_whole = !self.connection.takes_input() || (is_drained && message::looks_whole(length, bytes));
        if self.unfinished.is_none() && is_whole {
            on_event(Event::Message { peer: self.address, text: bytes, length });
            return;
        }
        let unfinished = self.unfinished.get_or_insert_with(|| Box::new(Unfinished::new(now)));
        let room = room.min(max_text.saturating_sub(unfinished.text().len()));
        unfinished.push(bytes, room, now);
        if is_drained && unfinished.looks_whole() {
            self.end_message(on_event);
        }
    }

    /// Ends the message after which nothing came for [`PAUSE`]. Returns when to look again if it is not over:
    /// also for a peer that is not read from now, though something may have come.
    pub(super) fn end_pause(&mut self, now: Instant, on_event: &mut impl FnMut(Event<'_>)) -> Option<Instant> {
        let due = match &self.unfinished {
            Some(_) if self.connection.can_receive() => now + PAUSE,
            Some(unfinished) => unfinished.last_arrival() + PAUSE,
            None => now,
        };
        self.is_timed = due > now;
        if self.is_timed {
            return Some(due);
        }
        self.end_message(on_event);
        None
    }

    pub(super) fn end_message(&mut self, on_event: &mut impl FnMut(Event<'_>)) {
        if let Some(message) = self.unfinished.take() {
            on_event(Event::Message { peer: self.address, text: message.text(), length: message.length() });
        }
    }
}
