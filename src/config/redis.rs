//! Where the Redis is by which servers share a room, and how it lets a server in.

use std::fmt;
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// The port of Redis, where a URL has none.
const PORT: u16 = 6379;

const FORM: &str = "not of the form redis://[user:password@]host:port[/db], the same with rediss://, or unix:///path";

/// A URL of Redis: `redis://[user:password@]host:port[/db]`, `rediss://` for TLS, or `unix:///path`. User, password and path are
/// percent-decoded. What is shown of it has no password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(crate) address: RedisAddress,
    pub(crate) is_tls: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: u32,
}

/// Where a Redis listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RedisAddress {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl RedisUrl {
    /// Whether Redis is spoken to over TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }
}

impl FromStr for RedisUrl {
    type Err = String;

    /// # Errors
    ///
    /// What is wrong, in words that do not repeat the URL: it may have a password.
    fn from_str(url: &str) -> Result<Self, String> {
        if let Some(path) = url.strip_prefix("unix://") {
            let path = decode(path)?;
            if !path.starts_with('/') {
                return Err(FORM.to_owned());
            }
            SocketAddr::from_pathname(&path).map_err(|_| "the path is too long for a Unix socket".to_owned())?;
            let address = RedisAddress::Unix(path.into());
            return Ok(Self { address, is_tls: false, user: None, password: None, database: 0 });
        }
        let (scheme, rest) = url.split_once("://").ok_or(FORM)?;
        let is_tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return Err(FORM.to_owned()),
        };
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if database.is_empty() { Ok(0) } else { database.parse() };
        let database = database.map_err(|_| "the database is not a number".to_owned())?;
        let (login, place) = authority.rsplit_once('@').map_or((None, authority), |(login, rest)| (Some(login), rest));
        let (user, password) = match login.map(|login| login.split_once(':').ok_or("the user has no password")) {
            None => (None, None),
            Some(login) => {
                let (user, password) = login?;
                (Some(decode(user)?).filter(|user| !user.is_empty()), Some(decode(password)?))
            }
        };
        let (host, port) = split_port(place)?;
        Ok(Self { address: RedisAddress::Tcp { host, port }, is_tls, user, password, database })
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "rediss" } else { "redis" };
        match &self.address {
            RedisAddress::Tcp { host, port } if host.contains(':') => write!(f, "{scheme}://[{host}]:{port}"),
            RedisAddress::Tcp { host, port } => write!(f, "{scheme}://{host}:{port}"),
            RedisAddress::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

fn decode(text: &str) -> Result<String, String> {
    let text =
        percent_decode_str(text).decode_utf8().map_err(|_| "its percent-encoded part is not UTF-8".to_owned())?;
    Ok(text.into_owned())
}

/// The host, an IPv6 address without its brackets, and the port.
fn split_port(place: &str) -> Result<(String, u16), String> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(FORM)?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(FORM)?) })
        }
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(FORM.to_owned());
    }
    let port = port.map_or(Ok(PORT), str::parse).ok().filter(|port| *port != 0);
    let port = port.ok_or("the port is not a number from 1 to 65535")?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> RedisUrl {
        let address = RedisAddress::Tcp { host: host.to_owned(), port };
        RedisUrl { address, is_tls: false, user: None, password: None, database: 0 }
    }

    #[test]
    fn a_url_says_where_redis_is_and_how_to_log_in() {
        let login = |user: Option<&str>, password: &str, database| {
            let (user, password) = (user.map(str::to_owned), Some(password.to_owned()));
            RedisUrl { user, password, database, ..tcp("localhost", 6379) }
        };
        for (url, expected) in [
            ("redis://localhost:6379", tcp("localhost", 6379)),
            ("redis://10.1.2.3", tcp("10.1.2.3", 6379)),
            ("redis://[::1]:7000/", tcp("::1", 7000)),
            ("redis://[fe80::1]", tcp("fe80::1", 6379)),
            ("redis://ann:secret@localhost:6379/2", login(Some("ann"), "secret", 2)),
            ("redis://:secret@localhost", login(None, "secret", 0)),
            ("rediss://:secret@localhost/1", RedisUrl { is_tls: true, ..login(None, "secret", 1) }),
            ("redis://a%3An%40:p%2Fw%20@x@localhost", login(Some("a:n@"), "p/w @x", 0)),
        ] {
            assert_eq!(url.parse(), Ok(expected), "{url}");
        }
        let socket = RedisUrl { address: RedisAddress::Unix("/run/my redis.sock".into()), ..tcp("", 0) };
        assert_eq!("unix:///run/my%20redis.sock".parse(), Ok(socket));
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_password() {
        for url in [
            "",
            "localhost:6379",
            "http://user:hunter2@localhost",
            "redis://user:hunter2@",
            "redis://user:hunter2@localhost:port",
            "redis://user:hunter2@localhost:65536",
            "redis://user:hunter2@localhost:0",
            "redis://user:hunter2@localhost/zero",
            "redis://hunter2@localhost",
            "redis://user:hunter2%ff@localhost",
            "redis://user:hunter2@[::1",
            "redis://user:hunter2@[::1]7",
            "rediss://user:hunter2@localhost:port",
            "redisss://user:hunter2@localhost",
            "unix://relative",
            &format!("unix:///{}", "x".repeat(200)),
        ] {
            let error = url.parse::<RedisUrl>().expect_err(url);
            assert!(!error.contains("hunter2"), "{url}: {error}");
        }
        let url: RedisUrl = "redis://user:hunter2@[::1]:1/3".parse().expect("good");
        assert_eq!(format!("{url} {url:?}"), "redis://[::1]:1 RedisUrl(redis://[::1]:1)");
        let url: RedisUrl = "rediss://user:hunter2@db".parse().expect("good");
        assert_eq!(url.to_string(), "rediss://db:6379");
    }
}
