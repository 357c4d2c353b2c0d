//! Which names are well-formed, and which count as the same.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The longest name, in characters.
pub const MAX_NAME: usize = 32;

/// Letters and digits of any script, `-` and `_`. The marks with which many scripts write their vowels may
/// follow a letter; characters that show nothing may not, or two names could look the same.
pub(crate) fn is_well_formed(name: &str) -> bool {
    let is_letter = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_');
    let mut characters = name.chars();
    (1..=MAX_NAME).contains(&name.chars().count())
        && characters.next().is_some_and(|first| is_letter(first) && !is_combining_mark(first))
        && characters.all(|character| is_letter(character) || is_combining_mark(character))
        && !name.contains(is_invisible)
}

/// The letters and marks that are displayed as nothing: Unicode's `Default_Ignorable_Code_Point`, and the blanks
/// and fillers of two scripts.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{13441}'..='\u{13442}' | '\u{16fe4}' | '\u{e0100}'..='\u{e01ef}')
}

/// What two names that people would take for the same have in common: upper and lower case, and the
/// different encodings of a character (Unicode Standard Annex 15, NFKC). By way of lower case and upper case,
/// because some letters have two upper ones, such as the sharp s, and some two lower ones, such as the sigma.
pub(super) fn unmistakable(name: &str) -> String {
    let lower = name.nfkc().flat_map(char::to_lowercase);
    lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect()
}

/// `user7` is the server's to give, even if nobody has it yet or any more.
pub(super) fn is_given_by_server(form: &str) -> bool {
    form.strip_prefix("user").is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}
