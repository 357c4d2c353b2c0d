//! However a name is disguised, it counts as the one that it looks like.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use sockets::room::MAX_NAME;
use sockets::room::roster::Roster;

use crate::chat::Record;
use crate::for_all;

/// Characters that people confuse, written down by hand, apart from Unicode's data: the first of each row is
/// ordinary in names, the others look like it.
const LOOKALIKES: [(&str, &[&str]); 22] = [
    ("a", &["а", "ɑ", "α", "ａ"]),
    ("c", &["с", "ϲ", "ｃ"]),
    ("d", &["ԁ", "ｄ"]),
    ("e", &["е", "ｅ"]),
    ("h", &["һ", "ｈ"]),
    ("i", &["і", "ı", "ι", "ｉ"]),
    ("l", &["1", "I", "ӏ", "Ι", "І", "ｌ"]),
    ("m", &["rn", "ｍ"]),
    ("n", &["ո", "ｎ"]),
    ("o", &["о", "ο", "σ", "ｏ"]),
    ("O", &["0", "О", "Ο", "Օ"]),
    ("p", &["р", "ρ", "ｐ"]),
    ("r", &["г", "ｒ"]),
    ("s", &["ѕ", "ｓ"]),
    ("t", &["ｔ"]),
    ("u", &["υ", "ս", "ｕ"]),
    ("v", &["ν", "ѵ", "ｖ"]),
    ("y", &["у", "γ", "ｙ"]),
    ("B", &["В", "Β", "Ｂ"]),
    ("H", &["Н", "Η", "Ｈ"]),
    ("N", &["Ν", "Ｎ"]),
    ("3", &["З", "Ʒ"]),
];

/// Of a name and its disguise, whoever comes second does not get it, but reaches the first with it.
#[test]
fn a_disguised_name_is_taken() {
    let letters = vec((0..LOOKALIKES.len(), any::<usize>()), 2..MAX_NAME / 2);
    for_all((letters, any::<bool>()), |(letters, is_swapped)| {
        let (mut name, mut disguise) = disguised(&letters);
        if is_swapped {
            (name, disguise) = (disguise, name);
        }
        let mut roster = Roster::new();
        roster.join(1, &mut Record::default());
        roster.join(2, &mut Record::default());
        prop_assert_eq!(said(&mut roster, 1, &format!("/name {name}")), [(1, format!("* user1 is now {name}"))]);
        let refusal = format!("* {disguise} is taken");
        prop_assert_eq!(said(&mut roster, 2, &format!("/name {disguise}")), [(2, refusal)]);
        let whisper = format!("<user2 -> {name}> hi");
        prop_assert_eq!(said(&mut roster, 2, &format!("/msg {disguise} hi")), [(1, whisper.clone()), (2, whisper)]);
        // For its owner it is another way to write its own name.
        let renamed = said(&mut roster, 1, &format!("/name {disguise}"));
        prop_assert!(name == disguise || renamed == [(1, format!("* {name} is now {disguise}"))], "{:?}", renamed);
        Ok(())
    });
}

/// Nobody speaks as the server, or as a member that has left or is still to come.
#[test]
fn a_disguised_name_of_the_server_is_taken() {
    let word = prop_oneof![
        select(vec!["server", "admin", "root", "system", "operator", "moderator", "everyone", "all", "here"])
            .prop_map(str::to_owned),
        (2..1_000_000_u32).prop_map(|number| format!("user{number}")),
    ];
    for_all((word, vec(any::<usize>(), MAX_NAME)), |(word, choices)| {
        let disguise: String = word.chars().zip(choices).map(|(letter, choice)| lookalike(letter, choice)).collect();
        let mut roster = Roster::new();
        roster.join(1_000_001, &mut Record::default());
        let refusal = format!("* {disguise} is taken");
        prop_assert_eq!(said(&mut roster, 1_000_001, &format!("/name {disguise}")), [(1_000_001, refusal)]);
        Ok(())
    });
}

/// Names of letters of one script that do not look like each other do not exclude each other.
#[test]
fn names_that_differ_visibly_are_both_free() {
    let scripts = [
        "abdefghijkmpqstuvwxyz23456789",
        "бвгджзийклнптфцчшыэюя",
        "בגדהזחטכלמ",
        "अइकखगघचछजटडतदनपबमरलवसह",
        "小明王李张刘陈",
    ];
    let name = select(scripts.to_vec()).prop_flat_map(|script| vec(select(script.chars().collect::<Vec<_>>()), 1..10));
    let name = name.prop_map(|letters| format!("_{}", letters.iter().collect::<String>()));
    for_all((name.clone(), name), |(first, second)| {
        prop_assume!(first != second);
        let mut roster = Roster::new();
        for (id, name) in [(1, &first), (2, &second)] {
            roster.join(id, &mut Record::default());
            prop_assert_eq!(
                said(&mut roster, id, &format!("/name {name}")),
                [(id, format!("* user{id} is now {name}"))]
            );
        }
        Ok(())
    });
}

/// Nonspacing marks neither pile up nor repeat.
#[test]
fn piled_up_marks_are_refused() {
    let mark =
        select("\u{300}\u{301}\u{304}\u{308}\u{323}\u{327}\u{20dd}\u{591}\u{64e}\u{e34}".chars().collect::<Vec<_>>());
    for_all((select(vec!["a", "é", "ש", "م", "ท"]), vec(mark, 0..8), "[a-z]{0,3}"), |(letter, marks, rest)| {
        let name = format!("{letter}{}{rest}", marks.iter().collect::<String>());
        let mut roster = Roster::new();
        roster.join(1, &mut Record::default());
        let answer = said(&mut roster, 1, &format!("/name {name}")).remove(0).1;
        let mut sorted = marks.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let own = usize::from(letter == "é");
        if marks.len() + own > 4 {
            prop_assert_eq!(answer, "* a name has 1 to 32 letters, digits, - or _");
        } else if sorted.len() == marks.len() && (own == 0 || !marks.contains(&'\u{301}')) {
            prop_assert_eq!(answer, format!("* user1 is now {name}"));
        } else if marks.windows(2).any(|pair| pair[0] == pair[1]) {
            prop_assert_eq!(answer, "* a name has 1 to 32 letters, digits, - or _");
        }
        Ok(())
    });
}

/// A name of ordinary characters, and one that looks like it. Neither is reserved, because of the x.
fn disguised(letters: &[(usize, usize)]) -> (String, String) {
    let (mut name, mut disguise) = ("x".to_owned(), "x".to_owned());
    for &(row, choice) in letters {
        let (ordinary, others) = LOOKALIKES[row];
        name.push_str(ordinary);
        disguise.push_str(others.get(choice % (others.len() + 1)).unwrap_or(&ordinary));
    }
    (name, disguise)
}

/// What looks like `letter`, or the letter itself.
fn lookalike(letter: char, choice: usize) -> String {
    let letter = letter.to_string();
    let is_of = |(ordinary, others): &&(&str, &[&str])| *ordinary == letter || others.contains(&&*letter);
    let Some((ordinary, others)) = LOOKALIKES.iter().find(is_of) else { return letter };
    (*others.get(choice % (others.len() + 1)).unwrap_or(ordinary)).to_owned()
}

/// What is said because of a line to those whom it concerns alone.
fn said(roster: &mut Roster<u32>, id: u32, line: &str) -> Vec<(u32, String)> {
    let mut record = Record::default();
    roster.handle_line(id, line.as_bytes(), &mut record);
    record.told.into_iter().map(|(id, line)| (id, line.trim_end().to_owned())).collect()
}
