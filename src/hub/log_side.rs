//! How a room that spans servers is connected to the log that it shares with them.

use super::any_service::AnyService;
use crate::feed::Feed;
use crate::room::SharedRoom;
use crate::shared_log::{LogEvent, Op, Position, Urgency};

/// The side of a room that talks to the log. Its members hear what comes from there, and what they do goes there first.
#[derive(Debug)]
pub struct LogSide<'a> {
    room: &'a mut SharedRoom,
    feed: &'a Feed,
}

impl<'a> LogSide<'a> {
    pub(super) fn of(service: &'a mut AnyService, feed: &'a Feed) -> Option<Self> {
        if let AnyService::SharedRoom(room) = service { Some(Self { room, feed }) } else { None }
    }

    /// Notes what the log says. It takes effect in the next turn.
    pub fn on_event(&mut self, event: LogEvent) {
        self.room.on_log(event);
    }

    /// Takes what is to be asked of the log, in this order. It comes back from it as entries.
    pub fn take_ops(&mut self) -> Vec<Op> {
        self.room.take_ops()
    }

    /// The first entry of the log that some member has not taken, which is to be reported to the other servers now.
    pub fn report_floor(&mut self) -> Position {
        self.room.report_floor(self.feed)
    }

    /// How soon the log should be asked for news of the other servers, and told those of this one.
    pub fn urgency(&self) -> Urgency {
        self.room.urgency(self.feed)
    }

    /// Whether nothing more is to be asked of the log: the room has ended.
    pub fn is_over(&self) -> bool {
        self.room.is_over()
    }
}
