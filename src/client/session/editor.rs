//! The input, and the inputs before it.

use std::collections::VecDeque;

use rustyline::line_buffer::{ChangeListener, DeleteListener, Direction, LineBuffer};
use rustyline::{At, Movement, Word};
use unicode_segmentation::UnicodeSegmentation;

use super::complete::{Completion, complete};
use super::keys::{Key, MAX_PASTE};
use super::names::Names;
use super::undo::Undo;

#[cfg(test)]
mod tests;

/// The most bytes of the input.
const MAX_INPUT: usize = MAX_PASTE;

/// What is said when it is full.
const FULL: &str = "* not added: the input holds at most 1 MiB";

/// How many inputs are remembered as long as the session runs, and how long each may be.
const MAX_HISTORY: usize = 1000;
const MAX_REMEMBERED: usize = 64 << 10;

/// More lines than these are sent only after a question.
const MAX_UNASKED: usize = 5;

/// What a key means beyond the input itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Edit,
    /// The input is to be sent; the next one is empty.
    Submit(String),
    End,
    Interrupt,
    Suspend,
    Clear,
    /// This is to be said to the person.
    Tell(String),
}

/// Edits the input by the keys of a shell.
pub(super) struct Editor {
    line: LineBuffer,
    history: VecDeque<String>,
    /// Which input of the history is shown: its length for the new one.
    at: usize,
    /// The new input while one of the history is shown.
    draft: String,
    /// What was cut out last.
    killed: String,
    undo: Undo,
    mode: Mode,
}

/// What keys are for.
enum Mode {
    Edit,
    /// Whether that many lines are to be sent.
    Confirm(usize),
    Search(Search),
}

/// A search for earlier input, from the latest to the first.
#[derive(Default)]
struct Search {
    wanted: String,
    /// The input before the search.
    before: String,
    /// Which input of the history is shown.
    found: Option<usize>,
}

impl Editor {
    pub(super) fn new() -> Self {
        Self {
            line: LineBuffer::with_capacity(MAX_INPUT),
            history: VecDeque::new(),
            at: 0,
            draft: String::new(),
            killed: String::new(),
            undo: Undo::default(),
            mode: Mode::Edit,
        }
    }

    pub(super) fn text(&self) -> &str {
        self.line.as_str()
    }

    /// Where the cursor is, in bytes from the beginning of the text.
    pub(super) fn cursor(&self) -> usize {
        self.line.pos()
    }

    /// What is asked instead of showing the input.
    pub(super) fn question(&self) -> Option<String> {
        match self.mode {
            Mode::Confirm(lines) => Some(format!("send {lines} lines? y/n ")),
            _ => None,
        }
    }

    /// What stands before the input instead of the usual prompt.
    pub(super) fn search_prompt(&self) -> Option<String> {
        match &self.mode {
            Mode::Search(search) => Some(format!("(search: {}) ", search.wanted)),
            _ => None,
        }
    }

    /// Whether a key would have the input sent.
    pub(super) fn submits(&self, key: &Key) -> bool {
        match self.mode {
            Mode::Confirm(_) => matches!(key, Key::Character('y' | 'Y')),
            Mode::Edit | Mode::Search(_) => *key == Key::Enter,
        }
    }

    pub(super) fn press(&mut self, key: Key, names: &Names) -> Action {
        match self.mode {
            Mode::Confirm(_) => self.answer(&key),
            Mode::Search(_) => self.search(key, names),
            Mode::Edit => self.edit(key, names),
        }
    }

    fn edit(&mut self, key: Key, names: &Names) -> Action {
        match key {
            Key::Character(character) => return self.insert(character.encode_utf8(&mut [0; 4]), Some(character)),
            Key::Paste(text) => return self.insert(&text, None),
            Key::Newline => return self.insert("\n", None),
            Key::Yank => return self.insert(&self.killed.clone(), None),
            Key::Tab => return self.complete(names),
            Key::Enter => return self.enter(),
            Key::Interrupt if self.line.is_empty() => return Action::Interrupt,
            Key::Interrupt => self.replace("", 0),
            Key::DeleteOrEnd if self.line.is_empty() => return Action::End,
            Key::Undo => self.undo(),
            Key::Search => self.mode = Mode::Search(Search { before: self.text().to_owned(), ..Search::default() }),
            Key::Left => _ = self.line.move_backward(1),
            Key::Right => _ = self.line.move_forward(1),
            Key::WordLeft => _ = self.line.move_to_prev_word(Word::Emacs, 1),
            Key::WordRight => _ = self.line.move_to_next_word(At::AfterEnd, Word::Emacs, 1),
            Key::Home => _ = self.line.move_home(),
            Key::End => _ = self.line.move_end(),
            Key::Up if self.move_to_row(|row| row.checked_sub(1)) => {}
            Key::Down if self.move_to_row(|row| row.checked_add(1)) => {}
            Key::Up => self.recall(self.at.checked_sub(1)),
            Key::Down => self.recall(Some(self.at + 1)),
            Key::Clear => return Action::Clear,
            Key::Suspend => return Action::Suspend,
            Key::Cancel => {}
            key => self.remove(&key),
        }
        Action::Edit
    }

    /// The keys that take something out of the input.
    fn remove(&mut self, key: &Key) {
        self.undo.note(self.line.as_str(), self.line.pos(), None);
        match key {
            Key::Delete | Key::DeleteOrEnd => _ = self.line.delete(1, &mut NoListener),
            Key::Backspace => _ = self.line.backspace(1, &mut NoListener),
            Key::KillToEnd => self.kill(&Movement::EndOfLine),
            Key::KillToStart => self.kill(&Movement::BeginningOfLine),
            Key::KillWordLeft => self.kill(&Movement::BackwardWord(1, Word::Big)),
            Key::KillPartLeft => self.kill(&Movement::BackwardWord(1, Word::Emacs)),
            Key::KillWordRight => self.kill(&Movement::ForwardWord(1, At::AfterEnd, Word::Emacs)),
            Key::Transpose => _ = self.line.transpose_chars(&mut NoListener),
            _ => {}
        }
    }

    /// Inserts at the cursor, all of it or nothing. `typed` is the text if it is a character from the keyboard.
    fn insert(&mut self, text: &str, typed: Option<char>) -> Action {
        if self.line.len() + text.len() > MAX_INPUT {
            return Action::Tell(FULL.to_owned());
        }
        self.undo.note(self.line.as_str(), self.line.pos(), typed);
        _ = self.line.yank(text, 1, &mut NoListener);
        Action::Edit
    }

    fn complete(&mut self, names: &Names) -> Action {
        let cursor = self.line.pos();
        match complete(&self.line.as_str()[..cursor], names) {
            Completion::Nothing => Action::Edit,
            Completion::Choice(words) => Action::Tell(words.join(" ")),
            Completion::Word(replaced, _) if self.line.len() - replaced + 128 > MAX_INPUT => {
                Action::Tell(FULL.to_owned())
            }
            Completion::Word(replaced, word) => {
                self.undo.note(self.line.as_str(), cursor, None);
                self.line.replace(cursor - replaced..cursor, &word, &mut NoListener);
                self.line.set_pos(cursor - replaced + word.len());
                Action::Edit
            }
        }
    }

    fn enter(&mut self) -> Action {
        match self.text().lines().count() {
            lines if lines > MAX_UNASKED => {
                self.mode = Mode::Confirm(lines);
                Action::Edit
            }
            _ => self.submit(),
        }
    }

    fn submit(&mut self) -> Action {
        let text = self.line.as_str().to_owned();
        self.line.update("", 0, &mut NoListener);
        self.undo.clear();
        if !text.is_empty() && text.len() <= MAX_REMEMBERED && self.history.back() != Some(&text) {
            if self.history.len() == MAX_HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(text.clone());
        }
        self.at = self.history.len();
        self.draft.clear();
        Action::Submit(text)
    }

    /// A key in answer to the question whether to send.
    fn answer(&mut self, key: &Key) -> Action {
        match key {
            Key::Character('y' | 'Y') => {
                self.mode = Mode::Edit;
                return self.submit();
            }
            Key::Character('n' | 'N') | Key::Interrupt | Key::Cancel => self.mode = Mode::Edit,
            _ => {}
        }
        Action::Edit
    }

    /// A key during a search. What has no meaning there ends it, and keeps what was found.
    fn search(&mut self, key: Key, names: &Names) -> Action {
        let Mode::Search(search) = &mut self.mode else { return Action::Edit };
        let from = match key {
            Key::Character(character) => {
                search.wanted.push(character);
                search.found.map_or(self.history.len(), |found| found + 1)
            }
            Key::Backspace => {
                search.wanted.pop();
                self.history.len()
            }
            Key::Search => search.found.unwrap_or(self.history.len()),
            Key::Interrupt | Key::Cancel => {
                let before = std::mem::take(&mut search.before);
                self.mode = Mode::Edit;
                self.line.update(&before, before.len(), &mut NoListener);
                return Action::Edit;
            }
            key => {
                self.mode = Mode::Edit;
                return self.edit(key, names);
            }
        };
        let is_match = |text: &String| !search.wanted.is_empty() && text.contains(&search.wanted);
        if let Some(found) = self.history.iter().take(from).rposition(is_match) {
            search.found = Some(found);
            let text = &self.history[found];
            let cursor = text.find(&search.wanted).unwrap_or_default();
            self.line.update(text, cursor, &mut NoListener);
        }
        Action::Edit
    }

    fn undo(&mut self) {
        if let Some((text, cursor)) = self.undo.pop(self.line.as_str()) {
            self.line.update(&text, cursor, &mut NoListener);
        }
    }

    fn replace(&mut self, text: &str, cursor: usize) {
        self.undo.note(self.line.as_str(), self.line.pos(), None);
        self.line.update(text, cursor, &mut NoListener);
        self.at = self.history.len();
    }

    fn kill(&mut self, what: &Movement) {
        let mut killed = Killed(String::new());
        if self.line.kill(what, &mut killed) && !killed.0.is_empty() {
            self.killed = killed.0;
        }
    }

    /// Moves the cursor to the same place in another line of the input, if there is one.
    fn move_to_row(&mut self, next: impl Fn(usize) -> Option<usize>) -> bool {
        let (text, cursor) = (self.line.as_str(), self.line.pos());
        let row = text[..cursor].matches('\n').count();
        let column = text[..cursor].rsplit('\n').next().unwrap_or_default().graphemes(true).count();
        let Some(next) = next(row) else { return false };
        let mut lines = text.split_inclusive('\n').chain(text.ends_with('\n').then_some(""));
        let start = lines.by_ref().take(next).map(str::len).sum::<usize>();
        let Some(line) = lines.next() else { return false };
        let offset: usize = line.trim_end_matches('\n').graphemes(true).take(column).map(str::len).sum();
        self.line.set_pos(start + offset);
        true
    }

    /// Shows an input of the history, or the new one again.
    fn recall(&mut self, index: Option<usize>) {
        let Some(index) = index.filter(|&index| index <= self.history.len()) else { return };
        if self.at == self.history.len() {
            self.line.as_str().clone_into(&mut self.draft);
        }
        self.at = index;
        let text = self.history.get(index).unwrap_or(&self.draft);
        self.line.update(text, text.len(), &mut NoListener);
    }
}

/// For changes that nobody needs to know of.
struct NoListener;

impl DeleteListener for NoListener {
    fn delete(&mut self, _: usize, _: &str, _: Direction) {}
}

impl ChangeListener for NoListener {
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
