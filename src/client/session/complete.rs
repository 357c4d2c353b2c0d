//! What Tab adds to the input.

use super::names::Names;

/// What a room understands.
const COMMANDS: [&str; 6] = ["/help", "/me", "/msg", "/name", "/quit", "/who"];

/// What a word can become.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Completion {
    Nothing,
    /// This many bytes before the cursor are to be replaced.
    Word(usize, String),
    /// Several words begin like this, and have nothing more in common.
    Choice(Vec<String>),
}

/// Completes the last word of `before`, which is the input up to the cursor: a command at the beginning of a line, or
/// a name.
pub(super) fn complete(before: &str, names: &Names) -> Completion {
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    let is_first = before[..before.len() - word.len()].chars().next_back().is_none_or(|character| character == '\n');
    let candidates = match word {
        "" => return Completion::Nothing,
        _ if is_first && word.starts_with('/') => {
            COMMANDS.into_iter().filter(|command| command.starts_with(word)).collect()
        }
        _ => names.starting_with(word),
    };
    match *candidates {
        [] => Completion::Nothing,
        [only] => Completion::Word(word.len(), format!("{only} ")),
        [first, ..] => {
            let common = candidates.iter().fold(first, |common, candidate| common_beginning(common, candidate));
            if common.chars().count() > word.chars().count() {
                return Completion::Word(word.len(), common.to_owned());
            }
            Completion::Choice(candidates.into_iter().map(str::to_owned).collect())
        }
    }
}

fn common_beginning<'a>(one: &'a str, other: &str) -> &'a str {
    let same = one.char_indices().zip(other.chars()).take_while(|((_, one), other)| one == other);
    let length = same.last().map_or(0, |((at, character), _)| at + character.len_utf8());
    &one[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_names_are_completed_as_far_as_they_are_clear() {
        let mut names = Names::default();
        names.note("* welcome, me; here: Anna, anton, bob, bobby, بهار");
        let word = |length, text: &str| Completion::Word(length, text.to_owned());
        for (before, completion) in [
            ("", Completion::Nothing),
            ("hello ", Completion::Nothing),
            ("/w", word(2, "/who ")),
            ("/m", Completion::Choice(vec!["/me".to_owned(), "/msg".to_owned()])),
            ("/ms", word(3, "/msg ")),
            ("/me a", Completion::Choice(vec!["Anna".to_owned(), "anton".to_owned()])),
            ("one\n/h", word(2, "/help ")),
            ("say /h", Completion::Nothing),
            ("/x", Completion::Nothing),
            ("/msg b", word(1, "bob")),
            ("bob", Completion::Choice(vec!["bob".to_owned(), "bobby".to_owned()])),
            ("hi BOBB", word(4, "bobby ")),
            ("a", Completion::Choice(vec!["Anna".to_owned(), "anton".to_owned()])),
            ("به", word(4, "بهار ")),
            ("me", Completion::Nothing),
        ] {
            assert_eq!(complete(before, &names), completion, "{before:?}");
        }
    }
}
