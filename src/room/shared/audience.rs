//! Lines reach those of the members that are here.

use std::collections::HashMap;

use super::Own;
use crate::hub::peer::Id;
use crate::room::delivery::Sender;
use crate::room::marks::Marks;
use crate::room::notice::Notice;
use crate::room::roster::Delivery;
use crate::shared_log::{MemberId, ServerId};
use crate::transport::Stream;

/// The members of this server, while lines are brought to them. What is for one member of another server alone is not
/// brought to anybody: that server does it.
pub(super) struct Audience<'a, 'b, S> {
    pub(super) sender: &'a mut Sender<'b, S>,
    pub(super) server: ServerId,
    pub(super) own: &'a HashMap<u64, Own>,
    pub(super) remote: &'a mut HashMap<MemberId, Marks>,
}

impl<S> Audience<'_, '_, S> {
    fn own(&self, member: MemberId) -> Option<&Own> {
        self.own.get(&member.number).filter(|_| member.server == self.server)
    }

    fn id(&self, member: MemberId) -> Option<Id> {
        self.own(member).map(|own| own.id)
    }
}

impl<S: Stream> Delivery<MemberId> for Audience<'_, '_, S> {
    fn publish(&mut self, author: MemberId, notice: Notice<'_>) {
        let said = self.sender.append(&notice);
        if let Some(own) = self.own(author) {
            let (id, address) = (own.id, own.address);
            self.sender.credit(id, said);
            self.sender.report(address, notice);
        } else if let Notice::Said { .. } = notice {
            let max_ahead = self.sender.batch.max_ahead();
            self.remote.entry(author).or_default().add(said.end, (said.end - said.start) as usize, max_ahead);
        }
    }

    fn answer(&mut self, member: MemberId, line: &str) {
        if let Some(id) = self.id(member) {
            self.sender.answer(id, line);
        }
    }

    fn whisper(&mut self, member: MemberId, line: &str) -> bool {
        self.id(member).is_none_or(|id| self.sender.whisper(id, line))
    }
}
