//! A TCP echo daemon (RFC 862) that can be trusted with any message, its client, and a chat room.
//!
//! The programs `echo-server` and `echo-client` are thin: all they do is here, for programs that embed it.
//! [`Server`] listens and serves as a [`Config`] says; [`client`] connects, exchanges and checks.
//!
//! # The map
//!
//! Data flows one way, and a module knows only those further down:
//!
//! | module | what it does |
//! |---|---|
//! | [`cli`] | the command lines of both programs |
//! | [`server`] | the shell: poll, listeners, signals, clock; the only one that knows mio |
//! | [`transport`] | byte streams and listening sockets |
//! | [`hub`] | the core: the table of peers, turns, memory limits, timers; echoes or relays |
//! | [`room`] | the room: names, commands, what everyone is told |
//! | [`connection`] | one peer: its phase, its readiness, reading and writing |
//! | [`message`] | where messages end in a byte stream |
//! | [`outbox`] | bytes owed to one peer |
//! | [`feed`] | bytes owed to many peers, held once |
//! | [`console`] | log lines to standard output, without ever waiting for it |
//! | [`escape`] | untrusted bytes become one safe, readable line |
//! | [`client`] | the blocking client |
//! | [`config`], `limits`, [`error`] | settings and their defaults; what both programs say of errors |
//!
//! # What it guarantees
//!
//! * Every byte comes back, unchanged and in order, and nothing else, whatever its length or content, also
//!   to a client that half-closes, or that writes everything before it reads.
//! * No client can make another one wait for long, end the server, or make it hold more than
//!   [`Config::max_memory`] and 64 KiB for each connection, in a room what is said in one turn on top: see
//!   [`Hub::held`](hub::Hub::held).
//! * Nothing waits for standard output. A message's line is written, or dropped and counted, before its
//!   client sees the end of the connection.
//!
//! # How it works
//!
//! One thread, one edge-triggered poll. Events only set flags, and all work happens in one turn, in a fixed
//! order: *wait, note, serve, console, reap, accept*. [`server`] has the turn, [`hub`] what is done in it.

mod address;
pub mod cli;
pub mod client;
pub mod config;
pub mod connection;
pub mod console;
mod echo;
pub mod error;
pub mod escape;
pub mod event;
pub mod feed;
pub mod hub;
mod limits;
pub mod message;
pub mod outbox;
pub mod room;
pub mod server;
pub mod transport;

pub use config::Config;
pub use event::Event;
pub use server::Server;
