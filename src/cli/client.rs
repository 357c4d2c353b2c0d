//! The command line of `echo-client`.

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::Ipv6Addr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Command, CommandFactory, FromArgMatches, Parser};
use rustls::pki_types::ServerName;

use super::positive_duration;
use super::print::{self, Request, Text, with_print};
use crate::client::{Input, Options, Timeouts, Tls, Trust};
use crate::config::DEFAULT_PORT;
use crate::names::is_well_formed;
use crate::transport::listener::UNIX_PREFIX;

/// `--help`, after the options.
const MORE_HELP: &str = "\
Examples:
  echo-client 'Hello, world!'                     send a line and print the reply
  echo-client <video.mp4 | cmp - video.mp4        send a stream
  echo-client --check --deadline 3s healthy?      a health check
  echo-client -H example.org:7 -n ann             talk in a room
  tail -f build.log | echo-client --name builder  post to a room

In a session, on a terminal without a message:
  Enter         send the input              Ctrl-D        end after the last answers
  Alt-Enter     begin another line          Ctrl-C        clear the input, or end
  Up, Down      earlier input               Ctrl-L        clear the screen
  Ctrl-R        search earlier input        Ctrl-Z        suspend
  Ctrl-W, -U    delete a word, the line     Ctrl-_        undo
  Ctrl-A, -E    start, end of the line      Tab           complete a command or name

In a room:
  /name NEW     take another name           /msg NAME TEXT  say it to one member
  /who          list who is here            /me ACTION      say what you do
  /help         list the commands           /quit           leave
  //text        say /text

Durations have a unit: 500ms, 5s, 2m, 1h 30m.

Every option can be set by an environment variable:
--connect-timeout by ECHO_CONNECT_TIMEOUT, and so on.

Exit status: 0 done; 1 failed: not connected, not delivered, or the reply is not
complete; 2 wrong usage; 130 after Ctrl-C.";

/// Turns the command line of `echo-client`, which starts with the name of the program, into what it asks for.
///
/// # Errors
///
/// Wrong usage, or a request for help or the version. [`clap::Error::exit`] prints it and ends the program, with
/// status 2 for wrong usage.
pub fn client_request(arguments: impl IntoIterator<Item = OsString>) -> Result<Request<Options>, clap::Error> {
    parse(command(), arguments)
}

/// The command line.
pub(super) fn command() -> Command {
    let texts = &[Text::Man, Text::Bash, Text::Zsh, Text::Fish, Text::Changelog];
    with_print(ClientArgs::command().mut_args(|argument| argument.hide_env(true)), texts)
}

fn parse(mut command: Command, arguments: impl IntoIterator<Item = OsString>) -> Result<Request<Options>, clap::Error> {
    let matches = match print::parse(&mut command, arguments)? {
        Request::Run(matches) => matches,
        Request::Print(printout) => return Ok(Request::Print(printout)),
    };
    let mut args = ClientArgs::from_arg_matches(&matches)?;
    let is_given = |option| matches.value_source(option) == Some(ValueSource::CommandLine);
    if is_given("port") {
        let reason = match args.host.port {
            _ if args.host.is_unix() => Some("a Unix socket has no port"),
            Some(_) if is_given("host") => Some("the port is given twice: in --host and with --port"),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(command.error(ErrorKind::ArgumentConflict, reason));
        }
        args.host.port = None;
    }
    Ok(Request::Run(args.into()))
}

#[derive(Debug, Parser)]
#[command(
    name = "echo-client",
    version,
    about = "Send a message, or standard input, to an echo server, or talk in a session",
    after_long_help = MORE_HELP
)]
pub(super) struct ClientArgs {
    /// Words to send, joined by one space. Without any, or with -, standard input is sent
    #[arg(value_name = "MESSAGE", hide_short_help = true)]
    words: Vec<OsString>,

    #[expect(
        rustdoc::broken_intra_doc_links,
        reason = "the brackets belong to an address, and this is the help's text"
    )]
    /// Server to connect to
    ///
    /// A name, of which every address is tried, or an address: example.org, 192.0.2.1, ::1 or fe80::1%eth0. A port
    /// may follow, then IPv6 addresses need brackets: example.org:7, [::1]:7. Or the path of a Unix socket:
    /// unix:/run/echo.sock.
    #[arg(short = 'H', long, env = "ECHO_HOST", default_value = "localhost", help_heading = "Connection")]
    host: Host,

    /// TCP port of the server
    #[arg(short, long, value_name = "N", env = "ECHO_PORT", default_value_t = DEFAULT_PORT, help_heading = "Connection")]
    port: u16,

    /// Longest wait for each address
    #[arg(
        long,
        value_name = "DURATION",
        env = "ECHO_CONNECT_TIMEOUT",
        default_value = "5s",
        value_parser = positive_duration,
        help_heading = "Connection"
    )]
    connect_timeout: Duration,

    /// Longest wait for the server
    ///
    /// Fail if the server neither takes nor sends anything for DURATION while the client waits for it.
    #[arg(
        long,
        value_name = "DURATION",
        env = "ECHO_TIMEOUT",
        default_value = "30s",
        value_parser = positive_duration,
        help_heading = "Connection"
    )]
    timeout: Duration,

    /// Longest time for everything
    ///
    /// Fail if not everything, from the name resolution to the end of the reply, is done within DURATION. In a
    /// session, only connecting is limited.
    #[arg(
        long,
        value_name = "DURATION",
        env = "ECHO_DEADLINE",
        value_parser = positive_duration,
        help_heading = "Connection"
    )]
    deadline: Option<Duration>,

    /// Speak TLS with the server
    ///
    /// The connection is encrypted, and the server has to prove that it is the one named by --host.
    #[arg(long, env = "ECHO_TLS", value_parser = FalseyValueParser::new(), help_heading = "Connection")]
    tls: bool,

    /// Accept certificates of these authorities only
    ///
    /// A file in PEM. Without it, the authorities of the system are accepted.
    #[arg(
        long,
        value_name = "FILE",
        env = "ECHO_CACERT",
        requires = "tls",
        hide_short_help = true,
        help_heading = "TLS"
    )]
    cacert: Option<PathBuf>,

    /// Own certificate, for servers that ask for one
    ///
    /// A file in PEM, with the certificates behind it that lead to its authority.
    #[arg(long, value_name = "FILE", env = "ECHO_CERT", requires_all = ["tls", "key"], hide_short_help = true, help_heading = "TLS")]
    cert: Option<PathBuf>,

    /// Private key of that certificate
    ///
    /// A file in PEM, not encrypted.
    #[arg(long, value_name = "FILE", env = "ECHO_KEY", requires_all = ["tls", "cert"], hide_short_help = true, help_heading = "TLS")]
    key: Option<PathBuf>,

    /// Name that the server's certificate must have
    ///
    /// The server is asked for it as well. Without it, this is the name of the host.
    #[arg(
        long,
        value_name = "NAME",
        env = "ECHO_SERVER_NAME",
        value_parser = server_name,
        requires = "tls",
        hide_short_help = true,
        help_heading = "TLS"
    )]
    server_name: Option<String>,

    /// Accept any certificate of the server
    ///
    /// Anyone between the client and the server can then read and change everything.
    #[arg(
        long, env = "ECHO_INSECURE", value_parser = FalseyValueParser::new(), requires = "tls",
        conflicts_with_all = ["cacert", "pin"], hide_short_help = true, help_heading = "TLS"
    )]
    insecure: bool,

    /// Accept only the certificate with this SHA-256
    ///
    /// 64 hex digits, as echo-server --tls-self-signed prints them; colons may be between them. Nothing else is checked.
    #[arg(
        long, value_name = "SHA256", env = "ECHO_PIN", value_parser = sha256, requires = "tls",
        conflicts_with = "cacert", hide_short_help = true, help_heading = "TLS"
    )]
    pin: Option<[u8; 32]>,

    /// Name to take in a room
    ///
    /// 1 to 32 letters, digits, - or _ of any script. It is asked for after the greeting of a room, for which the
    /// client waits at most a second. A check takes no name.
    #[arg(short, long, env = "ECHO_NAME", value_parser = name, help_heading = "Messages")]
    name: Option<String>,

    /// Compare the reply instead of printing it
    ///
    /// Print nothing, and fail unless the reply is the message, byte for byte.
    #[arg(long, env = "ECHO_CHECK", value_parser = FalseyValueParser::new(), help_heading = "Messages")]
    check: bool,

    /// Print control characters unescaped
    ///
    /// On a terminal, the control characters of the reply are escaped without this.
    #[arg(long, env = "ECHO_RAW", value_parser = FalseyValueParser::new(), help_heading = "Messages")]
    raw: bool,

    /// Do not ring when your name is said
    ///
    /// In a session, the terminal's bell rings when somebody says your name or tells you something in private.
    #[arg(
        long, env = "ECHO_NO_BELL", value_parser = FalseyValueParser::new(), hide_short_help = true,
        help_heading = "Messages"
    )]
    no_bell: bool,

    /// Show the time of each line
    ///
    /// In a session, each line begins with the time, and a line tells when a day begins.
    #[arg(long, env = "ECHO_TIME", value_parser = FalseyValueParser::new(), help_heading = "Messages")]
    time: bool,

    /// Connect again when the server goes
    ///
    /// In a session, keep what is being typed, try until the server is back, and take the name again.
    #[arg(long, env = "ECHO_RECONNECT", value_parser = FalseyValueParser::new(), help_heading = "Messages")]
    reconnect: bool,
}

impl From<ClientArgs> for Options {
    fn from(args: ClientArgs) -> Self {
        Self {
            input: args.input(),
            tls: args.tls(),
            host: args.host.name,
            port: args.host.port.unwrap_or(args.port),
            name: args.name,
            check: args.check,
            raw: args.raw,
            bell: !args.no_bell,
            time: args.time,
            reconnect: args.reconnect,
            timeouts: Timeouts { connect: args.connect_timeout, progress: args.timeout, total: args.deadline },
        }
    }
}

impl ClientArgs {
    fn tls(&self) -> Option<Tls> {
        self.tls.then(|| {
            let trust = match (self.pin, &self.cacert) {
                (Some(pin), _) => Trust::Pin(pin),
                _ if self.insecure => Trust::Anything,
                (None, Some(file)) => Trust::Authorities(file.clone()),
                (None, None) => Trust::System,
            };
            let identity = self.cert.clone().zip(self.key.clone());
            Tls { trust, identity, server_name: self.server_name.clone() }
        })
    }

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

/// A SHA-256 in hex digits, with or without colons between them.
fn sha256(text: &str) -> Result<[u8; 32], String> {
    let parts: Vec<&[u8]> = if text.contains(':') {
        text.split(':').map(str::as_bytes).collect()
    } else {
        text.as_bytes().chunks(2).collect()
    };
    let digit = |letter: u8| char::from(letter).to_digit(16);
    let byte = |part: &[u8]| match *part {
        [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = parts.into_iter().map(byte).collect();
    let digest = bytes.and_then(|bytes| bytes.try_into().ok());
    digest.ok_or_else(|| "not a SHA-256, which has 64 hex digits".to_owned())
}

/// A name or an address that a certificate can have.
fn server_name(text: &str) -> Result<String, String> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("not a host name or an address".to_owned()),
    }
}

/// A host name or address, and the port that may follow it; or a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    name: String,
    port: Option<u16>,
}

impl Host {
    fn is_unix(&self) -> bool {
        self.name.starts_with(UNIX_PREFIX)
    }
}

impl FromStr for Host {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with(UNIX_PREFIX) {
            return Ok(Self { name: text.to_owned(), port: None });
        }
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or("the closing bracket is missing")?;
                if !is_ipv6(address) {
                    return Err("there is no IPv6 address in the brackets");
                }
                let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').unwrap_or("")) };
                (address, port)
            }
            None if is_ipv6(text) => (text, None),
            None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
        };
        if name.is_empty() {
            return Err("the name of the host is empty");
        }
        let port =
            port.map(str::parse).transpose().map_err(|_| "after the host, only a colon and a port can follow")?;
        Ok(Self { name: name.to_owned(), port })
    }
}

/// Whether `text` is an IPv6 address, which may have a scope id as in `fe80::1%eth0`.
fn is_ipv6(text: &str) -> bool {
    let (address, scope) = text.split_once('%').unwrap_or((text, "0"));
    address.parse::<Ipv6Addr>().is_ok() && !scope.is_empty()
}

fn name(text: &str) -> Result<String, &'static str> {
    match is_well_formed(text) {
        true => Ok(text.to_owned()),
        false => Err("a name has 1 to 32 letters, digits, - or _"),
    }
}
