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

#[test]
fn the_rows_that_the_input_can_gain_are_above_it() {
    let mut terminal = Terminal::new(60, 12);
    terminal.type_in("a line of twenty ch.", 0);
    terminal.type_in("short", 5);
    assert_eq!(terminal.rows(), ["", "> short"], "wrapped at twenty columns it was two rows");
    let long = "x".repeat(200);
    terminal.print_above("one\n", &long, 200);
    assert_eq!(terminal.rows().len(), 3, "two rows above, so only the last row of the input is shown");
    terminal.print_above("two\nthree\n", &long, 200);
    assert_eq!(terminal.rows().len(), 6);
    terminal.print_above(&"four\n".repeat(4), &long, 200);
    assert_eq!(terminal.rows().len(), 12);

    let mut out = Vec::new();
    terminal.screen.clear(&mut out);
    terminal.screen.paint(&mut out, terminal.size, Input { prompt: &terminal.prompt, text: &long, cursor: 0 });
    terminal.show(&out);
    assert_eq!(terminal.rows()[..2], ["", ""]);
    assert!(terminal.rows()[2].starts_with("> xxx") && terminal.rows().len() == 3);
}
