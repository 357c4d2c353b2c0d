//! What all scenarios share: how thorough to be, where servers run, what is installed.

use std::cell::{OnceCell, RefCell};

use crate::Result;
use crate::programs;
use crate::progress::Progress;
use crate::report::Missing;
use crate::rounds::Rounds;
use crate::servers::{Cores, Program, Server};

pub(crate) struct Bench {
    pub(crate) quick: bool,
    /// How many rounds there are to be, if somebody has said so.
    asked_rounds: Option<usize>,
    pub(crate) cores: Option<Cores>,
    pub(crate) progress: Progress,
    /// What people would use instead, once it has been looked for.
    peers: OnceCell<Vec<Program>>,
    missing: RefCell<Vec<Missing>>,
}

impl Bench {
    pub(crate) fn new(quick: bool, asked_rounds: Option<usize>, cores: Option<Cores>, progress: Progress) -> Self {
        Self { quick, asked_rounds, cores, progress, peers: OnceCell::new(), missing: RefCell::default() }
    }

    /// Starts a server; `None` where its program is missing or does not start, which is noted for the report. Fails if
    /// it is one that the others are compared with.
    pub(crate) fn start(&self, program: &Program) -> Result<Option<Server>> {
        if !program.is_installed() {
            self.note_missing(program.name, "not installed".to_owned());
            return Ok(None);
        }
        match Server::start(program, self.cores) {
            Ok(server) => Ok(Some(server)),
            Err(why) if program.is_central => Err(format!("{}: {why}", program.name).into()),
            Err(why) => {
                self.note_missing(program.name, why.to_string());
                Ok(None)
            }
        }
    }

    /// What people would use instead.
    pub(crate) fn peers(&self) -> Vec<Program> {
        self.peers.get_or_init(|| programs::find_peers(self)).clone()
    }

    /// How many rounds there are: so many in a full run, a few in a quick one.
    pub(crate) fn rounds(&self, central: usize, all: usize) -> Rounds {
        match self.asked_rounds {
            Some(rounds) => Rounds { central: rounds, all: rounds },
            None if self.quick => Rounds { central: central.min(4), all: all.min(2) },
            None => Rounds { central, all },
        }
    }

    pub(crate) fn note_missing(&self, name: &'static str, why: String) {
        let mut missing = self.missing.borrow_mut();
        if !missing.iter().any(|other| other.name == name) {
            missing.push(Missing { name, why });
        }
    }

    /// The programs that were missing, at the end.
    pub(crate) fn into_missing(self) -> Vec<Missing> {
        self.missing.into_inner()
    }
}
