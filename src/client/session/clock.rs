//! The time of each line, for `--time`.

use chrono::{DateTime, Local, NaiveDate};

/// Knows on which day the last line was shown.
#[derive(Debug, Default)]
pub(super) struct Clock {
    day: Option<NaiveDate>,
}

impl Clock {
    /// What stands before a line of which the time is not known.
    pub(super) const BLANK: &str = "      ";

    /// What stands before a line that is shown at `now`, and before that, if a day has begun since the last line, the
    /// line that says so.
    pub(super) fn stamp(&mut self, now: DateTime<Local>) -> (Option<String>, String) {
        let day = now.date_naive();
        let is_new = self.day.replace(day).is_some_and(|last| last != day);
        let new_day = is_new.then(|| format!("* {}", now.format("%A, %-d %B %Y")));
        (new_day, now.format("%H:%M ").to_string())
    }
}

#[cfg(test)]
mod tests {
    use chrono::{Days, TimeZone};

    use super::*;

    #[test]
    fn a_new_day_is_told_once() {
        let evening = Local.with_ymd_and_hms(2026, 11, 27, 23, 59, 0).unwrap();
        let mut clock = Clock::default();
        assert_eq!(clock.stamp(evening), (None, "23:59 ".to_owned()));
        let next = evening.checked_add_days(Days::new(1)).unwrap();
        assert_eq!(clock.stamp(next), (Some("* Saturday, 28 November 2026".to_owned()), "23:59 ".to_owned()));
        assert_eq!(clock.stamp(next), (None, "23:59 ".to_owned()));
    }
}
