//! Who may talk: how far a member may be ahead of the slowest one.

use std::mem;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::marks::{Marks, SHORTEST};

/// How fast a member may talk, as the time for a byte, however far it is ahead: 256 bytes a second, faster than anyone
/// types. So a person is never silenced, whatever the other members do.
const BYTE: Duration = Duration::from_nanos(1_000_000_000 / 256);

/// How much of this may be saved up, in bytes: a few lines at once.
const BURST: usize = 1024;

/// How much has to be saved up, in bytes, before a member that waits is looked at again.
const PORTION: usize = 128;

/// A member's own lines that the slowest member has not taken yet.
#[derive(Debug)]
pub(super) struct Window {
    said: Marks,
    /// Bytes that it has said and that have not reached the feed.
    underway: usize,
    /// Bytes that it may say at the pace of a person, as of `counted_at`.
    allowance: usize,
    counted_at: Instant,
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Self { said: Marks::default(), underway: 0, allowance: BURST, counted_at: now }
    }

    /// Its address is in debt: nothing is saved up.
    pub(super) fn use_savings(&mut self) {
        self.allowance = 0;
    }

    /// What its member has said and the slowest member has not taken, for when it leaves. What has not reached the feed is
    /// taken to come next, behind its `end`.
    pub(super) fn take_said(&mut self, end: u64, max_ahead: usize) -> Marks {
        let underway = mem::take(&mut self.underway);
        if underway > 0 {
            self.said.add(end + underway as u64, underway, max_ahead);
        }
        mem::take(&mut self.said)
    }

    /// How many bytes the member may say now. It may be up to `max_ahead` bytes of its own lines ahead of the slowest
    /// member, which has taken everything before `floor`, and a little more where less than that is left; beyond that it
    /// may still talk at the pace of a person. The `debt` of its address counts as its own lines; with half of `max_ahead`
    /// there is no window at all, or each of many members with this address would have the rest of it.
    pub(super) fn room(&mut self, floor: u64, debt: usize, max_ahead: usize, now: Instant) -> usize {
        self.said.take(floor);
        let ahead = self.said.total() + self.underway + debt;
        if ahead > 0 && (ahead >= max_ahead || debt >= max_ahead / 2) {
            return self.allowance(now);
        }
        // Not byte by byte at the edge: a long line would take a turn for each.
        max_ahead.saturating_sub(ahead).max(SHORTEST)
    }

    /// The member said a line of `len` bytes, which comes to the feed later.
    pub(super) fn send(&mut self, len: usize) {
        self.underway += len;
    }

    /// A line of `len` bytes that was [sent](Self::send) has come, or never will.
    pub(super) fn arrive(&mut self, len: usize) {
        self.underway = self.underway.saturating_sub(len);
    }

    /// The member said a line, which is at `range` of the feed.
    pub(super) fn note(&mut self, range: Range<u64>, max_ahead: usize) {
        self.said.add(range.end, (range.end - range.start) as usize, max_ahead);
    }

    /// The member used up `bytes` of its input. Returns whether it talks faster than a person.
    pub(super) fn spend(&mut self, bytes: usize, now: Instant) -> bool {
        self.allowance(now);
        self.allowance = self.allowance.saturating_sub(bytes);
        self.allowance < PORTION
    }

    /// When enough is saved up for the member to say something though it is too far ahead.
    pub(super) fn resume_at(&self, now: Instant) -> Instant {
        let missing = PORTION.saturating_sub(self.allowance) as u32;
        now.max(self.counted_at + missing * BYTE)
    }

    fn allowance(&mut self, now: Instant) -> usize {
        let earned = now.saturating_duration_since(self.counted_at).as_nanos() / BYTE.as_nanos();
        if earned < BURST as u128 {
            self.counted_at += earned as u32 * BYTE;
            self.allowance = (self.allowance + earned as usize).min(BURST);
        } else {
            (self.counted_at, self.allowance) = (now, BURST);
        }
        if self.allowance >= PORTION { self.allowance } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_AHEAD: usize = 10_000;

    #[test]
    fn a_talker_waits_at_the_edge_of_its_window_and_goes_on_when_the_slowest_has_caught_up() {
        let now = Instant::now();
        let mut window = Window::new(now);
        for line in 0..100 {
            assert_eq!(window.room(0, 0, MAX_AHEAD, now), (MAX_AHEAD - line * 100).max(SHORTEST));
            window.note(line as u64 * 100..(line as u64 + 1) * 100, MAX_AHEAD);
        }
        window.spend(BURST, now);
        assert_eq!(window.room(0, 0, MAX_AHEAD, now), 0);
        assert!(window.room(5_000, 0, MAX_AHEAD, now) >= 5_000 - 2 * SHORTEST);
        assert_eq!(window.room(10_000, 0, MAX_AHEAD, now), MAX_AHEAD);
    }

    #[test]
    fn a_member_that_is_not_ahead_may_say_something_however_small_the_window() {
        let now = Instant::now();
        let mut window = Window::new(now);
        assert_eq!(window.room(0, 0, 0, now), SHORTEST);
        window.note(0..10, 0);
        window.spend(BURST, now);
        assert_eq!(window.room(0, 0, 0, now), 0);
        assert_eq!(window.room(10, 0, 0, now), SHORTEST);
    }

    #[test]
    fn a_person_may_go_on_talking_whatever_is_ahead() {
        let begin = Instant::now();
        let mut window = Window::new(begin);
        window.note(0..1 << 20, MAX_AHEAD);
        let mut said = 0;
        for tenth in 0..600 {
            let now = begin + Duration::from_millis(100) * tenth;
            // Twenty bytes every tenth of a second.
            assert!(window.room(0, 0, MAX_AHEAD, now) >= 20, "after {tenth} tenths of a second");
            assert!(!window.spend(20, now));
            said += 20;
        }
        assert_eq!(said, 12_000);
    }

    #[test]
    fn a_member_may_be_silent_for_years() {
        let begin = Instant::now();
        let mut window = Window::new(begin);
        window.note(0..1 << 20, MAX_AHEAD);
        let now = begin + Duration::from_secs(1 << 30);
        assert_eq!(window.room(0, 0, MAX_AHEAD, now), BURST);
        window.spend(BURST, now);
        assert_eq!(window.room(0, 0, MAX_AHEAD, now), 0);
        assert!(window.resume_at(now) > now, "it would be looked at again and again");
    }

    #[test]
    fn a_file_beyond_its_window_gets_no_more_than_the_pace_of_a_person() {
        let begin = Instant::now();
        let mut window = Window::new(begin);
        window.note(0..1 << 20, MAX_AHEAD);
        let (mut now, mut said) = (begin, 0);
        while now < begin + Duration::from_secs(60) {
            let room = window.room(0, 0, MAX_AHEAD, now);
            said += room;
            window.spend(room, now);
            let next = window.resume_at(now);
            assert!(next > now, "it would be looked at again and again");
            now = next;
        }
        assert!((60 * 256 - 2 * PORTION..=60 * 256 + BURST).contains(&said), "{said} bytes");
    }
}
