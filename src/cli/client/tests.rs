use super::*;

/// Parses a command line, whatever the environment says.
fn parsed(words: &[&str]) -> Result<Options, clap::Error> {
    let command = command().mut_args(|argument| argument.env(None));
    match parse(command, [&["echo-client"], words].concat().into_iter().map(OsString::from))? {
        Request::Run(options) => Ok(options),
        Request::Print(_) => panic!("nothing is to be printed"),
    }
}

fn options(words: &[&str]) -> Options {
    parsed(words).unwrap()
}

#[test]
fn without_arguments_the_options_are_the_defaults() {
    assert_eq!(options(&[]), Options::default());
}

#[test]
fn words_become_one_message() {
    let message = |text: &str| Input::Message(text.into());
    assert_eq!(options(&["Hello,", "world!"]).input, message("Hello, world!"));
    assert_eq!(options(&["-", "-"]).input, message("- -"));
    assert_eq!(options(&[""]).input, message(""));
}

#[test]
fn only_without_a_message_and_a_check_there_can_be_a_session() {
    assert_eq!(options(&["--name", "ann"]).input, Input::Terminal);
    assert_eq!(options(&["-"]).input, Input::Stdin);
    assert_eq!(options(&["--check"]).input, Input::Stdin);
}

#[test]
fn only_what_a_room_could_accept_is_a_name() {
    assert_eq!(options(&["-n", "نام"]).name.as_deref(), Some("نام"));
    for name in ["", "a\n/quit", "\u{85}", "two words", &"x".repeat(33)] {
        assert!(parsed(&["--name", name]).is_err(), "{name:?}");
    }
}

#[test]
fn a_host_may_have_a_port() {
    for (text, name, port) in [
        ("example.org", "example.org", None),
        ("example.org:7", "example.org", Some(7)),
        ("192.0.2.1:7", "192.0.2.1", Some(7)),
        ("::1", "::1", None),
        ("[::1]", "::1", None),
        ("[::1]:7", "::1", Some(7)),
        ("fe80::1%eth0", "fe80::1%eth0", None),
        ("[fe80::1%2]:7", "fe80::1%2", Some(7)),
        ("unix:/run/echo.sock", "unix:/run/echo.sock", None),
        ("unix:@echo:7", "unix:@echo:7", None),
    ] {
        assert_eq!(text.parse(), Ok(Host { name: name.to_owned(), port }));
    }
    for text in ["", ":7", "[]", "[]:7", "[::1", "[::1]7", "[::1]:", "[example.org]:7", "a:", "a:x", "a:65536", "1:2:3"]
    {
        assert!(text.parse::<Host>().is_err(), "{text:?}");
    }
    assert_eq!(options(&["-H", "example.org:7"]).port, 7);
    for host in ["example.org:7", "unix:/run/echo.sock"] {
        let error = parsed(&["-H", host, "-p", "7"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
    }
}

#[test]
fn a_pin_may_have_colons_and_capitals() {
    let trust = |pin: &str| parsed(&["--tls", "--pin", pin]).map(|options| options.tls.map(|tls| tls.trust));
    let digest: [u8; 32] = std::array::from_fn(|at| at as u8 * 8 + 1);
    let digits: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    for pin in [digits.concat(), digits.join(":"), digits.join(":").to_uppercase()] {
        assert_eq!(trust(&pin).unwrap(), Some(Trust::Pin(digest)), "{pin}");
    }
    let hex = digits.concat();
    for wrong in [&format!("::{hex}"), &format!("{}:{}", &hex[..1], &hex[1..]), &format!("{hex}:"), "ä"] {
        assert!(trust(wrong).is_err(), "{wrong:?}");
    }
    for wrong in ["", "aa", &hex[1..], &format!("{hex}00"), &format!(" {hex}"), &hex.replace('1', "g")] {
        assert!(trust(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn what_tls_needs_goes_together() {
    let tls = |words: &[&str]| parsed(words).map(|options| options.tls);
    assert_eq!(tls(&["--tls"]).unwrap(), Some(Tls::default()));
    let given = tls(&["--tls", "--cacert", "a", "--cert", "c", "--key", "k", "--server-name", "n"]).unwrap().unwrap();
    assert_eq!(given.trust, Trust::Authorities("a".into()));
    assert_eq!(given.identity, Some(("c".into(), "k".into())));
    assert_eq!(given.server_name.as_deref(), Some("n"));
    assert_eq!(tls(&["--tls", "--insecure"]).unwrap().unwrap().trust, Trust::Anything);
    for words in [&["--cacert", "a"][..], &["--insecure"], &["--tls", "--cert", "c"], &["--tls", "--key", "k"]] {
        assert!(tls(words).is_err(), "{words:?}");
    }
    assert!(tls(&["--tls", "--insecure", "--cacert", "a"]).is_err());
    for name in ["", "a b", "...", "[::1]", "\u{f6}rg.de"] {
        assert!(tls(&["--tls", "--server-name", name]).is_err(), "{name}");
    }
    assert!(tls(&["--tls", "--server-name", "::1"]).is_ok());
}

#[test]
fn the_short_help_fits_on_one_screen() {
    let help = command().term_width(80).render_help();
    let help = help.to_string();
    println!("{help}");
    assert!(help.lines().count() < 24);
    let is_one_line = |line: &str| !line.starts_with("   ") || line.trim_start().starts_with("--");
    assert!(help.lines().all(is_one_line));
}
