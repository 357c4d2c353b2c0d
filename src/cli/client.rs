//! The command line of `echo-client`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::Parser;
use clap::builder::FalseyValueParser;

use super::positive_duration;
use crate::client::{Input, Options, Timeouts};
use crate::config::DEFAULT_PORT;

/// The command line of `echo-client`.
#[derive(Debug, Parser)]
#[command(
    name = "echo-client",
    version,
    about = "Sends a message to an echo server and prints what comes back, or talks to a room",
    after_help = "Without a message on a terminal it is a session: type lines, Ctrl-D ends it.\n\
                  Exit status: 0 done; 1 failed (refused, timed out, reset, or the reply ended too early);\n\
                  2 wrong usage; 130 after Ctrl-C."
)]
pub struct ClientArgs {
    /// The message: words are joined by one space. Without one, or with -, standard input is sent
    #[arg(value_name = "MESSAGE")]
    words: Vec<OsString>,

    /// Host to connect to; every address of a name is tried
    #[arg(short = 'H', long, env = "ECHO_HOST", default_value = "localhost")]
    host: String,

    /// TCP port of the server
    #[arg(short, long, value_name = "N", env = "ECHO_PORT", default_value_t = DEFAULT_PORT)]
    port: u16,

    /// Take this name on joining a room (a check, which needs an echo, takes none)
    #[arg(short, long, env = "ECHO_NAME", value_parser = one_line)]
    name: Option<String>,

    /// Print nothing; succeed only if the reply is the message, byte for byte
    #[arg(long, env = "ECHO_CHECK", value_parser = FalseyValueParser::new())]
    check: bool,

    /// Print control characters of the reply to a terminal as they are
    #[arg(long, env = "ECHO_RAW", value_parser = FalseyValueParser::new())]
    raw: bool,

    /// Give up on an address that does not answer for so long
    #[arg(long, value_name = "DURATION", env = "ECHO_CONNECT_TIMEOUT", default_value = "5s", value_parser = positive_duration)]
    connect_timeout: Duration,

    /// Give up when the server neither takes nor sends anything for so long
    #[arg(long, value_name = "DURATION", env = "ECHO_TIMEOUT", default_value = "30s", value_parser = positive_duration)]
    timeout: Duration,

    /// Fail if all is not done within DURATION (for a session: if it is not connected)
    #[arg(long, value_name = "DURATION", env = "ECHO_DEADLINE", value_parser = positive_duration)]
    deadline: Option<Duration>,
}

impl From<ClientArgs> for Options {
    fn from(args: ClientArgs) -> Self {
        Self {
            input: args.input(),
            host: args.host,
            port: args.port,
            name: args.name,
            check: args.check,
            raw: args.raw,
            timeouts: Timeouts { connect: args.connect_timeout, progress: args.timeout, total: args.deadline },
        }
    }
}

impl ClientArgs {
    /// The words joined by one space, as echo(1) does; bytes that are not UTF-8 are kept. Standard input without
    /// words or with a single `-`.
    fn input(&self) -> Input {
        let words: Vec<&[u8]> = self.words.iter().map(|word| word.as_bytes()).collect();
        match words[..] {
            [] if !self.check => Input::Terminal,
            [] | [b"-"] => Input::Stdin,
            _ => Input::Message(words.join(&b' ')),
        }
    }
}

/// A text that cannot be taken for several lines. (Whether it is a good name is for the room to say.)
fn one_line(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must not be empty".to_owned()),
        _ if text.contains(char::is_control) => Err("must be one line without control characters".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Options {
        ClientArgs::parse_from([&["echo-client"], words].concat()).into()
    }

    #[test]
    fn without_arguments_the_options_are_the_defaults() {
        assert_eq!(options(&[]), Options::default());
    }

    #[test]
    fn words_become_one_message() {
        let message = |text: &str| Input::Message(text.into());
        assert_eq!(options(&["Hello,", "world!"]).input, message("Hello, world!"));
        assert_eq!(options(&["-", "-"]).input, message("- -"));
        assert_eq!(options(&[""]).input, message(""));
    }

    #[test]
    fn only_without_a_message_and_a_check_there_can_be_a_session() {
        assert_eq!(options(&["--name", "ann"]).input, Input::Terminal);
        assert_eq!(options(&["-"]).input, Input::Stdin);
        assert_eq!(options(&["--check"]).input, Input::Stdin);
    }

    #[test]
    fn a_name_cannot_be_more_than_a_name() {
        assert_eq!(options(&["-n", "نام"]).name.as_deref(), Some("نام"));
        for name in ["", "a\n/quit", "\u{85}"] {
            assert!(ClientArgs::try_parse_from(["echo-client", "--name", name]).is_err(), "{name:?}");
        }
    }
}
