//! The command lines of both programs, turned into what the library takes.

mod client;
mod server;

use std::time::Duration;

pub use client::ClientArgs;
pub use server::ServerArgs;

/// A duration that is not zero: zero would fail at once, or mean "for ever" to the system.
fn positive_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than zero".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Error, Parser};

    use super::*;

    /// Parses a command line, whatever the environment says.
    pub(super) fn parse<P: Parser>(words: &[&str]) -> Result<P, Error> {
        let command = P::command().mut_args(|option| option.env(None));
        P::from_arg_matches(&command.try_get_matches_from([&["program"], words].concat())?)
    }

    #[test]
    fn the_command_lines_are_sound() {
        ServerArgs::command().debug_assert();
        ClientArgs::command().debug_assert();
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
