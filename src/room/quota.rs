//! How long the members of one address may make talkers wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The period in which one address has one stall timeout to spend.
const PERIOD: Duration = Duration::from_secs(60);

/// How long a member may make no progress once its address has spent its time.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Who has made talkers wait in the last minute.
#[derive(Debug)]
pub(super) struct Quotas {
    stall_timeout: Duration,
    spent: HashMap<IpAddr, Spent>,
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
    pub(super) fn timeout(&self, address: IpAddr, now: Instant) -> Duration {
        let spent = self.spent.get(&address).filter(|spent| now < spent.since + PERIOD);
        let left = self.stall_timeout.saturating_sub(spent.map_or(Duration::ZERO, |spent| spent.time));
        left.max(SHORT_TIMEOUT.min(self.stall_timeout))
    }

    /// A member with this address made talkers wait for `time`, and is gone.
    pub(super) fn charge(&mut self, address: IpAddr, time: Duration, now: Instant) {
        self.spent.retain(|_, spent| now < spent.since + PERIOD);
        self.spent.entry(address).or_insert(Spent { time: Duration::ZERO, since: now }).time += time;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_that_has_spent_its_time_gets_less_until_its_minute_is_over() {
        let (one, other) = (Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(10, 0, 0, 2).into());
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
