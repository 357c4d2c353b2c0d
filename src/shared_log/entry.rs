//! How operations are passed to the script, and how an entry of the log is read.
//!
//! A packed change is a letter and its fields. A text of at most 255 bytes has its length before it in one byte, a line
//! in four; numbers are decimal texts. The script copies what members say as it is, and packs the outcome of the rest.

use super::{Change, MemberId, MemberRecord, Op, ServerId};
use crate::names::{forms, is_well_formed};

/// Appends what the script is to evaluate for `ops`. What is only to be appended to the log goes in one piece.
pub(super) fn pack(ops: &[Op], words: &mut Vec<Vec<u8>>) {
    let mut raw = Vec::new();
    for op in ops {
        match op {
            Op::Say { .. } | Op::Whisper { .. } | Op::Unread { .. } => {
                pack_raw(op, &mut raw);
                continue;
            }
            _ if !raw.is_empty() => words.extend([b"R".to_vec(), std::mem::take(&mut raw)]),
            _ => {}
        }
        pack_evaluated(op, words);
    }
    if !raw.is_empty() {
        words.extend([b"R".to_vec(), raw]);
    }
}

/// The packed length of an operation, roughly.
pub(super) fn packed_len(op: &Op) -> usize {
    const FIELDS: usize = 48;
    FIELDS
        + match op {
            Op::Say { text, .. } | Op::Whisper { text, .. } => text.len(),
            Op::Rename { name, .. } => 3 * name.len(),
            Op::Leave { reason, .. } => reason.as_ref().map_or(0, String::len),
            Op::Join { .. } | Op::Announce { .. } | Op::Unread { .. } => 0,
        }
}

fn pack_raw(op: &Op, out: &mut Vec<u8>) {
    match op {
        Op::Say { member, text } => {
            out.push(b's');
            short(out, &decimal(*member));
            long(out, text);
        }
        Op::Whisper { member, to, text } => {
            out.push(b'w');
            short(out, &decimal(*member));
            short(out, to.server.to_string().as_bytes());
            short(out, &decimal(to.number));
            long(out, text);
        }
        Op::Unread { member, to } => {
            out.push(b'u');
            short(out, &decimal(*member));
            short(out, to.server.to_string().as_bytes());
            short(out, &decimal(to.number));
        }
        Op::Join { .. } | Op::Announce { .. } | Op::Rename { .. } | Op::Leave { .. } => {}
    }
}

fn pack_evaluated(op: &Op, words: &mut Vec<Vec<u8>>) {
    match op {
        Op::Join { member } => words.extend([b"J".to_vec(), decimal(*member)]),
        Op::Announce { member } => words.extend([b"A".to_vec(), decimal(*member)]),
        Op::Rename { member, name } => {
            words.extend([b"N".to_vec(), decimal(*member), name.clone().into_bytes()]);
            words.extend(forms(name).map(String::into_bytes));
        }
        Op::Leave { member, reason } => {
            let mut change = vec![if reason.is_some() { b'L' } else { b'l' }];
            short(&mut change, &decimal(*member));
            if let Some(reason) = reason {
                short(&mut change, reason.as_bytes());
            }
            words.extend([b"L".to_vec(), decimal(*member), change]);
        }
        Op::Say { .. } | Op::Whisper { .. } | Op::Unread { .. } => {}
    }
}

pub(super) fn decimal(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// At most 255 bytes of a text, with its length.
fn short(out: &mut Vec<u8>, text: &[u8]) {
    let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
    out.push(len);
    out.extend_from_slice(&text[..usize::from(len)]);
}

fn long(out: &mut Vec<u8>, text: &[u8]) {
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&text[..len as usize]);
}

/// The changes of an entry that `server` wrote, and whether all of it could be read.
pub(super) fn unpack(mut packed: &[u8], server: ServerId) -> (Vec<Change>, bool) {
    let mut changes = Vec::new();
    while !packed.is_empty() {
        let Some(change) = unpack_change(&mut packed, server) else { return (changes, false) };
        changes.push(change);
    }
    (changes, true)
}

fn unpack_change(rest: &mut &[u8], server: ServerId) -> Option<Change> {
    let kind = take(rest, 1)?[0];
    if matches!(kind, b'e' | b'g') {
        return unpack_of_server(kind, rest);
    }
    let member = MemberId { server, number: take_number(rest)? };
    Some(match kind {
        b'j' => Change::Joined { member, name: take_name(rest)? },
        b'a' => Change::Announced { member },
        b'n' => Change::Renamed { member, name: take_name(rest)? },
        b't' => Change::Taken { member, name: take_name(rest)? },
        b's' => Change::Said { member, text: take_long(rest)?.to_vec() },
        b'w' => Change::Whispered { member, to: take_member(rest)?, text: take_long(rest)?.to_vec() },
        b'u' => Change::Unread { member, to: take_member(rest)? },
        b'l' => Change::Left { member, reason: None },
        b'L' => Change::Left { member, reason: Some(take_string(rest)?) },
        _ => return None,
    })
}

fn unpack_of_server(kind: u8, rest: &mut &[u8]) -> Option<Change> {
    let server = parse_server(take_short(rest)?)?;
    if kind == b'g' {
        return Some(Change::Gone { server, is_lost: take(rest, 1)? == b"1" });
    }
    let count = take_number(rest)?;
    let members = (0..count).map(|_| {
        let member = MemberId { server, number: take_number(rest)? };
        Some(MemberRecord { member, name: take_name(rest)?, is_announced: take(rest, 1)? == b"1" })
    });
    Some(Change::Entered { server, members: members.collect::<Option<_>>()? })
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    rest.split_off(..count)
}

fn take_short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take(rest, 1)?[0];
    take(rest, usize::from(len))
}

fn take_long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u32::from_be_bytes(take(rest, 4)?.try_into().ok()?);
    take(rest, usize::try_from(len).ok()?)
}

fn take_string(rest: &mut &[u8]) -> Option<String> {
    String::from_utf8(take_short(rest)?.to_vec()).ok()
}

/// A name ends up on terminals, and what is in Redis may come from anybody who has access to it.
fn take_name(rest: &mut &[u8]) -> Option<String> {
    take_string(rest).filter(|name| is_well_formed(name))
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    str::from_utf8(take_short(rest)?).ok()?.parse().ok()
}

fn take_member(rest: &mut &[u8]) -> Option<MemberId> {
    Some(MemberId { server: parse_server(take_short(rest)?)?, number: take_number(rest)? })
}

pub(super) fn parse_server(text: &[u8]) -> Option<ServerId> {
    u128::from_str_radix(str::from_utf8(text).ok()?, 16).ok().map(ServerId)
}

/// A member as the hash of all members has it: `server:number`, and a line each for whether it is announced, its name and
/// its forms.
pub(super) fn parse_record(id: &[u8], record: &[u8]) -> Option<MemberRecord> {
    let (server, number) = str::from_utf8(id).ok()?.split_once(':')?;
    let mut lines = str::from_utf8(record).ok()?.split('\n');
    let member = MemberId { server: parse_server(server.as_bytes())?, number: number.parse().ok()? };
    let (is_announced, name) = (lines.next()? == "1", lines.next()?);
    is_well_formed(name).then(|| MemberRecord { member, is_announced, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: ServerId = ServerId(7);

    #[test]
    fn what_is_said_comes_back_as_it_was() {
        let member = MemberId { server: SERVER, number: 12 };
        let to = MemberId { server: ServerId(u128::MAX), number: u64::MAX };
        let text: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let ops = [
            Op::Say { member: 12, text: text.clone() },
            Op::Whisper { member: 12, to, text: Vec::new() },
            Op::Unread { member: 12, to },
        ];
        let mut words = Vec::new();
        pack(&ops, &mut words);
        let [kind, packed] = &words[..] else { panic!("{} words", words.len()) };
        assert_eq!(kind, b"R");
        let said = Change::Said { member, text };
        let whispered = Change::Whispered { member, to, text: Vec::new() };
        let expected = vec![said, whispered, Change::Unread { member, to }];
        assert_eq!(unpack(packed, SERVER), (expected, true));
        assert!(!unpack(&packed[..packed.len() - 1], SERVER).1);
    }

    #[test]
    fn what_has_an_outcome_is_passed_in_its_place() {
        let say = || Op::Say { member: 1, text: b"x".to_vec() };
        let leave = Op::Leave { member: 1, reason: Some("idle".to_owned()) };
        let mut words = Vec::new();
        pack(&[say(), Op::Rename { member: 1, name: "Ann".to_owned() }, say(), say(), leave], &mut words);
        let words: Vec<String> = words.iter().map(|word| word.escape_ascii().to_string()).collect();
        let (raw, twice) = (r"s\x011\x00\x00\x00\x01x", r"s\x011\x00\x00\x00\x01xs\x011\x00\x00\x00\x01x");
        let expected = ["R", raw, "N", "1", "Ann", "ann", "ann", "R", twice, "L", "1", r"L\x011\x04idle"];
        assert_eq!(words, expected);
    }

    #[test]
    fn a_name_that_is_not_well_formed_breaks_an_entry() {
        assert_eq!(unpack(b"j\x011\x03\x1b[2", SERVER), (Vec::new(), false));
        let (changes, is_whole) = unpack(b"a\x011x", SERVER);
        assert_eq!((changes.len(), is_whole), (1, false));
        assert_eq!(parse_record(b"7:1", b"1\n\x1b[2\na\nb"), None);
        assert!(
            parse_record(b"7:1", b"1\nann\na\nb").is_some_and(|record| record.is_announced && record.name == "ann")
        );
    }
}
