//! `--print`: the manual page and the completions of a program, and other texts that are installed with it. They come
//! from the program itself, so that they are there however it was installed.

use std::ffi::OsString;
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
    /// To print something and end.
    Print(Printout),
}

/// What a program prints instead of running.
#[derive(Debug)]
pub struct Printout(Content);

#[derive(Debug)]
enum Content {
    /// What `--print` asks for.
    Text(Text, Box<Command>),
    /// The help, or the version.
    Help(clap::Error),
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

/// Parses the arguments of a command [with these options](with_print), unless they ask for something to be printed.
pub(super) fn parse(
    command: &mut Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Request<ArgMatches>, clap::Error> {
    let matches = match command.try_get_matches_from_mut(arguments) {
        Err(help) if !help.use_stderr() => return Ok(Request::Print(Printout(Content::Help(help)))),
        outcome => outcome?,
    };
    Ok(match matches.get_one("print") {
        Some(text) => Request::Print(Printout(Content::Text(*text, Box::new(command.clone())))),
        None => Request::Run(matches),
    })
}

impl Printout {
    /// Prints it on standard output. A reader that leaves early has read enough.
    ///
    /// # Errors
    ///
    /// The system's, if standard output cannot be written to.
    pub fn print(self) -> io::Result<()> {
        let outcome = match self.0 {
            Content::Text(text, command) => io::stdout().write_all(&text.compose(*command)?),
            Content::Help(help) => help.print(),
        };
        match outcome.and_then(|()| io::stdout().flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome,
        }
    }
}

impl Text {
    fn compose(self, command: Command) -> io::Result<Vec<u8>> {
        let complete = |shell, mut command: Command| {
            let (name, mut script) = (command.get_name().to_owned(), Vec::new());
            generate(shell, &mut command, name, &mut script);
            script
        };
        Ok(match self {
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
