//! What a member sends: lines of all kinds, and what has to become of each.

use fastrand::Rng;
use sockets::config::RESERVE;

/// Names that may be asked for, and what makes them the same: said once more, apart from the room's own words.
const NAMES: [(&str, &str); 16] = [
    ("ann", "ann"),
    ("Ann", "ann"),
    ("bob", "bob"),
    ("BOB", "bob"),
    ("b_o-b", "b_o-b"),
    ("Ärger", "ärger"),
    ("a\u{308}rger", "ärger"),
    ("名前", "名前"),
    ("नमस्ते", "नमस्ते"),
    ("zoe", "zoe"),
    ("ｚｏｅ", "zoe"),
    ("ΣΑΣ", "σας"),
    ("σας", "σας"),
    ("server", "server"),
    ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "x32"),
    ("Xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "x32"),
];

const MALFORMED: [&[u8]; 9] = [
    b"",
    b"a b",
    b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "a\u{200b}b".as_bytes(),
    "\u{301}a".as_bytes(),
    b"<ann>",
    b"*",
    b"a\x1b[31m",
    b"\xff",
];

/// What lines are made of, and how it is shown to others.
const PIECES: [(&[u8], &str); 19] = [
    (b"and so on ", "and so on "),
    (b"x", "x"),
    ("é".as_bytes(), "é"),
    ("👨\u{200d}👩".as_bytes(), "👨\u{200d}👩"),
    ("日本".as_bytes(), "日本"),
    (b"\t", "\t"),
    (b"\\", "\\"),
    (b"\x1b[31m", "\\u{1b}[31m"),
    (b"\x00\x07", "\\u{0}\\u{7}"),
    (b"\x7f", "\\u{7f}"),
    ("\u{85}".as_bytes(), "\\u{85}"),
    ("\u{202e}\u{2066}".as_bytes(), "\\u{202e}\\u{2066}"),
    (b"\r", "\\r"),
    (b"\xff", "\\xff"),
    // The beginnings of characters, which the next piece does not complete.
    (b"\xc3", "\\xc3"),
    (b"\xf0\x9f", "\\xf0\\x9f"),
    (b"* user1 left", "* user1 left"),
    (b"<ann> ", "<ann> "),
    (b" /quit ", " /quit "),
];

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Empty,
    /// To be said to all others, shown like this.
    Say(String),
    /// A wish for a name; `None` if it is malformed.
    Name(Option<String>),
    Who,
    /// To be told to one alone.
    Whisper {
        to: String,
        text: String,
    },
    /// It gets the same answer whatever happens.
    Answered(String),
    TooLong,
    Quit,
}

#[derive(Clone, Debug)]
pub(crate) struct Phrase {
    pub(crate) start: usize,
    /// Behind its line ending.
    pub(crate) end: usize,
    /// Whether it has a line ending; without one it is a line only where the client half-closes.
    pub(crate) is_ended: bool,
    pub(crate) kind: Kind,
    /// Where it is in the transcript.
    pub(crate) entry: Option<usize>,
    /// Who was told, if it was told to one alone.
    pub(crate) reached: Option<usize>,
}

impl Phrase {
    /// Whether a line may be refused as too long where memory is short.
    pub(crate) fn is_huge(&self) -> bool {
        self.end - self.start > RESERVE
    }
}

/// A private line, as its addressee and its author are told it.
#[derive(Debug)]
pub(crate) struct Whisper<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) text: &'a str,
}

impl<'a> Whisper<'a> {
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let (from, rest) = line.strip_prefix('<')?.split_once(" -> ")?;
        let (to, text) = rest.split_once("> ")?;
        (!from.contains('>')).then_some(Self { from, to, text })
    }

    /// Whether it is told to its author alone, whose name is `own`. What one tells oneself is not told twice.
    pub(crate) fn confirms_to(&self, own: &str) -> bool {
        self.from == own && self.to != own
    }
}

/// All that a member sends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Speech {
    pub(crate) bytes: Vec<u8>,
    pub(crate) phrases: Vec<Phrase>,
    /// Which of them are whispers.
    whispers: Vec<usize>,
    /// Which of them is the first that asks to leave.
    quit: Option<usize>,
}

/// What a member likes to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Nothing,
    Talk,
    /// Commands of all kinds between the lines.
    Mixed,
    /// One command again and again, which brings more than it costs.
    Flood,
    /// As many private lines to one member.
    Pester,
    /// Short lines.
    Person,
}

impl Speech {
    /// Draws what member `id` sends, about `length` bytes.
    pub(crate) fn draw(random: &mut Rng, id: usize, manner: Manner, length: usize, max_line: usize) -> Self {
        let mut speech = Self::default();
        let victim = name(random, id);
        while manner != Manner::Nothing && speech.bytes.len() < length {
            let tag = format!("{id}.{}", speech.phrases.len());
            let (raw, kind) = match manner {
                Manner::Flood => (b"/who".to_vec(), Kind::Who),
                Manner::Person => {
                    let text = format!("{tag} {}", "x".repeat(random.usize(1..150)));
                    (text.clone().into_bytes(), Kind::Say(text))
                }
                Manner::Talk if random.u8(..8) > 0 => say(random, &tag, length, max_line),
                Manner::Pester if random.u8(..3) > 0 => whisper(random, &tag, &victim),
                _ => match random.u8(..20) {
                    0 => act(random, &tag),
                    1..8 => say(random, &tag, length, max_line),
                    8 | 9 => (Vec::new(), Kind::Empty),
                    10..13 => rename(random, id),
                    13 => (b"/who".to_vec(), Kind::Who),
                    14..18 => {
                        let to = name(random, id);
                        whisper(random, &tag, &to)
                    }
                    _ => answered(random, &tag),
                },
            };
            speech.push(random, &raw, kind, max_line);
        }
        if manner != Manner::Nothing && random.u8(..4) == 0 {
            let raw: &[u8] = [b"/quit".as_slice(), b"/quit and more"][random.usize(..2)];
            speech.push(random, raw, Kind::Quit, max_line);
            speech.push(random, b"never heard", Kind::Say("never heard".to_owned()), max_line);
        } else if random.bool() {
            // The tail may be anything.
            speech.cut_last_ending();
        }
        speech
    }

    fn push(&mut self, random: &mut Rng, raw: &[u8], kind: Kind, max_line: usize) {
        let start = self.bytes.len();
        let kind = if raw.len() > max_line { Kind::TooLong } else { kind };
        match kind {
            Kind::Whisper { .. } => self.whispers.push(self.phrases.len()),
            Kind::Quit => self.quit = self.quit.or(Some(self.phrases.len())),
            _ => {}
        }
        self.bytes.extend_from_slice(raw);
        self.bytes.extend_from_slice(if random.u8(..3) == 0 { b"\r\n" } else { b"\n" });
        self.phrases.push(Phrase { start, end: self.bytes.len(), is_ended: true, kind, entry: None, reached: None });
    }

    /// Takes the ending from the last line, unless nothing would be left of it.
    fn cut_last_ending(&mut self) {
        let Some(last) = self.phrases.last_mut().filter(|last| last.kind != Kind::Empty) else { return };
        while self.bytes.pop_if(|byte| matches!(byte, b'\r' | b'\n')).is_some() {}
        (last.end, last.is_ended) = (self.bytes.len(), false);
    }

    /// The whispers among the phrases that have begun in the first so many bytes.
    pub(crate) fn whispers(&self, taken: usize) -> impl Iterator<Item = &Phrase> {
        self.whispers.iter().map(|at| &self.phrases[*at]).take_while(move |phrase| phrase.start < taken)
    }

    /// Whether the first `taken` bytes ask to leave.
    pub(crate) fn asks_to_quit(&self, taken: usize) -> bool {
        self.quit.is_some_and(|quit| self.phrases[quit].end <= taken)
    }

    /// How many phrases the hub has to know of, once it has taken so many bytes, and heard of the end if it
    /// `has_end`. What comes after a `/quit` is not for it.
    pub(crate) fn complete(&self, taken: usize, has_end: bool) -> usize {
        let whole = self.phrases.partition_point(|phrase| phrase.end <= taken && (phrase.is_ended || has_end));
        self.quit.map_or(whole, |quit| whole.min(quit + 1))
    }
}

fn say(random: &mut Rng, tag: &str, length: usize, max_line: usize) -> (Vec<u8>, Kind) {
    let goal = match random.u8(..16) {
        0 => max_line,
        1 => max_line + random.usize(1..3),
        2 => max_line.saturating_sub(1),
        3 => max_line.saturating_mul(random.usize(1..4)),
        4..6 => random.usize(..=max_line),
        _ => random.usize(..100),
    };
    let goal = goal.min(length.max(200));
    let (mut raw, mut shown) = match random.u8(..8) {
        0 => (b"//".to_vec(), "/".to_owned()),
        1 => (b" ".to_vec(), " ".to_owned()),
        _ => (tag.as_bytes().to_vec(), tag.to_owned()),
    };
    // Some lines grow when they are shown, most do not.
    let kinds = if random.u8(..4) == 0 { PIECES.len() } else { 5 };
    while raw.len() + 20 < goal {
        let (piece, escaped) = PIECES[random.usize(..kinds)];
        let repeats = if random.u8(..8) == 0 { random.usize(..=(goal - raw.len()) / 20) } else { 1 };
        raw.extend(piece.repeat(repeats));
        shown.extend(std::iter::repeat_n(escaped, repeats));
    }
    // Also, no line ends in what might be taken for its line ending.
    let rest = goal.saturating_sub(raw.len()).max(1);
    raw.extend(std::iter::repeat_n(b'.', rest));
    shown.extend(std::iter::repeat_n('.', rest));
    (raw, Kind::Say(shown))
}

fn act(random: &mut Rng, tag: &str) -> (Vec<u8>, Kind) {
    let (piece, shown) = PIECES[random.usize(..PIECES.len())];
    let raw = [b"/me ", tag.as_bytes(), b" ", piece, b"!"].concat();
    (raw, Kind::Say(format!("*{tag} {shown}!*")))
}

fn whisper(random: &mut Rng, tag: &str, to: &str) -> (Vec<u8>, Kind) {
    let space = [" ", "  \t"][random.usize(..2)];
    let (piece, shown) = PIECES[random.usize(..PIECES.len())];
    let raw = [format!("/msg{space}{to}{space}{tag} ").as_bytes(), piece, b"!"].concat();
    (raw, Kind::Whisper { to: to.to_owned(), text: format!("{tag} {shown}!") })
}

fn rename(random: &mut Rng, id: usize) -> (Vec<u8>, Kind) {
    if random.u8(..4) == 0 {
        let wish = MALFORMED[random.usize(..MALFORMED.len())];
        return ([b"/name ", wish].concat(), Kind::Name(None));
    }
    let wish = name(random, id);
    (format!("/name {wish}").into_bytes(), Kind::Name(Some(wish)))
}

/// A line whose answer is its own.
fn answered(random: &mut Rng, tag: &str) -> (Vec<u8>, Kind) {
    let (raw, answer) = match random.u8(..6) {
        0 => ("/msg".to_owned(), "* /msg NAME TEXT".to_owned()),
        1 => (format!("/msg nobody{tag}"), "* /msg NAME TEXT".to_owned()),
        2 => ("/help".into(), "* /name NEW, /who, /msg NAME TEXT, /me ACTION, /help, /quit; //text says /text".into()),
        3 => ("/me".into(), "* /me ACTION".into()),
        4 => ("/ quit".into(), "* no such command: /; try /help".into()),
        _ => (format!("/nope{tag}\u{7} x"), format!("* no such command: /nope{tag}\\u{{7}}; try /help")),
    };
    (raw.into_bytes(), Kind::Answered(answer))
}

/// Somebody's name, or what somebody may want to be called.
fn name(random: &mut Rng, id: usize) -> String {
    match random.u8(..4) {
        0 => format!("user{}", random.usize(1..id + 4)),
        1 => format!("User{}", random.usize(1..id + 4)),
        _ => NAMES[random.usize(..NAMES.len())].0.to_owned(),
    }
}

/// What two names have in common that must not be there at once.
pub(crate) fn identity(name: &str) -> String {
    let known = NAMES.iter().find(|(spelled, _)| *spelled == name);
    known.map_or_else(|| name.to_ascii_lowercase(), |(_, identity)| (*identity).to_owned())
}

/// The refusal of a line that is longer than so many bytes.
pub(crate) fn too_long(limit: usize) -> String {
    let limit = match limit {
        0 => "0 bytes".to_owned(),
        _ if limit.is_multiple_of(1 << 20) => format!("{} MiB", limit >> 20),
        _ if limit.is_multiple_of(1 << 10) => format!("{} KiB", limit >> 10),
        _ => format!("{limit} bytes"),
    };
    format!("* line too long (limit {limit}), not sent")
}
