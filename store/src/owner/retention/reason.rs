//! Why a snapshot is kept.

use std::fmt;

use super::{Age, Count, Period, TagList};

/// One rule that keeps one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is one of the newest.
    Last {
        /// Which, from 1.
        nth: usize,
        /// How many are kept.
        of: Count,
    },
    /// It is the newest of its period.
    Every {
        /// What kind of period.
        period: Period,
        /// Which of the periods that have a snapshot, from 1 for the latest.
        nth: usize,
        /// Of how many periods it is kept.
        of: Count,
    },
    /// It is the oldest of all, and there are fewer periods than the rule wants.
    OldestEvery {
        /// What kind of period.
        period: Period,
        /// How many it wants.
        of: Count,
    },
    /// It was received less than so long before the newest.
    Within {
        /// How long.
        age: Age,
    },
    /// It is the newest of its period, and was received less than so long before the newest of all.
    EveryWithin {
        /// What kind of period.
        period: Period,
        /// How long.
        age: Age,
    },
    /// It is the oldest of all, and was received less than so long before the newest.
    OldestEveryWithin {
        /// What kind of period.
        period: Period,
        /// How long.
        age: Age,
    },
    /// It has these tags.
    Tags(TagList),
    /// It comes from the future: whatever is wrong with the clock, it is no reason to forget.
    Future,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Last { nth, of: Count::Number(of) } => write!(f, "last {nth} of {of}"),
            Reason::Last { nth, of: Count::Unlimited } => write!(f, "last {nth}"),
            Reason::Every { period, nth, of: Count::Number(of) } => write!(f, "{} {nth} of {of}", period.adverb()),
            Reason::Every { period, nth, of: Count::Unlimited } => write!(f, "{} {nth}", period.adverb()),
            Reason::OldestEvery { period, of: Count::Number(of) } => {
                write!(f, "oldest, until {of} {period}s have one")
            }
            Reason::OldestEvery { period, of: Count::Unlimited } => write!(f, "oldest {}", period.adverb()),
            Reason::Within { age } => write!(f, "within {age}"),
            Reason::EveryWithin { period, age } => write!(f, "{} within {age}", period.adverb()),
            Reason::OldestEveryWithin { period, age } => write!(f, "oldest {} within {age}", period.adverb()),
            Reason::Tags(tags) if tags.0.is_empty() => f.write_str("no tags"),
            Reason::Tags(tags) => write!(f, "tags {tags}"),
            Reason::Future => f.write_str("received in the future"),
        }
    }
}
