//! The input, which stays below whatever is printed.
//!
//! Between two writes the terminal's own cursor rests, hidden, at the beginning of the input's first row; a reversed
//! character shows where typing goes. So erasing the input means clearing from the cursor to the end of the screen.
//! That takes no count of rows, and is right however wide the terminal makes its characters, and whether or not it
//! wraps its rows anew when its width changes. (With the cursor where typing goes nothing could tell, after such a
//! change, how many rows of the input are above it.) The price is that input methods show a word being composed at the
//! beginning of the input.

use std::io::Write;
use std::mem;
use std::ops::Range;

use anstyle::Style;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthChar;

use crate::escape::{self, escape};

#[cfg(test)]
mod tests;

/// What a tab in the input is shown as: its own width depends on what stands before it.
const TAB: &str = "    ";

/// Clears from the cursor's row to the end of the screen. The row itself is cleared last, because a terminal that is
/// told to clear everything from the top left corner on may put what it clears into its scrollback.
const CLEAR: &[u8] = b"\r\x1b[C\x1b[J\r\x1b[K";

/// Goes to the beginning of the next row. A line feed would do the same, but where one is written a pseudo-terminal may
/// pass on what is before it alone, and a terminal that changes its width then wraps half of the input anew.
const NEXT_ROW: &[u8] = b"\r\x0b";

const HIDE_CURSOR: &[u8] = b"\x1b[?25l";
const SHOW_CURSOR: &[u8] = b"\x1b[?25h";
const AUTOWRAP_OFF: &[u8] = b"\x1b[?7l";
const AUTOWRAP_ON: &[u8] = b"\x1b[?7h";

/// How the place where typing goes is shown.
const CURSOR: Style = Style::new().invert();

/// The input may take a third of the screen's rows, so that what arrives stays visible.
const MIN_SHARE: u16 = 3;

/// It may take no more than fit the screen when a terminal that wraps its rows anew is narrowed to this many columns.
/// (What such a terminal moves into its scrollback cannot be erased.)
const NARROW: u16 = 20;

/// How many columns and rows a terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: u16,
    pub(super) rows: u16,
}

impl Size {
    /// How many rows the input may take.
    fn most_rows(self) -> usize {
        usize::from(self.rows / MIN_SHARE.max(self.columns.div_ceil(NARROW))).max(1)
    }
}

/// What stands before the input.
#[derive(Clone, Debug)]
pub(super) struct Prompt {
    pub(super) text: String,
    /// Which bytes of the text are shown in `style`.
    pub(super) styled: Range<usize>,
    pub(super) style: Style,
}

impl Prompt {
    pub(super) fn plain(text: String) -> Self {
        Self { text, styled: 0..0, style: Style::new() }
    }
}

/// What is painted below everything else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    pub(super) prompt: &'a Prompt,
    pub(super) text: &'a str,
    /// Where typing goes, in bytes from the beginning of the text.
    pub(super) cursor: usize,
}

/// Composes what is written to the terminal.
#[derive(Debug, Default)]
pub(super) struct Screen {
    is_painted: bool,
    /// How many rows are above the input, at least.
    above: usize,
    /// How much of what is to be written is not above the input any more.
    counted: usize,
}

impl Screen {
    /// Takes the input off the screen: what is printed next appears where it began.
    pub(super) fn wipe(&mut self, out: &mut Vec<u8>) {
        if mem::take(&mut self.is_painted) {
            out.extend_from_slice(CLEAR);
            out.extend_from_slice(SHOW_CURSOR);
        }
    }

    /// Paints the input if it is not on the screen: as many of its rows as may be shown, the cursor's among them.
    pub(super) fn paint(&mut self, out: &mut Vec<u8>, size: Size, input: Input<'_>) {
        if mem::replace(&mut self.is_painted, true) {
            return;
        }
        let (before, after) = input.text.split_at(input.cursor);
        let mut text = input.prompt.text.clone();
        show(&mut text, before);
        let cursor = text.len();
        if after.is_empty() || after.starts_with('\n') {
            // The cursor's own place.
            text.push(' ');
        }
        show(&mut text, after);
        let under_cursor = text[cursor..].graphemes(true).next().map_or(0, str::len);
        let marks = [(input.prompt.styled.clone(), input.prompt.style), (cursor..cursor + under_cursor, CURSOR)];

        let starts = row_starts(&text, size.columns.into());
        let row = starts.partition_point(|&start| start <= cursor) - 1;
        let (first, last) = self.make_room(out, size, &text, &starts, row);

        out.extend_from_slice(HIDE_CURSOR);
        // Then every row takes one of the terminal's, even if the terminal makes its characters wider than assumed.
        out.extend_from_slice(AUTOWRAP_OFF);
        for row in first..=last {
            if row > first {
                out.extend_from_slice(NEXT_ROW);
            }
            let end = starts.get(row + 1).map_or(text.len(), |&end| end);
            paint_row(out, &text, starts[row]..end, &marks);
        }
        out.extend_from_slice(AUTOWRAP_ON);
        out.push(b'\r');
        if last > first {
            _ = write!(out, "\x1b[{}A", last - first);
        }
    }

    /// Decides which rows of the input to paint, the first and the last one, and pushes it down if they need that.
    ///
    /// When tmux wraps rows anew and there are empty ones at the end of the screen, it moves as many from the top into
    /// the scrollback as there are more, and what of the input gets there cannot be erased. So the rows that the input
    /// can gain have to be above it.
    fn make_room(
        &mut self,
        out: &mut Vec<u8>,
        size: Size,
        text: &str,
        starts: &[usize],
        cursor: usize,
    ) -> (usize, usize) {
        let printed = &out[mem::take(&mut self.counted).min(out.len())..];
        self.above += printed.iter().filter(|&&byte| byte == b'\n').count();
        let gain = |row: usize| {
            let end = starts.get(row + 1).map_or(text.len(), |&end| end);
            let width: usize = text[starts[row]..end].chars().map(width_of).sum();
            width.div_ceil(NARROW.into()).saturating_sub(1)
        };
        let mut count = size.most_rows();
        loop {
            let first = (cursor + 1).saturating_sub(count);
            let last = starts.len().min(first + count) - 1;
            let missing = (first..=last).map(gain).sum::<usize>().saturating_sub(self.above);
            if missing == 0 || count == 1 {
                out.extend(std::iter::repeat_n(b'\n', missing));
                self.above += missing;
                return (first, last);
            }
            count -= 1;
        }
    }

    /// Clears the screen.
    pub(super) fn clear(&mut self, out: &mut Vec<u8>) {
        self.wipe(out);
        out.extend_from_slice(b"\x1b[H\x1b[2J");
        (self.above, self.counted) = (0, out.len());
    }

    /// Prints the input for good, whole and with its end; the next one is painted below.
    pub(super) fn commit(&mut self, out: &mut Vec<u8>, prompt: &Prompt, text: &str) {
        self.wipe(out);
        let mut line = prompt.text.clone();
        show(&mut line, text);
        paint_row(out, &line, 0..line.len(), &[(prompt.styled.clone(), prompt.style)]);
        out.push(b'\n');
    }
}

/// Where in `text` the rows begin if none is to be wider than `columns`.
///
/// A cluster counts with the sum of its characters' widths, which is what the terminals that know no clusters make of
/// it. Others make it narrower, and end the row early.
fn row_starts(text: &str, columns: usize) -> Vec<usize> {
    let mut starts = vec![0];
    let mut column = 0;
    for (at, cluster) in text.grapheme_indices(true) {
        if cluster == "\n" {
            starts.push(at + 1);
            column = 0;
            continue;
        }
        let width: usize = cluster.chars().map(width_of).sum();
        if column + width > columns && column > 0 {
            starts.push(at);
            column = 0;
        }
        if width <= columns {
            column += width;
            continue;
        }
        // Wider than a whole row: it is broken between its characters.
        for (offset, character) in cluster.char_indices() {
            if column + width_of(character) > columns && column > 0 {
                starts.push(at + offset);
                column = 0;
            }
            column += width_of(character);
        }
    }
    starts
}

fn width_of(character: char) -> usize {
    character.width().unwrap_or(0)
}

/// Writes one row of `text`, without the newline that ends it, and the marked parts of it in their styles.
fn paint_row(out: &mut Vec<u8>, text: &str, row: Range<usize>, marks: &[(Range<usize>, Style)]) {
    let end = row.start + text[row.clone()].trim_end_matches('\n').len();
    let mut at = row.start;
    for (part, style) in marks {
        let [from, to] = [part.start, part.end].map(|edge| edge.clamp(at, end));
        if from < to {
            out.extend_from_slice(&text.as_bytes()[at..from]);
            _ = write!(out, "{style}{}{style:#}", &text[from..to]);
            at = to;
        }
    }
    out.extend_from_slice(&text.as_bytes()[at..end]);
}

/// Appends `text` as others will see it: with what is dangerous on a terminal escaped.
fn show(out: &mut String, text: &str) {
    let begin = out.len();
    escape(out, text.as_bytes(), escape::Style::Text);
    if text.contains('\t') {
        let expanded = out[begin..].replace('\t', TAB);
        out.replace_range(begin.., &expanded);
    }
}
