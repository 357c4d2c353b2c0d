//! How a room that spans servers is connected to the log that it shares with them.

use super::{SharedRoom, Stop};
use crate::feed::Feed;
use crate::shared_log::{LogEvent, Op, Position, Urgency};

/// The side of a room that talks to the log. Its members hear what comes from there, and what they do goes there first.
#[derive(Debug)]
pub struct LogSide<'a> {
    room: &'a mut SharedRoom,
    feed: &'a Feed,
}

impl<'a> LogSide<'a> {
    pub(crate) fn of(room: &'a mut SharedRoom, feed: &'a Feed) -> Self {
        Self { room, feed }
    }

    /// Notes what the log says. It takes effect in the next turn.
    pub fn on_event(&mut self, event: LogEvent) {
        // Nothing comes after the end.
        if self.room.stop != Stop::Over {
            self.room.sequencer.push(event);
        }
    }

    /// Takes what is to be asked of the log, in this order. It comes back from it as entries.
    pub fn take_ops(&mut self) -> Vec<Op> {
        self.room.sequencer.take_ops()
    }

    /// The first entry of the log that some member has not taken, which is to be reported to the other servers now.
    pub fn report_floor(&mut self) -> Position {
        self.room.sequencer.report_floor(self.feed)
    }

    /// How soon the log should be asked for news of the other servers, and told those of this one.
    pub fn urgency(&self) -> Urgency {
        self.room.sequencer.urgency(self.room.waiting.has_talkers(), self.feed)
    }

    /// Whether nothing more is to be asked of the log: the members have been told that the room has ended.
    pub fn is_over(&self) -> bool {
        self.room.stop == Stop::Over
    }
}
