//! The store's clock. What is kept for some time is kept by it, and a clock can be wrong.
//!
//! So an age is not the difference of two times that the clock showed. The store keeps a time of its own, the *own
//! time*, which advances with the system's clock but does not jump with it. [`SeenClock`] records the spans of time
//! that the system's clock has shown ([`Span`]), and the own time in each. This maps every time stamp to the own time,
//! and an age is the own time that has passed since.
//!
//! - If the clock advances by at most [`STEP_SECS`], so does the own time.
//! - If it jumps further ahead, the own time advances by [`STEP_SECS`] only. A store that was not used for months looks
//!   the same, so it keeps things for longer.
//! - If it is set back, the store accepts that after [`BEHIND_SECS`]. Until then, records get the newest time that the
//!   store has seen, and the own time stands still: a machine without a battery shows a wrong time until it has asked
//!   another clock. If the clock continues from before a recent jump, that jump was the error, and the store accepts
//!   the time at once.
//!
//! So a jump of the clock makes nothing due more than [`STEP_SECS`] early, and keeps nothing longer than its age from
//! when the clock was corrected.

use std::time::{SystemTime, UNIX_EPOCH};

use minicbor::{Decode, Encode};

use crate::base::{
    codec::Header,
    error::{Error, Result},
    time::Time,
};

/// By how much clocks differ without being wrong.
pub const SKEW_SECS: i64 = 600;
/// The most that the own time advances at once. A server observes its clock every day.
pub const STEP_SECS: i64 = 2 * 86_400;
/// How long a clock must be behind before the store accepts it.
pub const BEHIND_SECS: i64 = 3600;
/// For how long a jump ahead counts as recent.
const RECENT_SECS: i64 = 7 * 86_400;
/// The most spans that are recorded. Before the oldest, the clock counts as one that never jumped.
const SPANS_MAX: usize = 64;
/// The record is written again after this long.
const WRITE_SECS: i64 = 3600;

const HEADER: Header = Header { what: "the record of the store's clock", magic: *b"bkfsclck", version: 2 };

/// The time now. A clock that is set before 1970 counts as 1970.
pub(super) fn system_time() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time { secs: since.as_secs() as i64, nanos: since.subsec_nanos() }
}

/// A span of time that the clock showed without a jump, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct Span {
    /// The first time. The first span has no beginning.
    #[n(0)]
    from: i64,
    /// The last time.
    #[n(1)]
    to: i64,
    /// The own time at `to`.
    #[n(2)]
    own: i64,
}

impl Span {
    /// The own time at a time of the span, or a little later.
    fn own_at(&self, at: i64) -> i64 {
        self.own.saturating_sub(self.to.saturating_sub(at.max(self.from)))
    }
}

/// What the store has seen of its clock.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SeenClock {
    /// What the clock showed, in the order in which it did.
    #[n(0)]
    spans: Vec<Span>,
    /// Since when it shows a time before the last span, by itself.
    #[n(1)]
    behind: Option<i64>,
}

impl SeenClock {
    /// Nothing is known but that the clock showed this time once, in seconds.
    pub fn new(first: i64) -> Self {
        Self { spans: vec![Span { from: i64::MIN, to: first, own: first }], behind: None }
    }

    /// Decodes a record.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let seen: Self = HEADER.decode(bytes)?;
        if seen.spans.is_empty() || seen.spans.len() > SPANS_MAX {
            return Err(Error::damaged(HEADER.what, "its number of spans is out of bounds"));
        }
        Ok(seen)
    }

    /// Encodes the record.
    pub fn encode(&self) -> Vec<u8> {
        HEADER.encode(self)
    }

    /// Whether a later record must be stored.
    pub fn differs(&self, stored: &Self) -> bool {
        let (mine, other) = (self.last(), stored.last());
        (self.behind, self.spans.len(), mine.from) != (stored.behind, stored.spans.len(), other.from)
            || mine.to.abs_diff(other.to) >= WRITE_SECS.unsigned_abs()
    }

    /// What is known after another look at the clock.
    pub fn observe(&self, now: i64) -> Self {
        let (mut seen, last) = (self.clone(), self.last());
        let is_behind = now < last.to.saturating_sub(SKEW_SECS);
        if !is_behind {
            seen.behind = None;
            let passed = now.saturating_sub(last.to);
            if passed > STEP_SECS {
                seen.begin(Span { from: now, to: now, own: last.own.saturating_add(STEP_SECS) });
            } else if passed > 0 {
                seen.extend(now, last.own.saturating_add(passed));
            }
            return seen;
        }
        if self.is_recent_jump_over(now) {
            seen.begin(Span { from: now, to: now, own: last.own });
            seen.behind = None;
            return seen;
        }
        match self.behind.map(|since| now.saturating_sub(since)) {
            Some(passed) if (0..BEHIND_SECS).contains(&passed) => {}
            Some(passed) if passed >= BEHIND_SECS => {
                let passed = passed.min(STEP_SECS);
                seen.begin(Span { from: now - passed, to: now, own: last.own.saturating_add(passed) });
                seen.behind = None;
            }
            _ => seen.behind = Some(now),
        }
        seen
    }

    /// Whether the clock goes on from before its last jump ahead, and that is not long ago.
    fn is_recent_jump_over(&self, now: i64) -> bool {
        let [.., before, last] = self.spans.as_slice() else { return false };
        let goes_on = before.to.saturating_sub(SKEW_SECS)..=before.to.saturating_add(STEP_SECS);
        goes_on.contains(&now) && last.to.saturating_sub(last.from) < RECENT_SECS
    }

    fn last(&self) -> Span {
        self.spans.last().copied().unwrap_or(Span { from: i64::MIN, to: 0, own: 0 })
    }

    fn extend(&mut self, to: i64, own: i64) {
        if let Some(last) = self.spans.last_mut() {
            (last.to, last.own) = (to, own);
        }
    }

    fn begin(&mut self, span: Span) {
        self.spans.push(span);
        if self.spans.len() > SPANS_MAX {
            self.spans.remove(0);
            self.spans[0].from = i64::MIN;
        }
    }

    /// The own time at which something was stamped. If several spans have shown that time, the last of them counts; if
    /// none has, the clock showed it between two looks.
    fn own_at(&self, at: i64) -> i64 {
        if let Some(span) = self.spans.iter().rev().find(|span| (span.from..=span.to).contains(&at)) {
            return span.own_at(at);
        }
        let after = self.spans.iter().rposition(|span| span.to < at).map_or(0, |before| before + 1);
        match self.spans.get(after) {
            Some(next) if next.from > i64::MIN => next.own_at(next.from),
            Some(next) => next.own_at(at),
            None => self.last().own,
        }
    }
}

/// The time by which what is kept is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedNow {
    /// The time that the clock shows.
    wall: Time,
    seen: SeenClock,
}

impl TrustedNow {
    /// The clock shows `wall`, and `seen` knows of it.
    pub fn new(wall: Time, seen: SeenClock) -> Self {
        Self { wall, seen }
    }

    /// The time that a record gets now.
    pub fn time(&self) -> Time {
        if self.seen.behind.is_some() { Time { secs: self.seen.last().to, nanos: 0 } } else { self.wall }
    }

    /// How long ago something was stamped, in seconds of the store's own time.
    pub fn age_secs(&self, stamped: Time) -> u64 {
        let now = self.seen.last().own;
        now.saturating_sub(self.seen.own_at(stamped.secs)).max(0).unsigned_abs()
    }

    /// Until when something is kept that was stamped at a time and is kept for so long; none if that is over.
    pub fn kept_until(&self, stamped: Time, secs: u64) -> Option<Time> {
        let left = secs.checked_sub(self.age_secs(stamped)).filter(|left| *left > 0)?;
        // As the clock goes on from here; exactly, where it has not jumped since.
        let until = stamped.plus_secs(secs);
        let by_now = self.time().plus_secs(left);
        Some(if until.secs.abs_diff(by_now.secs) <= 1 { until } else { by_now })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3600;
    const DAY: i64 = 86_400;
    const YEARS: i64 = 10 * 365 * DAY;

    fn at(secs: i64) -> Time {
        Time { secs, nanos: 0 }
    }

    /// A store that looks at its clock.
    struct Store {
        seen: SeenClock,
        wall: i64,
    }

    impl Store {
        fn new(wall: i64) -> Self {
            Self { seen: SeenClock::new(wall), wall }
        }

        /// The clock shows a time. Returns what a record is stamped with.
        fn show(&mut self, wall: i64) -> Time {
            (self.seen, self.wall) = (self.seen.observe(wall), wall);
            assert_eq!(self.seen.observe(wall), self.seen);
            assert_eq!(SeenClock::decode(&self.seen.encode()).unwrap(), self.seen);
            self.now().time()
        }

        /// The clock goes on for so long, and is looked at every hour.
        fn go_on(&mut self, secs: i64) {
            let end = self.wall + secs;
            while self.wall + HOUR < end {
                self.show(self.wall + HOUR);
            }
            self.show(end);
        }

        fn now(&self) -> TrustedNow {
            TrustedNow::new(at(self.wall), self.seen.clone())
        }

        fn age(&self, stamped: Time) -> i64 {
            self.now().age_secs(stamped) as i64
        }
    }

    #[test]
    fn a_clock_that_goes_on_is_trusted() {
        let mut store = Store::new(0);
        for day in 1..100 {
            assert_eq!(store.show(day * DAY), at(day * DAY));
            assert_eq!(store.age(at(DAY)), (day - 1) * DAY);
            assert_eq!(store.now().kept_until(at(DAY), 14 * DAY as u64), (day < 15).then_some(at(15 * DAY)));
        }
    }

    #[test]
    fn a_jump_ahead_lets_nothing_go_before_its_time_by_more_than_a_step() {
        let mut store = Store::new(1000);
        let before = store.show(2000);
        for day in 0..7 {
            let during = store.show(YEARS + day * DAY);
            assert_eq!((store.age(before), store.age(during)), (STEP_SECS + day * DAY, 0));
        }
        let during = at(YEARS + DAY);
        // It is set right at once, and a jump that is seen again changes nothing more.
        let right = store.show(3000);
        assert_eq!((right, store.age(before), store.age(during)), (at(3000), STEP_SECS + 6 * DAY, 5 * DAY));
        store.go_on(3 * DAY);
        assert_eq!((store.age(right), store.age(during)), (3 * DAY, 8 * DAY));
    }

    #[test]
    fn what_a_clock_stamped_that_ran_ahead_is_kept_from_when_it_was_set_right() {
        // The clock was ten years ahead from the beginning.
        let mut store = Store::new(YEARS);
        let ahead = store.show(YEARS + DAY);
        assert_eq!(store.show(5000), ahead, "a clock that is set back is not believed at once");
        store.go_on(2 * HOUR);
        let right = store.show(store.wall);
        assert_eq!(right, at(5000 + 2 * HOUR));
        store.go_on(DAY);
        assert_eq!((store.age(ahead), store.age(right)), (DAY + 2 * HOUR, DAY));
    }

    #[test]
    fn what_is_stamped_before_the_clock_is_set_is_kept_for_its_time() {
        // A machine without a battery is switched off for a while, and begins in 1970.
        for off in [HOUR, DAY, 30 * DAY] {
            let mut store = Store::new(YEARS);
            let first = store.show(YEARS);
            let early = store.show(100);
            assert_eq!(early, first, "no record is older than the record before it");
            let late = store.show(160);
            let set = store.show(YEARS + off);
            assert_eq!((early, set), (late, at(YEARS + off)));
            assert_eq!(store.age(early), off.min(STEP_SECS));
            store.go_on(13 * DAY);
            assert!(store.age(early) < 13 * DAY + STEP_SECS + 1, "{}", store.age(early));
        }
    }

    #[test]
    fn a_start_in_1970_each_day_neither_stops_nor_hurries_the_time() {
        let mut store = Store::new(YEARS);
        let first = store.show(YEARS);
        for day in 1..=20 {
            store.show(100);
            store.show(130);
            store.show(YEARS + day * DAY);
        }
        assert_eq!(store.age(first), 20 * DAY);
    }

    #[test]
    fn a_clock_that_nobody_sets_for_days_is_believed_and_what_it_stamped_is_kept() {
        let mut store = Store::new(YEARS);
        let before = store.show(YEARS);
        store.show(100);
        store.go_on(9 * DAY);
        let stamped = store.show(store.wall);
        assert_eq!((stamped, store.age(before)), (at(100 + 9 * DAY), 9 * DAY - HOUR + HOUR));
        store.show(YEARS + 40 * DAY);
        assert_eq!((store.age(stamped), store.age(before)), (STEP_SECS, 9 * DAY + STEP_SECS));
        assert_eq!(store.age(at(YEARS + 40 * DAY)), 0);
    }

    #[test]
    fn a_store_that_is_used_once_a_month_grows_older_all_the_same() {
        let mut store = Store::new(0);
        let first = store.show(0);
        for month in 1..=7 {
            store.show(month * 30 * DAY);
        }
        assert_eq!(store.age(first), 7 * STEP_SECS);
    }

    #[test]
    fn a_little_back_is_no_jump() {
        let mut store = Store::new(1000);
        assert_eq!((store.show(1000 - SKEW_SECS), store.age(at(1000))), (at(1000 - SKEW_SECS), 0));
        assert_eq!(store.seen, SeenClock::new(1000));
    }

    #[test]
    fn the_record_is_written_when_it_says_something_new() {
        let seen = SeenClock::new(0);
        assert!(!seen.observe(10).differs(&seen));
        assert!(seen.observe(WRITE_SECS).differs(&seen) && seen.observe(YEARS).differs(&seen));
        assert!(seen.observe(-YEARS).differs(&seen));
    }

    #[test]
    fn a_record_without_spans_is_refused() {
        let seen = SeenClock { spans: Vec::new(), behind: None };
        assert!(SeenClock::decode(&seen.encode()).is_err());
        let spans = vec![Span { from: i64::MAX, to: i64::MIN, own: i64::MIN }; SPANS_MAX];
        let odd = SeenClock::decode(&SeenClock { spans, behind: Some(i64::MAX) }.encode()).unwrap();
        TrustedNow::new(at(i64::MAX), odd.observe(i64::MAX)).kept_until(at(i64::MIN), u64::MAX);
    }

    proptest! {
        /// Whatever the clock does, one look lets no stamp grow older by more than a step, and what is stamped now is
        /// new.
        #[test]
        fn one_look_moves_little(
            looks in proptest::collection::vec((any::<bool>(), -YEARS..YEARS, 0..3 * DAY), 1..90),
        ) {
            let mut store = Store::new(0);
            let mut stamps = vec![store.show(0)];
            for (jumps, far, near) in looks {
                let before: Vec<_> = stamps.iter().map(|stamp| store.age(*stamp)).collect();
                let wall = if jumps { far } else { store.wall + near };
                let stamp = store.show(wall);
                for (stamp, before) in stamps.iter().zip(before) {
                    prop_assert!(store.age(*stamp) <= before + STEP_SECS);
                }
                stamps.push(stamp);
                prop_assert!(store.age(stamp) <= SKEW_SECS, "{:?}", store.seen);
            }
        }
    }
}
