//! Answers HTTP requests about the server's health and its metrics, in the server's own loop.
//!
//! Each connection is for one request and answer. It costs at most [`MAX_REQUEST`] bytes and one read a turn, and is over
//! after [`TIMEOUT`], so that whoever reaches the port cannot slow the server down.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::acceptor::RETRY;
use super::metrics::{Snapshot, Turns};
use crate::error::reason;

/// How many descriptors, and tokens, this takes: one for the listener, and those of the connections.
pub(super) const DESCRIPTORS: usize = 1 + MAX_CONNECTIONS;

/// How many connections there are at most; the oldest makes room for another one.
const MAX_CONNECTIONS: usize = 8;

/// The longest request, headers included, in bytes.
const MAX_REQUEST: usize = 8 << 10;

/// How many headers a request may have.
const MAX_HEADERS: usize = 64;

/// How long a connection may take, from the accept to its end.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The listener for HTTP, and its connections.
pub(super) struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    /// Connections may wait: an event said so, and accept has not yet said that none is left.
    is_pending: bool,
    /// When to try again, after accept failed for want of descriptors or memory.
    retry_at: Option<Instant>,
    connections: Slab<Connection>,
    /// The token of the listener. Those of the connections follow: an event for an earlier connection with the same key
    /// makes a later one try a read in vain.
    first_token: usize,
    turns: Turns,
}

/// What the answers are about.
pub(super) struct Status<'a> {
    pub(super) is_draining: bool,
    /// Counts what the metrics tell.
    pub(super) count: &'a dyn Fn() -> Snapshot,
}

impl Admin {
    /// Listens on `address`, with [`DESCRIPTORS`] tokens from `first_token` on.
    ///
    /// # Errors
    ///
    /// The system's, if the address cannot be bound; the message names it.
    pub(super) fn open(address: SocketAddr, registry: &Registry, first_token: usize) -> io::Result<Self> {
        let mut listener = TcpListener::bind(address).map_err(|error| {
            let text = format!("cannot answer health checks on {address}: {}", reason(&error));
            io::Error::new(error.kind(), text)
        })?;
        registry.register(&mut listener, Token(first_token), Interest::READABLE)?;
        let (address, connections) = (listener.local_addr()?, Slab::with_capacity(MAX_CONNECTIONS));
        Ok(Self { listener, address, is_pending: false, retry_at: None, connections, first_token, turns: Turns::new() })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A turn of the server took this long and began with so many events.
    pub(super) fn observe_turn(&self, took: Duration, events: usize) {
        self.turns.observe(took, events);
    }

    /// Notes an event for `token`.
    pub(super) fn on_ready(&mut self, token: usize) {
        match (token - self.first_token).checked_sub(1) {
            None => self.is_pending = true,
            Some(key) => {
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.is_ready = true;
                }
            }
        }
    }

    /// Whether [`turn`](Self::turn) can make progress without an event.
    pub(super) fn has_work(&self) -> bool {
        let can_accept = self.is_pending && self.retry_at.is_none();
        can_accept || self.connections.iter().any(|(_, connection)| connection.is_ready)
    }

    /// When [`turn`](Self::turn) has to be called, though no event comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.connections.iter().map(|(_, connection)| connection.deadline).chain(self.retry_at).min()
    }

    /// Answers the requests that have arrived, drops the connections whose time was over at `noted`, and accepts new
    /// ones. They come last, so that each of them has had its turn before it has to make room.
    pub(super) fn turn(&mut self, now: Instant, noted: Instant, status: &Status<'_>, registry: &Registry) {
        let Self { connections, turns, .. } = self;
        connections.retain(|_, connection| connection.serve(status, turns) && noted < connection.deadline);
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        for _ in 0..MAX_CONNECTIONS {
            if !self.is_pending || self.retry_at.is_some() {
                return;
            }
            match self.listener.accept() {
                Ok((stream, _)) => self.insert(stream, now, registry),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.is_pending = false,
                    ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                    _ => self.retry_at = Some(now + RETRY),
                },
            }
        }
    }

    fn insert(&mut self, mut stream: TcpStream, now: Instant, registry: &Registry) {
        let oldest = self.connections.iter().min_by_key(|(_, connection)| connection.deadline);
        if let Some((key, _)) = oldest
            && self.connections.len() >= MAX_CONNECTIONS
        {
            self.connections.remove(key);
        }
        let entry = self.connections.vacant_entry();
        let token = Token(self.first_token + 1 + entry.key());
        // Without events it would never be served: dropping it tells the client at once.
        if registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_ok() {
            entry.insert(Connection {
                stream,
                stage: Stage::Request(Vec::new()),
                is_ready: false,
                deadline: now + TIMEOUT,
            });
        }
    }
}

struct Connection {
    stream: TcpStream,
    stage: Stage,
    /// A read or a write may bring something: an event said so, and neither has yet said that it does not.
    is_ready: bool,
    /// When it is dropped, whatever its stage.
    deadline: Instant,
}

enum Stage {
    /// This much of the request has been read.
    Request(Vec<u8>),
    /// This is still to be sent.
    Answer(Vec<u8>),
    /// Our side has ended; input is discarded until the client ends its side too, because closing a socket with unread
    /// input sends a reset, which can destroy the answer.
    Lingering,
}

impl Connection {
    /// Reads or writes once, if that may bring something. Returns whether the connection goes on.
    fn serve(&mut self, status: &Status<'_>, turns: &Turns) -> bool {
        if !self.is_ready {
            return true;
        }
        match self.advance(status, turns) {
            Ok(goes_on) => goes_on,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.is_ready = false;
                true
            }
            Err(error) => error.kind() == ErrorKind::Interrupted,
        }
    }

    fn advance(&mut self, status: &Status<'_>, turns: &Turns) -> io::Result<bool> {
        let mut buffer = [0; MAX_REQUEST];
        match &mut self.stage {
            Stage::Request(request) => {
                let room = MAX_REQUEST - request.len();
                let count = self.stream.read(&mut buffer[..room])?;
                request.extend_from_slice(&buffer[..count]);
                if let Some(answer) = answer(request, status, turns) {
                    self.stage = Stage::Answer(answer);
                }
                Ok(count > 0)
            }
            Stage::Answer(answer) => {
                let count = self.stream.write(answer)?;
                answer.drain(..count);
                if answer.is_empty() {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.stage = Stage::Lingering;
                }
                Ok(true)
            }
            Stage::Lingering => Ok(self.stream.read(&mut buffer)? > 0),
        }
    }
}

/// The answer to a request, or `None` if more of the request has to come. A body of the request is of no interest.
fn answer(request: &[u8], status: &Status<'_>, turns: &Turns) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let answer = match parsed.parse(request) {
        Ok(httparse::Status::Partial) if request.len() < MAX_REQUEST => return None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            Answer::short("431 Request Header Fields Too Large", "request too large\n")
        }
        Err(_) => Answer::short("400 Bad Request", "bad request\n"),
        Ok(httparse::Status::Complete(_)) => match parsed.method {
            Some("GET" | "HEAD") => resource(parsed.path.unwrap_or_default(), status, turns),
            _ => Answer::short("405 Method Not Allowed", "method not allowed\n"),
        },
    };
    let Answer { status, content_type, body } = answer;
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nAllow: GET, HEAD\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if parsed.method != Some("HEAD") {
        answer.push_str(&body);
    }
    Some(answer.into_bytes())
}

struct Answer {
    status: &'static str,
    content_type: &'static str,
    body: Cow<'static, str>,
}

impl Answer {
    fn short(status: &'static str, body: &'static str) -> Self {
        Self { status, content_type: "text/plain", body: body.into() }
    }
}

/// The answer for a path. While the server drains, 404 of `/readyz` means to HAProxy (`http-check disable-on-404`) and to
/// Kubernetes that it takes no new connections.
fn resource(target: &str, status: &Status<'_>, turns: &Turns) -> Answer {
    let path = target.split('?').next().unwrap_or_default();
    match path {
        "/readyz" if status.is_draining => Answer::short("404 Not Found", "draining\n"),
        "/livez" | "/readyz" => Answer::short("200 OK", "ok\n"),
        "/metrics" => Answer {
            status: "200 OK",
            content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
            body: turns.describe(&(status.count)()).into(),
        },
        _ => Answer::short("404 Not Found", "not found\n"),
    }
}
