//! The command lines of both programs, turned into what the library takes.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Parser, ValueEnum};
use ipnet::IpNet;

use crate::config::{Config, DEFAULT_PORT, Log, LogFormat};

/// The command line of `echo-server`.
///
/// Returns a [`Parser`], so `ServerArgs::parse()` prints help and usage errors itself and ends the program
/// with status 2 where the usage is wrong.
#[derive(Debug, Parser)]
#[command(
    name = "echo-server",
    version,
    about = "TCP echo daemon (RFC 862): every byte comes back, unchanged and in order",
    after_help = "Every option can also be set by the environment variable shown beside it.\n\
                  Sizes are written 64MiB, 512k or 1g (k, m, g count in 1024s), durations 500ms, 1s or 2m."
)]
pub struct ServerArgs {
    /// Address or name to listen on; repeatable (0.0.0.0 and :: stand for all) [default: 127.0.0.1 and ::1]
    #[arg(short, long, value_name = "ADDR", env = "ECHO_BIND", value_delimiter = ',')]
    bind: Vec<String>,

    /// TCP port; with 0 the system picks one
    #[arg(short, long, value_name = "N", env = "ECHO_PORT", default_value_t = DEFAULT_PORT)]
    port: u16,

    /// Print no line per message (stronger than --verbose)
    #[arg(short, long, env = "ECHO_QUIET", value_parser = FalseyValueParser::new())]
    quiet: bool,

    /// Print a line when a connection opens or closes too
    #[arg(short, long, env = "ECHO_VERBOSE", value_parser = FalseyValueParser::new())]
    verbose: bool,

    /// How to print: for people, or one JSON object a line
    #[arg(long, value_name = "FORMAT", env = "ECHO_LOG_FORMAT", value_enum, default_value_t = Format::Text)]
    log_format: Format,

    /// Show at most so many bytes of a message in its line
    #[arg(long, value_name = "SIZE", env = "ECHO_LOG_MAX", default_value = "128KiB", value_parser = size)]
    log_max: usize,

    /// Hold at most so much for one client that does not read its echo, then stop reading from it
    #[arg(long, value_name = "SIZE", env = "ECHO_MAX_PENDING", default_value = "64MiB", value_parser = size)]
    max_pending: usize,

    /// Hold at most so much for all clients together (every client may always hold 64 KiB)
    #[arg(long, value_name = "SIZE", env = "ECHO_MAX_MEMORY", default_value = "1GiB", value_parser = size)]
    max_memory: usize,

    /// Serve at most so many clients at once [default: the descriptor limit less 16]
    #[arg(long, value_name = "N", env = "ECHO_MAX_CONNECTIONS", value_parser = at_least_one)]
    max_connections: Option<usize>,

    /// Serve at most so many clients of one address, or IPv6 /64; further ones are closed on arrival
    #[arg(long, value_name = "N", env = "ECHO_MAX_PER_IP", value_parser = at_least_one)]
    max_per_ip: Option<usize>,

    /// Let only these addresses connect; repeatable, the more specific rule wins
    #[arg(long, value_name = "CIDR", env = "ECHO_ALLOW", value_delimiter = ',', value_parser = network)]
    allow: Vec<IpNet>,

    /// Let these addresses not connect; repeatable, wins a tie
    #[arg(long, value_name = "CIDR", env = "ECHO_DENY", value_delimiter = ',', value_parser = network)]
    deny: Vec<IpNet>,

    /// Close a connection on which no byte has gone in either direction for so long [default: never]
    #[arg(long, value_name = "DURATION", env = "ECHO_IDLE_TIMEOUT", value_parser = positive_duration)]
    idle_timeout: Option<Duration>,

    /// Close a client that takes nothing of what it is owed for so long [default: never, in a room after 10s]
    #[arg(long, value_name = "DURATION", env = "ECHO_STALL_TIMEOUT", value_parser = positive_duration)]
    stall_timeout: Option<Duration>,

    /// Open a room: what one client says reaches all the others
    #[arg(long, env = "ECHO_CHAT", value_parser = FalseyValueParser::new())]
    chat: bool,

    /// Chat: skip lines that are longer
    #[arg(long, value_name = "SIZE", env = "ECHO_MAX_LINE", default_value = "64KiB", value_parser = size)]
    max_line: usize,

    /// Chat: stop listening while a client is owed more than this
    #[arg(long, value_name = "SIZE", env = "ECHO_MAX_QUEUE", default_value = "1MiB", value_parser = size)]
    max_queue: usize,

    /// When stopping, go on sending what is owed for at most so long
    #[arg(long, value_name = "DURATION", env = "ECHO_GRACE", default_value = "1s", value_parser = humantime::parse_duration)]
    grace: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl From<ServerArgs> for Config {
    fn from(args: ServerArgs) -> Self {
        Self {
            bind: args.bind,
            port: args.port,
            log: match (args.quiet, args.verbose) {
                (true, _) => Log::Quiet,
                (_, true) => Log::Verbose,
                _ => Log::Messages,
            },
            log_format: match args.log_format {
                Format::Text => LogFormat::Text,
                Format::Json => LogFormat::Json,
            },
            log_max: args.log_max,
            max_pending: args.max_pending,
            max_memory: args.max_memory,
            max_connections: args.max_connections.unwrap_or(usize::MAX),
            max_per_ip: args.max_per_ip.unwrap_or(usize::MAX),
            allow: args.allow,
            deny: args.deny,
            idle_timeout: args.idle_timeout,
            stall_timeout: args.stall_timeout,
            chat: args.chat,
            max_line: args.max_line,
            max_queue: args.max_queue,
            grace: args.grace,
        }
    }
}

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

/// A size in bytes: `64MiB`, `512k`, `1g`. A prefix without `i` counts in 1024s too.
fn size(text: &str) -> Result<usize, String> {
    let bytes = parse_size::Config::new().with_binary().parse_size(text).map_err(|error| error.to_string())?;
    usize::try_from(bytes).map_err(|_| "more than this machine can address".to_owned())
}

/// A network in CIDR notation (RFC 4632), or a single address.
fn network(text: &str) -> Result<IpNet, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => text.parse().map_err(|_| "not an address or network, such as 10.0.0.0/8 or ::1".to_owned()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

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
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_lines_are_sound() {
        ServerArgs::command().debug_assert();
        ClientArgs::command().debug_assert();
    }

    #[test]
    fn without_options_the_config_is_the_default() {
        assert_eq!(Config::from(ServerArgs::parse_from(["echo-server"])), Config::default());
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

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [("0", 0), ("100", 100), ("512k", 512 << 10), ("64MiB", 64 << 20), ("1g", 1 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert!(size("").is_err());
        assert!(size("many").is_err());
    }

    #[test]
    fn words_become_one_message() {
        let message = |words: &[&str]| ClientArgs::parse_from([&["echo-client"], words].concat()).message();
        assert_eq!(message(&[]), None);
        assert_eq!(message(&["-"]), None);
        assert_eq!(message(&["Hello,", "world!"]), Some(b"Hello, world!".to_vec()));
        assert_eq!(message(&["-", "-"]), Some(b"- -".to_vec()));
        assert_eq!(message(&[""]), Some(Vec::new()));
    }

    #[test]
    fn a_name_is_sent_first_and_cannot_be_more_than_a_name() {
        let opening = |words: &[&str]| ClientArgs::parse_from([&["echo-client"], words].concat()).opening();
        assert_eq!(opening(&[]), b"");
        assert_eq!(opening(&["-n", "نام"]), "/name نام\n".as_bytes());
        for name in ["", "a\n/quit", "\u{85}"] {
            assert!(ClientArgs::try_parse_from(["echo-client", "--name", name]).is_err(), "{name:?}");
        }
    }

    #[test]
    fn only_without_any_message_there_can_be_a_session() {
        let is_open_ended = |words: &[&str]| ClientArgs::parse_from([&["echo-client"], words].concat()).is_open_ended();
        assert!(is_open_ended(&[]));
        assert!(is_open_ended(&["--name", "ann"]));
        for words in [["-"], ["hello"], ["--check"]] {
            assert!(!is_open_ended(&words));
        }
    }
}
