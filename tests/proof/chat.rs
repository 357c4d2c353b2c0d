//! Members of a room, who check that every line of the others arrives, once, whole and in order.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::engine::{Actor, Next, Stage, ready};

/// What the lines of members begin with; others in the room say what they like.
const MARK: &str = "member";

pub(crate) struct Member {
    number: usize,
    /// How many members there are.
    members: usize,
    pause: Duration,
    speaks_at: Instant,
    said: u32,
    /// Whether the server has welcomed it.
    has_joined: bool,
    /// What is still to be sent.
    outgoing: Vec<u8>,
    has_said_all: bool,
    /// The beginning of a line.
    incoming: Vec<u8>,
    /// The number of the last line of each of the others, and whether it was the last of all.
    heard: HashMap<usize, (u32, bool)>,
}

impl Member {
    pub(crate) fn new(number: usize, members: usize, pause: Duration) -> Self {
        Self {
            number,
            members,
            pause,
            speaks_at: Instant::now(),
            said: 0,
            has_joined: false,
            outgoing: Vec::new(),
            has_said_all: false,
            incoming: Vec::new(),
            heard: HashMap::new(),
        }
    }

    /// The text that follows the head of a line: anybody can tell what it has to be.
    fn text(number: usize, count: u32) -> String {
        let length = (count as usize * 7 + number * 13) % 300;
        (0..length).map(|at| char::from(b'a' + ((at + count as usize + number) % 26) as u8)).collect()
    }

    fn hear(&mut self, line: &str) -> bool {
        self.has_joined |= line.starts_with("* welcome, ");
        // <user7> member 3 17 on abc
        let said = line.split_once("> ").filter(|_| line.starts_with('<')).map(|(_, said)| said);
        let Some(said) = said.and_then(|said| said.strip_prefix(MARK)) else { return false };
        let mut words = said[1..].splitn(4, ' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("half a line: {line:?}"));
        let number: usize = word().parse().expect("a member");
        let count: u32 = word().parse().expect("a count");
        let is_last = word() == "end";
        assert_eq!(word(), Self::text(number, count), "not what was said");
        let heard = self.heard.entry(number).or_insert((0, false));
        assert_eq!(count, heard.0 + 1, "a line of member {number} is missing or came twice");
        assert_ne!(number, self.number, "its own line came back");
        *heard = (count, is_last);
        true
    }
}

impl Actor for Member {
    fn act(&mut self, stream: &mut TcpStream, stage: &mut Stage) -> io::Result<Next> {
        while let Some(count) = ready(stream.read(&mut stage.scratch))? {
            assert_ne!(count, 0, "the room was closed");
            self.incoming.extend_from_slice(&stage.scratch[..count]);
            let mut rest = &self.incoming[..];
            let mut lines = Vec::new();
            while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                lines.push(String::from_utf8(rest[..at].to_vec()).expect("UTF-8"));
                rest = &rest[at + 1..];
            }
            self.incoming = rest.to_vec();
            for line in lines {
                if self.hear(&line) {
                    stage.checked += 1;
                }
            }
        }
        // They speak once all are there.
        if stage.round > 1 && stage.now >= self.speaks_at && !self.has_said_all {
            self.speaks_at = stage.now + self.pause;
            self.said += 1;
            self.has_said_all = stage.is_over;
            let (number, count) = (self.number, self.said);
            let more = if self.has_said_all { "end" } else { "on" };
            let line = format!("{MARK} {number} {count} {more} {}\n", Self::text(number, count));
            self.outgoing.extend(line.as_bytes());
        }
        while !self.outgoing.is_empty() {
            match ready(stream.write(&self.outgoing))? {
                Some(count) => drop(self.outgoing.drain(..count)),
                None => break,
            }
        }
        if stage.round == 1 {
            return Ok(if self.has_joined { Next::Rest } else { Next::Wait });
        }
        let has_heard_all = self.heard.len() == self.members - 1 && self.heard.values().all(|(_, is_last)| *is_last);
        Ok(match self.has_said_all {
            true if has_heard_all && self.outgoing.is_empty() => Next::Leave,
            true => Next::Wait,
            false => Next::WakeAt(self.speaks_at),
        })
    }
}
