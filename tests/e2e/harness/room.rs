//! Members of a room, and what the operator sees of it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};

use super::{Server, connect, parse_time};

/// A client of a server with `--chat`.
pub(crate) struct Member {
    pub(crate) input: BufReader<TcpStream>,
}

impl Member {
    /// Joins the room as `name` and checks that `others` are there. The name announces it.
    pub(crate) fn join(server: &Server, name: &str, others: &str) -> Self {
        let (member, here) = Self::enter(connect(server.address()), name);
        assert_eq!(here, if others.is_empty() { "nobody else is here".to_owned() } else { format!("here: {others}") });
        member
    }

    /// Joins the room as `name`. Returns also what it was told about the others there.
    pub(crate) fn enter(stream: TcpStream, name: &str) -> (Self, String) {
        let mut member = Self::over(stream);
        let welcome = member.line();
        let (user, here) =
            welcome.strip_prefix("* welcome, ").and_then(|rest| rest.split_once("; ")).expect("a welcome");
        member.say(format!("/name {name}\n"));
        let answer = format!("* {user} is now {name}");
        while member.line() != answer {}
        (member, here.to_owned())
    }

    /// A client whose welcome is still to come.
    pub(crate) fn over(stream: TcpStream) -> Self {
        Self { input: BufReader::new(stream) }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.input.get_ref()
    }

    pub(crate) fn say(&self, bytes: impl AsRef<[u8]>) {
        self.stream().write_all(bytes.as_ref()).expect("sent");
    }

    /// Says `command` and waits for its answer, so that all it said before has been heard.
    pub(crate) fn is_answered(&mut self, command: &str, answer: &str) {
        self.say(format!("{command}\n"));
        self.hears(&[answer]);
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.input.read_until(b'\n', &mut line).expect("a line in time");
        assert_eq!(line.pop(), Some(b'\n'), "{}", line.escape_ascii());
        String::from_utf8(line).expect("what is told is text")
    }

    /// Expects these lines next.
    #[track_caller]
    pub(crate) fn hears(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.line(), *line);
        }
    }

    pub(crate) fn half_close(&self) {
        self.stream().shutdown(Shutdown::Write).expect("half-closed");
    }

    /// Half-closes, and waits for the end of the connection.
    pub(crate) fn leaves_at_once(self) {
        self.half_close();
        self.leaves();
    }

    /// Expects the end of the connection, and nothing before it.
    #[track_caller]
    pub(crate) fn leaves(mut self) {
        let mut rest = Vec::new();
        let outcome = self.input.read_until(b'\n', &mut rest);
        assert_eq!(rest.escape_ascii().to_string(), "");
        outcome.expect("an orderly end");
    }
}

/// What these lines of the console show of the room, each with a time before it.
pub(crate) fn shown(lines: &[String]) -> Vec<&str> {
    let text = |line: &'_ String| -> Option<usize> {
        let (time, _) = line.strip_prefix('[')?.split_once("] ")?;
        parse_time(time)?;
        Some("[".len() + time.len() + "] ".len())
    };
    lines.iter().map(|line| &line[text(line).unwrap_or_else(|| panic!("no time: {line:?}"))..]).collect()
}
