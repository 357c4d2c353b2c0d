//! The settings of a server, with their defaults.

mod redis;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::limits::default_max_memory;
pub(crate) use redis::RedisAddress;
pub use redis::RedisUrl;

/// The port of both programs unless they are told otherwise.
pub const DEFAULT_PORT: u16 = 8888;

/// The settings of a [`Server`](crate::Server). [`Config::default`] is what `echo-server` does without options.
///
/// ```
/// use sockets::Config;
///
/// let config = Config::with(|config| config.port = 0);
/// assert_eq!(config.max_pending, 64 << 20);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Addresses or names to listen on; a name stands for all its addresses. Empty, the default, means
    /// loopback: 127.0.0.1, and ::1 where the machine has IPv6.
    ///
    /// `unix:` and a path is a Unix socket. The file of a server that is gone is replaced, and the file is removed when the
    /// server stops. `unix:@` and a name is a socket with an abstract name, which Linux has (unix(7)).
    pub bind: Vec<String>,
    /// TCP port, the same for all addresses. 0 lets the system pick a free one. Default: [`DEFAULT_PORT`].
    pub port: u16,
    /// Whether other processes may listen on the same port (socket(7), `SO_REUSEPORT`): the kernel spreads new connections
    /// over them. When one of them stops, the connections in its queue that it has not accepted yet may be lost.
    /// Default: no.
    pub reuse_port: bool,
    /// What is printed on standard output. Default: [`Log::Messages`].
    pub log: Log,
    /// How it is printed. Default: [`LogFormat::Text`].
    pub log_format: LogFormat,
    /// How many bytes of a message, or of a line that is said in a room, its log line shows; a longer one is cut.
    /// Default: 128 KiB, the most that one command-line argument can hold on Linux (execve(2), `MAX_ARG_STRLEN`).
    pub log_max: usize,
    /// Echo: pending bytes of one client, that does not read its echo, before the server stops reading from it.
    /// Never taken as less than [`RESERVE`]. Default: 64 MiB.
    pub max_pending: usize,
    /// Memory in bytes that is held for all clients together, [`RESERVE`] for each of them not counted. In a room, the
    /// members furthest behind are disconnected when it runs out.
    /// Default: 1 GiB, or half of what the cgroup, `RLIMIT_AS` or `RLIMIT_DATA` allows if that is less.
    pub max_memory: usize,
    /// Clients that are served at once. Further ones wait in the kernel's queue, or, with
    /// [`chat`](Self::chat), are told that the server is full. Default: no limit of its own.
    pub max_connections: usize,
    /// Clients of one address, or of one IPv6 /64, that are served at once; further ones are closed on
    /// arrival. Clients of Unix sockets have no address: this and the next two are not about them. Default: no limit.
    pub max_per_ip: usize,
    /// Addresses that may connect. Of the rules that match an address the most specific one counts, a refusal on a tie;
    /// if there is any rule here, an address that matches none may not connect. IPv4 rules match v4-mapped addresses.
    /// Default: all.
    pub allow: Vec<IpNet>,
    /// Addresses that may not connect; see [`allow`](Self::allow). Default: none.
    pub deny: Vec<IpNet>,
    /// Proxies whose connections begin with a PROXY protocol header, version 1 or 2, which announces the address of the
    /// client. From these it is mandatory, from others it is never looked for. The address that it announces is what the
    /// log shows and what [`allow`](Self::allow), [`deny`](Self::deny) and [`max_per_ip`](Self::max_per_ip) are about;
    /// none of them is about connections that announce none (LOCAL and UNKNOWN). Default: none.
    pub proxy_from: Vec<ProxyFrom>,
    /// Reset a connection of a proxy whose header has not come in this time. Such connections, and those whose TLS
    /// handshake is under way, take at most half of [`max_connections`](Self::max_connections) together: of more, the
    /// oldest of the address with most is ended. Default: 10 s.
    pub proxy_timeout: Duration,
    /// Speak TLS with all clients. Default: no.
    pub tls: Option<Tls>,
    /// TLS: clients have to present a certificate of the authority in this file, in PEM; needs [`tls`](Self::tls).
    /// Default: no.
    pub tls_client_ca: Option<PathBuf>,
    /// TLS: end a connection whose handshake is not done in this time. Unfinished handshakes are at most
    /// half of [`max_connections`](Self::max_connections), together with those that wait for a PROXY header. Default: 10 s.
    pub handshake_timeout: Duration,
    /// Disconnect a client when no byte has moved in either direction for this time. Default: never.
    pub idle_timeout: Option<Duration>,
    /// Disconnect, with a reset, a client that reads nothing of what is pending for it for this time. In a room: a client
    /// that has read neither 64 KiB nor everything for this time, as soon as a talker waits for it, see
    /// [`max_ahead`](Self::max_ahead). Default: never, in a room [`CHAT_STALL_TIMEOUT`].
    pub stall_timeout: Option<Duration>,
    /// Whether clients talk to each other instead of being echoed. Default: no.
    pub chat: bool,
    /// Room: the longest line in bytes; a longer one is skipped. Default: 64 KiB.
    pub max_line: usize,
    /// Room: how many bytes of its own lines a member may be ahead of the slowest member. Beyond that, the server reads
    /// from it only at the pace of a person, until the slowest has caught up. Default: 256 KiB.
    pub max_ahead: usize,
    /// Room: how many of the lines that were said last are sent to a newcomer. They take at most 32 KiB, or an eighth of
    /// [`max_memory`](Self::max_memory) if that is less; of a long line the first KiB is kept. Default: 0.
    pub history: usize,
    /// Room: the Redis by which servers share the room; needs [`chat`](Self::chat), and [`max_line`](Self::max_line) is at
    /// most [`MAX_SHARED_LINE`] then. Default: none, and the room is on this server alone.
    pub redis: Option<RedisUrl>,
    /// Room: the certificate of that Redis, at a `rediss://` URL, has to be of an authority in this file, in PEM. Default:
    /// of one that the system trusts.
    pub redis_cacert: Option<PathBuf>,
    /// Room: the files, in PEM, with the certificate that this server presents to that Redis, and its key.
    /// They are read again whenever it connects again. Default: none.
    pub redis_identity: Option<(PathBuf, PathBuf)>,
    /// Room: which of the rooms in that Redis it is: ASCII letters, digits, `-` and `_`. Default: `lobby`.
    pub room: String,
    /// How long a stopping server goes on sending what is pending. For half a second of it, clients of an echo that have
    /// sent nothing yet may still do so. Default: 1 s.
    pub grace: Duration,
    /// How long a server that is told to stop by `SIGTERM` or a [`Stopper`](crate::server::Stopper) goes on accepting and
    /// serving while it reports that it is draining, so that balancers send no new clients before it stops. A second such
    /// request, or `SIGINT` or `SIGHUP`, ends this early. Default: zero, it stops at once.
    pub drain: Duration,
    /// Where HTTP requests about the server are answered: `GET /livez` gives 200, `GET /readyz` gives 200, or 404 while the
    /// server drains or stops, and `GET /metrics` gives metrics in the text format of OpenMetrics. Default: nowhere.
    pub admin: Option<SocketAddr>,
}

/// The longest line in bytes in a room that servers share.
pub const MAX_SHARED_LINE: usize = 1 << 20;

/// How long a member of a room may make no progress while talkers wait for it, unless [`Config::stall_timeout`] says
/// otherwise.
pub const CHAT_STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A hundred years: the longest timeout, because a clock cannot be set ahead by every [`Duration`].
pub(crate) const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Memory in bytes that every connection may hold, whatever the others hold: this keeps honest clients going while
/// others use up all of [`Config::max_memory`].
pub const RESERVE: usize = 64 << 10;

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: Vec::new(),
            port: DEFAULT_PORT,
            reuse_port: false,
            log: Log::Messages,
            log_format: LogFormat::Text,
            log_max: 128 << 10,
            max_pending: 64 << 20,
            max_memory: default_max_memory(),
            max_connections: usize::MAX,
            max_per_ip: usize::MAX,
            allow: Vec::new(),
            deny: Vec::new(),
            proxy_from: Vec::new(),
            proxy_timeout: Duration::from_secs(10),
            tls: None,
            tls_client_ca: None,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: None,
            stall_timeout: None,
            chat: false,
            max_line: 64 << 10,
            max_ahead: 256 << 10,
            history: 0,
            redis: None,
            redis_cacert: None,
            redis_identity: None,
            room: "lobby".to_owned(),
            grace: Duration::from_secs(1),
            drain: Duration::ZERO,
            admin: None,
        }
    }
}

impl Config {
    /// The defaults with some changes.
    pub fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut config = Self::default();
        change(&mut config);
        config
    }

    /// Whether the settings go together.
    pub(crate) fn check(&self) -> io::Result<()> {
        let has_redis_tls = self.redis.as_ref().is_some_and(RedisUrl::is_tls);
        let problem = match () {
            () if self.tls_client_ca.is_some() && self.tls.is_none() => "a client authority without TLS",
            () if self.redis.is_some() && !self.chat => "Redis without a room",
            () if self.redis_cacert.is_some() && !has_redis_tls => "an authority for Redis without TLS",
            () if self.redis_identity.is_some() && !has_redis_tls => "a certificate for Redis without TLS",
            () if self.redis.is_some() && self.max_line > MAX_SHARED_LINE => "lines above 1 MiB in a room over Redis",
            () if !is_room_name(&self.room) => "a room's name has letters, digits, - and _",
            () => return Ok(()),
        };
        Err(io::Error::new(ErrorKind::InvalidInput, format!("wrong settings: {problem}")))
    }
}

/// Whether a room may have this name: it becomes part of keys in Redis, where braces have a meaning.
pub(crate) fn is_room_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.bytes().all(is_allowed)
}

/// Proxies that announce their clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyFrom {
    /// Those of a network. IPv4 networks match v4-mapped addresses.
    Network(IpNet),
    /// All that connect to a Unix socket.
    Unix,
}

/// How a server proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tls {
    /// By these files, in PEM. The server looks once a minute whether they have changed, and uses new ones for new
    /// connections.
    Files {
        /// The certificate, and those that lead to its authority.
        certificate: PathBuf,
        /// Its private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
        key: PathBuf,
    },
    /// By a certificate that is made at the start, for `localhost`, this machine's name and the addresses that the
    /// server listens on. Clients can know it by its [fingerprint](crate::Server::fingerprint).
    SelfSigned,
}

/// What is printed on standard output, from nothing to everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Log {
    /// Nothing at all, for a server inside another program.
    Off,
    /// The starting and the stopping line.
    Quiet,
    /// A line for each message as well.
    #[default]
    Messages,
    /// A line for each connection that opens or closes as well.
    Verbose,
}

/// How lines are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        let redis = || Some("redis://localhost".parse().unwrap());
        let problem = |change: &dyn Fn(&mut Config)| Config::with(change).check().err().map(|error| error.to_string());
        assert_eq!(problem(&|_| {}), None);
        assert_eq!(problem(&|config| (config.chat, config.redis) = (true, redis())), None);
        for (change, expected) in [
            (
                &(|config: &mut Config| config.tls_client_ca = Some("ca.pem".into())) as &dyn Fn(&mut Config),
                "without TLS",
            ),
            (&|config| config.redis = redis(), "without a room"),
            (&|config| (config.chat, config.redis, config.max_line) = (true, redis(), 2 << 20), "1 MiB"),
            (
                &|config| (config.chat, config.redis, config.redis_cacert) = (true, redis(), Some("ca.pem".into())),
                "authority for Redis without TLS",
            ),
            (
                &|config| {
                    (config.chat, config.redis) = (true, redis());
                    config.redis_identity = Some(("cert.pem".into(), "key.pem".into()));
                },
                "certificate for Redis without TLS",
            ),
            (&|config| config.room = "{lobby}".to_owned(), "a room's name"),
        ] {
            let problem = problem(change).unwrap();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
