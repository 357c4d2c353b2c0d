//! The account of one member: what the hub did for it, and whether that was right.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sockets::Config;
use sockets::config::CHAT_STALL_TIMEOUT;
use sockets::connection::Close;

use super::listener::Listener;
use super::plan::Rules;
use super::speech::Kind;
use super::transcript::{Attendance, Deed, Transcript, is_given};
use crate::socket::{Client, Record};

/// How much a member has to take within the stall timeout.
const STEP: usize = 32 << 10;

/// Pending answers from which on a member is not read from.
const MAX_ANSWERS: usize = 64 << 10;

/// After this time a newcomer is announced.
const ANNOUNCEMENT_DELAY: Duration = Duration::from_secs(1);

/// The stall timeout for an address that has spent its time.
pub(crate) const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) id: usize,
    pub(crate) client: Client,
    pub(crate) listener: Listener,
    /// What a person has sent that was not said yet: how much in all by when, and in which turn.
    typed: VecDeque<(usize, Instant, usize)>,
    /// How many bytes of what was written to it have been looked at.
    seen: usize,
    /// Whether something that was written to it was lost before it could be looked at.
    is_deaf: bool,
    /// How many bytes had been written to it when, the last time out of the stall timeout and all since.
    progress: VecDeque<(Instant, usize)>,
    /// When it connected.
    pub(crate) since: Instant,
    /// When it last took something, or nothing was pending for it.
    pub(crate) took_at: Instant,
    pub(crate) closed: Option<Close>,
    /// The next entry of which it had not been told when the last turn ended.
    next_entry: Option<usize>,
    /// How many of its bytes had arrived when the hub was told to stop.
    stop_at: Option<usize>,
    /// Whether the hub had been told of its end by then.
    had_ended: bool,
    /// Whether since then it may have had so many answers pending that its lines were not waited for.
    has_ignored_answers: bool,
    /// Whether the hub gave it up, because it did not read on after the stop.
    is_given_up: bool,
}

/// How a turn ended.
#[derive(Debug)]
pub(crate) struct Glance {
    /// Until when events had been told to the hub.
    pub(crate) noted: Instant,
    /// Whether a talker may have waited for the slowest member.
    pub(crate) is_waited: bool,
    /// Whether memory may have run out.
    pub(crate) is_short: bool,
    /// How many bytes were held then.
    pub(crate) held: usize,
}

pub(crate) fn stall_timeout(config: &Config) -> Duration {
    config.stall_timeout.unwrap_or(CHAT_STALL_TIMEOUT)
}

impl Account {
    pub(crate) fn new(id: usize, client: Client, now: Instant) -> Self {
        Self {
            id,
            client,
            listener: Listener::new(id),
            typed: VecDeque::new(),
            seen: 0,
            is_deaf: false,
            progress: VecDeque::from([(now, 0)]),
            since: now,
            took_at: now,
            closed: None,
            next_entry: None,
            stop_at: None,
            had_ended: false,
            has_ignored_answers: false,
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
    pub(crate) fn phrases(&self, transcript: &Transcript) -> usize {
        let record = self.record();
        // A tail is a line once the hub knows that it is one.
        let knows_end = match self.stop_at {
            Some(_) => self.had_ended,
            None => record.has_told_end && !self.client.is_reset(),
        };
        transcript.attendances[self.id].speech.complete(record.taken.min(self.stop_at.unwrap_or(usize::MAX)), knows_end)
    }

    /// Whether it left, or may have, before it was announced.
    pub(crate) fn has_left_unnoticed(&self, transcript: &Transcript) -> bool {
        let record = self.record();
        let attendance = &transcript.attendances[self.id];
        let has_ended = record.has_told_end || record.is_finished || self.closed.is_some();
        attendance.joined.is_none() && (has_ended || attendance.speech.asks_to_quit(record.taken))
    }

    /// The next entry of which it has not been told, if there is one. `None` if nobody can know.
    pub(crate) fn next_entry(&self, transcript: &Transcript) -> Option<usize> {
        let is_known = self.is_there() && !self.is_broken() && !self.is_deaf && !self.has_left_unnoticed(transcript);
        if is_known { self.listener.next_entry(transcript) } else { None }
    }

    /// Whether entries may be pending for it of which nobody can know.
    pub(crate) fn may_hide_something(&self, transcript: &Transcript) -> bool {
        self.is_there() && self.client.wants_room() && (self.is_deaf || self.has_left_unnoticed(transcript))
    }

    /// Whether it may not be read from because it does not read its answers.
    pub(crate) fn may_ignore_answers(&self, transcript: &Transcript, taken: &[usize]) -> bool {
        let earlier = if self.listener.earlier.is_some() { transcript.max_history() } else { 0 };
        let private = || earlier + transcript.unaccounted(self.id, |id| taken[id], self.listener.answered);
        self.client.wants_room() && private() >= MAX_ANSWERS
    }

    /// A person has sent a line in the turn of this number.
    pub(crate) fn note_typed(&mut self, sent: usize, now: Instant, turn: usize) {
        self.typed.push_back((sent, now, turn));
    }

    /// What a person sends is said within a second. It may wait for the turns of `others`.
    pub(crate) fn check_typed(&mut self, transcript: &Transcript, now: Instant, turn: usize, others: usize) {
        if !self.is_there() || self.client.has_edge() {
            return;
        }
        let speech = &transcript.attendances[self.id].speech;
        while let Some(&(sent, at, sent_in)) = self.typed.front() {
            if !transcript.has_said(self.id, speech.complete(sent, false)) {
                let is_late = now > at + SHORT_TIMEOUT && turn > sent_in + 2 * others + 4;
                assert!(!is_late, "{}: a person was not heard for {:?}", self.id, now - at);
                return;
            }
            self.typed.pop_front();
        }
    }

    /// Notes while the hub stops whether the member may not be read from any more.
    pub(crate) fn note_answers(&mut self, transcript: &Transcript, taken: &[usize]) {
        self.has_ignored_answers |= self.may_ignore_answers(transcript, taken);
    }

    /// How many bytes are pending for it at least: private lines may come on top.
    pub(crate) fn pending(&self, transcript: &Transcript) -> usize {
        if !self.is_there() || self.is_broken() || self.is_deaf || self.has_left_unnoticed(transcript) {
            return 0;
        }
        (transcript.bytes_for(self.id) + self.listener.private).saturating_sub(self.record().given)
    }

    /// A turn ended at `now`: what was it told, and are all promises kept that do not wait for anything?
    pub(crate) fn check_turn(&mut self, now: Instant, transcript: &mut Transcript, rules: &Rules) {
        let config = &rules.config;
        let record = self.record();
        let new = self.client.latest(record.given - self.seen);
        self.is_deaf |= new.len() < record.given - self.seen;
        self.seen = record.given;
        if !self.is_deaf && !new.is_empty() {
            self.listener.hear(&new, transcript, config.max_line);
        }
        assert_eq!(record.is_dropped, self.closed.is_some(), "{}: dropped without a word, or the reverse", self.id);
        if let Some(stop_at) = self.stop_at {
            // To find out whether an event was right that told of the end, it may take one byte.
            let asked = usize::from(rules.has_wrong_events);
            assert!(record.taken <= stop_at + asked, "{}: took in what came after the stop", self.id);
        }
        self.next_entry = self.next_entry(transcript);
        self.note_progress(now, config);
        if self.pending(transcript) == 0 {
            self.took_at = now;
        }
    }

    fn note_progress(&mut self, now: Instant, config: &Config) {
        let given = self.record().given;
        if self.progress.back().is_some_and(|(_, before)| *before != given) {
            self.progress.push_back((now, given));
            self.took_at = now;
        }
        while self.progress.get(1).is_some_and(|(at, _)| *at + stall_timeout(config) <= now) {
            self.progress.pop_front();
        }
    }

    /// The end of the connection was told. `last` is how the last turn ended, and `timeout` how long the member may make
    /// no progress at least.
    pub(crate) fn closed(
        &mut self,
        close: Close,
        received: u64,
        sent: u64,
        last: &Glance,
        timeout: Duration,
        rules: &Rules,
    ) {
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
            Close::TooSlow => {
                let has_stalled = last.is_waited && self.has_stalled(timeout, last.noted);
                assert!(has_stalled || last.is_short, "{who}: too slow, but {last:?}, {:?}", self.progress);
            }
            Close::Quit => {}
            _ => panic!("{who}: closed because {close}"),
        }
    }

    /// Whether it has taken less than 64 KiB within `timeout`, as far as the hub knew at `looked`.
    fn has_stalled(&self, timeout: Duration, looked: Instant) -> bool {
        let Some((_, before)) = self.progress.iter().rfind(|(at, _)| *at + timeout <= looked) else { return false };
        self.record().given - before < STEP
    }

    /// It was announced without having changed its name: a second is over, or it has said something.
    pub(crate) fn check_announcement(&self, transcript: &Transcript, noted: Instant) {
        let last = transcript.entries.last().map(|entry| &entry.deed);
        let taken = self.record().taken;
        let mut phrases =
            transcript.attendances[self.id].speech.phrases.iter().take_while(|phrase| phrase.start < taken);
        let is_early =
            matches!(last, Some(Deed::Joined(name)) if is_given(name)) && noted < self.since + ANNOUNCEMENT_DELAY;
        let has_said = phrases.any(|phrase| matches!(phrase.kind, Kind::Say(_) | Kind::Whisper { .. }));
        assert!(!is_early || has_said, "{} was announced too early", self.id);
    }

    /// It has just left the room: has it been heard to the end?
    pub(crate) fn check_leave(&self, transcript: &Transcript) {
        let Some(Deed::Left(None)) = transcript.entries.last().map(|entry| &entry.deed) else { return };
        if self.client.is_reset() {
            return;
        }
        let speech = &transcript.attendances[self.id].speech;
        let all = self.phrases(transcript);
        let has_quit = all > 0 && speech.phrases[all - 1].kind == Kind::Quit;
        assert!(has_quit || self.client.has_fin(), "{} did not leave", self.id);
        assert!(has_quit || self.record().taken == speech.bytes.len(), "{} was not read to the end", self.id);
        assert!(transcript.has_said(self.id, all), "{} was not heard to the end", self.id);
    }

    /// Whether it has sent something to which the room has not reacted, as far as anybody can see.
    pub(crate) fn is_unheard(&self, transcript: &Transcript) -> bool {
        self.client.is_reset()
            || self.client.unread() > 0
            || (self.client.has_fin() && !self.record().has_told_end)
            || self.listener.answered < self.phrases(transcript)
    }

    /// Nothing happens any more unless a client does something: is everything done that can be? `may_wait` tells
    /// whether the member may be kept from talking.
    pub(crate) fn check_idle(&mut self, may_wait: bool, now: Instant, transcript: &mut Transcript) {
        let (who, record) = (self.id, self.record());
        if record.is_dropped {
            return;
        }
        assert!(!self.client.is_reset() || may_wait, "{who}: kept after a reset");
        let pending = self.pending(transcript);
        assert!(pending == 0 || self.client.wants_room(), "{who}: {pending} bytes were forgotten");
        let is_unnoticed = self.has_left_unnoticed(transcript);
        let Attendance { joined, left, .. } = &transcript.attendances[who];
        let may_be_unknown = is_unnoticed || self.stop_at.is_some() || now < self.since + ANNOUNCEMENT_DELAY;
        assert!(joined.is_some() || may_be_unknown, "{who}: was not announced");
        let is_over = record.is_finished || left.is_some();
        let unread = self.client.unread();
        let may_read = self.stop_at.is_none_or(|at| record.taken < at) && !self.has_ignored_answers;
        if !may_wait && may_read && !is_over {
            assert!(unread == 0 || is_unnoticed, "{who}: {unread} bytes are not read");
            assert!(!self.client.has_fin() || record.has_told_end || is_unnoticed, "{who}: its end was not noticed");
        }
        if !may_wait && !self.is_deaf {
            assert!(transcript.has_said(who, self.phrases(transcript)), "{who}: its lines were not said");
        }
        if !self.client.wants_room() && !self.is_deaf && !self.is_broken() {
            let phrases = (!may_wait).then(|| self.phrases(transcript));
            self.listener.check_caught_up(phrases, is_unnoticed, transcript);
        }
    }

    /// How many bytes may be held for the member though it has been sent everything: of a line without an end.
    pub(crate) fn unheard(&self, transcript: &Transcript) -> usize {
        let taken = self.record().taken;
        let phrases = &transcript.attendances[self.id].speech.phrases;
        let unfinished = phrases.iter().rfind(|phrase| phrase.start < taken);
        unfinished.filter(|phrase| phrase.end > taken || !phrase.is_ended).map_or(0, |phrase| taken - phrase.start)
    }

    /// The member has read to the end, and did all that a client can to be told everything.
    pub(crate) fn check_end(&mut self, got: usize, transcript: &mut Transcript) {
        if self.is_given_up || self.is_broken() || self.is_deaf || self.closed == Some(Close::TooSlow) {
            return;
        }
        let who = self.id;
        assert_eq!(got, self.record().given, "{who}: did not get all that was sent");
        let is_unnoticed = self.has_left_unnoticed(transcript) && !self.listener.is_told_of_stop;
        let is_stopped = transcript.attendances[who].left.is_none() && !is_unnoticed;
        assert_eq!(is_stopped, self.listener.is_told_of_stop, "{who}: was not told of the stop, or wrongly");
        let phrases = self.phrases(transcript);
        let has_said = transcript.has_said(who, phrases) || self.has_ignored_answers;
        assert!(has_said, "{who}: its lines were not said");
        if let Some(stop_at) = self.stop_at.filter(|_| is_stopped && !self.has_ignored_answers) {
            assert!(self.record().taken >= stop_at, "{who}: what had arrived before the stop was not read");
        }
        let phrases = (!self.has_ignored_answers).then_some(phrases);
        self.listener.check_caught_up(phrases, is_unnoticed, transcript);
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
