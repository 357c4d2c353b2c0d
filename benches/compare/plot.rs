//! The results as pictures.

use std::path::Path;

use crate::Result;
use crate::report::Results;

/// Draws all that there are results for into files of this folder.
pub(crate) fn all(_results: &Results, _folder: &Path) -> Result<()> {
    Ok(())
}
