//! Why lines may be missing.

use std::fmt;

/// Why lines may be missing. The others are to know of all but the first ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    /// The server has fallen too far behind.
    Trimmed,
    /// An entry is not as this version writes it.
    Broken,
    /// The data in Redis was not as this version writes it, and has been deleted.
    Data,
    /// Others have noticed that Redis lost data, or all of it is gone.
    OtherEpoch,
    /// The log does not have the last entry that was delivered.
    Entry,
    /// The log does not have batches that it has confirmed.
    Batch,
    /// The log ends before what it had.
    Top,
}

impl Gap {
    /// Whether Redis has lost data, and not this server alone missed something.
    pub(super) fn is_loss(self) -> bool {
        self >= Self::Entry
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trimmed => "the server was too far behind",
            Self::Broken => "an entry of the log is malformed",
            Self::Data => "the data of the room was malformed and begins anew",
            Self::OtherEpoch => "another server found that data was lost",
            Self::Entry => "the last entry was lost",
            Self::Batch => "confirmed lines were lost",
            Self::Top => "the last entries were lost",
        })
    }
}
