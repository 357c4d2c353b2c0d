//! How far the members are ahead of the slowest one with what they said, and how far they may be.

use std::collections::BTreeMap;
use std::time::Instant;

use sockets::PeerAddress;

use super::Peer;
use super::plan::Plan;
use super::transcript::Transcript;

/// How many bytes a turn may bring, beside one more line.
pub(crate) const BATCH: usize = 64 << 10;

/// What a feed gives back at once.
pub(crate) const BLOCK: usize = 64 << 10;

/// How many bytes a second a member may send though it is too far ahead, and how many it may have saved up.
const PACE: (usize, usize) = (256, 1024);

pub(crate) struct Windows {
    max_ahead: usize,
    /// The longest line in the feed, and that a member sends.
    longest: (usize, usize),
    /// The next entry of the slowest member.
    pub(crate) floor: Option<usize>,
    /// Whether there may be one that is slower, of which nobody can tell what it has pending.
    has_unknown: bool,
    /// Of each member, how many bytes of its own lines come after the floor, and how many after its block begins.
    ahead: Vec<(usize, usize)>,
    /// How many bytes after the floor members have said that have left, and that may have had the same address.
    debt: usize,
}

impl Windows {
    pub(crate) fn look(peers: &BTreeMap<PeerAddress, Peer>, transcript: &Transcript, plan: &Plan) -> Self {
        let next = |peer: &Peer| peer.account.next_entry(transcript);
        let floor = peers.values().filter_map(next).min();
        let is_unknown = |peer: &Peer| next(peer).is_none() && peer.account.may_hide_something(transcript);
        let longest = plan.longest_lines();
        let mut ahead = vec![(0, 0); transcript.attendances.len()];
        if let Some(floor) = floor {
            let block = transcript.position(floor).saturating_sub(BLOCK.max(longest.0));
            for (at, entry) in transcript.entries.iter().enumerate().rev() {
                if at < floor && transcript.position(at) + entry.line.len() < block {
                    break;
                }
                let (strict, loose) = &mut ahead[entry.author];
                *strict += if at >= floor { entry.line.len() + 1 } else { 0 };
                *loose += entry.line.len() + 1;
            }
        }
        let has_unknown = peers.values().any(is_unknown);
        let mut debt = 0;
        if plan.rules.shares_hosts {
            let is_there = |id: usize| transcript.attendances[id].left.is_none();
            debt = ahead.iter().enumerate().filter(|(id, _)| !is_there(*id)).map(|(_, (_, loose))| loose).sum();
        }
        Self { max_ahead: plan.rules.config.max_ahead, longest, floor, has_unknown, ahead, debt }
    }

    /// Whether a member may be so far ahead that it is only listened to at the pace of a person.
    pub(crate) fn may_be_too_far(&self, member: usize) -> bool {
        let mark = (self.max_ahead / 16).max(1024) + self.longest.0;
        let is_far = self.ahead[member].1 + self.debt + mark >= self.max_ahead;
        let is_in_debt = self.debt > 0 && self.debt + mark >= self.max_ahead / 2;
        self.has_unknown || (self.floor.is_some() && (is_far || is_in_debt))
    }

    /// Nobody is further ahead than the window and the pace of a person allow.
    pub(crate) fn check(&self, peers: &BTreeMap<PeerAddress, Peer>, transcript: &Transcript, now: Instant) {
        let Some(floor) = self.floor else { return };
        let window = self.max_ahead + BATCH + self.longest.0;
        for Peer { account, .. } in peers.values() {
            let ahead = self.ahead[account.id].0;
            if ahead <= window {
                continue;
            }
            // What is beyond the window was sent at the pace of a person.
            let own = transcript.entries[floor..].iter().filter(|entry| entry.author == account.id);
            let (mut shown, mut sent) = (0, 0);
            for entry in own {
                shown += entry.line.len() + 1;
                if shown > window
                    && let Some(phrase) = entry.phrase
                {
                    let phrase = &transcript.attendances[account.id].speech.phrases[phrase];
                    sent += phrase.end - phrase.start;
                }
            }
            let time = now - account.since;
            let most = PACE.1 + PACE.0 * (time.as_millis() as usize + 1) / 1000 + self.longest.1;
            assert!(sent <= most, "{} is {ahead} bytes ahead, and said {sent} beyond its window", account.id);
        }
    }
}
