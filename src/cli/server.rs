//! The command line of `echo-server`.

use std::net::IpAddr;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Parser, ValueEnum};
use ipnet::IpNet;

use super::{duration, positive_duration};
use crate::config::{Config, DEFAULT_PORT, Log, LogFormat};
use crate::limits::default_max_memory;

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

    /// Hold at most so much for all clients together (every client may always hold 64 KiB) [default: 1GiB, or half
    /// of what the container or ulimit allows if that is less]
    #[arg(long, value_name = "SIZE", env = "ECHO_MAX_MEMORY", value_parser = size)]
    max_memory: Option<usize>,

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

    /// Chat: how far a member may be ahead of the slowest one with its own lines
    #[arg(long, value_name = "SIZE", env = "ECHO_MAX_AHEAD", default_value = "256KiB", value_parser = size)]
    max_ahead: usize,

    /// When stopping, go on sending what is owed for at most so long
    #[arg(long, value_name = "DURATION", env = "ECHO_GRACE", default_value = "1s", value_parser = duration)]
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
            max_memory: args.max_memory.unwrap_or_else(default_max_memory),
            max_connections: args.max_connections.unwrap_or(usize::MAX),
            max_per_ip: args.max_per_ip.unwrap_or(usize::MAX),
            allow: args.allow,
            deny: args.deny,
            idle_timeout: args.idle_timeout,
            stall_timeout: args.stall_timeout,
            chat: args.chat,
            max_line: args.max_line,
            max_ahead: args.max_ahead,
            grace: args.grace,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::parse;

    #[test]
    fn without_options_the_config_is_the_default() {
        assert_eq!(Config::from(parse::<ServerArgs>(&[]).expect("good usage")), Config::default());
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [("0", 0), ("100", 100), ("512k", 512 << 10), ("64MiB", 64 << 20), ("1g", 1 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert!(size("").is_err());
        assert!(size("many").is_err());
    }
}
