//! What is said in a room, and in which form a server takes and passes it on.

use std::io::{self, Write as _};

/// The length of a line, with its newline.
pub(crate) const LINE: usize = 64;

/// So many lines differ; then they begin again. More than may be on their way, so that none can be taken for
/// another one.
pub(crate) const LINES: usize = 4096;

/// What the sender says before the measuring: who hears it has heard all that was said before.
const MARKER: &[u8] = b"now all are here\n";

/// How the answer to `/help` begins, which comes after everything that was said before.
const HELP: &[u8] = b"* /name NEW";

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tongue {
    /// Bytes go to the others as they are.
    Plain,
    /// Lines go to the others behind the name of who said them, and there are words of welcome.
    Named,
    /// The publish and subscribe of redis.
    Redis,
}

impl Tongue {
    /// What a receiver sends first.
    pub(crate) fn greeting(self) -> &'static [u8] {
        match self {
            Self::Plain => b"",
            // A line announces it at once, and not in the middle of the measuring.
            Self::Named => b"here\n/help\n",
            Self::Redis => b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nroom\r\n",
        }
    }

    /// Whether what came shows a receiver that it is in the room.
    pub(crate) fn is_welcome(self, heard: &[u8]) -> bool {
        match self {
            Self::Plain => true,
            Self::Named => heard.windows(HELP.len()).any(|part| part == HELP),
            Self::Redis => heard == b"*3\r\n$9\r\nsubscribe\r\n$4\r\nroom\r\n:1\r\n",
        }
    }

    /// The same for the sender, which does not subscribe to anything.
    pub(crate) fn is_sender_welcome(self, heard: &[u8]) -> bool {
        self != Self::Named || heard.contains(&b'\n')
    }

    /// What the sender says when all are there, and what has to be heard of it before the measuring.
    pub(crate) fn marker(self) -> &'static [u8] {
        match self {
            Self::Plain | Self::Named => MARKER,
            // Who has been told that it is subscribed hears all that follows and nothing else.
            Self::Redis => b"",
        }
    }

    /// The name before the marker, once that has been heard.
    pub(crate) fn name_heard(self, heard: &[u8]) -> Option<&[u8]> {
        let line = heard.strip_suffix(self.marker())?;
        match self {
            Self::Plain if line.is_empty() => Some(line),
            Self::Plain => None,
            Self::Named => Some(line.rsplit(|byte| *byte == b'\n').next().unwrap_or(line)),
            Self::Redis => Some(b""),
        }
    }

    /// What the sender sends, what each receiver gets then, if the sender's name shows as `name`, and what comes
    /// back to the sender.
    pub(crate) fn scripts(self, name: &[u8], receivers: usize, seed: u64) -> io::Result<Scripts> {
        let mut lines = Vec::with_capacity(LINES * LINE);
        let mut random = fastrand::Rng::with_seed(seed);
        for number in 0..LINES {
            write!(lines, "{number:07} ")?;
            lines.extend((9..LINE).map(|_| random.alphanumeric() as u8));
            lines.push(b'\n');
        }
        let framed = |head: &[u8], tail: &[u8]| Script::new(&lines, head, tail);
        Ok(match self {
            Self::Plain | Self::Named => {
                Scripts { said: framed(b"", b""), heard: framed(name, b""), answer: Vec::new() }
            }
            Self::Redis => Scripts {
                said: framed(b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n$64\r\n", b"\r\n"),
                heard: framed(b"*3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n$64\r\n", b"\r\n"),
                answer: format!(":{receivers}\r\n").into_bytes(),
            },
        })
    }
}

pub(crate) struct Scripts {
    pub(crate) said: Script,
    pub(crate) heard: Script,
    /// What the sender gets for each line.
    pub(crate) answer: Vec<u8>,
}

/// All lines in their frames, one after the other, again and again.
pub(crate) struct Script {
    bytes: Vec<u8>,
    frame: u64,
}

impl Script {
    fn new(lines: &[u8], head: &[u8], tail: &[u8]) -> Self {
        let bytes = lines.chunks(LINE).flat_map(|line| [head, line, tail].concat()).collect();
        Self { bytes, frame: (head.len() + LINE + tail.len()) as u64 }
    }

    /// The length of a line in its frame.
    pub(crate) fn frame(&self) -> u64 {
        self.frame
    }

    /// What comes at `position`: at most `count` bytes, fewer where the lines begin again.
    pub(crate) fn part(&self, position: u64, count: usize) -> &[u8] {
        let at = (position % self.bytes.len() as u64) as usize;
        &self.bytes[at..self.bytes.len().min(at + count)]
    }

    /// Whether `bytes` are what comes at `position`.
    pub(crate) fn has(&self, mut position: u64, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let expected = self.part(position, bytes.len());
            let (now, later) = bytes.split_at(expected.len());
            if now != expected {
                return false;
            }
            position += now.len() as u64;
            bytes = later;
        }
        true
    }
}
