//! That the README is right in what a program can check. Its picture has a test of its own.

use std::path::Path;
use std::process::Stdio;

use crate::harness::{clean_command, run};

const README: &str = include_str!("../../README.md");

#[test]
fn it_shows_the_options_as_the_programs_print_them() {
    for (name, program) in
        [("echo-server", env!("CARGO_BIN_EXE_echo-server")), ("echo-client", env!("CARGO_BIN_EXE_echo-client"))]
    {
        let mut command = clean_command(program);
        command.arg("-h");
        let help = String::from_utf8(run(command, Stdio::null()).stdout).expect("text");
        assert!(
            README.contains(&format!("\n$ {name} -h\n{help}")),
            "the README has another help of {name} than\n{help}"
        );
    }
}

#[test]
fn it_stays_short() {
    let words = README.split_whitespace().count();
    assert!(words <= 1600, "{words} words");
}

#[test]
fn its_links_lead_to_files() {
    let targets = README.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let files: Vec<&str> = targets.filter(|target| !target.starts_with("https://")).collect();
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(file).exists(), "{file}");
    }
}
