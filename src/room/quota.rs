//! What the members of one address share: how long they may make talkers wait, and what they have said.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::marks::Marks;
use crate::address::QuotaKey;

/// The period in which one address has one stall timeout to spend.
const PERIOD: Duration = Duration::from_secs(60);

/// How long a member may make no progress once its address has spent its time.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Who has made talkers wait in the last minute.
#[derive(Debug)]
pub(super) struct Quotas {
    stall_timeout: Duration,
    spent: HashMap<QuotaKey, Spent>,
}

#[derive(Debug)]
struct Spent {
    time: Duration,
    /// When its period began.
    since: Instant,
}

impl Quotas {
    pub(super) fn new(stall_timeout: Duration) -> Self {
        Self { stall_timeout, spent: HashMap::new() }
    }

    /// How long a member with this address may make no progress before it counts as stalled.
    pub(super) fn timeout(&self, address: QuotaKey, now: Instant) -> Duration {
        let spent = self.spent.get(&address).filter(|spent| now < spent.since + PERIOD);
        let left = self.stall_timeout.saturating_sub(spent.map_or(Duration::ZERO, |spent| spent.time));
        left.max(SHORT_TIMEOUT.min(self.stall_timeout))
    }

    /// A member with this address made talkers wait for `time`, and is gone.
    pub(super) fn charge(&mut self, address: QuotaKey, time: Duration, now: Instant) {
        self.spent.retain(|_, spent| now < spent.since + PERIOD);
        self.spent.entry(address).or_insert(Spent { time: Duration::ZERO, since: now }).time += time;
    }
}

/// Lines of members that have left, by their addresses, as far as the slowest member has not taken them. Otherwise a
/// member could leave and come back to be ahead of the slowest one by as much again.
#[derive(Debug, Default)]
pub(super) struct Debts(HashMap<QuotaKey, Marks>);

impl Debts {
    /// Bytes that the address has ahead of the slowest member, which has taken everything before `floor`.
    pub(super) fn of(&self, address: QuotaKey, floor: u64) -> usize {
        self.0.get(&address).map_or(0, |said| said.total_from(floor))
    }

    /// A member with this address has left. `limit` is what the debt is compared with.
    pub(super) fn add(&mut self, address: QuotaKey, said: Marks, limit: usize) {
        if said.total() > 0 {
            self.0.entry(address).or_default().append(said, limit);
        }
    }

    /// Forgets what the slowest member has taken.
    pub(super) fn take(&mut self, floor: u64) {
        self.0.retain(|_, said| {
            said.take(floor);
            said.total() > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn an_address_that_has_spent_its_time_gets_less_until_its_minute_is_over() {
        let [one, other] = [1, 2].map(|host| QuotaKey::from(IpAddr::from(Ipv4Addr::new(10, 0, 0, host))));
        let (timeout, now) = (Duration::from_secs(10), Instant::now());
        let mut quotas = Quotas::new(timeout);
        quotas.charge(one, Duration::from_secs(4), now);
        assert_eq!(quotas.timeout(one, now), Duration::from_secs(6));
        quotas.charge(one, Duration::from_secs(5), now);
        assert_eq!(quotas.timeout(one, now), SHORT_TIMEOUT);
        quotas.charge(one, Duration::from_secs(1), now + Duration::from_secs(30));
        assert_eq!(quotas.timeout(one, now + Duration::from_secs(59)), SHORT_TIMEOUT);
        assert_eq!(quotas.timeout(other, now), timeout);
        assert_eq!(quotas.timeout(one, now + PERIOD), timeout);
        quotas.charge(other, Duration::ZERO, now + PERIOD);
        assert_eq!(quotas.spent.len(), 1, "an old period is remembered");
    }
}
