//! One ordered log that several servers share: what they append to it, and what it says.
//!
//! A room that spans servers hears only what comes back from the log, also on the server where it was said. So all
//! servers deliver the same lines in the same order.

pub mod engine;
mod entry;
mod outgoing;
mod resp;

use std::fmt;

pub use engine::Engine;

/// One run of a server: random, new at each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u128);

/// A member of the room, on one of its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId {
    /// The member's server.
    pub server: ServerId,
    /// The member's number there: no two members of one run have the same, and it grows in the order in which they join.
    pub number: u64,
}

/// The place of an entry in the log. They have no gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// What a server asks the log to append for one of its own members, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A newcomer asks for a name.
    Join { member: u64 },
    /// The others are to hear of a newcomer.
    Announce { member: u64 },
    /// A member wishes for another name; a newcomer is announced by that.
    Rename { member: u64, name: String },
    /// A member says something, without line ending, unescaped.
    Say { member: u64, text: Vec<u8> },
    /// A line for one member alone.
    Whisper { member: u64, to: MemberId, text: Vec<u8> },
    /// A member does not read what is whispered to it: the author is told.
    Unread { member: u64, to: MemberId },
    /// A member has left. The reason is shown if there is one.
    Leave { member: u64, reason: Option<String> },
}

/// What the log says happened: an [`Op`] that was applied, with its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A newcomer got this name.
    Joined { member: MemberId, name: String },
    /// A newcomer is announced.
    Announced { member: MemberId },
    /// A member has this name now.
    Renamed { member: MemberId, name: String },
    /// The name that a member wished for belongs to another one.
    Taken { member: MemberId, name: String },
    /// See [`Op::Say`].
    Said { member: MemberId, text: Vec<u8> },
    /// See [`Op::Whisper`].
    Whispered { member: MemberId, to: MemberId, text: Vec<u8> },
    /// See [`Op::Unread`].
    Unread { member: MemberId, to: MemberId },
    /// A member has left.
    Left { member: MemberId, reason: Option<String> },
    /// A server has entered the room, for the first time or again, with these members and names (see [`MemberRecord`]).
    Entered { server: ServerId, members: Vec<MemberRecord> },
    /// All members of a server have left: it said goodbye (`is_lost` is false), or its lease ended.
    Gone { server: ServerId, is_lost: bool },
}

/// A member as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    pub member: MemberId,
    pub name: String,
    /// Whether the others have heard of it.
    pub is_announced: bool,
}

/// What the engine tells the room, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// What was said before this server entered for the first time, with the names of those who said it: as far as it is
    /// still in the log, not too much, and by members whose names are known. [`Self::Entered`] follows.
    Earlier(Vec<(String, Vec<u8>)>),
    /// This server is in the room: these are all members at `top`, its own ones under the names that the log gave them
    /// (the same as before, or others if their names were taken meanwhile). Entries follow from the next position on.
    /// Of the operations that this server has handed over, the last `pending` ones will still come as entries; if there are
    /// earlier ones that have not come, they are lost. With `is_gap`, lines that were said since the last entry may be
    /// missing.
    Entered { top: Position, members: Vec<MemberRecord>, pending: usize, is_gap: bool },
    /// This server has entered again after Redis lost data, and others had done so before: this is what was said since then,
    /// with the names of those who said it, as far as it is not too much.
    Missed(Vec<(String, Vec<u8>)>),
    /// The next entry.
    Entry { position: Position, changes: Vec<Change> },
    /// The lowest position that a member of another live server has not taken yet: talkers may be so far ahead of it.
    Floor(Position),
    /// The other servers have been out of reach for a second.
    Away,
    /// They can be reached again.
    Back,
}

/// How soon the log should be asked for news of the other servers, and told those of this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Once a second will do.
    #[default]
    Relaxed,
    /// Talkers of this server wait until the members of others have taken more: a few milliseconds after the last time.
    Soon,
    /// Talkers of other servers may wait for what the members of this one have taken since it was last reported: now.
    Now,
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
