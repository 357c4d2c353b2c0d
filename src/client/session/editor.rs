//! The line being typed, and the lines typed before it.

use rustyline::history::{History, MemHistory, SearchDirection};
use rustyline::line_buffer::{ChangeListener, DeleteListener, Direction, LineBuffer};
use rustyline::{At, Movement, Word};

use super::keys::Key;

/// The most bytes that a line being typed may have; what goes beyond is not taken.
const MAX_LINE: usize = 1 << 20;

/// How many lines are remembered, as long as the session runs.
const MAX_HISTORY: usize = 1000;

/// What a key means beyond the line itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Edit,
    /// The line is done; the next one is empty.
    Submit(String),
    End,
    Interrupt,
    Suspend,
    Clear,
}

/// Edits a line by the keys of a shell.
pub(super) struct Editor {
    line: LineBuffer,
    history: MemHistory,
    /// Which line of the history is shown: its length for the new one.
    at: usize,
    /// The new line while one of the history is shown.
    draft: String,
    /// What was cut out last.
    killed: String,
}

impl Editor {
    pub(super) fn new() -> Self {
        let mut history = MemHistory::new();
        // Cannot fail in memory.
        _ = history.set_max_len(MAX_HISTORY);
        let line = LineBuffer::with_capacity(MAX_LINE);
        Self { line, history, at: 0, draft: String::new(), killed: String::new() }
    }

    pub(super) fn line(&self) -> &str {
        self.line.as_str()
    }

    /// Where the cursor is, in bytes from the beginning of the line.
    pub(super) fn cursor(&self) -> usize {
        self.line.pos()
    }

    pub(super) fn press(&mut self, key: Key) -> Action {
        match key {
            Key::Character(character) => _ = self.line.insert(character, 1, &mut Unheard),
            Key::Paste(text) => _ = self.line.yank(&text, 1, &mut Unheard),
            Key::Enter => return Action::Submit(self.submit()),
            Key::DeleteOrEnd if self.line.is_empty() => return Action::End,
            Key::Delete | Key::DeleteOrEnd => _ = self.line.delete(1, &mut Unheard),
            Key::Backspace => _ = self.line.backspace(1, &mut Unheard),
            Key::Left => _ = self.line.move_backward(1),
            Key::Right => _ = self.line.move_forward(1),
            Key::WordLeft => _ = self.line.move_to_prev_word(Word::Emacs, 1),
            Key::WordRight => _ = self.line.move_to_next_word(At::AfterEnd, Word::Emacs, 1),
            Key::Home => _ = self.line.move_home(),
            Key::End => _ = self.line.move_end(),
            Key::Up => self.recall(self.at.checked_sub(1)),
            Key::Down => self.recall(Some(self.at + 1)),
            Key::KillToEnd => self.kill(&Movement::EndOfLine),
            Key::KillToStart => self.kill(&Movement::BeginningOfLine),
            Key::KillWordLeft => self.kill(&Movement::BackwardWord(1, Word::Big)),
            Key::KillPartLeft => self.kill(&Movement::BackwardWord(1, Word::Emacs)),
            Key::KillWordRight => self.kill(&Movement::ForwardWord(1, At::AfterEnd, Word::Emacs)),
            Key::Yank => _ = self.line.yank(&self.killed, 1, &mut Unheard),
            Key::Transpose => _ = self.line.transpose_chars(&mut Unheard),
            Key::Clear => return Action::Clear,
            Key::Suspend => return Action::Suspend,
            Key::Interrupt => return Action::Interrupt,
        }
        Action::Edit
    }

    fn submit(&mut self) -> String {
        let line = self.line.as_str().to_owned();
        self.line.update("", 0, &mut Unheard);
        // Cannot fail in memory. An empty line and one just like the last are not remembered.
        _ = self.history.add(&line);
        self.at = self.history.len();
        self.draft.clear();
        line
    }

    fn kill(&mut self, what: &Movement) {
        let mut killed = Killed(String::new());
        if self.line.kill(what, &mut killed) && !killed.0.is_empty() {
            self.killed = killed.0;
        }
    }

    /// Shows a line of the history, or the new one again.
    fn recall(&mut self, index: Option<usize>) {
        let Some(index) = index.filter(|&index| index <= self.history.len()) else { return };
        if self.at == self.history.len() {
            self.line.as_str().clone_into(&mut self.draft);
        }
        self.at = index;
        let line = match self.history.get(index, SearchDirection::Forward) {
            Ok(Some(found)) => found.entry.into_owned(),
            _ => self.draft.clone(),
        };
        self.line.update(&line, line.len(), &mut Unheard);
    }
}

/// What a line tells of its changes goes nowhere.
struct Unheard;

impl DeleteListener for Unheard {
    fn delete(&mut self, _: usize, _: &str, _: Direction) {}
}

impl ChangeListener for Unheard {
    fn insert_char(&mut self, _: usize, _: char) {}
    fn insert_str(&mut self, _: usize, _: &str) {}
    fn replace(&mut self, _: usize, _: &str, _: &str) {}
}

/// Keeps what is cut out.
struct Killed(String);

impl DeleteListener for Killed {
    fn delete(&mut self, _: usize, text: &str, _: Direction) {
        self.0.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(editor: &mut Editor, text: &str) {
        for character in text.chars() {
            editor.press(Key::Character(character));
        }
    }

    #[test]
    fn a_line_is_edited_by_what_people_see_as_characters() {
        let mut editor = Editor::new();
        typed(&mut editor, "ae\u{301}👨‍👩‍👧x");
        for _ in 0..2 {
            editor.press(Key::Left);
        }
        editor.press(Key::Backspace);
        assert_eq!(editor.line(), "a👨‍👩‍👧x");
        editor.press(Key::DeleteOrEnd);
        assert_eq!((editor.line(), editor.cursor()), ("ax", 1));
        editor.press(Key::End);
        assert_eq!(editor.press(Key::Enter), Action::Submit("ax".to_owned()));
        assert_eq!(editor.press(Key::DeleteOrEnd), Action::End);
    }

    #[test]
    fn what_is_cut_out_can_be_put_back() {
        let mut editor = Editor::new();
        typed(&mut editor, "one two-three");
        editor.press(Key::KillPartLeft);
        assert_eq!(editor.line(), "one two-");
        editor.press(Key::KillWordLeft);
        assert_eq!(editor.line(), "one ");
        editor.press(Key::Home);
        editor.press(Key::Yank);
        assert_eq!(editor.line(), "two-one ");
        editor.press(Key::KillToEnd);
        editor.press(Key::KillToStart);
        assert_eq!(editor.line(), "");
        editor.press(Key::Yank);
        assert_eq!(editor.line(), "two-");
    }

    #[test]
    fn the_history_is_gone_through_and_the_new_line_is_kept() {
        let mut editor = Editor::new();
        for line in ["one", "two", "two", ""] {
            typed(&mut editor, line);
            editor.press(Key::Enter);
        }
        typed(&mut editor, "new");
        let mut shown = |key| {
            editor.press(key);
            editor.line().to_owned()
        };
        let lines = [Key::Up, Key::Up, Key::Up, Key::Down, Key::Down, Key::Down].map(&mut shown);
        assert_eq!(lines, ["two", "one", "one", "two", "new", "new"]);
    }
}
