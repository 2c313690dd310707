//! Ages as people write them: `2y5m7d3h`.
//!
//! Years, months and days are those of the calendar, so `1m` before 31 March is the last of February. Hours are 3,600
//! seconds. There is no unit for weeks, because a typo between `1m` and `1w` is hard to see: write `7d`.

use std::{fmt, str::FromStr};

use jiff::{Span, Timestamp, tz::TimeZone};

use super::error::RetentionError;

/// A length of time. It is never zero, and none of its parts is longer than ten thousand years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Age {
    years: u32,
    months: u32,
    days: u32,
    hours: u32,
}

/// The letter of each unit, and the largest number of it.
const UNITS: [(char, u32); 4] = [('y', 9_999), ('m', 119_988), ('d', 3_652_000), ('h', 87_648_000)];
const WHAT: &str = "age";

impl Age {
    /// Returns an age of these parts; none if all are 0 or one is out of bounds.
    pub fn new(years: u32, months: u32, days: u32, hours: u32) -> Option<Self> {
        let parts = [years, months, days, hours];
        let bounded = parts.iter().zip(UNITS).all(|(part, (_, most))| *part <= most);
        (bounded && parts != [0; 4]).then_some(Age { years, months, days, hours })
    }

    /// Returns the moment this long before `end`, in the calendar of `zone`. Returns [`Timestamp::MIN`] if it cannot be
    /// represented.
    pub(super) fn before(self, end: Timestamp, zone: &TimeZone) -> Timestamp {
        let zoned = end.to_zoned(zone.clone());
        let days = || {
            let span = Span::new()
                .try_years(self.years)
                .and_then(|s| s.try_months(self.months))
                .and_then(|s| s.try_days(self.days))?;
            zoned.checked_sub(span)?.timestamp().checked_sub(Span::new().try_hours(self.hours)?)
        };
        days().unwrap_or(Timestamp::MIN)
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [self.years, self.months, self.days, self.hours];
        parts
            .iter()
            .zip(UNITS)
            .filter(|(part, _)| **part > 0)
            .try_for_each(|(part, (unit, _))| write!(f, "{part}{unit}"))
    }
}

impl FromStr for Age {
    type Err = RetentionError;

    /// Reads numbers with units. The units may be in any order, each at most once.
    fn from_str(text: &str) -> Result<Self, RetentionError> {
        let fail = |reason: String| RetentionError::syntax(WHAT, text, reason);
        let mut parts: [Option<u32>; 4] = [None; 4];
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (number, tail) = rest.split_at(digits);
            let Some(unit) = tail.chars().next() else {
                return Err(fail("the last number lacks its unit: y, m, d or h, as in 2y5m7d3h".to_owned()));
            };
            let Some(at) = UNITS.iter().position(|(letter, _)| *letter == unit) else {
                return Err(fail(match unit {
                    'w' => "there is no unit for weeks; write 7d".to_owned(),
                    _ => format!("there is no unit {unit:?}; write y, m, d and h, as in 2y5m7d3h"),
                }));
            };
            if number.is_empty() {
                return Err(fail(format!("there is no number before {unit:?}")));
            }
            let most = UNITS[at].1;
            let number = number.parse().ok().filter(|n| *n <= most);
            let number = number.ok_or_else(|| fail(format!("the most is {most}{unit}")))?;
            if parts[at].replace(number).is_some() {
                return Err(fail(format!("{unit:?} is there twice")));
            }
            rest = &tail[unit.len_utf8()..];
        }
        let [years, months, days, hours] = parts.map(Option::unwrap_or_default);
        Age::new(years, months, days, hours).ok_or_else(|| fail("it is zero".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints() {
        for text in ["2y5m7d3h", "1h", "75y", "1y3h", "9999y119988m3652000d87648000h"] {
            assert_eq!(text.parse::<Age>().unwrap().to_string(), text);
        }
        assert_eq!("3h2y".parse(), Ok(Age::new(2, 0, 0, 3).unwrap()));
    }

    #[test]
    fn refuses_texts_that_are_not_ages() {
        for (text, why) in [
            ("", "it is zero"),
            ("0d0h", "it is zero"),
            ("7", "lacks its unit"),
            ("1y7", "lacks its unit"),
            ("1w", "write 7d"),
            ("d", "no number"),
            ("-1d", "no unit '-'"),
            ("1.5d", "no unit '.'"),
            ("1d2d", "twice"),
            ("10000y", "most is 9999y"),
            ("99999999999999999999h", "most is 87648000h"),
            ("1Y", "no unit 'Y'"),
            ("１d", "no unit"),
            ("unlimited", "no unit 'u'"),
        ] {
            let error = text.parse::<Age>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        let long = "9".repeat(100_000);
        assert!(long.parse::<Age>().unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn goes_back_by_the_calendar() {
        let before = |age: &str, end: &str| {
            let zone = TimeZone::UTC;
            age.parse::<Age>().unwrap().before(end.parse().unwrap(), &zone).to_string()
        };
        assert_eq!(before("1m", "2019-03-31T12:00:00Z"), "2019-02-28T12:00:00Z");
        assert_eq!(before("1y", "2020-02-29T00:00:00Z"), "2019-02-28T00:00:00Z");
        assert_eq!(before("2y5m7d3h", "2026-11-21T05:00:00Z"), "2024-06-14T02:00:00Z");
        let longest = "9999y119988m3652000d87648000h";
        assert_eq!(before(longest, "2026-11-21T05:00:00Z"), Timestamp::MIN.to_string());
    }
}
