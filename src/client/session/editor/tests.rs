use super::*;

fn press(editor: &mut Editor, key: Key) -> Action {
    editor.press(key, &Names::default())
}

fn typed(editor: &mut Editor, text: &str) {
    for character in text.chars() {
        press(editor, Key::Character(character));
    }
}

#[test]
fn a_line_is_edited_by_what_people_see_as_characters() {
    let mut editor = Editor::new();
    typed(&mut editor, "ae\u{301}👨‍👩‍👧x");
    for _ in 0..2 {
        press(&mut editor, Key::Left);
    }
    press(&mut editor, Key::Backspace);
    assert_eq!(editor.text(), "a👨‍👩‍👧x");
    press(&mut editor, Key::DeleteOrEnd);
    assert_eq!((editor.text(), editor.cursor()), ("ax", 1));
    press(&mut editor, Key::End);
    assert_eq!(press(&mut editor, Key::Enter), Action::Submit("ax".to_owned()));
    assert_eq!(press(&mut editor, Key::DeleteOrEnd), Action::End);
}

#[test]
fn what_is_cut_out_can_be_put_back() {
    let mut editor = Editor::new();
    typed(&mut editor, "one two-three");
    press(&mut editor, Key::KillPartLeft);
    assert_eq!(editor.text(), "one two-");
    press(&mut editor, Key::KillWordLeft);
    assert_eq!(editor.text(), "one ");
    press(&mut editor, Key::Home);
    press(&mut editor, Key::Yank);
    assert_eq!(editor.text(), "two-one ");
    press(&mut editor, Key::KillToEnd);
    press(&mut editor, Key::KillToStart);
    assert_eq!(editor.text(), "");
    press(&mut editor, Key::Yank);
    assert_eq!(editor.text(), "two-");
}

#[test]
fn the_history_is_gone_through_and_the_new_line_is_kept() {
    let mut editor = Editor::new();
    for line in ["one", "two", "two", ""] {
        typed(&mut editor, line);
        press(&mut editor, Key::Enter);
    }
    typed(&mut editor, "new");
    let mut shown = |key| {
        press(&mut editor, key);
        editor.text().to_owned()
    };
    let lines = [Key::Up, Key::Up, Key::Up, Key::Down, Key::Down, Key::Down].map(&mut shown);
    assert_eq!(lines, ["two", "one", "one", "two", "new", "new"]);
}

#[test]
fn up_and_down_move_within_several_lines() {
    let mut editor = Editor::new();
    typed(&mut editor, "old");
    press(&mut editor, Key::Enter);
    press(&mut editor, Key::Paste("日本語x\n\nab".to_owned()));
    let mut cursor = |key| {
        press(&mut editor, key);
        (editor.text().len(), editor.cursor())
    };
    let length = "日本語x\n\nab".len();
    assert_eq!(cursor(Key::Up), (length, "日本語x\n".len()));
    assert_eq!(cursor(Key::Up), (length, 0));
    assert_eq!(cursor(Key::End), (length, "日本語x".len()));
    assert_eq!(cursor(Key::Down), (length, "日本語x\n".len()));
    assert_eq!(cursor(Key::Down), (length, "日本語x\n\n".len()));
    for _ in 0..3 {
        cursor(Key::Up);
    }
    assert_eq!(editor.text(), "old");
    press(&mut editor, Key::Down);
    press(&mut editor, Key::Newline);
    press(&mut editor, Key::Up);
    assert_eq!((editor.text(), editor.cursor()), ("日本語x\n\nab\n", "日本語x\n\n".len()));
}

#[test]
fn ctrl_c_clears_the_input_and_ends_only_without_one() {
    let mut editor = Editor::new();
    press(&mut editor, Key::Paste("a\nb".repeat(500)));
    assert_eq!((press(&mut editor, Key::Interrupt), editor.text()), (Action::Edit, ""));
    assert_eq!(press(&mut editor, Key::Interrupt), Action::Interrupt);
    press(&mut editor, Key::Undo);
    assert_eq!(editor.text().len(), 1500, "a mistaken Ctrl-C can be undone");
}

#[test]
fn many_lines_are_sent_only_after_a_question() {
    let mut editor = Editor::new();
    let text = "line\n".repeat(6);
    press(&mut editor, Key::Paste(text.clone()));
    for no in [Key::Character('n'), Key::Interrupt, Key::Cancel] {
        assert_eq!(press(&mut editor, Key::Enter), Action::Edit);
        assert_eq!(editor.question().as_deref(), Some("send 6 lines? y/n "));
        press(&mut editor, Key::Character('x'));
        assert!(editor.question().is_some());
        assert_eq!(press(&mut editor, no), Action::Edit);
        assert_eq!((editor.question(), editor.text()), (None, &*text));
    }
    press(&mut editor, Key::Enter);
    assert_eq!(press(&mut editor, Key::Character('y')), Action::Submit(text));
    press(&mut editor, Key::Paste("line\n".repeat(5)));
    assert!(matches!(press(&mut editor, Key::Enter), Action::Submit(_)));
}

#[test]
fn what_does_not_fit_is_refused_and_told() {
    let mut editor = Editor::new();
    typed(&mut editor, "abc");
    let refused = Action::Tell(FULL.to_owned());
    assert_eq!(press(&mut editor, Key::Paste("x".repeat(MAX_INPUT - 2))), refused);
    assert_eq!(editor.text(), "abc");
    assert_eq!(press(&mut editor, Key::Paste("x".repeat(MAX_INPUT - 3))), Action::Edit);
    assert_eq!(press(&mut editor, Key::Character('x')), refused);
    assert_eq!(editor.text().len(), MAX_INPUT);
}

#[test]
fn changes_are_undone_word_by_word() {
    let mut editor = Editor::new();
    typed(&mut editor, "one two");
    press(&mut editor, Key::KillWordLeft);
    let mut shown = || {
        press(&mut editor, Key::Undo);
        editor.text().to_owned()
    };
    assert_eq!([shown(), shown(), shown(), shown(), shown()], ["one two", "one ", "one", "", ""]);
}

#[test]
fn earlier_input_is_searched() {
    let mut editor = Editor::new();
    for line in ["the lake", "a boat", "the late boat", "other"] {
        typed(&mut editor, line);
        press(&mut editor, Key::Enter);
    }
    typed(&mut editor, "new");
    press(&mut editor, Key::Search);
    typed(&mut editor, "la");
    assert_eq!((editor.text(), editor.search_prompt().as_deref()), ("the late boat", Some("(search: la) ")));
    press(&mut editor, Key::Search);
    assert_eq!((editor.text(), editor.cursor()), ("the lake", 4));
    typed(&mut editor, "x");
    assert_eq!(editor.text(), "the lake", "what is not found changes nothing");
    press(&mut editor, Key::Cancel);
    assert_eq!((editor.text(), editor.search_prompt()), ("new", None));
    press(&mut editor, Key::Search);
    typed(&mut editor, "boat");
    press(&mut editor, Key::Search);
    assert_eq!(press(&mut editor, Key::Enter), Action::Submit("a boat".to_owned()));
}
