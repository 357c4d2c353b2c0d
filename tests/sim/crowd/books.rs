//! The books on one member: what the hub did for it, and whether that was right.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sockets::Config;
use sockets::config::CHAT_STALL_TIMEOUT;
use sockets::connection::Close;

use super::ear::Ear;
use super::minutes::{Deed, Minutes};
use super::plan::Rules;
use super::speech::Kind;
use crate::socket::{Client, Record};

/// How much is said in a turn before it is brought to the members, as the documents of the room have it.
const BATCH: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) id: usize,
    pub(crate) client: Client,
    pub(crate) ear: Ear,
    /// How many bytes of what was written to it have been looked at.
    seen: usize,
    /// Whether something that was written to it was lost before it could be looked at.
    is_deaf: bool,
    /// How many bytes had been written to it when, the last time out of the stall timeout and all since.
    progress: VecDeque<(Instant, usize)>,
    /// Since when it has been owed too much and taken nothing, and how many turns ago that was too long.
    stuck: Option<(Instant, usize)>,
    pub(crate) closed: Option<Close>,
    /// How many of its bytes had arrived when the hub was told to stop.
    stop_at: Option<usize>,
    /// Whether the hub had been told of its end by then.
    had_ended: bool,
    /// Whether the hub gave it up, because it did not read on after the stop.
    is_given_up: bool,
}

pub(crate) fn stall_timeout(config: &Config) -> Duration {
    config.stall_timeout.unwrap_or(CHAT_STALL_TIMEOUT)
}

impl Books {
    pub(crate) fn new(id: usize, client: Client, now: Instant) -> Self {
        Self {
            id,
            client,
            ear: Ear::new(id),
            seen: 0,
            is_deaf: false,
            progress: VecDeque::from([(now, 0)]),
            stuck: None,
            closed: None,
            stop_at: None,
            had_ended: false,
            is_given_up: false,
        }
    }

    pub(crate) fn record(&self) -> Record {
        self.client.record()
    }

    /// Whether the hub has it.
    pub(crate) fn is_there(&self) -> bool {
        !self.record().is_dropped
    }

    /// Whether it can be sent nothing any more.
    fn is_broken(&self) -> bool {
        self.client.is_reset() || matches!(self.closed, Some(Close::Broken(_)))
    }

    /// How many of its phrases the room has to have dealt with, if it has heard all that was read.
    pub(crate) fn phrases(&self, minutes: &Minutes) -> usize {
        let record = self.record();
        // A tail is a line once the hub knows that it is one.
        let knows_end = match self.stop_at {
            Some(_) => self.had_ended,
            None => record.has_told_end && !self.client.is_reset(),
        };
        minutes.attendances[self.id].speech.complete(record.taken.min(self.stop_at.unwrap_or(usize::MAX)), knows_end)
    }

    /// How many bytes it is owed at least: private lines may come on top.
    pub(crate) fn owed(&self, minutes: &Minutes) -> usize {
        if !self.is_there() || self.is_broken() || self.is_deaf {
            return 0;
        }
        (minutes.bytes_for(self.id) + self.ear.private).saturating_sub(self.record().given)
    }

    /// A turn ended at `now`: what was it told, and are all promises kept that do not wait for anything?
    pub(crate) fn check_turn(&mut self, now: Instant, minutes: &mut Minutes, rules: &Rules) {
        let config = &rules.config;
        let record = self.record();
        let new = self.client.latest(record.given - self.seen);
        self.is_deaf |= new.len() < record.given - self.seen;
        self.seen = record.given;
        if !self.is_deaf && !new.is_empty() {
            self.ear.hear(&new, minutes, config.max_line);
        }
        assert_eq!(record.is_dropped, self.closed.is_some(), "{}: dropped without a word, or the reverse", self.id);
        if let Some(stop_at) = self.stop_at {
            // To find out whether an event was right that told of the end, it may take one byte.
            let asked = usize::from(rules.has_wrong_events);
            assert!(record.taken <= stop_at + asked, "{}: took in what came after the stop", self.id);
        }
        self.note_progress(now, config);
        self.check_queue(now, minutes, config);
    }

    fn note_progress(&mut self, now: Instant, config: &Config) {
        let given = self.record().given;
        if self.progress.back().is_some_and(|(_, before)| *before != given) {
            self.progress.push_back((now, given));
        }
        while self.progress.get(1).is_some_and(|(at, _)| *at + stall_timeout(config) <= now) {
            self.progress.pop_front();
        }
    }

    /// A member that is owed too much and takes nothing is closed in time.
    fn check_queue(&mut self, now: Instant, minutes: &Minutes, config: &Config) {
        let given = self.record().given;
        let is_stuck = self.owed(minutes) > config.max_queue
            && self.closed.is_none()
            && self.progress.back().is_some_and(|(at, last)| *at <= now && *last == given);
        if !is_stuck {
            self.stuck = None;
            return;
        }
        let last = self.progress.back().map_or(now, |(at, _)| *at);
        let (since, overdue) = self.stuck.get_or_insert((now, 0));
        *since = (*since).max(last);
        if now >= *since + stall_timeout(config) {
            *overdue += 1;
            assert!(*overdue <= 2, "{} holds the room up and is not closed", self.id);
        }
    }

    /// The end of the connection was told. `looked` is when the hub last looked who was slow.
    pub(crate) fn closed(&mut self, close: Close, received: u64, sent: u64, looked: Instant, rules: &Rules) {
        let (who, record) = (self.id, self.record());
        assert_eq!(self.closed.replace(close), None, "{who}: closed twice");
        assert!(!record.is_dropped, "{who}: dropped before it was told");
        let asked = usize::from(rules.has_wrong_events && self.stop_at.is_some_and(|at| at < record.taken));
        assert_eq!(received as usize, record.taken - asked, "{who}: bytes received");
        assert_eq!(sent as usize, record.given, "{who}: bytes sent");
        match close {
            Close::Finished => assert!(self.client.has_fin(), "{who}: finished, but the client did not"),
            Close::Broken(_) => assert!(self.client.is_reset(), "{who}: broken without a reset"),
            Close::Stopping => assert!(self.stop_at.is_some(), "{who}: stopping, but nobody said so"),
            Close::TooSlow => self.check_slowness(looked, rules),
            Close::Quit => {}
            _ => panic!("{who}: closed because {close}"),
        }
    }

    /// Only who takes less than a sixteenth of the mark within the timeout is too slow.
    fn check_slowness(&self, looked: Instant, rules: &Rules) {
        let given = self.record().given;
        let timeout = stall_timeout(&rules.config);
        let before = self.progress.iter().rfind(|(at, _)| *at + timeout <= looked);
        let (_, before) = before.unwrap_or_else(|| panic!("{}: too slow before the timeout", self.id));
        let progress = given - before;
        assert!(progress < (rules.config.max_queue / 16).max(1), "{}: closed though it took {progress}", self.id);
    }

    /// It has just left the room: has it been heard to the end?
    pub(crate) fn check_leave(&self, minutes: &Minutes) {
        let Some(Deed::Left(None)) = minutes.entries.last().map(|entry| &entry.deed) else { return };
        if self.client.is_reset() {
            return;
        }
        let speech = &minutes.attendances[self.id].speech;
        let all = self.phrases(minutes);
        let has_quit = all > 0 && speech.phrases[all - 1].kind == Kind::Quit;
        assert!(has_quit || self.client.has_fin(), "{} did not leave", self.id);
        assert!(has_quit || self.record().taken == speech.bytes.len(), "{} was not read to the end", self.id);
        assert!(minutes.has_said(self.id, all), "{} was not heard to the end", self.id);
    }

    /// Whether it has sent something to which the room has not reacted, as far as anybody can see.
    pub(crate) fn is_unheard(&self, minutes: &Minutes) -> bool {
        self.client.is_reset()
            || self.client.unread() > 0
            || (self.client.has_fin() && !self.record().has_told_end)
            || self.ear.answered < self.phrases(minutes)
    }

    /// Nothing happens any more unless a client does something: is everything done that can be? `is_held_up` tells
    /// whether somebody is so slow that nobody is read from.
    pub(crate) fn check_idle(&mut self, is_held_up: bool, minutes: &mut Minutes) {
        let (who, record) = (self.id, self.record());
        if record.is_dropped {
            return;
        }
        assert!(!self.client.is_reset() || is_held_up, "{who}: kept after a reset");
        let owed = self.owed(minutes);
        assert!(owed == 0 || self.client.wants_room(), "{who}: {owed} bytes were forgotten");
        let is_over = record.is_finished || minutes.attendances[who].left.is_some();
        let unread = self.client.unread();
        let may_read = self.stop_at.is_none_or(|at| record.taken < at);
        if !is_held_up && may_read && !is_over {
            assert_eq!(unread, 0, "{who}: so many bytes are not read");
            assert!(!self.client.has_fin() || record.has_told_end, "{who}: its end was not noticed");
        }
        if !is_held_up && !self.is_deaf {
            assert!(minutes.has_said(who, self.phrases(minutes)), "{who}: its lines were not said");
        }
        if !self.client.wants_room() && !self.is_deaf {
            let phrases = (!is_held_up).then(|| self.phrases(minutes));
            self.ear.check_caught_up(phrases, minutes);
        }
    }

    /// How many bytes may be held for the member though it has been sent everything: of a line without an end.
    pub(crate) fn unheard(&self, minutes: &Minutes) -> usize {
        let taken = self.record().taken;
        let phrases = &minutes.attendances[self.id].speech.phrases;
        let unfinished = phrases.iter().rfind(|phrase| phrase.start < taken);
        unfinished.filter(|phrase| phrase.end > taken || !phrase.is_ended).map_or(0, |phrase| taken - phrase.start)
    }

    /// The member has read to the end, and did all that a client can to be told everything.
    pub(crate) fn check_end(&mut self, got: usize, minutes: &mut Minutes) {
        if self.is_given_up || self.is_broken() || self.is_deaf || self.closed == Some(Close::TooSlow) {
            return;
        }
        let who = self.id;
        assert_eq!(got, self.record().given, "{who}: did not get all that was sent");
        let is_stopped = minutes.attendances[who].left.is_none();
        assert_eq!(is_stopped, self.ear.is_told_of_stop, "{who}: was not told of the stop, or wrongly");
        let phrases = self.phrases(minutes);
        assert!(minutes.has_said(who, phrases), "{who}: its lines were not said");
        if let Some(stop_at) = self.stop_at.filter(|_| is_stopped) {
            assert!(self.record().taken >= stop_at, "{who}: what had arrived before the stop was not read");
        }
        self.ear.check_caught_up(Some(phrases), minutes);
    }

    /// How many bytes it may be owed at most while members are heard.
    pub(crate) fn check_bound(&self, minutes: &Minutes, longest: usize, announced: usize, config: &Config) {
        let most = config.max_queue + BATCH + 2 * longest + announced;
        let owed = self.owed(minutes);
        assert!(owed <= most, "{} is owed {owed} bytes, {most} at most", self.id);
    }

    /// The hub is about to be told to stop.
    pub(crate) fn stop(&mut self) {
        if self.is_there() {
            self.stop_at = Some(self.record().taken + self.client.unread());
            self.had_ended = self.client.has_fin() && !self.client.is_reset() && !self.client.has_edge();
        }
    }

    /// The hub is about to give the member up.
    pub(crate) fn give_up(&mut self) {
        self.is_given_up = self.is_there();
    }
}
