//! When, and in which order, what the members do takes effect.

use std::time::Instant;

use super::delivery::Sender;
use super::roster::{Reaction, Roster};
use crate::feed::Feed;
use crate::hub::peer::Id;
use crate::hub::peers::Peers;
use crate::transport::Stream;

/// Decides when, and in which order, what the members of a server do takes effect.
///
/// In a room of one server it does at once: the [`Roster`] itself is the sequencer. In a room that spans servers it does
/// when their log says so: [`Shared`](super::shared::Shared).
pub(crate) trait Sequencer {
    /// A newcomer has come.
    fn join<S: Stream>(&mut self, id: Id, sender: &mut Sender<'_, S>);

    /// A member sent a line: something to say, or a command.
    fn handle_line<S: Stream>(&mut self, id: Id, text: &[u8], sender: &mut Sender<'_, S>) -> Reaction;

    /// A member sent a line of more than `limit` bytes.
    fn refuse_line<S: Stream>(&mut self, id: Id, limit: usize, sender: &mut Sender<'_, S>);

    /// The others are to hear of a newcomer.
    fn announce<S: Stream>(&mut self, id: Id, sender: &mut Sender<'_, S>);

    /// A member has left, for a reason that is told if there is one.
    fn leave<S: Stream>(&mut self, id: Id, reason: Option<&'static str>, sender: &mut Sender<'_, S>);

    /// Whether a member may be read from. If not, the sequencer will schedule it. It is held already if it could not the last
    /// time.
    fn may_read(&mut self, _id: Id, _is_held: bool) -> bool {
        true
    }

    /// Whether nothing that members do takes effect for now, and perhaps not for long.
    fn is_away(&self) -> bool {
        false
    }

    /// Whether something that a member has said or asked for has not taken effect.
    fn is_awaited(&self, _id: Id) -> bool {
        false
    }

    /// Up to where the slowest member has taken the feed.
    fn floor(&self, feed: &Feed) -> u64 {
        feed.floor()
    }

    /// Whether talkers that are not here wait for the slowest member that is.
    fn is_waited_for(&self, _feed: &Feed) -> bool {
        false
    }

    /// Whether everything that members have done has taken effect.
    fn is_settled(&self) -> bool {
        true
    }

    /// Whether a turn has something to do, though no peer has.
    fn has_work(&self) -> bool {
        false
    }

    /// Lets one more step of what was done take effect. Returns whether there was one. It is now the second of the `times`,
    /// and a deadline may have passed in silence if it was before the first.
    fn next<S: Stream>(&mut self, _sender: &mut Sender<'_, S>, _times: (Instant, Instant)) -> bool {
        false
    }

    /// The peers of this turn have been served: those that may be read from again are scheduled.
    fn after_turn<S: Stream>(&mut self, _peers: &mut Peers<S>) {}

    /// When something takes effect though no event comes.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

impl Sequencer for Roster<Id> {
    fn join<S: Stream>(&mut self, id: Id, sender: &mut Sender<'_, S>) {
        self.join(id, sender);
        sender.retell(id);
    }

    fn handle_line<S: Stream>(&mut self, id: Id, text: &[u8], sender: &mut Sender<'_, S>) -> Reaction {
        self.handle_line(id, text, sender)
    }

    fn refuse_line<S: Stream>(&mut self, id: Id, limit: usize, sender: &mut Sender<'_, S>) {
        self.refuse_line(id, limit, sender);
    }

    fn announce<S: Stream>(&mut self, id: Id, sender: &mut Sender<'_, S>) {
        self.announce(id, sender);
    }

    fn leave<S: Stream>(&mut self, id: Id, reason: Option<&'static str>, sender: &mut Sender<'_, S>) {
        self.leave(id, reason, sender);
    }
}
