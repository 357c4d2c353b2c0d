//! The texts of `--print`, as the programs see them that they are for.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::harness::{Output, clean_command, feed, has, run, scratch_file};

const SERVER: &str = env!("CARGO_BIN_EXE_echo-server");
const CLIENT: &str = env!("CARGO_BIN_EXE_echo-client");

/// What a program prints with `--print`.
fn printed(program: &str, text: &str) -> String {
    printed_by(program, &["--print", text])
}

fn printed_by(program: &str, options: &[&str]) -> String {
    let mut command = clean_command(program);
    command.args(options);
    let Output { code, stdout, stderr } = run(command, Stdio::null());
    assert_eq!((code, &*stderr), (Some(0), ""), "{program} {options:?}");
    String::from_utf8(stdout).expect("text")
}

/// The long names of all options, as the help has them.
fn options(program: &str) -> Vec<String> {
    let help = printed_by(program, &["-h"]);
    let names = help.lines().filter_map(|line| {
        let words = line.strip_prefix("  ")?.trim_start();
        let is_option = words.starts_with('-');
        let name = words.split_whitespace().find(|word| word.starts_with("--"))?;
        is_option.then(|| name.to_owned())
    });
    let names: Vec<_> = names.collect();
    assert!(names.len() > 10, "{help}");
    names
}

/// Runs a command that reads `text` and has nothing to say against it. Returns what it prints.
fn accepted(command: &[&str], text: String) -> String {
    let mut checker = clean_command(command[0]);
    checker.args(&command[1..]);
    let Output { code, stdout, stderr } = feed(checker, text.into_bytes());
    assert_eq!((code, &*stderr), (Some(0), ""), "{command:?}");
    String::from_utf8(stdout).expect("text")
}

#[test]
fn the_manual_pages_are_sound_and_have_every_option() {
    if !has("man") || !has("groff") {
        return;
    }
    for program in [SERVER, CLIENT] {
        let page = accepted(&["env", "MANWIDTH=1000", "man", "--warnings=all", "-l", "-"], printed(program, "man"));
        for option in options(program) {
            let is_heading =
                |line: &str| line.starts_with("       -") && line.split([' ', ',']).any(|word| word == option);
            assert_eq!(page.lines().filter(|line| is_heading(line)).count(), 1, "{option} in {page}");
        }
        for section in ["NAME", "SYNOPSIS", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "EXAMPLES", "SEE ALSO"] {
            assert_eq!(page.lines().filter(|line| *line == section).count(), 1, "{section} in {page}");
        }
    }
}

#[test]
fn the_completions_are_sound_and_have_every_option() {
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        if !has(shell) {
            continue;
        }
        for program in [SERVER, CLIENT] {
            let script = printed(program, shell);
            for option in options(program) {
                // fish names them without the dashes.
                let name = if shell == "fish" { format!("-l {} ", &option[2..]) } else { option };
                assert!(format!("{script} ").contains(&name), "{name} in {script}");
            }
            assert_eq!(accepted(&[shell, check], script), "");
        }
    }
}

#[test]
fn bash_completes_options_and_texts() {
    if !has("bash") {
        return;
    }
    for (program, name, line, expected) in [
        (SERVER, "echo-server", "--max-a", "--max-ahead\n"),
        (SERVER, "echo-server", "--log-format js", "json\n"),
        (SERVER, "echo-server", "--print so", "socket\n"),
        (CLIENT, "echo-client", "--connect", "--connect-timeout\n"),
    ] {
        let function = name.replace('-', "__");
        let script = format!(
            "{}\nCOMP_WORDS=({name} {line})\nCOMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _{function} {name} \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
            printed(program, "bash")
        );
        assert_eq!(accepted(&["bash"], script), expected, "{name} {line}");
    }
}

#[test]
fn the_changelog_begins_with_this_version() {
    for program in [SERVER, CLIENT] {
        let changelog = printed(program, "changelog");
        let first = changelog.lines().find(|line| line.starts_with("## "));
        assert_eq!(first, Some(&*format!("## {}", env!("CARGO_PKG_VERSION"))));
    }
}

#[test]
fn only_the_server_has_units() {
    let mut command = clean_command(CLIENT);
    command.args(["--print", "service"]);
    assert_eq!(run(command, Stdio::null()).code, Some(2));
}

#[test]
fn a_reader_that_leaves_is_no_error_and_a_full_disk_is_one() {
    for (program, error) in [
        (SERVER, "echo-server: cannot write the output: No space left on device\n"),
        (CLIENT, "echo-client: cannot write the output: No space left on device\n"),
    ] {
        let print_to = |option: &str, stdout: Stdio| {
            let mut command: Command = clean_command("sh");
            command.args(["-c", r#""$0" $1; exit $?"#, program, option]).stdout(stdout);
            let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a shell");
            let output = output.wait_with_output().expect("it ends");
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        for option in ["--print man", "--help", "-h", "--version"] {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            assert_eq!(print_to(option, writer.into()), (Some(0), String::new()), "{option}");
            let full = File::create("/dev/full").expect("the device");
            assert_eq!(print_to(option, full.into()), (Some(1), error.to_owned()), "{option}");
        }
        if has("prlimit") {
            let path = scratch_file("short");
            let mut command = clean_command("prlimit");
            command.args(["--fsize=10", program, "--print", "man"]).stdout(File::create(&path).expect("a file"));
            let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("prlimit");
            let output = output.wait_with_output().expect("it ends");
            let reason = error.replace("No space left on device", "File too large");
            assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(1), &*reason));
        }
    }
}
