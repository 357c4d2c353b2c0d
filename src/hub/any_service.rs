//! The services that a hub can have.

use std::time::Instant;

use super::peer::{Id, State};
use super::peers::{Peers, Turn};
use super::service::{Served, Service};
use crate::config::Config;
use crate::echo::Echo;
use crate::room::Room;
use crate::room::member::Member;
use crate::transport::Stream;

/// The service of this hub.
#[derive(Debug)]
pub(super) enum AnyService {
    Echo(Echo),
    Room(Box<Room>),
}

impl AnyService {
    pub(super) fn new(config: &Config) -> Self {
        match config.chat {
            true => Self::Room(Box::new(Room::new(config))),
            false => Self::Echo(Echo::new(config)),
        }
    }

    /// What a new peer begins with.
    pub(super) fn state(&self, now: Instant) -> State {
        match self {
            Self::Echo(_) => State::Echo(Default::default()),
            Self::Room(_) => State::Member(Box::new(Member::new(now))),
        }
    }

    /// Bytes of memory that it takes beside what is held for peers. They do not change.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Echo(_) => 0,
            Self::Room(room) => room.held(),
        }
    }

    pub(super) fn messages(&self) -> u64 {
        match self {
            Self::Echo(echo) => echo.messages(),
            Self::Room(room) => room.messages(),
        }
    }
}

impl Service for AnyService {
    fn join<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id) {
        match self {
            Self::Echo(echo) => echo.join(peers, id),
            Self::Room(room) => room.join(peers, id),
        }
    }

    fn serve<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id, turn: &mut Turn<'_>) -> Served {
        match self {
            Self::Echo(echo) => echo.serve(peers, id, turn),
            Self::Room(room) => room.serve(peers, id, turn),
        }
    }

    fn leave<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id, turn: &mut Turn<'_>) {
        match self {
            Self::Echo(echo) => echo.leave(peers, id, turn),
            Self::Room(room) => room.leave(peers, id, turn),
        }
    }

    fn is_full<S: Stream>(&self, peers: &Peers<S>) -> bool {
        match self {
            Self::Echo(echo) => echo.is_full(peers),
            Self::Room(room) => room.is_full(peers),
        }
    }

    fn after_turn<S: Stream>(&mut self, peers: &mut Peers<S>, turn: &mut Turn<'_>) {
        match self {
            Self::Echo(echo) => echo.after_turn(peers, turn),
            Self::Room(room) => room.after_turn(peers, turn),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Echo(echo) => echo.deadline(),
            Self::Room(room) => room.deadline(),
        }
    }

    fn stop<S: Stream>(&mut self, peers: &mut Peers<S>) {
        match self {
            Self::Echo(echo) => echo.stop(peers),
            Self::Room(room) => room.stop(peers),
        }
    }
}
