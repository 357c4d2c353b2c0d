//! A room: what one says reaches all the others.

use crate::report::Cell;
use crate::{Bench, Result};

pub(crate) fn run(_bench: &Bench) -> Result<Vec<Cell>> {
    Ok(Vec::new())
}
