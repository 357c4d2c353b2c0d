//! `--print`: the manual page and the completions of a program, and other texts that are installed with it. They come
//! from the program itself, so that they are there however it was installed.

use std::io::{self, ErrorKind, Write};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueEnum};
use clap_complete::aot::{Shell, generate};
use clap_mangen::Man;

const SERVER_MANUAL: &str = include_str!("print/echo-server.roff");
const CLIENT_MANUAL: &str = include_str!("print/echo-client.roff");
const SERVICE: &str = include_str!("print/echo-server.service");
const SOCKET: &str = include_str!("print/echo-server.socket");
const CHANGELOG: &str = include_str!("../CHANGELOG.md");

/// What a command line asks for.
#[derive(Debug)]
pub enum Request<O> {
    /// To run the program with these options.
    Run(O),
    /// To print a text and end.
    Print(Printout),
}

/// A text that `--print` asks for.
#[derive(Debug)]
pub struct Printout {
    text: Text,
    command: Box<Command>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Text {
    Man,
    Bash,
    Zsh,
    Fish,
    Service,
    Socket,
    Changelog,
}

/// Adds the options that print something and end the program, after all others.
pub(super) fn with_print(command: Command, texts: &'static [Text]) -> Command {
    let other = |name: &'static str| Arg::new(name).long(name).help_heading("Other");
    let names = texts.iter().filter_map(Text::to_possible_value);
    let print = PossibleValuesParser::new(names.clone()).try_map(|name| Text::from_str(&name, false));
    let names: Vec<_> = names.map(|name| name.get_name().to_owned()).collect();
    command.disable_help_flag(true).disable_version_flag(true).args([
        other("print")
            .value_name("TEXT")
            .value_parser(print)
            .hide_possible_values(true)
            .help(format!("Print one of {}", names.join(", ")))
            .long_help(format!(
                "Print a text: {}\n\nThe manual page, to be read with man -l -; the completions of a shell; systemd \
                 units; what has changed from version to version.",
                names.join(", ")
            )),
        other("help").short('h').action(ArgAction::Help).help("Print a summary with -h, the details with --help"),
        other("version").short('V').action(ArgAction::Version).help("Print the version"),
    ])
}

/// Turns the arguments of [`with_print`] into what they ask for, if there is anything.
pub(super) fn printout(matches: &ArgMatches, command: &Command) -> Option<Printout> {
    let text = *matches.get_one("print")?;
    Some(Printout { text, command: Box::new(command.clone()) })
}

impl Printout {
    /// Prints the text on standard output. A reader that leaves early has read enough.
    ///
    /// # Errors
    ///
    /// The system's, if standard output cannot be written to.
    pub fn print(self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(&self.compose()?).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome,
        }
    }

    fn compose(self) -> io::Result<Vec<u8>> {
        let command = *self.command;
        let complete = |shell, mut command: Command| {
            let (name, mut script) = (command.get_name().to_owned(), Vec::new());
            generate(shell, &mut command, name, &mut script);
            script
        };
        Ok(match self.text {
            Text::Man => return manual(command),
            Text::Bash => complete(Shell::Bash, command),
            Text::Zsh => complete(Shell::Zsh, command),
            Text::Fish => complete(Shell::Fish, command),
            Text::Service => SERVICE.into(),
            Text::Socket => SOCKET.into(),
            Text::Changelog => CHANGELOG.into(),
        })
    }
}

/// A manual page: the options as the command line has them, the rest as it is in a file.
fn manual(mut command: Command) -> io::Result<Vec<u8>> {
    let rest = if command.get_name() == "echo-server" { SERVER_MANUAL } else { CLIENT_MANUAL };
    let (usage, version) = (command.render_usage().to_string(), command.render_version());
    // Otherwise the synopsis would name every option.
    let command = command.override_usage(usage.trim_start_matches("Usage: ").to_owned());
    let page = Man::new(command).source(version.trim_end());
    let (mut text, mut options) = (Vec::new(), Vec::new());
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_options_section(&mut options)?;
    // The groups of options would be sections of their own.
    let options = String::from_utf8_lossy(&options).replace("\n.SH OPTIONS\n", "\n").replace("\n.SH ", "\n.SS ");
    write!(text, ".SH OPTIONS\n{options}{rest}")?;
    Ok(text)
}
