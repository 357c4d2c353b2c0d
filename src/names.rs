//! Which names are well-formed, which count as the same, and which belong to the server.

use std::collections::HashSet;
use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// The longest name, in characters.
pub const MAX_NAME: usize = 32;

/// The longest name with its letters decomposed, of which U+FDFA becomes eighteen: this bounds the time that
/// comparing takes. A Vietnamese or Greek letter becomes three.
const MAX_DECOMPOSED: usize = 4 * MAX_NAME;

/// The most nonspacing marks in a row, as Unicode Technical Standard 39, 5.4, recommends.
const MAX_MARKS: usize = 4;

/// Names that a member could use to speak for the server, to claim authority, or to be addressed instead of
/// everybody, and the words that the server's own sentences put where a name stands.
pub(super) const RESERVED: [&str; 31] = [
    "admin",
    "administrator",
    "all",
    "channel",
    "console",
    "daemon",
    "echo",
    "echo-server",
    "echo_server",
    "everybody",
    "everyone",
    "here",
    "mod",
    "moderator",
    "nobody",
    "official",
    "op",
    "operator",
    "owner",
    "room",
    "root",
    "security",
    "server",
    "service",
    "staff",
    "superuser",
    "support",
    "sysadmin",
    "sysop",
    "system",
    "you",
];

static RESERVED_FORMS: LazyLock<HashSet<String>> =
    LazyLock::new(|| RESERVED.iter().flat_map(|name| forms(name)).collect());

/// Whether `name` consists of letters and digits of any script, `-` and `_`. The marks with which many scripts
/// write their vowels may follow a letter. Invisible characters are refused, and so are marks that pile up or
/// repeat: they cover the text around them, and a repeated mark looks the same as a single one.
pub(crate) fn is_well_formed(name: &str) -> bool {
    let is_letter = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_');
    (1..=MAX_NAME).contains(&name.chars().count())
        && name.nfkd().nth(MAX_DECOMPOSED).is_none()
        && name.chars().all(|character| is_letter(character) || is_mark(character))
        && !name.starts_with(is_mark)
        && !name.contains(is_invisible)
        && has_ordinary_marks(name)
}

/// What `name` is compared by: two names count as the same if they share a form, and a member has its name under
/// both of them.
///
/// A single form cannot do, because people confuse names in two ways that must not be chained. `karl` and `KARL`
/// differ only in case, and so do `kari` and `KARI`; `KARI` and `KARl` look the same. Yet Kari and Karl are
/// ordinary names of two people. So the first form ignores case, the second one ignores what cannot be seen.
pub(crate) fn forms(name: &str) -> [String; 2] {
    [case_folded(name), skeleton(name)]
}

/// Whether the name that has this form among its [`forms`] belongs to the server: `server` and the like, and
/// `user7`, even if nobody has it yet or any more.
pub(super) fn is_reserved(form: &str) -> bool {
    // A skeleton has `l` and `o` for 1 and 0.
    let is_digit = |character: char| character.is_numeric() || matches!(character, 'l' | 'o');
    let number = form.strip_prefix("user").filter(|number| !number.is_empty());
    number.is_some_and(|number| number.chars().all(is_digit)) || RESERVED_FORMS.contains(form)
}

/// The name without the differences between upper and lower case and between the encodings of a character
/// (Unicode Standard Annex 15, NFKC). By way of lower case and upper case, because some letters have two upper
/// ones, such as the sharp s, and some two lower ones, such as the sigma.
fn case_folded(name: &str) -> String {
    let lower = name.nfkc().flat_map(char::to_lowercase);
    lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect()
}

/// What the name looks like (Unicode Technical Standard 39, 4), in lower case. All confusions of the standard
/// count, also `0` and `O`, `1`, `l` and `I`, `m` and `rn`: nobody knows which font a member reads, and the only
/// harm is that two such names cannot be in one room. Letters are compared as they are displayed, so the case
/// is dropped last: a Cyrillic В looks like B, and в does not look like b.
///
/// The standard's data lack some of the letters that NFKC knows as variants of others, such as most of the
/// mathematical alphabets; and NFKC would turn letters such as the lunate sigma, which looks like c, into ones
/// that look different. So NFKC comes between two passes.
fn skeleton(name: &str) -> String {
    let visible: String = unicode_security::skeleton(name).nfkc().collect();
    unicode_security::skeleton(&visible).flat_map(char::to_lowercase).collect()
}

fn is_mark(character: char) -> bool {
    character.general_category_group() == GeneralCategoryGroup::Mark
}

/// Whether no more than [`MAX_MARKS`] nonspacing marks follow each other, and no two of them are the same
/// (Unicode Technical Standard 39, 5.4, which asks this of the decomposed name).
fn has_ordinary_marks(name: &str) -> bool {
    let (mut last, mut count) = (None, 0);
    name.nfd().all(|character| {
        let is_nonspacing =
            matches!(character.general_category(), GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark);
        let is_repeated = is_nonspacing && last == Some(character);
        count = if is_nonspacing { count + 1 } else { 0 };
        last = Some(character);
        !is_repeated && count <= MAX_MARKS
    })
}

/// The letters and marks that are displayed as nothing: Unicode's `Default_Ignorable_Code_Point`, and the blanks
/// and fillers of two scripts.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{13441}'..='\u{13442}' | '\u{16fe4}' | '\u{e0100}'..='\u{e01ef}')
}
