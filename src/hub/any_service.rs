//! The services that a hub can have.

use std::time::Instant;

use super::peer::{Id, State};
use super::peers::{Peers, Turn};
use super::service::{Served, Service};
use crate::config::Config;
use crate::echo::Echo;
use crate::room::member::Member;
use crate::room::{LocalRoom, SharedRoom};
use crate::shared_log::ServerId;
use crate::transport::Stream;

/// The service of this hub.
#[derive(Debug)]
pub(super) enum AnyService {
    Echo(Echo),
    Room(Box<LocalRoom>),
    SharedRoom(Box<SharedRoom>),
}

/// Does the same with whichever service it is.
macro_rules! each {
    ($any:expr, $service:ident => $work:expr) => {
        match $any {
            AnyService::Echo($service) => $work,
            AnyService::Room($service) => $work,
            AnyService::SharedRoom($service) => $work,
        }
    };
}

impl AnyService {
    pub(super) fn new(config: &Config) -> Self {
        match config.chat {
            true => Self::Room(Box::new(LocalRoom::local(config))),
            false => Self::Echo(Echo::new(config)),
        }
    }

    /// A room that spans servers, of which this one is `server`.
    pub(super) fn shared(config: &Config, server: ServerId) -> Self {
        Self::SharedRoom(Box::new(SharedRoom::shared(config, server)))
    }

    /// What a new peer begins with.
    pub(super) fn state(&self, now: Instant) -> State {
        match self {
            Self::Echo(_) => State::Echo(Default::default()),
            Self::Room(_) | Self::SharedRoom(_) => State::Member(Box::new(Member::new(now))),
        }
    }

    /// Bytes of memory that it takes beside what is held for peers. They do not change.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Echo(_) => 0,
            Self::Room(room) => room.held(),
            Self::SharedRoom(room) => room.held(),
        }
    }

    pub(super) fn messages(&self) -> u64 {
        each!(self, service => service.messages())
    }
}

impl Service for AnyService {
    fn join<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id) {
        each!(self, service => service.join(peers, id));
    }

    fn before_turn<S: Stream>(&mut self, peers: &mut Peers<S>, turn: &mut Turn<'_>) {
        each!(self, service => service.before_turn(peers, turn));
    }

    fn serve<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id, turn: &mut Turn<'_>) -> Served {
        each!(self, service => service.serve(peers, id, turn))
    }

    fn leave<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id, turn: &mut Turn<'_>) {
        each!(self, service => service.leave(peers, id, turn));
    }

    fn is_full<S: Stream>(&self, peers: &Peers<S>) -> bool {
        each!(self, service => service.is_full(peers))
    }

    fn after_turn<S: Stream>(&mut self, peers: &mut Peers<S>, turn: &mut Turn<'_>) {
        each!(self, service => service.after_turn(peers, turn));
    }

    fn has_work(&self) -> bool {
        each!(self, service => service.has_work())
    }

    fn deadline(&self) -> Option<Instant> {
        each!(self, service => service.deadline())
    }

    fn report_messages(&mut self) {
        each!(self, service => service.report_messages());
    }

    fn stop<S: Stream>(&mut self, peers: &mut Peers<S>) {
        each!(self, service => service.stop(peers));
    }

    fn spares_new(&self) -> bool {
        each!(self, service => service.spares_new())
    }

    fn abandon<S: Stream>(&mut self, peers: &mut Peers<S>, id: Id, turn: &mut Turn<'_>) {
        each!(self, service => service.abandon(peers, id, turn));
    }
}
