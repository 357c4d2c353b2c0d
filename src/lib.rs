//! A TCP echo daemon (RFC 862) and its client.

pub mod cli;
pub mod config;
pub mod escape;

pub use config::Config;
