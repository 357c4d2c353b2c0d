use super::*;
use crate::cli::tests::parse;

#[test]
fn without_options_the_config_is_the_default() {
    assert_eq!(config(&[]), Ok(Config::default()));
}

#[test]
fn a_room_is_shared_only_where_there_is_one() {
    let shared = config(&["--chat", "--redis", "redis://localhost:6379", "--room", "a_B-3"]).expect("good usage");
    assert_eq!((shared.redis, &*shared.room), ("redis://localhost:6379".parse().ok(), "a_B-3"));
    let needs_chat = |name: &str| Err((ErrorKind::MissingRequiredArgument, format!("{name} needs --chat")));
    assert_eq!(config(&["--redis", "redis://localhost"]), needs_chat("--redis"));
    assert_eq!(config(&["--room", "attic"]), needs_chat("--room"));
    let files = ["--redis-cacert", "ca.pem", "--redis-cert", "cert.pem", "--redis-key", "key.pem"];
    let with = |url: &str, files: &[&str]| config(&[&["--chat", "--redis", url], files].concat());
    let config_with_files = with("rediss://localhost", &files).expect("good usage");
    assert_eq!(config_with_files.redis_cacert, Some("ca.pem".into()));
    assert_eq!(config_with_files.redis_identity, Some(("cert.pem".into(), "key.pem".into())));
    for (name, files) in [("--redis-cacert", &files[..2]), ("--redis-cert", &files[2..])] {
        let needs_tls = format!("{name} needs --redis with a rediss:// URL");
        assert_eq!(with("redis://localhost", files), Err((ErrorKind::MissingRequiredArgument, needs_tls)));
    }
    let alone = ["--chat", "--redis", "rediss://localhost", "--redis-cert", "cert.pem"];
    assert!(parse::<ServerArgs>(&alone).is_err());
    for name in ["", "a b", "{a}", "\u{e4}"] {
        assert!(parse::<ServerArgs>(&["--chat", "--room", name]).is_err(), "{name}");
    }
    let long = config(&["--chat", "--redis", "redis://localhost", "--max-line", "1025k"]);
    assert_eq!(long, Err((ErrorKind::ValueValidation, "--max-line is at most 1MiB with --redis".to_owned())));
    let (_, error) = config(&["--chat", "--redis", "redis://:hunter2@:x"]).expect_err("bad usage");
    assert!(!error.contains("hunter2"), "{error}");
    for words in [&["--chat", "redis://:hunter2@host"][..], &["--chat", "--port", "rediss://:hunter2@host"]] {
        let words = ["echo-server"].iter().chain(words).map(OsString::from);
        let error = server_request(words).expect_err("bad usage").to_string();
        assert!(error.contains("--redis") && !error.contains("hunter2"), "{error}");
    }
}

fn config(words: &[&str]) -> Result<Config, (ErrorKind, String)> {
    parse::<ServerArgs>(words).expect("good usage").into_config()
}

#[test]
fn the_short_help_has_one_line_for_each_option() {
    let help = command().term_width(100).render_help().to_string();
    println!("{help}");
    let is_one_line = |line: &str| !line.starts_with("   ") || line.trim_start().starts_with("--");
    assert!(help.lines().all(is_one_line));
    let groups: Vec<_> = help.lines().filter_map(|line| line.strip_suffix(':')).collect();
    assert_eq!(groups, ["Listening", "Clients", "Memory", "Timeouts", "Room", "TLS", "Log", "Other"]);
}

#[test]
fn an_admin_address_may_be_a_port_alone() {
    for (text, address) in [("9100", "127.0.0.1:9100"), ("0.0.0.0:1", "0.0.0.0:1"), ("[::1]:0", "[::1]:0")] {
        assert_eq!(admin_address(text), Ok(address.parse().expect("an address")));
    }
    for wrong in ["", "::1", "127.0.0.1", "localhost:1", "70000"] {
        assert!(admin_address(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn sizes_are_read_as_people_write_them() {
    for (text, bytes) in [("0", 0), ("100", 100), ("512k", 512 << 10), ("64MiB", 64 << 20), ("1g", 1 << 30)] {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
    assert!(size("").is_err());
    assert!(size("many").is_err());
}
