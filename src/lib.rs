//! A TCP echo daemon (RFC 862) and its client.

pub mod chat;
pub mod cli;
pub mod config;
pub mod connection;
pub mod console;
pub mod error;
pub mod escape;
pub mod feed;
pub mod hub;
pub mod listen;
pub mod message;
pub mod outbox;
pub mod server;

pub use config::Config;
pub use server::Server;
