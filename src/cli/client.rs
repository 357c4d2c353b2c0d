//! The command line of `echo-client`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::Parser;
use clap::builder::FalseyValueParser;

use super::positive_duration;
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
    pub host: String,

    /// TCP port of the server
    #[arg(short, long, value_name = "N", env = "ECHO_PORT", default_value_t = DEFAULT_PORT)]
    pub port: u16,

    /// Take this name on joining a room (a check, which needs an echo, takes none)
    #[arg(short, long, env = "ECHO_NAME", value_parser = one_line)]
    pub name: Option<String>,

    /// Print nothing; succeed only if the reply is the message, byte for byte
    #[arg(long, env = "ECHO_CHECK", value_parser = FalseyValueParser::new())]
    pub check: bool,

    /// Print control characters of the reply to a terminal as they are
    #[arg(long, env = "ECHO_RAW", value_parser = FalseyValueParser::new())]
    pub raw: bool,

    /// Give up on an address that does not answer for so long
    #[arg(long, value_name = "DURATION", env = "ECHO_CONNECT_TIMEOUT", default_value = "5s", value_parser = positive_duration)]
    pub connect_timeout: Duration,

    /// Give up when the server neither takes nor sends anything for so long
    #[arg(long, value_name = "DURATION", env = "ECHO_TIMEOUT", default_value = "30s", value_parser = positive_duration)]
    pub timeout: Duration,
}

impl ClientArgs {
    /// The message of the command line, its words joined by one space as echo(1) does; bytes that are no
    /// UTF-8 are kept. `None` where standard input is to be sent: no word, or a single `-`.
    pub fn message(&self) -> Option<Vec<u8>> {
        let words: Vec<&[u8]> = self.words.iter().map(|word| word.as_bytes()).collect();
        match words[..] {
            [] | [b"-"] => None,
            _ => Some(words.join(&b' ')),
        }
    }

    /// Whether nothing says what is to be sent, so that on a terminal it can be a session. (With `-`, standard input
    /// is sent as it is even from a terminal.)
    pub fn is_open_ended(&self) -> bool {
        self.words.is_empty() && !self.check
    }

    /// What is sent before anything else: the wish for a name, or nothing.
    pub fn opening(&self) -> Vec<u8> {
        self.name.iter().flat_map(|name| format!("/name {name}\n").into_bytes()).collect()
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
    use crate::cli::tests::parse;

    #[test]
    fn words_become_one_message() {
        let message = |words: &[&str]| parse::<ClientArgs>(words).expect("good usage").message();
        assert_eq!(message(&[]), None);
        assert_eq!(message(&["-"]), None);
        assert_eq!(message(&["Hello,", "world!"]), Some(b"Hello, world!".to_vec()));
        assert_eq!(message(&["-", "-"]), Some(b"- -".to_vec()));
        assert_eq!(message(&[""]), Some(Vec::new()));
    }

    #[test]
    fn a_name_is_sent_first_and_cannot_be_more_than_a_name() {
        let opening = |words: &[&str]| parse::<ClientArgs>(words).expect("good usage").opening();
        assert_eq!(opening(&[]), b"");
        assert_eq!(opening(&["-n", "نام"]), "/name نام\n".as_bytes());
        for name in ["", "a\n/quit", "\u{85}"] {
            assert!(parse::<ClientArgs>(&["--name", name]).is_err(), "{name:?}");
        }
    }

    #[test]
    fn only_without_any_message_there_can_be_a_session() {
        let is_open_ended = |words: &[&str]| parse::<ClientArgs>(words).expect("good usage").is_open_ended();
        assert!(is_open_ended(&[]));
        assert!(is_open_ended(&["--name", "ann"]));
        for words in [["-"], ["hello"], ["--check"]] {
            assert!(!is_open_ended(&words));
        }
    }
}
