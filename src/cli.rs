//! The command lines of both programs, turned into what the library takes.

mod client;
mod print;
mod server;

use std::time::Duration;

pub use client::client_request;
pub use print::{Printout, Request};
pub use server::{ServerOptions, server_request};

/// A duration with its unit: `500ms`, `5s`, `1h 30m`.
fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Err(_) if text.parse::<f64>().is_ok() => Err(format!("{text} what? for example {text}s")),
        outcome => outcome.map_err(|error| error.to_string()),
    }
}

/// A duration that is not zero: zero would fail at once, or mean "for ever" to the system.
fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Error, Parser};

    use super::client::ClientArgs;
    use super::server::ServerArgs;
    use super::*;

    /// Parses a command line, whatever the environment says.
    pub(super) fn parse<P: Parser>(words: &[&str]) -> Result<P, Error> {
        let command = P::command().mut_args(|option| option.env(None));
        P::from_arg_matches(&command.try_get_matches_from([&["program"], words].concat())?)
    }

    #[test]
    fn the_command_lines_are_sound() {
        server::command().debug_assert();
        client::command().debug_assert();
    }

    #[test]
    fn a_duration_needs_a_unit() {
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("5"), Err("5 what? for example 5s".to_owned()));
        assert_eq!(positive_duration("5"), Err("5 what? for example 5s".to_owned()));
        assert!(positive_duration("0s").is_err() && duration("0s").is_ok() && duration("soon").is_err());
    }

    #[test]
    fn every_option_has_a_variable_of_its_name() {
        for command in [ServerArgs::command(), ClientArgs::command()] {
            for option in command.get_opts() {
                let name = option.get_long().expect("every option has a long name");
                let variable = format!("ECHO_{}", name.replace('-', "_").to_uppercase());
                assert_eq!(option.get_env().and_then(|name| name.to_str()), Some(&*variable));
            }
        }
    }
}
