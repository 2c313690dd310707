//! Policies: which snapshots to keep.

use std::{fmt, str::FromStr};

use super::{age::Age, calendar::Period, error::RetentionError};
use crate::base::label::tags;

/// How many snapshots or periods a rule keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    /// At most this many.
    Number(u32),
    /// All.
    Unlimited,
}

impl Count {
    /// Whether a rule may keep another one after `taken`.
    pub(super) fn exceeds(self, taken: usize) -> bool {
        match self {
            Count::Number(number) => taken < number as usize,
            Count::Unlimited => true,
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Count::Number(number) => write!(f, "{number}"),
            Count::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl FromStr for Count {
    type Err = RetentionError;

    fn from_str(text: &str) -> Result<Self, RetentionError> {
        if text == "unlimited" {
            return Ok(Count::Unlimited);
        }
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        let reason = match digits {
            true => "it is too large; write \"unlimited\" to keep all",
            false => "write a whole number, or \"unlimited\"",
        };
        number.map(Count::Number).ok_or_else(|| RetentionError::syntax("count", text, reason))
    }
}

/// Tags that a snapshot must all have. An empty list fits snapshots without tags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TagList(pub Vec<String>);

impl TagList {
    /// Whether a snapshot with these tags fits.
    pub fn fits(&self, tags: &[String]) -> bool {
        match self.0.is_empty() {
            true => tags.is_empty(),
            false => self.0.iter().all(|tag| tags.contains(tag)),
        }
    }
}

impl fmt::Display for TagList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl FromStr for TagList {
    type Err = RetentionError;

    /// Reads a list like `a,b`. An empty text is the empty list.
    fn from_str(text: &str) -> Result<Self, RetentionError> {
        if text.is_empty() {
            return Ok(TagList(Vec::new()));
        }
        tags(text).map(TagList).map_err(|error| RetentionError::syntax("list of tags", text, error.to_string()))
    }
}

/// What to keep of each group: see [the rules](super). A count of 0 keeps nothing, like `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// The newest snapshots.
    pub keep_last: Option<Count>,
    /// The newest of each of this many hours.
    pub keep_hourly: Option<Count>,
    /// The newest of each of this many days.
    pub keep_daily: Option<Count>,
    /// The newest of each of this many weeks.
    pub keep_weekly: Option<Count>,
    /// The newest of each of this many months.
    pub keep_monthly: Option<Count>,
    /// The newest of each of this many years.
    pub keep_yearly: Option<Count>,
    /// All that were received less than this before the newest snapshot.
    pub keep_within: Option<Age>,
    /// The newest of each hour, within this age.
    pub keep_within_hourly: Option<Age>,
    /// The newest of each day, within this age.
    pub keep_within_daily: Option<Age>,
    /// The newest of each week, within this age.
    pub keep_within_weekly: Option<Age>,
    /// The newest of each month, within this age.
    pub keep_within_monthly: Option<Age>,
    /// The newest of each year, within this age.
    pub keep_within_yearly: Option<Age>,
    /// Those that fit one of these lists.
    pub keep_tag: Vec<TagList>,
}

impl Policy {
    /// Whether there is no rule that can keep anything.
    pub fn is_empty(&self) -> bool {
        let counts = Period::ALL.iter().filter_map(|p| self.every(*p)).chain(self.last());
        let ages = Period::ALL.iter().filter_map(|p| self.every_within(*p)).chain(self.keep_within);
        counts.count() == 0 && ages.count() == 0 && self.keep_tag.is_empty()
    }

    /// How many of the newest snapshots to keep.
    pub(super) fn last(&self) -> Option<Count> {
        self.keep_last.filter(|count| *count != Count::Number(0))
    }

    /// Of how many periods to keep the newest snapshot.
    pub(super) fn every(&self, period: Period) -> Option<Count> {
        let count = match period {
            Period::Hour => self.keep_hourly,
            Period::Day => self.keep_daily,
            Period::Week => self.keep_weekly,
            Period::Month => self.keep_monthly,
            Period::Year => self.keep_yearly,
        };
        count.filter(|count| *count != Count::Number(0))
    }

    /// Within which age to keep the newest snapshot of every period.
    pub(super) fn every_within(&self, period: Period) -> Option<Age> {
        match period {
            Period::Hour => self.keep_within_hourly,
            Period::Day => self.keep_within_daily,
            Period::Week => self.keep_within_weekly,
            Period::Month => self.keep_within_monthly,
            Period::Year => self.keep_within_yearly,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_counts() {
        assert_eq!("12".parse(), Ok(Count::Number(12)));
        assert_eq!("unlimited".parse(), Ok(Count::Unlimited));
        for (text, why) in [
            ("", "whole number"),
            ("-1", "whole number"),
            ("+1", "whole number"),
            ("all", "whole"),
            ("4294967296", "large"),
        ] {
            let error = text.parse::<Count>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn reads_tags() {
        let tags = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let both: TagList = "a,b".parse().unwrap();
        assert!(both.fits(&tags(&["b", "c", "a"])) && !both.fits(&tags(&["a"])));
        let untagged: TagList = "".parse().unwrap();
        assert!(untagged.fits(&[]) && !untagged.fits(&tags(&["a"])));
        for bad in ["a,,b", ",", "a, b", " "] {
            assert!(bad.parse::<TagList>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_policy_that_keeps_nothing_is_empty() {
        assert!(Policy::default().is_empty());
        assert!(Policy { keep_last: Some(Count::Number(0)), ..Policy::default() }.is_empty());
        assert!(!Policy { keep_yearly: Some(Count::Unlimited), ..Policy::default() }.is_empty());
        assert!(!Policy { keep_within_weekly: Age::new(0, 0, 0, 1), ..Policy::default() }.is_empty());
        assert!(!Policy { keep_tag: vec![TagList(Vec::new())], ..Policy::default() }.is_empty());
    }
}
