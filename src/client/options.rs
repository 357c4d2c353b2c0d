use super::{Error, Peer, Stream, Timeouts, Tls, connect, connect_tls};
use crate::config::DEFAULT_PORT;

/// What [`run`](super::run) does. `Options::default()` is `echo-client` without arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The name or address to connect to. Default: `localhost`.
    pub host: String,
    /// The TCP port to connect to. Default: [`DEFAULT_PORT`].
    pub port: u16,
    /// How to speak TLS with the server. Default: `None`, not at all.
    pub tls: Option<Tls>,
    /// What is sent. Default: [`Input::Terminal`].
    pub input: Input,
    /// The name to take in a room.
    pub name: Option<String>,
    /// Compare the reply with the message instead of printing it.
    pub check: bool,
    /// Print control characters to a terminal unescaped.
    pub raw: bool,
    /// Ring the bell of a session's terminal when the person's name is said. Default: `true`.
    pub bell: bool,
    /// Show the time of each line in a session.
    pub time: bool,
    /// Connect again when the server of a session goes.
    pub reconnect: bool,
    /// How long to wait for the peer.
    pub timeouts: Timeouts,
}

/// Where the bytes to send come from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// These bytes. The reply is printed as one line.
    Message(Vec<u8>),
    /// Standard input, byte for byte.
    Stdin,
    /// A person: an interactive session if standard input and output are terminals. Otherwise as [`Input::Stdin`].
    Terminal,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: DEFAULT_PORT,
            tls: None,
            input: Input::Terminal,
            name: None,
            check: false,
            raw: false,
            bell: true,
            time: false,
            reconnect: false,
            timeouts: Timeouts::default(),
        }
    }
}

impl Options {
    /// Connects to the server.
    pub(super) fn connect(&self) -> Result<Peer<Stream>, Error> {
        match &self.tls {
            Some(tls) => connect_tls(&self.host, self.port, self.timeouts, tls),
            None => connect(&self.host, self.port, self.timeouts),
        }
    }
}
