//! The line being typed stays below whatever is printed.
//!
//! Nothing is known of the screen but its size and what was painted last, so everything is done from there:
//! the line is wiped, what is new is printed where it was, and the line is painted again, all in one write.

use std::io::Write;

use rustyline::GraphemeClusterMode;
use unicode_segmentation::UnicodeSegmentation;

use crate::escape::{Style, escape};

/// What stands before the line being typed.
const PROMPT: &str = "> ";

/// What a tab in the line being typed is shown as: its own width depends on what stands before it.
const TAB: &str = "    ";

/// How many columns and rows a terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: u16,
    pub(super) rows: u16,
}

/// Composes what is written to the terminal.
pub(super) struct Screen {
    /// How wide this terminal makes its characters.
    widths: GraphemeClusterMode,
    painted: Option<Painted>,
}

/// What of the line being typed is on the screen.
struct Painted {
    text: String,
    /// In bytes from the beginning of the text.
    cursor: usize,
}

impl Screen {
    pub(super) fn new(widths: GraphemeClusterMode) -> Self {
        Self { widths, painted: None }
    }

    /// Takes the line off the screen: what is printed next appears where it began.
    pub(super) fn wipe(&mut self, out: &mut Vec<u8>, size: Size) {
        let Some(Painted { text, cursor }) = self.painted.take() else { return };
        // Terminals wrap their lines anew when their width changes, so what counts is the width of now.
        let (starts, _) = self.lay_out(&text, size.columns);
        out.push(b'\r');
        match row_of(&starts, cursor) {
            0 => {}
            row => _ = write!(out, "\x1b[{row}A"),
        }
        out.extend_from_slice(b"\x1b[K");
        if starts.len() > 1 {
            // Not from the first row on: where that is the top of the screen, some terminals would take it for a
            // clearing of the screen, and keep what is cleared.
            out.extend_from_slice(b"\x1b[B\x1b[J\x1b[A");
        }
    }

    /// Paints the line if it is not on the screen, with the cursor before its byte `cursor`. Of a line that does not
    /// fit the screen it paints as much as does.
    pub(super) fn paint(&mut self, out: &mut Vec<u8>, size: Size, line: &str, cursor: usize) {
        if self.painted.is_some() {
            return;
        }
        let (head, tail) = line.split_at(cursor);
        let mut text = PROMPT.to_owned();
        show(&mut text, head);
        let mut cursor = text.len();
        show(&mut text, tail);

        let (mut starts, column) = self.lay_out(&text, size.columns);
        if cursor == text.len() && column >= size.columns {
            // A terminal goes on to the next row when that gets a character, but the cursor has to be there now.
            text.push('\n');
            cursor = text.len();
            starts.push(cursor);
        }
        let row = row_of(&starts, cursor);
        let first = (row + 1).saturating_sub(size.rows.into());
        let last = starts.len().min(first + usize::from(size.rows)) - 1;
        if let Some(&end) = starts.get(last + 1) {
            text.truncate(end);
            if text.ends_with('\n') {
                text.pop();
            }
        }

        out.extend_from_slice(&text.as_bytes()[starts[first]..]);
        if cursor < text.len() {
            if row < last {
                _ = write!(out, "\x1b[{}A", last - row);
            }
            // Painting up to the cursor puts it in the right column, however wide the terminal makes a character.
            out.push(b'\r');
            out.extend_from_slice(&text.as_bytes()[starts[row]..cursor]);
        }
        self.painted = Some(Painted { text: text.split_off(starts[first]), cursor: cursor - starts[first] });
    }

    /// Prints the line for good, whole and with its end; the next one is painted below.
    pub(super) fn commit(&mut self, out: &mut Vec<u8>, size: Size, line: &str) {
        self.wipe(out, size);
        let mut text = PROMPT.to_owned();
        show(&mut text, line);
        text.push('\n');
        out.extend_from_slice(text.as_bytes());
    }

    /// Where in `text` the rows begin on a terminal of so many columns, and how many columns of the last row
    /// are taken.
    fn lay_out(&self, text: &str, columns: u16) -> (Vec<usize>, u16) {
        let mut starts = vec![0];
        let mut column = 0;
        for (at, cluster) in text.grapheme_indices(true) {
            if cluster == "\n" {
                starts.push(at + 1);
                column = 0;
                continue;
            }
            // Where clusters are not known, each of their characters is placed by itself.
            let is_cut = self.widths == GraphemeClusterMode::WcWidth;
            let length = |character: char| if is_cut { character.len_utf8() } else { cluster.len() };
            let mut rest = cluster;
            while let Some(character) = rest.chars().next() {
                let (part, after) = rest.split_at(length(character));
                let width = self.widths.width(part);
                if column + width > columns && column > 0 {
                    starts.push(at + cluster.len() - rest.len());
                    column = 0;
                }
                column += width;
                rest = after;
            }
        }
        (starts, column)
    }
}

/// In which of the rows that begin at `starts` the byte `at` is.
fn row_of(starts: &[usize], at: usize) -> usize {
    starts.partition_point(|&start| start <= at) - 1
}

/// Appends `line` as others will see it: with what is dangerous on a terminal escaped.
fn show(out: &mut String, line: &str) {
    let begin = out.len();
    escape(out, line.as_bytes(), Style::Text);
    if line.contains('\t') {
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
    }

    impl Terminal {
        fn new(columns: u16, rows: u16) -> Self {
            let [height, width] = [rows, columns].map(|length| NonZeroU16::new(length).unwrap());
            let emulator = vt100::Parser::new(height, width, 0);
            Self { emulator, screen: Screen::new(GraphemeClusterMode::WcWidth), size: Size { columns, rows } }
        }

        fn type_in(&mut self, line: &str, cursor: usize) {
            let mut out = Vec::new();
            self.screen.wipe(&mut out, self.size);
            self.screen.paint(&mut out, self.size, line, cursor);
            self.show(&out);
        }

        fn print_above(&mut self, text: &str, line: &str, cursor: usize) {
            let mut out = Vec::new();
            self.screen.wipe(&mut out, self.size);
            out.extend_from_slice(text.as_bytes());
            self.screen.paint(&mut out, self.size, line, cursor);
            self.show(&out);
        }

        fn commit(&mut self, line: &str) {
            let mut out = Vec::new();
            self.screen.commit(&mut out, self.size, line);
            self.show(&out);
        }

        /// As the system passes it on, which makes each newline a carriage return too.
        fn show(&mut self, out: &[u8]) {
            let out = String::from_utf8_lossy(out).replace('\n', "\r\n");
            self.emulator.process(out.as_bytes());
        }

        fn rows(&self) -> Vec<String> {
            let rows = self.emulator.screen().rows(0, self.size.columns);
            let mut rows: Vec<String> = rows.map(|row| row.trim_end().to_owned()).collect();
            rows.truncate(rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1));
            rows
        }

        fn cursor(&self) -> (u16, u16) {
            self.emulator.screen().cursor_position()
        }
    }

    #[test]
    fn what_arrives_appears_above_and_the_line_stays() {
        let mut terminal = Terminal::new(20, 6);
        terminal.type_in("half", 2);
        terminal.print_above("<ann> hello\n", "half", 2);
        terminal.print_above("<bob> hi\n<bob> ho\n", "half", 2);
        assert_eq!(terminal.rows(), ["<ann> hello", "<bob> hi", "<bob> ho", "> half"]);
        assert_eq!(terminal.cursor(), (3, 4));
        terminal.commit("half");
        terminal.type_in("", 0);
        assert_eq!(terminal.rows()[3..], ["> half", ">"]);
    }

    #[test]
    fn a_long_line_wraps_at_every_length_and_cursor() {
        let line = "日本 e\u{301}👍🏽 नमस्ते x".repeat(3);
        for columns in [3, 7, 8, 9, 20] {
            for (length, _) in line.grapheme_indices(true) {
                let typed = &line[..length];
                for (cursor, _) in typed.grapheme_indices(true) {
                    let mut terminal = Terminal::new(columns, 60);
                    terminal.type_in("", 0);
                    let mut fresh = Terminal::new(columns, 60);
                    fresh.type_in(typed, length);
                    // However the line came about, it looks the same.
                    terminal.type_in(typed, cursor);
                    terminal.type_in(typed, length);
                    assert_eq!(terminal.rows(), fresh.rows(), "{columns} {typed:?} {cursor}");
                    assert_eq!(terminal.cursor(), fresh.cursor(), "{columns} {typed:?} {cursor}");
                }
            }
        }
    }

    #[test]
    fn the_cursor_goes_to_the_next_row_when_one_is_full() {
        let mut terminal = Terminal::new(6, 5);
        terminal.type_in("abcd", 4);
        assert_eq!(terminal.cursor(), (1, 0));
        terminal.type_in("abcde", 4);
        assert_eq!((terminal.rows().join("|"), terminal.cursor()), ("> abcd|e".to_owned(), (1, 0)));
        terminal.type_in("abcd", 4);
        terminal.commit("abcd");
        terminal.type_in("x", 1);
        assert_eq!(terminal.rows(), ["> abcd", "> x"]);
    }

    #[test]
    fn a_line_with_newlines_and_controls_is_shown_safely() {
        let mut terminal = Terminal::new(30, 5);
        terminal.type_in("one\n\ttwo\x1b[31m", 2);
        terminal.print_above("* ann joined\n", "one\n\ttwo\x1b[31m", 2);
        assert_eq!(terminal.rows(), ["* ann joined", "> one", "    two\\u{1b}[31m"]);
        assert_eq!(terminal.cursor(), (1, 4));
    }

    #[test]
    fn of_a_line_larger_than_the_screen_the_part_around_the_cursor_is_shown() {
        let mut terminal = Terminal::new(4, 3);
        let line = "aabbbbccccddddeeee";
        terminal.type_in(line, line.len());
        assert_eq!(terminal.rows(), ["dddd", "eeee"]);
        terminal.type_in(line, 0);
        assert_eq!((terminal.rows().join("|"), terminal.cursor()), ("> aa|bbbb|cccc".to_owned(), (0, 2)));
        terminal.type_in("", 0);
        assert_eq!(terminal.rows(), [">"]);
    }

    #[test]
    fn after_a_change_of_width_the_line_is_found_where_the_terminal_wrapped_it() {
        let mut screen = Screen::new(GraphemeClusterMode::WcWidth);
        screen.paint(&mut Vec::new(), Size { columns: 40, rows: 9 }, "twenty-nine characters and 3 more", 33);
        let mut out = Vec::new();
        screen.wipe(&mut out, Size { columns: 10, rows: 9 });
        // The cursor, which was in the only row, is now in the third one below it.
        assert_eq!(out, b"\r\x1b[3A\x1b[K\x1b[B\x1b[J\x1b[A");
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
