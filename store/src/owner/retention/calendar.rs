//! Periods of the calendar.

use std::fmt;

use jiff::{Timestamp, tz::TimeZone};

use crate::base::time::Time;

/// A kind of period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Period {
    /// An hour of the clock. When clocks are set back, the hour that is repeated counts as two periods.
    Hour,
    /// A day, from midnight to midnight.
    Day,
    /// An ISO week, from Monday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// Identifies one period. Two moments have the same key if and only if they are in the same period.
pub(super) type PeriodKey = [i32; 5];

impl Period {
    /// All of them, shortest first.
    pub const ALL: [Period; 5] = [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year];

    /// Returns the period of a moment.
    pub(super) fn of(self, time: Timestamp, zone: &TimeZone) -> PeriodKey {
        let offset = zone.to_offset(time);
        let local = offset.to_datetime(time);
        let (year, month, day) = (i32::from(local.year()), i32::from(local.month()), i32::from(local.day()));
        match self {
            Period::Hour => [year, month, day, i32::from(local.hour()), -offset.seconds()],
            Period::Day => [year, month, day, 0, 0],
            Period::Week => {
                let week = local.date().iso_week_date();
                [week.year().into(), week.week().into(), 0, 0, 0]
            }
            Period::Month => [year, month, 0, 0, 0],
            Period::Year => [year, 0, 0, 0, 0],
        }
    }

    /// Returns the adverb, like "daily".
    pub fn adverb(self) -> &'static str {
        match self {
            Period::Hour => "hourly",
            Period::Day => "daily",
            Period::Week => "weekly",
            Period::Month => "monthly",
            Period::Year => "yearly",
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
            Period::Year => "year",
        })
    }
}

/// Converts a time. A time outside the years -9999 to 9999 becomes the first or last representable moment.
pub(super) fn timestamp(time: Time) -> Timestamp {
    let nanos = i32::try_from(time.nanos.min(999_999_999)).unwrap_or_default();
    let end = if time.secs < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::new(time.secs, nanos).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(period: Period, zone: &TimeZone, a: &str, b: &str) -> bool {
        period.of(a.parse().unwrap(), zone) == period.of(b.parse().unwrap(), zone)
    }

    #[test]
    fn weeks_are_iso_weeks() {
        let utc = &TimeZone::UTC;
        // 2015 ended on a Thursday; its last week ran into 2016.
        assert!(same(Period::Week, utc, "2015-12-28T00:00:00Z", "2016-01-03T23:59:59Z"));
        assert!(!same(Period::Week, utc, "2016-01-03T23:59:59Z", "2016-01-04T00:00:00Z"));
        assert!(!same(Period::Week, utc, "2015-01-01T00:00:00Z", "2015-12-31T00:00:00Z"));
    }

    #[test]
    fn days_depend_on_the_zone() {
        let east = TimeZone::fixed(jiff::tz::offset(2));
        assert!(same(Period::Day, &east, "2026-11-20T22:30:00Z", "2026-11-21T21:30:00Z"));
        assert!(!same(Period::Day, &TimeZone::UTC, "2026-11-20T22:30:00Z", "2026-11-21T21:30:00Z"));
    }

    #[test]
    fn a_repeated_hour_counts_as_two() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let (first, second) = ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
        assert!(!same(Period::Hour, &zone, first, second), "both are 02:30 on the clock");
        assert!(same(Period::Day, &zone, first, second));
    }

    #[test]
    fn accepts_any_time() {
        assert_eq!(timestamp(Time { secs: i64::MIN, nanos: 0 }), Timestamp::MIN);
        assert_eq!(timestamp(Time { secs: i64::MAX, nanos: u32::MAX }), Timestamp::MAX);
        assert_eq!(timestamp(Time { secs: 1, nanos: u32::MAX }).as_second(), 1);
        for period in Period::ALL {
            period.of(Timestamp::MAX, &TimeZone::UTC);
            period.of(Timestamp::MIN, &TimeZone::fixed(jiff::tz::Offset::MIN));
        }
    }
}
