//! A hub and its clients, driven by bytes: every few of them are a setting, or something that a client, the
//! network, the clock or the operator does. No bytes are refused, so chance and a fuzzer can write them.
//!
//! Whatever is played, it ends with everybody reading on, ending their side and having time, and then nobody
//! may be left, every echo be whole, and everybody have heard what was said in the room while they were there.
//! [`World`] watches the turns: no spin, no wake-up in the past, nothing read twice.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::time::Duration;

use fastrand::Rng;
use sockets::Config;
use sockets::Event;
use sockets::PeerAddress;
use sockets::config::{Log, RESERVE};
use sockets::connection::Close;

use crate::socket::{Client, Nature, ReplyEnd};
use crate::world::{Poll, World};

/// The most clients that come.
const MOST_CLIENTS: usize = 12;

/// The most bytes that a client sends at once.
const MOST_AT_ONCE: usize = 300_000;

/// The most that a room keeps of what was said.
const MAX_HISTORY: usize = 32 << 10;

/// After so many turns in which nobody gets anything they are taken to go round in a circle.
const MOST_TURNS: usize = 3000;

/// In how many steps the network takes what somebody says at once.
const STEPS: usize = 500;

/// Plays what `bytes` say, and panics where a promise is broken.
pub(crate) fn play(bytes: &[u8]) {
    let mut tape = Tape(bytes);
    let config = config(&mut tape);
    let poll = [Poll::Genuine, Poll::Late, Poll::Spurious][tape.below(3)];
    let world = World::new(&config, poll, Rng::with_seed(tape.byte().into()));
    let reports_messages = !config.chat && config.log >= Log::Messages;
    let books =
        Books { echoes: !config.chat, reports_messages, may_ask: false, guests: BTreeMap::new(), said: Vec::new() };
    let mut stage = Stage { world, config, poll, books, narrowest: 1 << 20, is_stopping: false };
    while !tape.0.is_empty() {
        stage.step(&mut tape);
    }
    stage.end();
}

/// What is left of the script.
struct Tape<'a>(&'a [u8]);

impl<'a> Tape<'a> {
    /// The next byte; 0 where there is none.
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

fn config(tape: &mut Tape<'_>) -> Config {
    const SIZES: &[usize] = &[1 << 20, 0, 1, 20, 1000, 64 << 10, 100_000, 300_000, usize::MAX];
    const TIMES: &[Option<Duration>] =
        &[None, None, Some(Duration::from_millis(30)), Some(Duration::from_secs(5)), Some(Duration::MAX)];
    Config::with(|config| {
        // One byte says both, so that plays that were kept mean what they meant.
        let service = tape.byte();
        config.chat = service % 2 == 1;
        config.history = [0, 1, 5, usize::MAX][usize::from(service / 2) % 4];
        config.log = tape.one_of(&[Log::Messages, Log::Verbose, Log::Quiet]);
        config.log_max = tape.one_of(SIZES);
        config.max_pending = tape.one_of(SIZES);
        config.max_memory = tape.one_of(SIZES);
        config.max_line = tape.one_of(SIZES);
        config.max_ahead = tape.one_of(SIZES);
        config.idle_timeout = tape.one_of(TIMES);
        config.stall_timeout = tape.one_of(TIMES);
    })
}

struct Stage {
    world: World,
    config: Config,
    poll: Poll,
    books: Books,
    /// How many bytes are on the way at once where the network is narrowest.
    narrowest: usize,
    is_stopping: bool,
}

/// What is known of the clients, and what was told of them.
struct Books {
    echoes: bool,
    reports_messages: bool,
    /// Whether of each client a byte may be taken that counts for nothing, because it came after the stop: to find
    /// out whether an event was right that told of the end.
    may_ask: bool,
    guests: BTreeMap<PeerAddress, Guest>,
    /// What the operator was shown of the room, and who did it.
    said: Vec<(PeerAddress, String)>,
}

struct Guest {
    client: Client,
    number: usize,
    /// How many lines the operator had been shown before it came.
    before: usize,
    sent: Vec<u8>,
    got: Vec<u8>,
    /// How many of its bytes were told in messages.
    told: usize,
    close: Option<Close>,
    /// Whether it broke the connection, or closed it without reading on.
    has_broken: bool,
}

impl Stage {
    fn step(&mut self, tape: &mut Tape<'_>) {
        let command = tape.byte();
        let present: Vec<PeerAddress> = self.books.guests.keys().copied().collect();
        if command.is_multiple_of(16) || present.is_empty() {
            return self.accept(tape);
        }
        let who = present[tape.below(present.len())];
        let guest = self.books.guests.get_mut(&who).expect("it is there");
        match command % 16 {
            1..=3 => {
                let count = tape.below(40);
                guest.send(tape.bytes(count));
            }
            4 => guest.send(tape.one_of(&LINES)),
            5 => {
                let byte = tape.one_of(b"x\n\xc3\x80 /");
                let count = tape.one_of(&[1000, 1023, 20_000, 65_536, 65_537, MOST_AT_ONCE]);
                guest.send(&vec![byte; count.min(self.narrowest * STEPS)]);
            }
            6 => guest.receive(tape.one_of(&[1, 100, 5000, 1 << 20])),
            7 => guest.client.finish(),
            8 => {
                guest.has_broken = true;
                if tape.below(2) == 0 { guest.client.reset() } else { guest.client.close() }
            }
            9 | 10 => self.world.pass(Duration::from_millis([1, 49, 50, 1000, 10_000, 0][tape.below(6)])),
            11 if tape.below(8) == 0 && !self.is_stopping => {
                self.is_stopping = true;
                self.books.may_ask = self.config.chat && self.poll == Poll::Spurious;
                self.world.hub.drain();
                self.turn();
            }
            _ => {
                if self.world.poll() {
                    self.turn();
                }
            }
        }
    }

    fn accept(&mut self, tape: &mut Tape<'_>) {
        if self.books.guests.len() >= MOST_CLIENTS || self.is_stopping {
            return;
        }
        let sizes = [1 << 20, 1, 7, 100, 5000, 70_000];
        let send_buffer = tape.one_of(&sizes);
        let receive_buffer = tape.one_of(&sizes);
        self.narrowest = self.narrowest.min(send_buffer).min(receive_buffer);
        let nature = Nature {
            receive_buffer,
            send_buffer,
            wakes_at: if tape.below(2) == 0 { 1 } else { send_buffer.div_ceil(3) },
            interrupts: tape.one_of(&[0, 0, 2, 9]),
            reset_keeps_arrived: tape.below(2) == 0,
            seed: tape.byte().into(),
        };
        let (address, client) = self.world.accept(nature);
        let number = self.books.guests.len() + 1;
        let before = self.books.said.len();
        let guest =
            Guest { client, number, before, sent: vec![], got: vec![], told: 0, close: None, has_broken: false };
        self.books.guests.insert(address, guest);
    }

    fn turn(&mut self) {
        let Self { world, books, .. } = self;
        world.turn(|event| books.note(event));
        let held = self.world.hub.held();
        // In a room, one block of the feed is always there to be appended to, and a turn may bring as much; and a line has
        // an ending.
        let most = self.world.hub.len() * (RESERVE + 1);
        let limit = self.config.max_memory.saturating_add(most + if self.config.chat { 2 * RESERVE } else { 0 });
        assert!(held <= limit, "{held} bytes are held, {limit} may be");
        for guest in self.books.guests.values() {
            guest.check_turn();
        }
    }

    /// Everybody reads on and ends their side, and all that can happen does.
    fn end(mut self) {
        let (mut naps, mut turns) = (0, 0);
        while turns < MOST_TURNS {
            let mut has_read = false;
            for guest in self.books.guests.values_mut() {
                let before = guest.got.len();
                guest.receive(1 << 20);
                guest.client.finish();
                has_read |= guest.got.len() > before;
            }
            turns = if has_read { 0 } else { turns + 1 };
            if self.world.poll() {
                self.turn();
            } else if !has_read && self.world.is_idle() {
                // Who has been sent everything is not waited for.
                if naps > 100 || !self.world.sleep() {
                    return self.judge();
                }
                naps += 1;
            }
        }
        panic!("{MOST_TURNS} turns brought nothing");
    }

    fn judge(&mut self) {
        let World { hub, .. } = &self.world;
        assert!(hub.is_empty() && !hub.has_work(), "somebody is left");
        let kept = RESERVE + if self.config.history > 0 { MAX_HISTORY } else { 0 };
        assert!(hub.held() <= kept, "{} bytes are held for nobody", hub.held());
        for (&address, guest) in &self.books.guests {
            let is_whole = !guest.has_broken && guest.close == Some(Close::Finished);
            if is_whole {
                assert_eq!(guest.client.reply_end(), Some(ReplyEnd::Clean), "{}: the reply broke off", guest.number);
            }
            if self.books.echoes {
                assert!(!is_whole || guest.got == guest.sent, "{}: the echo is not whole", guest.number);
            } else {
                guest.check_heard(address, &self.books.said, is_whole);
            }
        }
    }
}

impl Books {
    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Message { peer, text, length } => {
                assert!(self.reports_messages);
                let guest = self.guests.get_mut(&peer).expect("a client that came");
                let message = &guest.sent[guest.told..][..length as usize];
                assert!(!message.is_empty() && message.starts_with(text));
                guest.told += message.len();
                assert_eq!(guest.told, guest.client.record().taken, "the messages are not all that was taken in");
            }
            Event::Closed { peer, close, received, sent } => {
                let guest = self.guests.get_mut(&peer).expect("a client that came");
                let record = guest.client.record();
                assert_eq!(guest.close.replace(close), None, "closed twice");
                let asked = record.taken - received as usize;
                assert!(asked <= usize::from(self.may_ask), "{asked} bytes were taken and not counted");
                assert_eq!(sent as usize, record.given);
                assert!(!self.reports_messages || guest.told == record.taken, "closed before its messages were told");
            }
            Event::Room { peer, notice } => {
                let line = &*notice.to_string();
                assert!(!self.echoes && !line.contains('\n'));
                self.said.push((peer, line.to_owned()));
            }
            _ => {}
        }
    }
}

impl Guest {
    fn send(&mut self, bytes: &[u8]) {
        let count = self.client.send(bytes);
        self.sent.extend_from_slice(&bytes[..count]);
    }

    fn receive(&mut self, limit: usize) {
        self.got.extend(self.client.receive(limit));
    }

    fn check_turn(&self) {
        let record = self.client.record();
        assert_eq!(record.is_dropped, self.close.is_some(), "dropped without a word, or told but not dropped");
    }

    /// What it was told is what was said while it was there, in that order, less what it said itself, and
    /// beside that only what is for it alone.
    fn check_heard(&self, address: PeerAddress, said: &[(PeerAddress, String)], is_whole: bool) {
        let heard = str::from_utf8(&self.got)
            .unwrap_or_else(|error| str::from_utf8(&self.got[..error.valid_up_to()]).expect("valid"));
        let mut lines: Vec<&str> = heard.split('\n').collect();
        let rest = lines.pop().expect("at least one");
        assert!(!is_whole || rest.is_empty(), "the last line has no end: {rest:?}");
        let Some((welcome, lines)) = lines.split_first() else { return };
        let name = welcome.strip_prefix("* welcome, ").and_then(|rest| rest.split_once(';')).expect("a welcome").0;
        let mut name = name.to_owned();
        let mut public = said[self.before..].iter().peekable();
        let mut is_newcomer = true;
        for line in lines {
            if is_private(line, &name) {
                continue;
            }
            is_newcomer &= !pass_own(&mut public, address, &name);
            let new = line.strip_prefix(&format!("* {name} is now "));
            // The others never knew the old name of a newcomer.
            let joined = new.filter(|_| is_newcomer).map(|new| format!("* {new} joined"));
            let next = public.next().map(|(_, line)| line.as_str());
            assert_eq!(next, joined.as_deref().or(Some(line)), "heard by {name}");
            if let Some(new) = new {
                (is_newcomer, name) = (false, new.to_owned());
            }
        }
        // It may have said more, and left.
        is_newcomer &= !pass_own(&mut public, address, &name);
        let missed = public.next().filter(|(author, _)| *author != address);
        // Nobody is told when one left that was never announced.
        assert!(!is_whole || is_newcomer || missed.is_none(), "{name} did not hear {missed:?}");
    }
}

/// Goes on over what the others were told of the member at `address`, and it was not. Returns whether it was announced
/// there.
fn pass_own<'a>(
    public: &mut Peekable<impl Iterator<Item = &'a (PeerAddress, String)>>,
    address: PeerAddress,
    name: &str,
) -> bool {
    let (said, joined) = (format!("<{name}> "), format!("* {name} joined"));
    let mut is_announced = false;
    while let Some((_, line)) =
        public.next_if(|(author, line)| *author == address && (line.starts_with(&said) || *line == joined))
    {
        is_announced |= *line == joined;
    }
    is_announced
}

/// Whether a line that `name` heard was for it alone, or confirms what it told another alone. Its own new name is not: all others hear the same.
fn is_private(line: &str, name: &str) -> bool {
    const BEGINNINGS: [&str; 12] = [
        "* earlier:",
        "| ",
        "* here: ",
        "* /name NEW, ",
        "* /msg NAME",
        "* /me ACTION",
        "* no such command: ",
        "* line too long ",
        "* a name has 1 ",
        "* you are ",
        "* nobody is called ",
        "* server is stopping",
    ];
    let words: Vec<&str> = line.split(' ').collect();
    let is_whisper =
        line.starts_with('<') && words[1] == "->" && (words[2] == format!("{name}>") || words[0] == format!("<{name}"));
    is_whisper
        || BEGINNINGS.iter().any(|beginning| line.starts_with(beginning))
        || matches!(words[..], ["*", _, "is", "taken"] | ["*", _, "is", "not", "reading;", ..])
}

/// What is said in rooms.
const LINES: [&[u8]; 17] = [
    b"hello\n",
    b"hello\r\n",
    b"no end",
    b"/name ann\n",
    b"/name bob\r\n",
    b"/name ANN\n",
    b"/name user2\n",
    b"/who\n",
    b"/help\n",
    b"/quit\n",
    b"/msg ann psst\n",
    b"/msg user1 psst\n",
    b"/msg user2 \xff\n",
    b"//quit\n",
    b"/me left\n",
    "/name é\n".as_bytes(),
    b"\n\n",
];
