//! The command line of `echo-server`.

#[cfg(test)]
mod tests;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgGroup, Command, CommandFactory, FromArgMatches, Parser, ValueEnum};
use ipnet::IpNet;

use super::print::{self, Request, Text, with_print};
use super::{duration, positive_duration};
use crate::config::{Config, DEFAULT_PORT, Log, LogFormat, MAX_SHARED_LINE, ProxyFrom, RedisUrl, Tls};
use crate::limits::default_max_memory;
use values::{admin_address, at_least_one, network, proxy_from, room, size};

/// What the command line of `echo-server` says.
#[derive(Debug)]
pub struct ServerOptions {
    /// The settings of the server.
    pub config: Config,
    /// Whether it says where to listen, instead of leaving that to the defaults.
    pub names_sockets: bool,
}

/// Turns the command line of `echo-server`, which starts with the name of the program, into what it asks for.
///
/// # Errors
///
/// Wrong usage, or a request for help or the version. [`clap::Error::exit`] prints it and ends the program, with
/// status 2 for wrong usage.
pub fn server_request(arguments: impl IntoIterator<Item = OsString>) -> Result<Request<ServerOptions>, clap::Error> {
    let mut command = command();
    let parsed = print::parse(&mut command, arguments);
    let matches = match parsed.map_err(|error| without_password(error, &mut command))? {
        Request::Run(matches) => matches,
        Request::Print(printout) => return Ok(Request::Print(printout)),
    };
    let is_given = |option| !matches!(matches.value_source(option), None | Some(ValueSource::DefaultValue));
    let names_sockets = is_given("bind") || is_given("port");
    let config = ServerArgs::from_arg_matches(&matches)?.into_config();
    let config = config.map_err(|(kind, message)| command.error(kind, message))?;
    Ok(Request::Run(ServerOptions { config, names_sockets }))
}

/// Wrong usage repeats the argument that is wrong, but a URL of Redis may have a password.
fn without_password(error: clap::Error, command: &mut Command) -> clap::Error {
    let text = error.to_string();
    if error.use_stderr() && ["redis://", "rediss://"].iter().any(|scheme| text.contains(scheme)) {
        return command.error(error.kind(), "a URL of Redis is not the value of --redis");
    }
    error
}

/// The command line.
pub(super) fn command() -> Command {
    with_print(ServerArgs::command().mut_args(|argument| argument.hide_env(true)), Text::value_variants())
}

#[derive(Debug, Parser)]
#[command(
    name = "echo-server",
    version,
    next_help_heading = "Listening",
    group = ArgGroup::new("tls").args(["tls_cert", "tls_self_signed"]),
    about = "TCP echo daemon (RFC 862): every byte comes back, unchanged and in order",
    after_help = "Environment variables set options as well: ECHO_LOG_MAX is --log-max, and so on.\n\
                  Sizes are written 64MiB, 512k or 1g (k, m, g count in 1024s), durations 500ms, 1s or 2m."
)]
pub(super) struct ServerArgs {
    /// Address, name or unix:PATH to listen on [default: 127.0.0.1 and ::1]
    ///
    /// Repeatable. 0.0.0.0 and :: stand for all addresses, a name for all its addresses. unix:/run/echo.sock is a Unix
    /// socket, whose mode the umask decides, unix:@echo one with an abstract name. The rules for addresses are not
    /// about clients of Unix sockets. Sockets inherited from systemd (LISTEN_FDS) replace these.
    #[arg(short, long, value_name = "ADDR", env = "ECHO_BIND", value_delimiter = ',')]
    bind: Vec<String>,

    /// TCP port; with 0 the system picks a free one
    #[arg(short, long, value_name = "N", env = "ECHO_PORT", default_value_t = DEFAULT_PORT)]
    port: u16,

    /// Share the port with other processes that do
    ///
    /// The system spreads new connections over them (SO_REUSEPORT). Start one for each core. When one of them stops, the
    /// connections in its queue may be lost; inherited sockets, as from systemd, do not have this problem.
    #[arg(long, env = "ECHO_REUSE_PORT", value_parser = FalseyValueParser::new())]
    reuse_port: bool,

    /// Answer HTTP GET /livez, /readyz and /metrics [default ADDR: 127.0.0.1]
    ///
    /// /livez says 200 as long as the server runs, /readyz 200, or 404 once the server drains or stops, /metrics what
    /// Prometheus collects. With port 0 the system picks a free one.
    #[arg(long, value_name = "[ADDR:]PORT", env = "ECHO_ADMIN", value_parser = admin_address)]
    admin: Option<SocketAddr>,

    /// Clients served at once [default: the descriptor limit less 16]
    ///
    /// Further clients wait in the kernel's queue; in a room they are told that the server is full.
    #[arg(long, value_name = "N", env = "ECHO_MAX_CONNECTIONS", value_parser = at_least_one, help_heading = "Clients")]
    max_connections: Option<usize>,

    /// Clients served at once for each address, or IPv6 /64
    ///
    /// Further ones are closed on arrival. Clients of Unix sockets are not counted.
    #[arg(long, value_name = "N", env = "ECHO_MAX_PER_IP", value_parser = at_least_one, help_heading = "Clients")]
    max_per_ip: Option<usize>,

    /// Accept only these addresses; repeatable
    ///
    /// The most specific rule that matches an address counts. Clients of Unix sockets have no address and are accepted.
    #[arg(
        long, value_name = "CIDR", env = "ECHO_ALLOW", value_delimiter = ',', value_parser = network,
        help_heading = "Clients"
    )]
    allow: Vec<IpNet>,

    /// Refuse these addresses; repeatable
    ///
    /// The most specific rule that matches an address counts, and a refusal if there are two.
    #[arg(
        long, value_name = "CIDR", env = "ECHO_DENY", value_delimiter = ',', value_parser = network,
        help_heading = "Clients"
    )]
    deny: Vec<IpNet>,

    /// Expect a PROXY protocol header from these; repeatable
    ///
    /// Networks of proxies, such as HAProxy with send-proxy or send-proxy-v2, or the word unix, which stands for all Unix
    /// sockets. The header is mandatory from there and never looked for elsewhere. The address in it is the one that is
    /// logged, and that --allow, --deny and --max-per-ip are about. Connections without one (LOCAL, UNKNOWN) are exempt
    /// from these three.
    #[arg(
        long, value_name = "CIDR", env = "ECHO_PROXY_FROM", value_delimiter = ',', value_parser = proxy_from,
        help_heading = "Clients"
    )]
    proxy_from: Vec<ProxyFrom>,

    /// Pending bytes per client before its reads pause
    #[arg(
        long, value_name = "SIZE", env = "ECHO_MAX_PENDING", default_value = "64MiB", value_parser = size,
        help_heading = "Memory"
    )]
    max_pending: usize,

    /// Memory for all clients together [default: 1GiB, or less]
    ///
    /// Each client may hold 64 KiB on top. The default is 1 GiB, but at most half of what the container's cgroup or
    /// ulimit(1) allows.
    #[arg(long, value_name = "SIZE", env = "ECHO_MAX_MEMORY", value_parser = size, help_heading = "Memory")]
    max_memory: Option<usize>,

    /// Disconnect idle clients [default: never]
    ///
    /// A client is idle when no byte has moved in either direction for this time.
    #[arg(
        long, value_name = "DURATION", env = "ECHO_IDLE_TIMEOUT", value_parser = positive_duration,
        help_heading = "Timeouts"
    )]
    idle_timeout: Option<Duration>,

    /// Disconnect clients that do not read [default: never; room: 10s]
    ///
    /// A client does not read when it has taken nothing of what is pending for it for this time. Whether it has shows only
    /// when the server writes again, so the end may come after twice this time. In a room, a client is disconnected when it
    /// has read neither 64 KiB nor everything for this time and others wait for it.
    #[arg(
        long, value_name = "DURATION", env = "ECHO_STALL_TIMEOUT", value_parser = positive_duration,
        help_heading = "Timeouts"
    )]
    stall_timeout: Option<Duration>,

    /// How long to wait for the PROXY header
    ///
    /// Connections whose header has not come, or whose TLS handshake is under way, take at most half of --max-connections: of
    /// more, the oldest of the address with most is ended.
    #[arg(
        long, value_name = "DURATION", env = "ECHO_PROXY_TIMEOUT", default_value = "10s",
        value_parser = positive_duration, help_heading = "Timeouts"
    )]
    proxy_timeout: Duration,

    /// How long a stopping server goes on sending
    #[arg(
        long, value_name = "DURATION", env = "ECHO_GRACE", default_value = "1s", value_parser = duration,
        help_heading = "Timeouts"
    )]
    grace: Duration,

    /// How long to go on serving after SIGTERM, as draining
    ///
    /// For this time new clients are still accepted, but /readyz of --admin says 404, so that a balancer sends no more of
    /// them; then the server stops. A second SIGTERM, SIGINT or SIGHUP ends the draining early.
    #[arg(
        long, value_name = "DURATION", env = "ECHO_DRAIN", default_value = "0s", value_parser = duration,
        help_heading = "Timeouts"
    )]
    drain: Duration,

    /// Open a room: what one client says, all the others hear
    #[arg(long, env = "ECHO_CHAT", value_parser = FalseyValueParser::new(), help_heading = "Room")]
    chat: bool,

    /// Longest line; longer ones are skipped
    #[arg(
        long, value_name = "SIZE", env = "ECHO_MAX_LINE", default_value = "64KiB", value_parser = size,
        help_heading = "Room"
    )]
    max_line: usize,

    /// How far a member may be ahead of the slowest
    ///
    /// Beyond that the server reads from this member only at the pace of a person, until the slowest member has caught
    /// up.
    #[arg(
        long, value_name = "SIZE", env = "ECHO_MAX_AHEAD", default_value = "256KiB", value_parser = size,
        help_heading = "Room"
    )]
    max_ahead: usize,

    /// Last lines that a newcomer is shown
    ///
    /// They come after the welcome, each marked with "| ". They take at most 32 KiB, or an eighth of --max-memory if that
    /// is less; of a long line the first KiB is kept. Only what was said to all is shown, not who joined or left.
    #[arg(long, value_name = "N", env = "ECHO_HISTORY", default_value_t = 0, help_heading = "Room")]
    history: usize,

    /// Redis by which servers share the room [default: none]
    ///
    /// redis://USER:PASSWORD@HOST:PORT/DB, of which only HOST is needed, rediss:// for TLS, or unix:///PATH, with
    /// percent-encoded parts. ECHO_REDIS keeps the password out of process lists.
    #[arg(long, value_name = "URL", env = "ECHO_REDIS", hide_env_values = true, help_heading = "Room")]
    redis: Option<String>,

    /// Authority of that Redis' certificate [default: the system's]
    ///
    /// A file in PEM, for a rediss:// URL. The certificate has to be for the host in the URL.
    #[arg(long, value_name = "FILE", env = "ECHO_REDIS_CACERT", help_heading = "Room")]
    redis_cacert: Option<PathBuf>,

    /// Own certificate for that Redis
    ///
    /// A file in PEM, for a rediss:// URL, with the certificates behind it that lead to its authority. Redis requires
    /// one unless its setting tls-auth-clients is no or optional. It is read again whenever the server connects again.
    #[arg(
        long,
        value_name = "FILE",
        env = "ECHO_REDIS_CERT",
        requires = "redis_key",
        hide_short_help = true,
        help_heading = "Room"
    )]
    redis_cert: Option<PathBuf>,

    /// Private key of that certificate
    ///
    /// A file in PEM, not encrypted.
    #[arg(
        long,
        value_name = "FILE",
        env = "ECHO_REDIS_KEY",
        requires = "redis_cert",
        hide_short_help = true,
        help_heading = "Room"
    )]
    redis_key: Option<PathBuf>,

    /// Which room in that Redis it is [default: lobby]
    ///
    /// Letters, digits, - and _.
    #[arg(long, value_name = "NAME", env = "ECHO_ROOM", value_parser = room, help_heading = "Room")]
    room: Option<String>,

    /// Speak TLS with this certificate
    ///
    /// A file in PEM, with the certificates behind it that lead to its authority. It is looked at once a minute: new
    /// connections use what is new in it.
    #[arg(
        long,
        value_name = "FILE",
        env = "ECHO_TLS_CERT",
        requires = "tls_key",
        conflicts_with = "tls_self_signed",
        help_heading = "TLS"
    )]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate
    ///
    /// A file in PEM: PKCS#8, PKCS#1 or SEC1, not encrypted.
    #[arg(
        long,
        value_name = "FILE",
        env = "ECHO_TLS_KEY",
        requires = "tls_cert",
        conflicts_with = "tls_self_signed",
        help_heading = "TLS"
    )]
    tls_key: Option<PathBuf>,

    /// Require client certificates of this issuer
    ///
    /// A file in PEM. The subject of a client's certificate is logged with --verbose.
    #[arg(long, value_name = "FILE", env = "ECHO_TLS_CLIENT_CA", requires = "tls", help_heading = "TLS")]
    tls_client_ca: Option<PathBuf>,

    /// Speak TLS with a certificate made at the start
    ///
    /// It is for localhost, this machine's name and the addresses that the server listens on. Its fingerprint is printed
    /// on standard error, for echo-client --pin.
    #[arg(long, env = "ECHO_TLS_SELF_SIGNED", value_parser = FalseyValueParser::new(), help_heading = "TLS")]
    tls_self_signed: bool,

    /// How long a TLS handshake may take
    ///
    /// Unfinished handshakes, and connections whose PROXY header has not come, take at most half of --max-connections: of
    /// more, the oldest of the address with most is ended.
    #[arg(
        long, value_name = "DURATION", env = "ECHO_HANDSHAKE_TIMEOUT", default_value = "10s",
        value_parser = positive_duration, help_heading = "TLS"
    )]
    handshake_timeout: Duration,

    /// Print no line per message; wins over --verbose
    #[arg(short, long, env = "ECHO_QUIET", value_parser = FalseyValueParser::new(), help_heading = "Log")]
    quiet: bool,

    /// Print a line when a connection opens or closes as well
    #[arg(short, long, env = "ECHO_VERBOSE", value_parser = FalseyValueParser::new(), help_heading = "Log")]
    verbose: bool,

    /// Print text lines, or json: one object a line
    #[arg(
        long, value_name = "FORMAT", env = "ECHO_LOG_FORMAT", value_enum, default_value_t = Format::Text, hide_possible_values = true,
        help_heading = "Log"
    )]
    log_format: Format,

    /// Bytes of a message that its line shows
    #[arg(
        long, value_name = "SIZE", env = "ECHO_LOG_MAX", default_value = "128KiB", value_parser = size,
        help_heading = "Log"
    )]
    log_max: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl ServerArgs {
    /// The settings, or what is wrong with them.
    fn into_config(self) -> Result<Config, (ErrorKind, String)> {
        let args = self;
        for (name, is_given) in [("--redis", args.redis.is_some()), ("--room", args.room.is_some())] {
            if is_given && !args.chat {
                return Err((ErrorKind::MissingRequiredArgument, format!("{name} needs --chat")));
            }
        }
        // Not by a value parser: clap would show the value, and with it a password.
        let redis = args.redis.as_deref().map(str::parse::<RedisUrl>).transpose();
        let redis =
            redis.map_err(|error| (ErrorKind::ValueValidation, format!("invalid value for --redis: {error}")))?;
        if redis.is_some() && args.max_line > MAX_SHARED_LINE {
            return Err((ErrorKind::ValueValidation, "--max-line is at most 1MiB with --redis".to_owned()));
        }
        for (name, file) in [("--redis-cacert", &args.redis_cacert), ("--redis-cert", &args.redis_cert)] {
            if file.is_some() && !redis.as_ref().is_some_and(RedisUrl::is_tls) {
                let message = format!("{name} needs --redis with a rediss:// URL");
                return Err((ErrorKind::MissingRequiredArgument, message));
            }
        }
        Ok(Config {
            bind: args.bind,
            port: args.port,
            reuse_port: args.reuse_port,
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
            proxy_from: args.proxy_from,
            proxy_timeout: args.proxy_timeout,
            tls: match args.tls_cert.zip(args.tls_key) {
                Some((certificate, key)) => Some(Tls::Files { certificate, key }),
                None => args.tls_self_signed.then_some(Tls::SelfSigned),
            },
            tls_client_ca: args.tls_client_ca,
            handshake_timeout: args.handshake_timeout,
            idle_timeout: args.idle_timeout,
            stall_timeout: args.stall_timeout,
            chat: args.chat,
            max_line: args.max_line,
            max_ahead: args.max_ahead,
            history: args.history,
            redis,
            redis_cacert: args.redis_cacert,
            redis_identity: args.redis_cert.zip(args.redis_key),
            room: args.room.unwrap_or_else(|| Config::default().room),
            grace: args.grace,
            drain: args.drain,
            admin: args.admin,
        })
    }
}
