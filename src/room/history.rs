//! What was said last, for newcomers.

use super::notice::{Excerpt, Notice};
use crate::config::Config;

/// The most that is kept, in bytes: half of the answers that a member may have unread before it is not read from. So a
/// newcomer may talk that has not read the history.
const MAX_HELD: usize = 32 << 10;

/// It takes at most this part of the memory for all clients: an eighth.
const PART: usize = 8;

/// What comes before the lines.
const HEADER: &str = "* earlier:\n";

/// How each of the lines begins: neither as what the server says nor as what is being said.
const MARK: &str = "| ";

/// The last lines that were said.
#[derive(Debug)]
pub(super) struct History {
    /// The lines, with their marks and newlines. It never grows.
    lines: String,
    count: usize,
    max_count: usize,
    max_len: usize,
}

impl History {
    pub(super) fn new(config: &Config) -> Self {
        let max_len = if config.history > 0 { MAX_HELD.min(config.max_memory / PART) } else { 0 };
        Self { lines: String::with_capacity(max_len), count: 0, max_count: config.history, max_len }
    }

    /// Bytes of memory that it takes.
    pub(super) fn held(&self) -> usize {
        self.lines.capacity()
    }

    /// Takes a line that is published, and keeps it if it was said, of a long one the beginning.
    pub(super) fn note(&mut self, notice: &Notice<'_>) {
        let Notice::Said { name, text } = notice else { return };
        if self.max_len == 0 {
            return;
        }
        let line = format!("{MARK}<{name}> {}\n", Excerpt(text));
        while self.count > 0 && (self.count == self.max_count || self.lines.len() + line.len() > self.max_len) {
            let end = self.lines.find('\n').map_or(self.lines.len(), |newline| newline + 1);
            self.lines.drain(..end);
            self.count -= 1;
        }
        if line.len() <= self.max_len {
            self.lines.push_str(&line);
            self.count += 1;
        }
    }

    /// The lines as a newcomer is sent them, if there are any.
    pub(super) fn replay(&self) -> Option<String> {
        (self.count > 0).then(|| [HEADER, &self.lines].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(max_count: usize) -> History {
        History::new(&Config::with(|config| (config.history, config.max_memory) = (max_count, 1 << 20)))
    }

    fn say(history: &mut History, text: &str) {
        history.note(&Notice::Said { name: "ann", text: text.as_bytes() });
    }

    #[test]
    fn the_last_lines_that_were_said_are_replayed_and_nothing_else() {
        let mut history = history(2);
        assert_eq!(history.replay(), None);
        history.note(&Notice::Joined { name: "ann" });
        for text in ["one", "* bob left\u{1b}[m", "| <bob> three"] {
            say(&mut history, text);
            history.note(&Notice::Renamed { from: "ann", to: "bob" });
            history.note(&Notice::Left { name: "bob", reason: None });
        }
        let replay = "* earlier:\n| <ann> * bob left\\u{1b}[m\n| <ann> | <bob> three\n";
        assert_eq!(history.replay().as_deref(), Some(replay));
    }

    #[test]
    fn memory_stays_the_same_whatever_is_said() {
        let mut history = history(usize::MAX);
        let held = history.held();
        assert_eq!(held, MAX_HELD);
        for len in (0..20_000).step_by(7) {
            say(&mut history, &"\u{1b}".repeat(len));
            assert_eq!(history.held(), held);
            assert_eq!(history.lines.lines().count(), history.count);
        }
        let replay = history.replay().expect("lines");
        assert!((MAX_HELD / 2..=MAX_HELD + HEADER.len()).contains(&replay.len()));
        assert!(replay.ends_with("\\u{1b}… (1024 of 19999 bytes)\n"), "{}", &replay[replay.len() - 100..]);
    }

    #[test]
    fn without_lines_to_keep_there_is_no_memory_to_hold() {
        for (max_count, max_memory) in [(0, 1 << 30), (100, 7)] {
            let config = Config::with(|config| (config.history, config.max_memory) = (max_count, max_memory));
            let mut history = History::new(&config);
            say(&mut history, "hello");
            assert_eq!((history.held(), history.replay()), (0, None));
        }
    }
}
