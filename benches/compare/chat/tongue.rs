//! What is said in a room, and in which form a server takes and passes it on.

use std::io::{self, Write as _};

/// The length of a line, with its newline.
pub(crate) const LINE: usize = 64;

/// So many lines differ; then they begin again. More than are on their way in the room, so that none can be taken for
/// another one.
pub(crate) const LINES: usize = 4096;

/// What a socket.io client sends first, and what it is answered. The zeros are the mask of a frame.
const UPGRADE: &[u8] =
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const UPGRADED: &[u8] = b"0{\"sid\"";
const CONNECT: &[u8] = b"\x81\x82\x00\x00\x00\x0040";
const CONNECTED: &[u8] = b"40{\"sid\"";

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
    /// WebSockets as socket.io speaks them.
    SocketIo,
}

impl Tongue {
    /// What a receiver sends first, piece by piece, and what it has to hear before the next one.
    pub(crate) fn greetings(self) -> &'static [(&'static [u8], &'static [u8])] {
        match self {
            Self::Plain => &[],
            // A line announces it at once, and not in the middle of the measuring. The name belongs to the first one, which
            // the log of servers says too: so the line before it has been heard by all when the last answer comes.
            Self::Named => &[(b"here\n/name user1\n/help\n", HELP)],
            Self::Redis => {
                &[(b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nroom\r\n", b"*3\r\n$9\r\nsubscribe\r\n$4\r\nroom\r\n:1\r\n")]
            }
            Self::SocketIo => &[(UPGRADE, UPGRADED), (CONNECT, CONNECTED)],
        }
    }

    /// The same for the sender, which does not subscribe to anything.
    pub(crate) fn greetings_of_sender(self) -> &'static [(&'static [u8], &'static [u8])] {
        match self {
            Self::Plain | Self::Redis => &[],
            Self::Named => &[(b"", b"\n")],
            Self::SocketIo => self.greetings(),
        }
    }

    /// What the sender sends when all are there.
    pub(crate) fn marker_said(self) -> Vec<u8> {
        match self {
            Self::SocketIo => event(MARKER, true),
            _ => self.marker_heard(),
        }
    }

    /// What has to be heard of it before the measuring.
    fn marker_heard(self) -> Vec<u8> {
        match self {
            Self::Plain | Self::Named => MARKER.to_vec(),
            // Who has been told that it is subscribed hears all that follows and nothing else.
            Self::Redis => Vec::new(),
            Self::SocketIo => event(MARKER, false),
        }
    }

    /// The name before the marker, once that has been heard.
    pub(crate) fn name_heard(self, heard: &[u8]) -> Option<&[u8]> {
        let line = heard.strip_suffix(&*self.marker_heard())?;
        match self {
            Self::Plain if line.is_empty() => Some(line),
            Self::Plain => None,
            Self::Named => Some(line.rsplit(|byte| *byte == b'\n').next().unwrap_or(line)),
            Self::Redis | Self::SocketIo => Some(b""),
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
        let framed = |head: &[u8], tail: &[u8]| Script::of(&lines, |line| [head, line, tail].concat());
        Ok(match self {
            Self::Plain | Self::Named => {
                Scripts { said: framed(b"", b""), heard: framed(name, b""), answer: Vec::new() }
            }
            Self::Redis => Scripts {
                said: framed(b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n$64\r\n", b"\r\n"),
                heard: framed(b"*3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n$64\r\n", b"\r\n"),
                answer: format!(":{receivers}\r\n").into_bytes(),
            },
            Self::SocketIo => Scripts {
                said: Script::of(&lines, |line| event(line, true)),
                heard: Script::of(&lines, |line| event(line, false)),
                answer: Vec::new(),
            },
        })
    }
}

/// A line, without its newline, as an event of socket.io in the frame of a WebSocket. What a client says is masked, here
/// with zeros.
fn event(line: &[u8], is_said: bool) -> Vec<u8> {
    let text = [b"42[\"say\",\"", line.trim_ascii_end(), b"\"]"].concat();
    let (flag, mask) = if is_said { (0x80, &[0; 4][..]) } else { (0, &[][..]) };
    [&[0x81, flag | text.len() as u8], mask, &text].concat()
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
    fn of(lines: &[u8], frame: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        let bytes: Vec<u8> = lines.chunks(LINE).flat_map(frame).collect();
        Self { frame: (bytes.len() / LINES) as u64, bytes }
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
