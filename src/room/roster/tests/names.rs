//! Which names members may take, and who gets one.

use super::*;

#[test]
fn names_are_counted_up_and_never_given_twice() {
    let mut scene = Scene::default();
    assert_eq!(scene.join(7), told(&[(7, "* welcome, user1; nobody else is here")]));
    assert_eq!(scene.join(8), told(&[(8, "* welcome, user2; here: user1"), (7, "* user2 joined")]));
    assert_eq!(scene.leave(8, None), told(&[(7, "* user2 left")]));
    assert_eq!(scene.join(9), told(&[(9, "* welcome, user3; here: user1"), (7, "* user3 joined")]));
    scene.leave(7, None);
    scene.leave(9, None);
    assert_eq!(scene.join(10), told(&[(10, "* welcome, user4; nobody else is here")]));
    let shown = ["user1 joined", "user2 joined", "user2 left", "user3 joined", "user1 left", "user3 left"];
    assert_eq!(scene.record.shown[..6], shown.map(|line| format!("* {line}")));
}

#[test]
fn all_are_told_of_a_new_name() {
    let mut scene = Scene::with(&["user1", "bob"]);
    assert_eq!(scene.says(1, "/name ann"), told(&[(1, "* user1 is now ann"), (2, "* user1 is now ann")]));
    assert_eq!(scene.says(1, "/name  Ann \t"), told(&[(1, "* ann is now Ann"), (2, "* ann is now Ann")]));
    assert_eq!(scene.record.shown, ["* user1 is now ann", "* ann is now Ann"]);
    assert_eq!(scene.answer(1, "/name Ann"), "* you are Ann already");
    assert_eq!(scene.says(1, "hello"), told(&[(2, "<Ann> hello")]));
}

#[test]
fn names_may_be_of_any_script() {
    let longest = "ä".repeat(32);
    for name in [
        "a",
        "7",
        "-",
        "_",
        "x-1_y",
        "Ærøskøbing",
        "Владимир",
        "Ελένη",
        "小明",
        "ゆうこ",
        "김민준",
        "مريم",
        "דוד",
        // Vowels, viramas and tones are marks of their own.
        "हिन्दी",
        "क्षत्रिय",
        "ไทย",
        "น้ำ",
        "தமிழ்",
        "မြန်မာ",
        // Five marks in a row, of which four are nonspacing at most.
        "ကြွော်",
        "བསྒྲུབས",
        "שָׁלוֹם",
        "مُحَمَّد",
        "Nguyễn",
        "Ali",
        "Ema",
        "Танк_1",
        "名無し123",
        "e\u{301}tienne",
        &longest,
    ] {
        let mut scene = Scene::with(&["user1", "user2"]);
        assert!(scene.takes_name(1, name), "{name}");
        assert_eq!(scene.says(1, "hi"), told(&[(2, &format!("<{name}> hi"))]));
    }
}

#[test]
fn malformed_names_are_refused() {
    const REFUSAL: &str = "* a name has 1 to 32 letters, digits, - or _";
    let mut scene = Scene::with(&["user1", "bob"]);
    let too_long = "a".repeat(33);
    for name in [
        "",
        " ",
        "two words",
        "a\tb",
        "a.b",
        "a/b",
        "<ann>",
        "*",
        "a,b",
        "a\\b",
        "👍",
        "ann👍",
        "👩\u{200d}💻",
        "a\u{a0}b",
        "a\u{ad}b",
        "a\u{200b}b",
        "a\u{200d}b",
        "a\u{202e}b",
        "a\u{2060}b",
        "a\u{feff}b",
        "a\u{3000}b",
        "a\u{fe0f}",
        // Letters, by Unicode, that show nothing: fillers, blanks, joiners, inherent vowels.
        "\u{3164}",
        "\u{115f}",
        "\u{1160}",
        "\u{ffa0}",
        "a\u{34f}b",
        "a\u{17b4}",
        "a\u{180b}",
        "a\u{e0100}",
        "\u{13441}",
        // A mark without a letter would be put on what stands before the name.
        "\u{301}",
        "\u{301}a",
        "\u{93f}क",
        "\u{20dd}",
        // Marks that pile up, or repeat and look like one.
        "a\u{300}\u{301}\u{302}\u{303}\u{304}",
        "e\u{301}\u{302}\u{303}\u{20dd}\u{304}",
        "a\u{301}\u{301}",
        "á\u{301}",
        "a\u{323}\u{301}\u{323}",
        "ท\u{e34}\u{e34}",
        // One letter, by Unicode, that stands for eighteen.
        "ﷺﷺﷺﷺﷺﷺﷺﷺ",
        &too_long,
    ] {
        assert_eq!(scene.answer(1, format!("/name {name}")), REFUSAL, "{name:?}");
    }
    for name in [&b"\xff"[..], b"ann\xe2\x82", b"a\x1b[31m", b"a\0b", b"a\rb"] {
        assert_eq!(scene.answer(1, [b"/name ", name].concat()), REFUSAL, "{}", name.escape_ascii());
    }
}

#[test]
fn nobody_gets_a_name_that_could_be_taken_for_another() {
    for (name, likeness) in [
        ("ann", "ANN"),
        ("Étienne", "e\u{301}TIENNE"),
        ("Straße", "STRASSE"),
        ("Οδυσσέας", "ΟΔΥΣΣΈΑΣ"),
        ("Straße", "STRAẞE"),
        ("ann", "ａｎｎ"),
        ("file", "ﬁle"),
        ("x2", "x²"),
        ("Åsa", "\u{212b}sa"),
        ("가", "\u{1100}\u{1161}"),
        // Letters of other scripts.
        ("ann", "аnn"),
        ("Bob", "Вob"),
        ("Nick", "Νick"),
        ("carl", "ϲarl"),
        ("fam", "ſam"),
        ("aрех", "apex"),
        ("ｕnа", "una"),
        ("ロミ", "口ミ"),
        // Letters and digits of one script.
        ("Paul", "PauI"),
        ("Paul", "Pau1"),
        ("Iris", "lris"),
        ("iris", "IRIS"),
        ("Oleg", "0leg"),
        ("Tom", "Torn"),
        ("KARI", "karl"),
    ] {
        for (name, likeness) in [(name, likeness), (likeness, name)] {
            let mut scene = Scene::with(&["user1", name]);
            assert_eq!(scene.answer(1, format!("/name {likeness}")), format!("* {likeness} is taken"));
            assert_eq!(scene.says(1, format!("/msg {likeness} hi")), whispered(1, 2, &format!("<user1 -> {name}> hi")));
            assert!(scene.takes_name(2, likeness), "one's own name in another form");
            assert!(!scene.takes_name(1, name));
            assert!(!scene.takes_name(1, likeness));
            assert!(scene.takes_name(2, "other"));
            assert!(scene.takes_name(1, name), "a name that was given up is free");
        }
    }
}

#[test]
fn ordinary_names_that_differ_can_be_there_at_once() {
    for pair in [
        ["Kari", "Karl"],
        ["Mei", "Mel"],
        ["Neil", "Nell"],
        ["Ali", "Eli"],
        ["Ila", "Lia"],
        ["Nick", "Vick"],
        ["Вова", "Bob"],
        ["Аня", "Ann"],
        ["Jose", "José"],
        ["ann_", "ann"],
    ] {
        let mut scene = Scene::with(&["user1", pair[0]]);
        assert!(scene.takes_name(1, pair[1]), "{pair:?}");
        assert_eq!(scene.says(1, format!("/msg {} hi", pair[0].to_uppercase()))[0].0, 2, "{pair:?}");
    }
}

#[test]
fn names_that_could_speak_for_the_server_are_its_own() {
    let mut scene = Scene::with(&["ann"]);
    for name in ["server", "Server", "ADMIN", "аdmin", "adrnin", "admіn", "rооt", "r00t", "aIl"] {
        assert_eq!(scene.answer(1, format!("/name {name}")), format!("* {name} is taken"));
    }
    for name in crate::names::RESERVED {
        assert!(is_well_formed(name));
        assert!(!scene.takes_name(1, name), "{name}");
    }
    for name in ["Ali", "server1", "servers", "the-admin", "ops"] {
        assert!(scene.takes_name(1, name), "{name}");
    }
}

#[test]
fn the_names_that_the_server_gives_are_its_own() {
    let mut scene = Scene::with(&["ann", "user2"]);
    for name in [
        "user1",
        "user3",
        "USER3",
        "user0",
        "user007",
        "user99999999999999999999999",
        "ｕｓｅｒ３",
        "user³",
        "userl",
        "userI3",
        "userO",
        "usеr4",
        "υser4",
        "userЗ",
        "user٣",
    ] {
        assert_eq!(scene.answer(1, format!("/name {name}")), format!("* {name} is taken"));
    }
    assert_eq!(scene.answer(1, "/name User2"), "* User2 is taken");
    for name in ["user", "user-1", "users", "user1a", "auser1"] {
        assert!(scene.takes_name(1, name), "{name}");
    }
    // As long as one has it, it can be written in another way.
    assert!(scene.takes_name(2, "User2"));
    assert!(scene.takes_name(2, "bob"));
    assert!(!scene.takes_name(2, "user2"));
}

/// The first step is allowed, because no form of the name is the server's; the second is not, because one is.
#[test]
fn no_name_of_the_server_is_reached_by_way_of_ones_own() {
    for (own, reserved) in [("sεrvεr", "SΕRVΕR"), ("aii", "aII")] {
        let mut scene = Scene::with(&["ann"]);
        if scene.takes_name(1, own) {
            assert!(!scene.takes_name(1, reserved), "{reserved}");
        }
    }
}
