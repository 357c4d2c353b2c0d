//! The wire protocol of Redis (RESP2), with limits on what a reply may take.

use memchr::memmem;
use redis_protocol::error::RedisProtocolError;
use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::encode::encode_borrowed;
use redis_protocol::resp2::types::{BorrowedFrame, RangeFrame};

/// The longest reply in bytes: one that has all that the log may hold, and then some.
const MAX_REPLY: usize = 80 << 20;

/// The deepest nesting of a reply. XREAD has four levels: streams, entries, one entry, its fields.
const MAX_DEPTH: usize = 8;

/// The memory that is kept for replies though it is not needed, in bytes.
pub(super) const KEPT: usize = 256 << 10;

/// A reply is not what the protocol allows, or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A reply of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    Text(&'a [u8]),
    Error(&'a [u8]),
    Integer(i64),
    List(Vec<Reply<'a>>),
    Nothing,
}

impl<'a> Reply<'a> {
    pub(super) fn text(&self) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A decimal number; the script returns all numbers as text, and knows none that are larger.
    pub(super) fn number(&self) -> Option<u64> {
        str::from_utf8(self.text()?).ok()?.parse().ok().filter(|number| *number <= 1 << 53)
    }

    pub(super) fn list(&self) -> Option<&[Reply<'a>]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    fn of(frame: RangeFrame, input: &'a [u8]) -> Self {
        match frame {
            RangeFrame::SimpleString((start, end)) | RangeFrame::BulkString((start, end)) => {
                Self::Text(&input[start..end])
            }
            RangeFrame::Error((start, end)) => Self::Error(&input[start..end]),
            RangeFrame::Integer(number) => Self::Integer(number),
            RangeFrame::Array(frames) => Self::List(frames.into_iter().map(|frame| Self::of(frame, input)).collect()),
            RangeFrame::Null => Self::Nothing,
        }
    }
}

/// The bytes of replies as they arrive.
#[derive(Debug, Default)]
pub(super) struct Replies {
    input: Vec<u8>,
    /// How many bytes of the input have been taken.
    taken: usize,
}

impl Replies {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next reply, if all of it is there.
    pub(super) fn next(&mut self) -> Result<Option<Reply<'_>>, Malformed> {
        let start = self.taken;
        let Some(len) = reply_len(&self.input[start..])? else {
            if self.input.len() - start > MAX_REPLY {
                return Err(Malformed);
            }
            self.input.drain(..start);
            self.input.shrink_to(KEPT);
            self.taken = 0;
            return Ok(None);
        };
        self.taken += len;
        let reply = &self.input[start..start + len];
        match decode_range(reply) {
            Ok(Some((frame, _))) => Ok(Some(Reply::of(frame, reply))),
            Ok(None) | Err(_) => Err(Malformed),
        }
    }
}

/// The length of the reply that `input` begins with, if all of it is there. The decoder, which begins anew whenever
/// more has come and knows no limit of nesting, is only given replies that are complete and shallow.
fn reply_len(input: &[u8]) -> Result<Option<usize>, Malformed> {
    // How many items are still to come in each list that is open.
    let mut open = vec![1_usize];
    let mut at = 0;
    while let Some(count) = open.last_mut() {
        if *count == 0 {
            open.pop();
            continue;
        }
        *count -= 1;
        let Some(end) = input.get(at..).and_then(|rest| memmem::find(rest, b"\r\n")) else { return Ok(None) };
        let Some((kind, argument)) = input[at..at + end].split_first() else { return Err(Malformed) };
        at += end + 2;
        let size = || str::from_utf8(argument).ok().and_then(|text| text.parse::<isize>().ok()).ok_or(Malformed);
        match kind {
            b'+' | b'-' | b':' => {}
            b'*' if open.len() == MAX_DEPTH => return Err(Malformed),
            b'*' => open.push(usize::try_from(size()?).unwrap_or(0)),
            b'$' => at = usize::try_from(size()?).map_or(at, |size| at.saturating_add(size).saturating_add(2)),
            _ => return Err(Malformed),
        }
    }
    Ok((at <= input.len()).then_some(at))
}

/// Appends a command to `output`.
pub(super) fn command(output: &mut Vec<u8>, words: &[impl AsRef<[u8]>]) -> Result<(), RedisProtocolError> {
    let words: Vec<_> = words.iter().map(|word| BorrowedFrame::BulkString(word.as_ref())).collect();
    let frame = BorrowedFrame::Array(&words);
    let start = output.len();
    output.resize(start + frame.encode_len(false), 0);
    encode_borrowed(&mut output[start..], &frame, false)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_found_wherever_their_bytes_are_cut() {
        let input = b"+OK\r\n*3\r\n$5\r\na\r\nb\n\r\n:7\r\n*-1\r\n$-1\r\n-ERR no\r\n*0\r\n";
        let list = Reply::List(vec![Reply::Text(b"a\r\nb\n"), Reply::Integer(7), Reply::Nothing]);
        let expected = [Reply::Text(b"OK"), list, Reply::Nothing, Reply::Error(b"ERR no"), Reply::List(Vec::new())];
        for size in 1..=input.len() {
            let mut replies = Replies::default();
            let mut found = 0;
            for piece in input.chunks(size) {
                replies.push(piece);
                while let Some(reply) = replies.next().expect("the protocol") {
                    assert_eq!(reply, expected[found], "in pieces of {size}");
                    found += 1;
                }
            }
            assert_eq!(found, expected.len(), "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_reply_or_too_deep_is_refused() {
        let deep = b"*1\r\n".repeat(1_000_000);
        for input in [&b"hello\r\n"[..], b"$x\r\n", b"\r\n", b"*2\r\n:1\r\n?\r\n", b":x\r\n", &deep] {
            let mut replies = Replies::default();
            replies.push(input);
            assert_eq!(replies.next(), Err(Malformed), "{}", input[..input.len().min(20)].escape_ascii());
        }
    }

    #[test]
    fn a_reply_without_end_is_refused_and_one_that_promises_too_much_is_waited_for() {
        let mut replies = Replies::default();
        replies.push(b"*1000000000\r\n$1000000000000\r\n");
        assert_eq!(replies.next(), Ok(None));
        replies.push(&vec![b'x'; MAX_REPLY]);
        assert_eq!(replies.next(), Err(Malformed));
    }

    #[test]
    fn a_command_is_a_list_of_texts() {
        let mut output = b"before".to_vec();
        command(&mut output, &["XREAD", "a\r\nb", ""]).expect("it fits");
        assert_eq!(output, b"before*3\r\n$5\r\nXREAD\r\n$4\r\na\r\nb\r\n$0\r\n\r\n");
    }
}
