//! The lines that all members of a room hear.

use std::fmt;

use crate::escape::{Style, escape};

/// A line for the members of a room. Its display form is what they hear, without the newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// `* ann joined`
    Joined {
        /// The member's name.
        name: &'a str,
    },
    /// `* ann is now bob`
    Renamed {
        /// The name until now.
        from: &'a str,
        /// The name from now on.
        to: &'a str,
    },
    /// `<ann> hello`
    Said {
        /// The author's name.
        name: &'a str,
        /// The line as it was sent, without its line ending. Shown escaped.
        text: &'a [u8],
    },
    /// `* ann left` or `* ann left (idle)`
    Left {
        /// The member's name.
        name: &'a str,
        /// Why the server ended the connection, if it did.
        reason: Option<&'static str>,
    },
}

impl fmt::Display for Notice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Joined { name } => write!(f, "* {name} joined"),
            Self::Renamed { from, to } => write!(f, "* {from} is now {to}"),
            Self::Said { name, text } => {
                let mut shown = String::new();
                escape(&mut shown, text, Style::Text);
                write!(f, "<{name}> {shown}")
            }
            Self::Left { name, reason: None } => write!(f, "* {name} left"),
            Self::Left { name, reason: Some(reason) } => write!(f, "* {name} left ({reason})"),
        }
    }
}
