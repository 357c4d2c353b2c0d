//! What has to be done for peers though nothing has happened to them: timers, and what those who left leave behind.

use std::cmp::Reverse;
use std::time::Instant;

use slab::Slab;

use super::buffer::READ_BUFFER;
use super::peer::{Timer, find};
use super::{Hub, KEPT_ENTRIES};
use crate::config::RESERVE;
use crate::connection::Phase;
use crate::event::Event;
use crate::transport::Stream;

/// How many different timers a peer can have at the same time.
const TIMERS: usize = 4;

impl<S: Stream> Hub<S> {
    /// Does what the timers that are due are for.
    pub(super) fn expire(&mut self, now: Instant, on_event: &mut impl FnMut(Event<'_>)) {
        while let Some(&Reverse((at, ticket, timer))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            let Some(peer) = find(&mut self.peers, ticket) else { continue };
            let held_by_others = self.held - peer.held();
            let next = match timer {
                Timer::Pause => peer.end_pause(now, on_event),
                Timer::Linger => {
                    if let Phase::Lingering(close) = peer.connection.phase() {
                        peer.connection.abort(close);
                        peer.schedule(ticket.key, &mut self.work);
                    }
                    None
                }
                Timer::Idle | Timer::Stall => {
                    // The system tells of room in a socket only when much of what it holds has been taken.
                    // Who takes little by little is found out by trying.
                    peer.connection.on_ready(false, true, false);
                    peer.connection.flush(&mut self.feed, READ_BUFFER);
                    peer.note_life(now);
                    let next = peer.end_lifeless(timer, &self.timeouts, now);
                    peer.schedule(ticket.key, &mut self.work);
                    next
                }
            };
            self.held = held_by_others + peer.held();
            self.timers.extend(next.map(|at| Reverse((at, ticket, timer))));
        }
    }

    /// Forgets timers and turns of peers that are gone, and gives back the tables of many that are. What it
    /// costs grows with what is there, but so much must have changed since the last time that each peer pays
    /// for a small part of it.
    pub(super) fn forget_dropped(&mut self) {
        if self.timers.len() > KEPT_ENTRIES + 2 * TIMERS * self.peers.len() {
            self.timers.retain(|Reverse((_, ticket, _))| ticket.is_held(&self.peers));
            self.timers.shrink_to(KEPT_ENTRIES);
        }
        if self.starved.len() > KEPT_ENTRIES + 2 * self.peers.len() {
            self.starved.retain(|ticket| ticket.is_held(&self.peers));
            self.starved.shrink_to(KEPT_ENTRIES);
        }
        if self.most_peers > KEPT_ENTRIES && self.peers.len() < self.most_peers / 4 {
            self.most_peers = self.peers.len().max(KEPT_ENTRIES);
            // As far as nobody is behind the free places.
            self.peers.shrink_to_fit();
            self.work.shrink_to(KEPT_ENTRIES);
            self.settled.shrink_to(KEPT_ENTRIES);
        }
        if self.peers.is_empty() && self.peers.capacity() > 2 * KEPT_ENTRIES {
            self.peers = Slab::new();
        }
    }

    /// Lets starved peers be read from, as many as there is memory for.
    pub(super) fn feed_starved(&mut self) {
        let held = self.held + self.feed.held();
        let mut free = self.limits.max_memory.saturating_sub(held);
        if let Some(relay) = &self.relay {
            free = if relay.is_open(held) { usize::MAX } else { 0 };
        }
        while free >= RESERVE
            && let Some(ticket) = self.starved.pop_front()
        {
            let Some(peer) = find(&mut self.peers, ticket) else { continue };
            peer.is_starved = false;
            if peer.connection.takes_input() {
                peer.schedule(ticket.key, &mut self.work);
                free -= RESERVE;
            }
        }
    }
}
