//! Why a snapshot is kept.

use std::fmt;

use super::{
    age::Age,
    calendar::Period,
    policy::{Count, TagList},
};

/// A rule that keeps a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is one of the newest.
    Last {
        /// Its position, from 1 for the newest.
        nth: usize,
        /// How many the rule keeps.
        of: Count,
    },
    /// It is the newest of its period.
    Every {
        /// The kind of period.
        period: Period,
        /// The position of its period among those that have a snapshot, from 1 for the latest.
        nth: usize,
        /// For how many periods the rule keeps a snapshot.
        of: Count,
    },
    /// It is the oldest of the group, and there are fewer periods than the rule wants.
    OldestEvery {
        /// The kind of period.
        period: Period,
        /// How many periods the rule wants.
        of: Count,
    },
    /// It was received less than this age before the newest.
    Within {
        /// The age.
        age: Age,
    },
    /// It is the newest of its period, and was received less than this age before the newest of the group.
    EveryWithin {
        /// The kind of period.
        period: Period,
        /// The age.
        age: Age,
    },
    /// It is the oldest of the group, and was received less than this age before the newest.
    OldestEveryWithin {
        /// The kind of period.
        period: Period,
        /// The age.
        age: Age,
    },
    /// It has these tags.
    Tags(TagList),
    /// It was received in the future. Something is wrong with a clock, and that is not a reason to forget it.
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
