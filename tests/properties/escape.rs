//! Whatever is sent becomes one safe line, which says exactly what was sent.

use proptest::prelude::*;
use sockets::escape::{StreamEscaper, Style, escape, incomplete_tail};

use crate::{any, for_all};

#[test]
fn a_line_of_the_log_can_be_turned_back_into_the_bytes() {
    for_all(any::bytes(), |bytes| {
        let line = escaped(&bytes, Style::Log);
        prop_assert!(line.chars().all(is_harmless), "{line:?}");
        prop_assert_eq!(unescaped(&line), bytes);
        Ok(())
    });
}

#[test]
fn text_for_people_is_that_of_the_log_with_newlines_tabs_and_backslashes_as_they_are() {
    for_all(any::bytes(), |bytes| {
        let mut expected = String::new();
        for piece in bytes.split_inclusive(|byte| b"\n\t\\".contains(byte)) {
            match piece.split_last() {
                Some((last @ (b'\n' | b'\t' | b'\\'), rest)) => {
                    expected.push_str(&escaped(rest, Style::Log));
                    expected.push((*last).into());
                }
                _ => expected.push_str(&escaped(piece, Style::Log)),
            }
        }
        prop_assert_eq!(escaped(&bytes, Style::Text), expected);
        Ok(())
    });
}

#[test]
fn a_stream_is_escaped_like_the_whole() {
    for_all((any::cut(any::bytes()), prop::bool::ANY), |(pieces, is_log)| {
        let style = if is_log { Style::Log } else { Style::Text };
        let whole = escaped(&pieces.concat(), style);
        let mut escaper = StreamEscaper::new(style);
        let mut out = String::new();
        let mut pushed = Vec::new();
        for piece in &pieces {
            escaper.push(&mut out, piece);
            pushed.extend_from_slice(piece);
            // Nothing but a character that is not whole yet is held back.
            pushed.truncate(pushed.len() - incomplete_tail(&pushed));
            prop_assert_eq!(&out, &escaped(&pushed, style));
            let held = pieces.concat()[pushed.len()..].to_vec();
            let come = pieces.iter().take_while(|other| !std::ptr::eq(*other, piece)).map(Vec::len).sum::<usize>();
            pushed.extend_from_slice(&held[..come + piece.len() - pushed.len()]);
        }
        escaper.finish(&mut out);
        prop_assert_eq!(out, whole);
        Ok(())
    });
}

#[test]
fn a_tail_is_incomplete_exactly_if_a_character_can_come_of_it() {
    /// Whether some bytes after these would make exactly one character.
    fn is_beginning(bytes: &[u8], more: usize) -> bool {
        let is_whole = |bytes: &[u8]| str::from_utf8(bytes).is_ok_and(|text| text.chars().count() == 1);
        // Of every group of continuation bytes that UTF-8 treats alike, the first.
        more > 0
            && [0x80, 0x90, 0xa0].into_iter().any(|byte| {
                let longer = [bytes, &[byte]].concat();
                is_whole(&longer) || is_beginning(&longer, more - 1)
            })
    }
    for_all(any::bytes(), |bytes| {
        let expected = (1..=bytes.len().min(3)).find(|count| is_beginning(&bytes[bytes.len() - count..], 4 - count));
        prop_assert_eq!(incomplete_tail(&bytes), expected.unwrap_or(0));
        Ok(())
    });
}

fn escaped(bytes: &[u8], style: Style) -> String {
    let mut line = "before ".to_owned();
    escape(&mut line, bytes, style);
    line.strip_prefix("before ").expect("it is appended").to_owned()
}

/// Whether a character neither moves the cursor nor changes the direction of reading.
fn is_harmless(character: char) -> bool {
    let code = u32::from(character);
    let is_control = code < 0x20 || (0x7f..0xa0).contains(&code);
    let is_direction = [0x61c, 0x200e, 0x200f].contains(&code) || (0x2028..=0x202e).contains(&code);
    !is_control && !is_direction && !(0x2066..=0x2069).contains(&code) && code != 0xfeff
}

/// What a line of the log stands for.
fn unescaped(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            bytes.extend(String::from(character).into_bytes());
            continue;
        }
        match characters.next().expect("something after a backslash") {
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            '\\' => bytes.push(b'\\'),
            'x' => {
                let digits: String = characters.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&digits, 16).expect("two digits"));
            }
            'u' => {
                assert_eq!(characters.next(), Some('{'));
                let digits: String = characters.by_ref().take_while(|character| *character != '}').collect();
                let character = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).expect("a character");
                bytes.extend(String::from(character).into_bytes());
            }
            other => panic!("\\{other} in {line:?}"),
        }
    }
    bytes
}
