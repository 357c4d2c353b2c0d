//! Members of a room, and what the operator sees of it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};

use super::{Server, connect, parse_time};

/// A client of a server with `--chat`.
pub(crate) struct Member {
    pub(crate) input: BufReader<TcpStream>,
}

impl Member {
    /// Joins the room and checks that it is welcomed as `name`, with `others` there.
    pub(crate) fn join(server: &Server, name: &str, others: &str) -> Self {
        let mut member = Self::over(connect(server.address()));
        let here = if others.is_empty() { "nobody else is here".to_owned() } else { format!("here: {others}") };
        member.hears(&[&format!("* welcome, {name}; {here}")]);
        member
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
