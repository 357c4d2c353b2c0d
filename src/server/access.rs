//! Who may connect.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::{PeerAddress, QuotaKey, unmapped};
use crate::config::Config;

/// The rules of who may connect, and how many connections each address has.
#[derive(Debug)]
pub(super) struct Access {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    max_per_ip: usize,
    /// How many connections there are by address; empty while there is no limit.
    connections: HashMap<QuotaKey, usize>,
    /// How many of the clients that are connected from an address no rule is about; empty while there is no limit.
    exempt: HashMap<PeerAddress, usize>,
}

impl Access {
    /// The rules of `config`, with nobody connected.
    pub(super) fn new(config: &Config) -> Self {
        Self {
            allow: config.allow.iter().copied().map(unmapped).collect(),
            deny: config.deny.iter().copied().map(unmapped).collect(),
            max_per_ip: config.max_per_ip,
            connections: HashMap::new(),
            exempt: HashMap::new(),
        }
    }

    /// Whether `peer` may connect now. If so it counts as connected until it [leaves](Self::leave). Clients of Unix
    /// sockets have no address that a rule could be about.
    pub(super) fn enter(&mut self, peer: PeerAddress) -> bool {
        let Some(address) = peer.ip() else { return true };
        if !self.is_allowed(address) {
            return false;
        }
        if self.max_per_ip == usize::MAX {
            return true;
        }
        let connections = self.connections.entry(peer.into()).or_default();
        let has_room = *connections < self.max_per_ip;
        *connections += usize::from(has_room);
        has_room
    }

    /// Lets `peer` connect whatever the rules say. It does not count until it [leaves](Self::leave).
    pub(super) fn enter_exempt(&mut self, peer: PeerAddress) {
        if self.max_per_ip != usize::MAX && peer.ip().is_some() {
            *self.exempt.entry(peer).or_default() += 1;
        }
    }

    /// `peer`, which was let in, is connected no more.
    pub(super) fn leave(&mut self, peer: PeerAddress) {
        if self.max_per_ip == usize::MAX || peer.ip().is_none() {
            return;
        }
        if !decrement(&mut self.exempt, peer) {
            decrement(&mut self.connections, peer.into());
        }
    }

    /// The more specific rule wins, a denial on a tie. Without a rule that matches, everybody may connect,
    /// but nobody where there is a rule that allows others.
    fn is_allowed(&self, address: IpAddr) -> bool {
        let longest = |rules: &[IpNet]| rules.iter().filter(|net| net.contains(&address)).map(IpNet::prefix_len).max();
        match (longest(&self.allow), longest(&self.deny)) {
            (Some(allow), Some(deny)) => allow > deny,
            (allow, None) => allow.is_some() || self.allow.is_empty(),
            (None, Some(_)) => false,
        }
    }
}

/// Counts one less, if any is counted. Returns whether one was.
fn decrement<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) -> bool {
    let Entry::Occupied(mut count) = counts.entry(key) else { return false };
    *count.get_mut() -= 1;
    if *count.get() == 0 {
        count.remove();
    }
    true
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn access(allow: &[&str], deny: &[&str], max_per_ip: usize) -> Access {
        let nets = |rules: &[&str]| rules.iter().map(|rule| rule.parse().unwrap()).collect();
        Access::new(&Config { allow: nets(allow), deny: nets(deny), max_per_ip, ..Config::default() })
    }

    fn peer(address: &str) -> PeerAddress {
        SocketAddr::new(address.parse().unwrap(), 1).into()
    }

    #[test]
    fn the_more_specific_rule_wins_and_a_denial_on_a_tie() {
        let mut access =
            access(&["10.0.0.0/8", "10.1.2.3/32", "192.168.0.0/16"], &["10.1.0.0/16", "192.168.0.0/16"], usize::MAX);
        for (address, is_allowed) in [
            ("10.0.0.1", true),
            ("10.1.0.1", false),
            ("10.1.2.3", true),
            ("192.168.0.1", false),
            ("127.0.0.1", false),
            ("::ffff:10.0.0.1", true),
            ("::ffff:10.1.0.1", false),
            ("::1", false),
        ] {
            assert_eq!(access.enter(peer(address)), is_allowed, "{address}");
        }
    }

    #[test]
    fn with_denials_alone_all_others_may_connect() {
        let mut access = access(&[], &["10.0.0.0/8", "2001:db8::/32"], usize::MAX);
        for (address, is_allowed) in [("10.0.0.1", false), ("11.0.0.1", true), ("2001:db8::1", false), ("::1", true)] {
            assert_eq!(access.enter(peer(address)), is_allowed, "{address}");
        }
    }

    #[test]
    fn an_address_and_an_ipv6_network_have_so_many_connections_at_once() {
        let mut access = access(&[], &[], 2);
        for (one, same, other) in [
            ("10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2"),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::1", "2001:db8:0:2::1"),
        ] {
            assert!(access.enter(peer(one)));
            assert!(access.enter(peer(same)));
            assert!(!access.enter(peer(one)));
            assert!(access.enter(peer(other)));
            access.leave(peer(same));
            assert!(access.enter(peer(one)));
            assert!(!access.enter(peer(same)));
        }
    }

    #[test]
    fn who_has_left_is_forgotten() {
        let mut access = access(&[], &[], 1);
        for at in 0..100 {
            let peer = peer(&format!("10.0.0.{at}"));
            assert!(access.enter(peer));
            access.leave(peer);
        }
        assert!(access.connections.is_empty());
    }

    #[test]
    fn exempt_clients_do_not_count() {
        let mut access = access(&["10.0.0.0/8"], &["127.0.0.1/32"], 1);
        for _ in 0..3 {
            access.enter_exempt(peer("127.0.0.1"));
            access.enter_exempt(peer("10.0.0.1"));
        }
        assert!(access.enter(peer("10.0.0.1")));
        for _ in 0..3 {
            access.leave(peer("127.0.0.1"));
            access.leave(peer("10.0.0.1"));
            assert!(!access.enter(peer("10.0.0.1")));
        }
        access.leave(peer("10.0.0.1"));
        assert!(access.connections.is_empty() && access.exempt.is_empty());
    }

    #[test]
    fn no_rule_is_about_clients_of_unix_sockets() {
        let mut access = access(&["10.0.0.0/8"], &["0.0.0.0/0", "::/0"], 1);
        for _ in 0..3 {
            assert!(access.enter(PeerAddress::UNKNOWN_UNIX));
        }
        access.leave(PeerAddress::UNKNOWN_UNIX);
    }
}
