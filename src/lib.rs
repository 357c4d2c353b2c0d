//! A TCP echo daemon (RFC 862) that keeps every byte, a chat room, and a client for both.
//!
//! The programs `echo-server` and `echo-client` are thin: all they do is here, for programs that embed it. A [`Server`]
//! listens and serves as a [`Config`] says, and reports each [`Event`]; [`client`] connects, exchanges and checks.
//!
//! A server for the tests of another program, on a free port, with what it is sent:
//!
//! ```
//! use std::sync::mpsc;
//! use std::thread;
//!
//! use sockets::client::{Progress, Timeouts, connect, exchange};
//! use sockets::config::Log;
//! use sockets::{Config, Event, Server};
//!
//! let (sender, messages) = mpsc::channel();
//! let config = Config::with(|config| (config.port, config.log) = (0, Log::Off));
//! let server = Server::bind(&config)?.with_events(move |event| {
//!     if let Event::Message { text, .. } = event {
//!         sender.send(text.to_vec()).expect("the test is there");
//!     }
//! });
//! let (port, stopper) = (server.port(), server.stopper());
//! let serving = thread::spawn(move || server.run());
//!
//! let peer = connect("localhost", port, Timeouts::default())?;
//! let mut reply = Vec::new();
//! exchange(&b"Hello, world!"[..], peer, &mut reply, &Progress::default().into())?;
//! assert_eq!(reply, b"Hello, world!");
//! assert_eq!(messages.recv()?, b"Hello, world!");
//!
//! stopper.stop()?;
//! serving.join().expect("the server does not panic")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A health check, of a server that is not of this crate as well:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use sockets::client::{Error, Progress, Timeouts, check, connect};
//!
//! fn is_healthy(host: &str, port: u16) -> Result<(), Error> {
//!     let mut timeouts = Timeouts::default();
//!     timeouts.progress = Duration::from_secs(3);
//!     check(&b"still there?"[..], connect(host, port, timeouts)?, &Arc::new(Progress::default()))
//! }
//!
//! assert!(is_healthy("localhost", 1).is_err(), "nobody listens there");
//! ```
//!
//! # What it guarantees
//!
//! * Echo: every byte comes back, unchanged and in order, and nothing else, whatever its length or content, also
//!   to a client that half-closes, or that writes everything before it reads.
//! * Room: every member hears every line of the others, whole, once and in one order. A member that talks like a person
//!   is heard at once, whatever the other members do.
//! * No client can make another one wait for long, end the server, or make it hold more than
//!   [`Config::max_memory`] and 64 KiB for each connection; in a room, the lines of one turn come on top.
//! * Nothing waits for standard output. A message's line is written, or dropped and counted, before its
//!   client sees the end of the connection.
//!
//! # How it works
//!
//! One thread, one edge-triggered poll. Other threads do only what may block: one looks up the name of a Redis that cannot
//! be reached and loads the files for TLS with it, one reads the files of the server's certificate. Events only set flags,
//! and all work happens in one turn, in a fixed order: *wait, note, serve, console, reap, accept*. Data flows one way, and a
//! module knows only those further down:
//!
//! | module | what it does |
//! |---|---|
//! | `cli` | the command lines of both programs |
//! | `client` | the blocking client |
//! | `server` | the shell: poll, signals, clock, who may connect, health checks, metrics |
//! | `hub` | the core: the table of peers, turns, memory, timers; knows no sockets and no clock |
//! | `echo`, `room` | the two services: what becomes of what peers send |
//! | `hub::peers` | what a service sees of the core |
//! | `connection` | one peer: its phase, its readiness, reading and writing |
//! | `outbox`, `feed` | bytes queued for one peer, and for many |
//! | `shared_log` | the protocol of servers that share a room: what goes to Redis and back; knows no sockets either |
//! | `names` | which names of members are well-formed, and which count as the same |
//! | `message` | where messages end in a byte stream |
//! | `transport` | byte streams and listening sockets |
//! | `address` | who a client is, and which clients share a quota |
//! | `tls` | certificates and keys |
//! | `console` | the log on standard output |
//! | `escape` | untrusted bytes become one safe, readable line |

mod address;
#[doc(hidden)]
pub mod cli;
pub mod client;
pub mod config;
#[doc(hidden)]
pub mod connection;
mod console;
mod echo;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod escape;
mod event;
#[doc(hidden)]
pub mod feed;
#[doc(hidden)]
pub mod hub;
mod limits;
#[doc(hidden)]
pub mod message;
mod names;
#[doc(hidden)]
pub mod outbox;
#[doc(hidden)]
pub mod room;
pub mod server;
#[doc(hidden)]
pub mod shared_log;
#[doc(hidden)]
pub mod tls;
#[doc(hidden)]
pub mod transport;

pub use address::PeerAddress;
pub use config::Config;
pub use connection::Close;
pub use event::{Event, RedisState, Refusal};
pub use room::Notice;
pub use server::Server;
