//! When a profile runs: `hourly`, `every 4h`, `daily 03:00`, `weekly sun 03:00`, `monthly 1 03:00`.
//!
//! Without a time of day, a schedule names none: whoever installs it chooses one.

use std::{str::FromStr, time::Duration};

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};

use super::hours::{Hour, weekday};
use crate::values::parse_duration;

const DAY: Duration = Duration::from_secs(86_400);
/// The shortest interval. A run opens repositories and looks at every source.
const EVERY_MIN: Duration = Duration::from_secs(60);
/// When a profile runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// This long after the last run began.
    Every(Duration),
    /// Once an hour.
    Hourly,
    /// Once a day.
    Daily(Option<Hour>),
    /// Once a week, on this day (0 is Monday).
    Weekly(Option<u8>, Option<Hour>),
    /// Once a month, on this day, from 1 to 28.
    Monthly(Option<u8>, Option<Hour>),
}

impl Schedule {
    /// Returns the time between two runs, at most.
    pub fn interval(self) -> Duration {
        match self {
            Self::Every(every) => every,
            Self::Hourly => Duration::from_secs(3600),
            Self::Daily(_) => DAY,
            Self::Weekly(..) => 7 * DAY,
            Self::Monthly(..) => 31 * DAY,
        }
    }
}

impl Schedule {
    /// Returns when a run is due after one that began at `last`, in seconds since 1970: with a time of day, the next
    /// time it comes by this machine's clock; otherwise after the interval. What was missed is due at once.
    pub fn next_after(self, last: i64, now: i64) -> Option<i64> {
        let hour = match self {
            Self::Daily(hour) | Self::Weekly(_, hour) | Self::Monthly(_, hour) => hour,
            Self::Every(_) | Self::Hourly => None,
        };
        let Some(hour) = hour else {
            let interval = i64::try_from(self.interval().as_secs()).ok()?;
            return Some(last.saturating_add(interval).max(now));
        };
        let (hour, minute) = hour.parts();
        let begun = Timestamp::from_second(last).ok()?.to_zoned(TimeZone::system());
        let is_day = |date: Date| match self {
            Self::Weekly(Some(day), _) => date.weekday().to_monday_zero_offset() == day as i8,
            Self::Weekly(None, _) => date.weekday() == begun.weekday(),
            Self::Monthly(day, _) => date.day() == day.map_or(1, |day| day as i8),
            _ => true,
        };
        let days = (0..=31).filter_map(|days| begun.date().checked_add(days.days()).ok()).filter(|date| is_day(*date));
        let times = days.filter_map(|date| date.at(hour as i8, minute as i8, 0, 0).to_zoned(TimeZone::system()).ok());
        let due = times.map(|at| at.timestamp().as_second()).find(|at| *at > last)?;
        Some(due.max(now))
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let hour = |word: &str| word.parse::<Hour>();
        match words[..] {
            ["hourly"] => Ok(Self::Hourly),
            ["every", every] => match parse_duration(every)? {
                every if every >= EVERY_MIN => Ok(Self::Every(every)),
                _ => Err(format!("{text:?} is too often: the shortest is every 60s; `bkfs watch` follows changes")),
            },
            ["daily"] => Ok(Self::Daily(None)),
            ["daily", at] => Ok(Self::Daily(Some(hour(at)?))),
            ["weekly"] => Ok(Self::Weekly(None, None)),
            ["weekly", on] => Ok(Self::Weekly(Some(weekday(on)?), None)),
            ["weekly", on, at] => Ok(Self::Weekly(Some(weekday(on)?), Some(hour(at)?))),
            ["monthly"] => Ok(Self::Monthly(None, None)),
            ["monthly", on] => Ok(Self::Monthly(Some(month_day(on)?), None)),
            ["monthly", on, at] => Ok(Self::Monthly(Some(month_day(on)?), Some(hour(at)?))),
            _ => Err(format!(
                "{text:?} is not a schedule; give one like hourly, every 4h, daily 03:00, weekly sun 03:00 or monthly \
                 1 03:00"
            )),
        }
    }
}

fn month_day(text: &str) -> Result<u8, String> {
    let day = text.parse().ok().filter(|day| (1..=28).contains(day));
    day.ok_or_else(|| format!("{text:?} is not a day that every month has; give 1 to 28"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_is_the_next_time_of_day_or_an_interval_later() {
        let at = |text: &str| {
            text.parse::<jiff::civil::DateTime>().unwrap().to_zoned(TimeZone::system()).unwrap().timestamp().as_second()
        };
        let next = |schedule: &str, last: &str, now: &str| {
            let next = schedule.parse::<Schedule>().unwrap().next_after(at(last), at(now)).unwrap();
            Timestamp::from_second(next).unwrap().to_zoned(TimeZone::system()).strftime("%m-%d %H:%M").to_string()
        };
        let (last, now) = ("2026-03-10T03:00:07", "2026-03-10T09:00");
        assert_eq!(next("daily 03:00", last, now), "03-11 03:00");
        assert_eq!(next("daily 04:00", last, "2026-03-10T03:10"), "03-10 04:00");
        assert_eq!(next("weekly sun 03:00", last, now), "03-15 03:00");
        assert_eq!(next("monthly 1 03:00", last, now), "04-01 03:00");
        assert_eq!(next("every 4h", last, "2026-03-10T03:30"), "03-10 07:00");
        assert_eq!(next("daily", last, now), "03-11 03:00");
        assert_eq!(next("hourly", last, now), "03-10 09:00", "what was missed is due now");
    }

    #[test]
    fn schedules_are_parsed() {
        let at = |text: &str| Some(text.parse::<Hour>().unwrap());
        let hours = |n: u64| Duration::from_secs(n * 3600);
        for (text, schedule, interval) in [
            ("hourly", Schedule::Hourly, hours(1)),
            ("every 4h", Schedule::Every(hours(4)), hours(4)),
            ("daily", Schedule::Daily(None), hours(24)),
            ("Daily 03:00", Schedule::Daily(at("03:00")), hours(24)),
            ("weekly sun 3:05", Schedule::Weekly(Some(6), at("03:05")), hours(168)),
            ("weekly monday", Schedule::Weekly(Some(0), None), hours(168)),
            ("monthly 28 23:59", Schedule::Monthly(Some(28), at("23:59")), hours(744)),
        ] {
            let read: Schedule = text.parse().unwrap();
            assert_eq!((read, read.interval()), (schedule, interval), "{text}");
        }
        for bad in ["", "daily 24:00", "every", "every 5", "every 0s", "yearly", "weekly 3", "monthly 31", "hourly 1"] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad:?}");
        }
    }
}
