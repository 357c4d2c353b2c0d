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
}

impl Screen {
    /// Takes the input off the screen: what is printed next appears where it began.
    pub(super) fn wipe(&mut self, out: &mut Vec<u8>) {
        if mem::take(&mut self.is_painted) {
            out.extend_from_slice(CLEAR);
            out.extend_from_slice(SHOW_CURSOR);
        }
    }

    /// Leaves what is on the screen as it is: what is printed next appears in a row of its own.
    pub(super) fn abandon(&mut self, out: &mut Vec<u8>) {
        if mem::take(&mut self.is_painted) {
            out.push(b'\n');
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
        let shown = size.most_rows();
        let first = (row + 1).saturating_sub(shown);
        let last = starts.len().min(first + shown) - 1;

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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    /// A terminal, and the screen that composes what it is given.
    struct Terminal {
        emulator: vt100::Parser,
        screen: Screen,
        size: Size,
        prompt: Prompt,
    }

    impl Terminal {
        fn new(columns: u16, rows: u16) -> Self {
            let [height, width] = [rows, columns].map(|length| NonZeroU16::new(length).unwrap());
            Self {
                emulator: vt100::Parser::new(height, width, 0),
                screen: Screen::default(),
                size: Size { columns, rows },
                prompt: Prompt::plain("> ".to_owned()),
            }
        }

        fn print_above(&mut self, printed: &str, text: &str, cursor: usize) {
            let mut out = Vec::new();
            self.screen.wipe(&mut out);
            out.extend_from_slice(printed.as_bytes());
            self.screen.paint(&mut out, self.size, Input { prompt: &self.prompt, text, cursor });
            self.show(&out);
        }

        fn type_in(&mut self, text: &str, cursor: usize) {
            self.print_above("", text, cursor);
        }

        fn commit(&mut self, text: &str) {
            let mut out = Vec::new();
            self.screen.commit(&mut out, &self.prompt, text);
            self.show(&out);
        }

        /// As the system passes it on, which makes each newline a carriage return too.
        fn show(&mut self, out: &[u8]) {
            let out = String::from_utf8_lossy(out).replace('\n', "\r\n");
            self.emulator.process(out.as_bytes());
        }

        /// As terminals do that keep their rows.
        fn resize(&mut self, columns: u16) {
            self.size.columns = columns;
            let [height, width] = [self.size.rows, columns].map(|length| NonZeroU16::new(length).unwrap());
            self.emulator.set_size(height, width);
        }

        fn rows(&self) -> Vec<String> {
            let rows = self.emulator.screen().rows(0, self.size.columns);
            let mut rows: Vec<String> = rows.map(|row| row.trim_end().to_owned()).collect();
            rows.truncate(rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1));
            rows
        }

        /// Row and column of the reversed character.
        fn cursor(&self) -> Option<(u16, u16)> {
            let screen = self.emulator.screen();
            let cells = (0..self.size.rows).flat_map(|row| (0..self.size.columns).map(move |column| (row, column)));
            cells.clone().find(|&(row, column)| screen.cell(row, column).is_some_and(vt100::Cell::inverse))
        }
    }

    #[test]
    fn what_arrives_appears_above_and_the_input_stays() {
        let mut terminal = Terminal::new(20, 6);
        terminal.type_in("half", 2);
        terminal.print_above("<ann> hello\n", "half", 2);
        terminal.print_above("<bob> hi\n<bob> ho\n", "half", 2);
        assert_eq!(terminal.rows(), ["<ann> hello", "<bob> hi", "<bob> ho", "> half"]);
        assert_eq!(terminal.cursor(), Some((3, 4)));
        terminal.commit("half");
        terminal.type_in("", 0);
        assert_eq!(terminal.rows()[3..], ["> half", ">"]);
        assert_eq!(terminal.cursor(), Some((4, 2)));
    }

    #[test]
    fn the_cursor_is_hidden_only_while_the_input_is_painted() {
        let mut terminal = Terminal::new(20, 6);
        terminal.type_in("a", 1);
        assert!(terminal.emulator.screen().hide_cursor());
        terminal.commit("a");
        assert!(!terminal.emulator.screen().hide_cursor());
        assert_eq!(terminal.cursor(), None);
    }

    #[test]
    fn long_input_is_broken_into_rows_the_same_however_it_came_about() {
        let text = "日本 e\u{301}👍🏽 नमस्ते x".repeat(3);
        for columns in [3, 7, 8, 9, 20] {
            for (length, _) in text.grapheme_indices(true) {
                let typed = &text[..length];
                let mut fresh = Terminal::new(columns, 180);
                fresh.type_in(typed, length);
                for (cursor, _) in typed.grapheme_indices(true) {
                    let mut terminal = Terminal::new(columns, 180);
                    terminal.print_above("above\n", typed, cursor);
                    terminal.print_above("this\n", typed, length);
                    assert_eq!(terminal.rows()[terminal.rows().len() - fresh.rows().len()..], fresh.rows());
                    assert!(terminal.cursor().is_some(), "{columns} {typed:?} {cursor}");
                }
            }
        }
    }

    #[test]
    fn no_row_is_wider_than_the_terminal_and_a_cluster_is_broken_only_if_it_must_be() {
        let family = "👨\u{200d}👩\u{200d}👧";
        assert_eq!(row_starts("abcdef", 3), [0, 3]);
        assert_eq!(row_starts("abc", 3), [0]);
        assert_eq!(row_starts("a\n\nb", 3), [0, 2, 3]);
        assert_eq!(row_starts(&format!("ab{family}!"), 6), [0, 2, 2 + family.len()]);
        assert_eq!(row_starts(family, 4).len(), 2);
        assert_eq!(row_starts(family, 1).len(), 3);
    }

    #[test]
    fn a_row_ends_where_it_should_even_if_the_terminal_makes_characters_wider() {
        let mut screen = Screen::default();
        let mut out = Vec::new();
        let prompt = Prompt::plain("> ".to_owned());
        screen.paint(&mut out, Size { columns: 4, rows: 9 }, Input { prompt: &prompt, text: "abcd", cursor: 4 });
        // Autowrap is off while the rows are painted, and as many rows are gone up as down.
        assert_eq!(out, b"\x1b[?25l\x1b[?7l> ab\r\x0bcd\x1b[7m \x1b[0m\x1b[?7h\r\x1b[1A");
    }

    #[test]
    fn the_cursor_goes_to_the_next_row_when_one_is_full() {
        let mut terminal = Terminal::new(6, 9);
        terminal.type_in("abcd", 4);
        assert_eq!(terminal.cursor(), Some((1, 0)));
        terminal.type_in("abcde", 4);
        assert_eq!((terminal.rows().join("|"), terminal.cursor()), ("> abcd|e".to_owned(), Some((1, 0))));
        terminal.type_in("abcd\ne", 4);
        assert_eq!((terminal.rows().join("|"), terminal.cursor()), ("> abcd||e".to_owned(), Some((1, 0))));
        terminal.commit("abcd");
        terminal.type_in("x", 1);
        assert_eq!(terminal.rows(), ["> abcd", "> x"]);
    }

    #[test]
    fn newlines_and_controls_are_shown_safely() {
        let mut terminal = Terminal::new(30, 9);
        terminal.type_in("one\n\ttwo\x1b[31m", 2);
        terminal.print_above("* ann joined\n", "one\n\ttwo\x1b[31m", 2);
        assert_eq!(terminal.rows(), ["* ann joined", "> one", "    two\\u{1b}[31m"]);
        assert_eq!(terminal.cursor(), Some((1, 4)));
    }

    #[test]
    fn of_input_larger_than_its_share_of_the_screen_the_part_around_the_cursor_is_shown() {
        let mut terminal = Terminal::new(4, 9);
        let text = "aabbbbccccddddee";
        terminal.print_above("x\n", text, text.len());
        assert_eq!(terminal.rows(), ["x", "cccc", "dddd", "ee"]);
        terminal.type_in(text, 0);
        assert_eq!(terminal.rows(), ["x", "> aa", "bbbb", "cccc"]);
        terminal.type_in("", 0);
        assert_eq!(terminal.rows(), ["x", ">"]);
    }

    #[test]
    fn a_change_of_width_leaves_the_lines_above_and_nothing_of_the_old_input() {
        let text = "twenty-nine characters and 3 more, and then 2 rows of 40 columns";
        for columns in [5, 20, 39, 60] {
            let mut terminal = Terminal::new(40, 9);
            terminal.print_above("one\ntwo\n", text, text.len());
            terminal.resize(columns);
            terminal.print_above("three\n", "y", 0);
            assert_eq!(terminal.rows(), ["one", "two", "three", "> y"]);
        }
    }

    #[test]
    fn the_name_in_the_prompt_has_its_style() {
        let mut terminal = Terminal::new(3, 9);
        terminal.prompt = Prompt { text: "<ann> ".to_owned(), styled: 1..4, style: Style::new().bold() };
        terminal.type_in("x", 1);
        assert_eq!(terminal.rows(), ["<an", "n>", "x"]);
        let is_bold = |row, column| terminal.emulator.screen().cell(row, column).unwrap().bold();
        assert_eq!([is_bold(0, 0), is_bold(0, 1), is_bold(1, 0), is_bold(1, 1)], [false, true, true, false]);
    }

    #[test]
    fn no_size_is_too_small() {
        for (columns, rows) in [(1, 1), (1, 2), (2, 1)] {
            let mut terminal = Terminal::new(columns, rows);
            terminal.type_in("a日", 1);
            terminal.print_above("x\n", "a日", 4);
        }
    }
}
