//! The sockets to the Redis by which servers share a room, and the engine that says what goes through them.

mod connection;
mod place;
mod tls;

use std::io;
use std::time::Instant;

use mio::event::Event;
use mio::{Registry, Token};

use crate::config::{Config, RedisAddress, RedisUrl};
use crate::console::RedisCounters;
use crate::error::reason;
use crate::event::RedisState;
use crate::hub::Hub;
use crate::shared_log::engine::{Action, Engine, Role, Settings};
use crate::shared_log::{LogEvent, ServerId};
use crate::transport::Socket;
use connection::{Connection, State};
use place::Place;
use tls::Files;

/// How many reads of a connection one turn makes, so that a server that catches up goes on serving its clients.
const READS_PER_TURN: usize = 16;

/// The size of one read in bytes.
const READ_BUFFER: usize = 64 << 10;

const ROLES: [Role; 2] = [Role::Calls, Role::Reads];

/// A server's end of the log that servers share.
pub(super) struct SharedLog {
    pub(super) id: ServerId,
    engine: Engine,
    /// Where Redis is, without the password.
    url: String,
    place: Place,
    registry: Registry,
    /// One token for each connection.
    tokens: [Token; 2],
    connections: [Option<Connection>; 2],
    buffer: Vec<u8>,
    /// The state that was last reported.
    told: Option<RedisState>,
}

impl SharedLog {
    /// The log that `config` asks for, if it asks for one. Looks the name of its host up, which may take a while. Fails
    /// where the files for TLS cannot be loaded.
    pub(super) fn open(config: &Config, registry: &Registry, tokens: [Token; 2]) -> io::Result<Option<Box<Self>>> {
        let Some(url) = &config.redis else { return Ok(None) };
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(format!("no random numbers: {error}")))?;
        let id = ServerId(u128::from_ne_bytes(random));
        let RedisUrl { address, is_tls, user, password, database } = url.clone();
        let files = match &address {
            RedisAddress::Tcp { host, .. } if is_tls => Some(Files::new(host, config)),
            _ => None,
        };
        let settings = Settings { room: config.room.clone(), user, password, database };
        Ok(Some(Box::new(Self {
            id,
            url: url.to_string(),
            engine: Engine::new(settings, id, id.0 as u64, Instant::now()),
            place: Place::new(address, files)?,
            registry: registry.try_clone()?,
            tokens,
            connections: [None, None],
            buffer: vec![0; READ_BUFFER],
            told: None,
        })))
    }

    /// Notes an event of one of the connections. Does no I/O.
    pub(super) fn on_ready(&mut self, event: &Event) {
        for (connection, token) in self.connections.iter_mut().zip(self.tokens) {
            if let Some(connection) = connection.as_mut().filter(|_| token == event.token()) {
                connection.on_ready(event);
            }
        }
    }

    /// Whether there is something to do without an event.
    pub(super) fn has_work(&self) -> bool {
        self.engine.has_work() || self.connections.iter().flatten().any(Connection::has_work)
    }

    /// When [`flush`](Self::flush) is due though no event comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.engine.deadline()
    }

    /// Takes what Redis has sent, and tells the room what the log says.
    pub(super) fn read(&mut self, hub: &mut Hub<Socket>, now: Instant, on_change: &mut OnChange<'_>) {
        for role in ROLES {
            self.finish_connecting(role, now);
            for _ in 0..READS_PER_TURN {
                let connection = self.connections[role as usize].as_mut();
                let Some(connection) = connection.filter(|connection| connection.is_readable()) else { break };
                match connection.receive(&mut self.buffer) {
                    Ok(0) => break,
                    Ok(count) => self.engine.received(role, &self.buffer[..count], now),
                    Err(error) => self.lose(role, &error, now),
                }
            }
        }
        self.tell(hub, on_change);
    }

    /// Asks of the log what the room wants, and sends it. All events that came until `noted` have been noted.
    pub(super) fn flush(
        &mut self,
        hub: &mut Hub<Socket>,
        (now, noted): (Instant, Instant),
        on_change: &mut OnChange<'_>,
    ) {
        if let Some(mut room) = hub.log_side() {
            for op in room.take_ops() {
                self.engine.push(op);
            }
            self.engine.set_urgency(room.urgency());
            if self.engine.reports_floor(now) {
                self.engine.set_floor(room.report_floor());
            }
        }
        self.engine.turn(now, noted);
        while let Some(action) = self.engine.poll_action() {
            self.act(action, now);
        }
        for role in ROLES {
            self.write(role, now);
        }
        self.tell(hub, on_change);
    }

    /// Says goodbye. Returns whether that is done.
    pub(super) fn leave(&mut self) -> bool {
        self.engine.leave();
        self.engine.has_left()
    }

    pub(super) fn counters(&self) -> RedisCounters {
        let engine = &self.engine;
        RedisCounters {
            state: match self.told {
                None | Some(RedisState::Away) => RedisState::Away,
                Some(RedisState::Connected | RedisState::Gap) => RedisState::Connected,
            },
            epoch: engine.epoch().to_owned(),
            position: engine.position().0,
            lag: engine.lag(),
        }
    }

    fn tell(&mut self, hub: &mut Hub<Socket>, on_change: &mut OnChange<'_>) {
        while let Some(event) = self.engine.poll_event() {
            let state = match &event {
                LogEvent::Entered { is_gap: true, .. } => Some(RedisState::Gap),
                LogEvent::Entered { .. } | LogEvent::Back => Some(RedisState::Connected),
                LogEvent::Away => Some(RedisState::Away),
                LogEvent::Earlier(_) | LogEvent::Missed(_) | LogEvent::Entry { .. } | LogEvent::Floor(_) => None,
            };
            if let Some(state) = state.filter(|state| self.told != Some(*state) || *state == RedisState::Gap) {
                self.told = Some(state);
                on_change(state, &self.url, if state == RedisState::Connected { "" } else { self.engine.trouble() });
            }
            if let Some(mut room) = hub.log_side() {
                room.on_event(event);
            }
        }
    }

    fn act(&mut self, action: Action, now: Instant) {
        match action {
            Action::Close(role) => self.drop_connection(role),
            Action::Connect(role) => {
                let connection = self.place.connect(role == Role::Calls).and_then(|mut connection| {
                    connection.register(&self.registry, self.tokens[role as usize])?;
                    Ok(connection)
                });
                match connection {
                    Ok(connection) => self.connections[role as usize] = Some(connection),
                    Err(error) => {
                        if role == Role::Calls {
                            self.place.failed();
                        }
                        self.lose(role, &error, now);
                    }
                }
            }
        }
    }

    fn drop_connection(&mut self, role: Role) {
        let dropped = self.connections[role as usize].take();
        // Only the first of the two counts, so that no address is passed over.
        if role == Role::Calls && dropped.is_some_and(|connection| !connection.is_open()) {
            self.place.failed();
        }
    }

    /// Looks whether a connection has been made.
    fn finish_connecting(&mut self, role: Role, now: Instant) {
        let Some(connection) = &mut self.connections[role as usize] else { return };
        match connection.advance() {
            Ok(State::Connected) => self.engine.connected(role, now),
            Ok(_) => {}
            Err(error) => self.lose(role, &error, now),
        }
    }

    fn write(&mut self, role: Role, now: Instant) {
        while let Some(connection) = self.connections[role as usize].as_mut()
            && connection.is_writable()
            && (!self.engine.output(role).is_empty() || connection.wants_write())
        {
            match connection.send(self.engine.output(role)) {
                Ok(count) => self.engine.sent(role, count, now),
                Err(error) => self.lose(role, &error, now),
            }
        }
    }

    fn lose(&mut self, role: Role, error: &io::Error, now: Instant) {
        self.drop_connection(role);
        self.engine.closed(role, reason(error), now);
        // The engine closes the other one too.
        while let Some(action) = self.engine.poll_action() {
            if let Action::Close(role) = action {
                self.drop_connection(role);
            }
        }
    }
}

/// Is called when the state of Redis changes, with the new state, the URL without its password, and the reason.
pub(super) type OnChange<'a> = dyn FnMut(RedisState, &str, &str) + 'a;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use mio::Poll;

    use super::*;

    #[test]
    fn an_address_that_does_not_answer_is_left_for_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("redis://{}", listener.local_addr().expect("bound"));
        let config = Config::with(|config| config.redis = url.parse().ok());
        let poll = Poll::new().expect("a poll");
        let log = SharedLog::open(&config, poll.registry(), [Token(1), Token(2)]);
        let mut log = log.expect("random numbers").expect("it is asked for");
        // An attempt is two connections, which the engine gives up together.
        for attempt in 1..3 {
            ROLES.into_iter().for_each(|role| log.act(Action::Connect(role), Instant::now()));
            assert!(log.connections.iter().all(Option::is_some));
            ROLES.into_iter().for_each(|role| log.act(Action::Close(role), Instant::now()));
            assert_eq!(log.place.next(), attempt);
        }
    }
}
