//! A connection between an engine and Redis: what is on its way, in pieces, and when it arrives.

use std::collections::VecDeque;

use fastrand::Rng;
use sockets::shared_log::engine::Role;

use super::redis::{Redis, Session};

/// Pieces with the times at which they arrive.
type Pieces = VecDeque<(u64, Vec<u8>)>;

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) node: usize,
    pub(super) role: Role,
    /// The engine has given the connection up, or it is cut: what is on its way to Redis may still arrive.
    pub(super) is_cut: bool,
    /// The engine has not noticed yet.
    pub(super) is_noticed: bool,
    to_redis: Pieces,
    pub(super) from_redis: Pieces,
    session: Session,
    /// When a read that waits is looked at again.
    look_at: u64,
}

impl Wire {
    pub(super) fn new(node: usize, role: Role, now: u64) -> Self {
        Self {
            node,
            role,
            is_cut: false,
            is_noticed: false,
            to_redis: VecDeque::new(),
            from_redis: VecDeque::new(),
            session: Session::default(),
            look_at: now,
        }
    }

    /// The connection ends. What is on its way to Redis arrives or does not, perhaps much later.
    pub(super) fn cut(&mut self, random: &mut Rng) {
        if self.is_cut {
            return;
        }
        self.is_cut = true;
        self.from_redis.clear();
        self.to_redis.truncate(random.usize(..=self.to_redis.len()));
        let late = random.u64(..3000);
        self.to_redis.iter_mut().for_each(|(at, _)| *at += late);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_cut && self.is_noticed && self.to_redis.is_empty()
    }

    pub(super) fn due(&self) -> Option<u64> {
        let pieces = [&self.to_redis, &self.from_redis].into_iter().filter_map(|pieces| Some(pieces.front()?.0));
        pieces.chain((!self.is_cut).then_some(self.look_at)).min()
    }

    pub(super) fn send(&mut self, bytes: &[u8], (now, delay): (u64, u64), random: &mut Rng) {
        put(&mut self.to_redis, bytes, now, delay, random);
    }

    /// Redis takes what has arrived, and answers.
    pub(super) fn serve(&mut self, redis: &mut Redis, now: u64, delay: u64, random: &mut Rng) {
        let mut arrived = Vec::new();
        while let Some((_, piece)) = self.to_redis.pop_front_if(|(at, _)| *at <= now) {
            arrived.extend(piece);
        }
        if self.is_cut && arrived.is_empty() {
            return;
        }
        redis.serve(&mut self.session, &arrived, now);
        self.look_at = now + 20;
        let output = std::mem::take(&mut self.session.output);
        if !self.is_cut {
            put(&mut self.from_redis, &output, now, delay, random);
        }
    }
}

fn put(pieces: &mut Pieces, mut bytes: &[u8], now: u64, delay: u64, random: &mut Rng) {
    while !bytes.is_empty() {
        let len = if random.bool() { bytes.len() } else { random.usize(1..=bytes.len()) };
        let (piece, rest) = bytes.split_at(len);
        bytes = rest;
        let earliest = pieces.back().map_or(now, |(at, _)| *at);
        pieces.push_back((earliest.max(now + random.u64(..=delay)), piece.to_vec()));
    }
}
