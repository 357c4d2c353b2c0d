//! A model of Redis: what the engine's script does, told once more in another language, XREAD, and the replies.

use std::collections::BTreeMap;

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::encode::encode;
use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame};

type Bytes = Vec<u8>;

/// The data of a room. A copy that is put back later is a Redis that has lost what came since.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    epoch: Option<Bytes>,
    /// The position of its first entry.
    begin: u64,
    pub(super) top: u64,
    users: u64,
    /// When a server last called.
    called: u64,
    /// What members said that the log knew, with the positions.
    lines: Vec<(u64, String)>,
    /// Server, batch and changes.
    entries: BTreeMap<u64, [Bytes; 3]>,
    leases: BTreeMap<Bytes, u64>,
    floors: BTreeMap<Bytes, u64>,
    /// Run, batch, position.
    sequences: BTreeMap<Bytes, (u64, u64, u64)>,
    pub(super) members: BTreeMap<Bytes, Member>,
    names: BTreeMap<Bytes, Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    is_announced: bool,
    pub(super) name: Bytes,
    forms: Vec<Bytes>,
}

/// What differs from one simulation to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// In milliseconds.
    pub(super) lease: u64,
    /// How many entries are kept.
    pub(super) entries: usize,
}

/// How long nobody may have called for it to be Redis' fault, in milliseconds.
const SILENCE: u64 = 3000;

/// How many entries are told to a server that enters an epoch late.
const EARLIER: usize = 64;

/// The members and the texts of packed lines: nodes do nothing else that is appended as it is.
fn lines(mut changes: &[u8]) -> Vec<(&[u8], String)> {
    let mut lines = Vec::new();
    while let [b's', length, rest @ ..] = changes {
        let (member, rest) = rest.split_at(usize::from(*length));
        let (length, rest) = rest.split_first_chunk().expect("a length");
        let (text, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        lines.push((member, String::from_utf8_lossy(text).into_owned()));
        changes = rest;
    }
    lines
}

fn text(text: impl AsRef<[u8]>) -> OwnedFrame {
    OwnedFrame::BulkString(text.as_ref().to_vec())
}

fn number(number: u64) -> OwnedFrame {
    text(number.to_string())
}

fn parse(text: &[u8]) -> u64 {
    str::from_utf8(text).expect("text").parse().expect("a number")
}

fn short(text: &[u8]) -> Bytes {
    [&[text.len() as u8], text].concat()
}

/// The number with which an epoch begins.
fn generation(epoch: Option<&[u8]>) -> u64 {
    let number = epoch.unwrap_or_default().split(|byte| *byte == b'-').next().unwrap_or_default();
    if number.is_empty() { 0 } else { parse(number) }
}

impl Data {
    /// Calls the script with these `ARGV`.
    fn call(&mut self, words: &[Bytes], now: u64, limits: Limits) -> OwnedFrame {
        let [call, version, server, run, rest @ ..] = words else { panic!("{words:?}") };
        assert_eq!(version, b"1");
        let run = parse(run);
        let reply = match &call[..] {
            b"enter" => self.enter((server, run), rest, now, limits),
            b"apply" => self.apply((server, run), rest, now, limits),
            b"bye" => self.bye((server, run), limits),
            _ => panic!("{words:?}"),
        };
        OwnedFrame::Array(reply)
    }

    fn append(&mut self, server: &[u8], batch: Bytes, changes: Bytes, limits: Limits) {
        self.top += 1;
        self.entries.insert(self.top, [server.to_vec(), batch, changes]);
        while self.entries.len() > limits.entries {
            self.entries.pop_first();
        }
    }

    fn forget_members(&mut self, server: &[u8]) {
        let ids: Vec<Bytes> = self.members.keys().filter(|id| id.starts_with(server)).cloned().collect();
        for id in ids {
            self.members.remove(&id);
            self.names.retain(|_, holder| *holder != id);
        }
    }

    fn remove_server(&mut self, server: &[u8], lost: &[u8], limits: Limits) {
        self.forget_members(server);
        self.leases.remove(server);
        self.floors.remove(server);
        self.append(server, b"g".to_vec(), [b"g", &short(server)[..], lost].concat(), limits);
    }

    fn extend_lease(&mut self, server: &[u8], now: u64, limits: Limits) {
        self.leases.insert(server.to_vec(), now + limits.lease);
        let was_silent = self.called + SILENCE < now;
        for (other, ends) in self.leases.clone() {
            if was_silent {
                self.leases.insert(other, now + limits.lease);
            } else if ends < now {
                self.remove_server(&other, b"1", limits);
            }
        }
        self.called = now;
    }

    fn lowest_floor(&self, server: &[u8]) -> OwnedFrame {
        let floors = self.floors.iter().filter(|(other, _)| *other != server).map(|(_, floor)| *floor);
        floors.min().map_or_else(|| text(""), number)
    }

    fn are_free(&self, forms: &[Bytes], id: &Bytes) -> bool {
        forms.iter().all(|form| self.names.get(form).is_none_or(|holder| holder == id))
    }

    fn new_name(&mut self) -> Bytes {
        loop {
            self.users += 1;
            let name = format!("user{}", self.users).into_bytes();
            if !self.names.contains_key(&name) {
                return name;
            }
        }
    }

    fn store(&mut self, id: &Bytes, is_announced: bool, name: &[u8], forms: &[Bytes]) {
        self.names.retain(|_, holder| holder != id);
        self.names.extend(forms.iter().map(|form| (form.clone(), id.clone())));
        self.members.insert(id.clone(), Member { is_announced, name: name.to_vec(), forms: forms.to_vec() });
    }

    fn enter(&mut self, (server, run): (&Bytes, u64), words: &[Bytes], now: u64, limits: Limits) -> Vec<OwnedFrame> {
        let [believed, is_lost, random, answered, floor, records @ ..] = words else { panic!("{words:?}") };
        let last = self.sequences.get(server).copied();
        if last.is_some_and(|(last, ..)| run <= last) {
            return vec![text("stale")];
        }
        let (known, believed_generation) = (generation(self.epoch.as_deref()), generation(Some(believed)));
        let has_lost = match &self.epoch {
            Some(epoch) if epoch == believed => is_lost == b"1",
            Some(_) => believed_generation >= known,
            None => true,
        };
        if self.epoch.is_none() {
            *self = Self { called: self.called, ..Self::default() };
        }
        if has_lost {
            let generation = known.max(believed_generation) + 1;
            self.epoch = Some([generation.to_string().as_bytes(), b"-", random].concat());
            self.begin = self.top + 1;
        }
        let is_late = !believed.is_empty() && Some(believed) != self.epoch.as_ref();
        let earlier = if is_late { self.earlier() } else { Vec::new() };
        self.extend_lease(server, now, limits);
        self.forget_members(server);
        let mut recorded = Vec::new();
        for record in records.chunks(5) {
            let id = [&server[..], b":", &record[0]].concat();
            let (mut name, mut forms) = (record[2].clone(), record[3..].to_vec());
            if let Some(given) = name.strip_prefix(b"user").and_then(|rest| str::from_utf8(rest).ok()?.parse().ok()) {
                self.users = self.users.max(given);
            }
            if !self.are_free(&forms, &id) {
                name = self.new_name();
                forms = vec![name.clone()];
            }
            self.store(&id, record[1] == b"1", &name, &forms);
            recorded.extend([&short(&record[0])[..], &short(&name), &record[1]].concat());
        }
        let count = (records.len() / 5).to_string();
        let changes = [b"e", &short(server)[..], &short(count.as_bytes()), &recorded].concat();
        self.append(server, format!("e{run}").into_bytes(), changes, limits);
        let floor = if floor.is_empty() { self.top + 1 } else { parse(floor) };
        self.floors.insert(server.clone(), floor);
        let applied = last.map_or(0, |(_, batch, _)| batch);
        self.sequences.insert(server.clone(), (run, applied.max(parse(answered)), self.top));
        let members = self.members.iter().flat_map(|(id, member)| {
            let flag: &[u8] = if member.is_announced { b"1" } else { b"0" };
            [text(id), text([flag, b"\n", &member.name, b"\n", &member.forms[0]].concat())]
        });
        let members = OwnedFrame::Array(members.collect());
        let epoch = text(self.epoch.as_deref().unwrap_or_default());
        let earlier = OwnedFrame::Array(earlier);
        vec![text("entered"), epoch, number(self.top), number(applied), self.lowest_floor(server), members, earlier]
    }

    /// The last entries of the epoch, from the newest to the oldest.
    fn earlier(&self) -> Vec<OwnedFrame> {
        let entries = self.entries.range(self.begin..).rev().take(EARLIER);
        entries.flat_map(|(_, entry)| entry.iter().map(text)).collect()
    }

    /// The lines that a server has to have heard: those of this epoch, if it has entered that once and not too late.
    pub(super) fn heard_by(&self, server: &str) -> impl Iterator<Item = &String> {
        let has_entered = |entry: &[Bytes; 3]| entry[0] == server.as_bytes() && entry[1].starts_with(b"e");
        let mut entered = self.entries.range(self.begin..).filter(|(_, entry)| has_entered(entry));
        let first = entered.next().map(|(position, _)| *position).filter(|_| entered.next().is_none());
        let is_early = first.is_some_and(|position| position <= self.begin + EARLIER as u64);
        self.lines.iter().filter(move |(position, _)| is_early && *position >= self.begin).map(|(_, line)| line)
    }

    fn apply(&mut self, (server, run): (&Bytes, u64), words: &[Bytes], now: u64, limits: Limits) -> Vec<OwnedFrame> {
        let [believed, batch, floor, ops @ ..] = words else { panic!("{words:?}") };
        if self.epoch.as_ref() != Some(believed) {
            return vec![text("epoch")];
        }
        let (Some((last_run, last, mut position)), true) =
            (self.sequences.get(server).copied(), self.leases.contains_key(server))
        else {
            return vec![text("unknown"), number(self.top)];
        };
        let batch = parse(batch);
        match () {
            () if last_run != run => return vec![text("stale")],
            () if batch > last + 1 => return vec![text("gap")],
            () if batch != 0 && batch < last => return vec![text("stale")],
            () => {}
        }
        self.extend_lease(server, now, limits);
        self.floors.insert(server.clone(), parse(floor));
        if batch == last + 1 {
            let changes = self.evaluate(server, ops);
            self.append(server, batch.to_string().into_bytes(), changes, limits);
            position = self.top;
            self.sequences.insert(server.clone(), (run, batch, position));
        }
        vec![text("ok"), number(self.top), number(position), self.lowest_floor(server)]
    }

    fn evaluate(&mut self, server: &[u8], mut ops: &[Bytes]) -> Bytes {
        let mut changes = Vec::new();
        while let [kind, member, rest @ ..] = ops {
            let id = [server, b":", member].concat();
            let known = self.members.get(&id).cloned();
            ops = rest;
            match (&kind[..], known) {
                (b"R", _) => {
                    let is_known = |author: &[u8]| self.members.contains_key(&[server, b":", author].concat());
                    let said = lines(member).into_iter().filter(|(author, _)| is_known(author));
                    self.lines.extend(said.map(|(_, line)| (self.top + 1, line)));
                    changes.extend_from_slice(member);
                }
                (b"J", known) => {
                    let name = known.map(|known| known.name).unwrap_or_else(|| {
                        let name = self.new_name();
                        self.store(&id, false, &name, std::slice::from_ref(&name));
                        name
                    });
                    changes.extend([b"j", &short(member)[..], &short(&name)].concat());
                }
                (b"A", Some(known)) => {
                    self.store(&id, true, &known.name, &known.forms);
                    changes.extend([b"a", &short(member)[..]].concat());
                }
                (b"N", known) => {
                    let (name, forms) = (&rest[0], &rest[1..3]);
                    ops = &rest[3..];
                    let is_free = self.are_free(forms, &id);
                    if known.is_some() {
                        let kind: &[u8] = if is_free { b"n" } else { b"t" };
                        changes.extend([kind, &short(member)[..], &short(name)].concat());
                    }
                    if known.is_some() && is_free {
                        self.store(&id, true, name, forms);
                    }
                }
                (b"L", known) => {
                    ops = &rest[1..];
                    self.members.remove(&id);
                    self.names.retain(|_, holder| *holder != id);
                    if let Some(known) = known {
                        let is_newest = known.name == format!("user{}", self.users).into_bytes();
                        self.users -= u64::from(!known.is_announced && is_newest);
                        changes.extend_from_slice(&rest[0]);
                    }
                }
                (b"A", None) => {}
                _ => panic!("{kind:?}"),
            }
        }
        changes
    }

    fn bye(&mut self, (server, run): (&Bytes, u64), limits: Limits) -> Vec<OwnedFrame> {
        let is_known = self.sequences.get(server).is_some_and(|(last, ..)| *last == run);
        if is_known && self.leases.contains_key(server) {
            self.remove_server(server, b"0", limits);
        }
        vec![text("bye")]
    }

    fn read(&self, after: u64, count: usize) -> Option<OwnedFrame> {
        let entries = self.entries.range(after + 1..).take(count).map(|(position, [server, batch, changes])| {
            let fields = [text("s"), text(server), text("b"), text(batch), text("o"), text(changes)];
            OwnedFrame::Array(vec![text(format!("{position}-0")), OwnedFrame::Array(fields.into())])
        });
        let entries: Vec<_> = entries.collect();
        let stream = || OwnedFrame::Array(vec![text("log"), OwnedFrame::Array(entries.clone())]);
        (!entries.is_empty()).then(|| OwnedFrame::Array(vec![stream()]))
    }
}

/// One connection as Redis has it.
#[derive(Debug, Default)]
pub(super) struct Session {
    input: Bytes,
    pub(super) output: Bytes,
    /// A read that waits: after which entry, how many, and until when.
    blocked: Option<(u64, usize, u64)>,
}

/// A Redis with the data of a room.
#[derive(Debug)]
pub(super) struct Redis {
    pub(super) data: Data,
    pub(super) limits: Limits,
    pub(super) has_script: bool,
    /// What it answers to each call of the script instead, if anything.
    pub(super) refusal: Option<&'static str>,
}

impl Redis {
    /// Takes what has come from a connection, and answers what can be answered at this time.
    pub(super) fn serve(&mut self, session: &mut Session, bytes: &[u8], now: u64) {
        session.input.extend_from_slice(bytes);
        loop {
            if let Some((after, count, until)) = session.blocked {
                let found = self.data.read(after, count);
                if found.is_none() && now < until {
                    return;
                }
                session.blocked = None;
                session.answer(&found.unwrap_or(OwnedFrame::Null));
            }
            let Some((command, len)) = decode(&session.input).expect("the protocol") else { return };
            session.input.drain(..len);
            let OwnedFrame::Array(words) = command else { panic!("{command:?}") };
            let word = |word| match word {
                OwnedFrame::BulkString(word) => word,
                word => panic!("{word:?}"),
            };
            let words: Vec<Bytes> = words.into_iter().map(word).collect();
            self.answer(session, &words, now);
        }
    }

    fn answer(&mut self, session: &mut Session, words: &[Bytes], now: u64) {
        let reply = match &words[0][..] {
            b"SCRIPT" => {
                self.has_script = true;
                text("0123456789012345678901234567890123456789")
            }
            b"EVALSHA" if !self.has_script => OwnedFrame::Error("NOSCRIPT No matching script.".into()),
            b"EVALSHA" if self.refusal.is_some() => OwnedFrame::Error(self.refusal.unwrap_or_default().into()),
            b"EVALSHA" => self.data.call(&words[10..], now, self.limits),
            b"XREAD" => {
                let id = words.last().and_then(|id| id.strip_suffix(b"-0")).expect("an id");
                let (after, count) = (parse(id), parse(&words[2]) as usize);
                if words[3] == b"BLOCK" {
                    session.blocked = Some((after, count, now + parse(&words[4])));
                    return;
                }
                self.data.read(after, count).unwrap_or(OwnedFrame::Null)
            }
            _ => panic!("{words:?}"),
        };
        session.answer(&reply);
    }
}

impl Session {
    fn answer(&mut self, reply: &OwnedFrame) {
        let start = self.output.len();
        self.output.resize(start + reply.encode_len(false), 0);
        encode(&mut self.output[start..], reply, false).expect("it fits");
    }
}
