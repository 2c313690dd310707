//! The fate of a snapshot after its commit: it counts, is in the trash, or is gone for good. And when a snapshot may
//! leave the trash for good.
//!
//! ```text
//! commit ──► counts ──forget──► trash ──expire──► gone
//!               ▲                  │
//!               └─────unforget─────┘      an operator's purge goes from either to gone
//! ```
//!
//! These are pure functions over log records. The store uses them to decide what it allows; its index and every reader
//! use them to decide what they show. So all of them agree. Signatures are checked elsewhere
//! (`format::tombstone`): the store rejects unsigned requests, and a reader ignores unsigned records.
//!
//! **Broken snapshots.** A snapshot that cannot be read stops every prune, because it may need anything. A key holder
//! ends that with a tombstone that says so: in the trash, the snapshot then keeps only what can be read of it.
//!
//! **The floor.** A store has a minimum age below which no credential makes a snapshot unrecoverable. A snapshot that
//! was received longer ago may be expired at once. On its own, the store expires a snapshot only after it has been in
//! the trash for that long, whatever the snapshot's age. So there is always that much time to notice. The store
//! measures these ages by its own time (`repository::clock`); [`protected_until`] and [`kept_until`] are what a client
//! can foresee.

use minicbor::{Decode, Encode};

use crate::base::time::Time;

/// The fate of a snapshot that no longer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Fate {
    /// It is in the trash. It still keeps all data that it reaches, and it can be brought back.
    #[n(0)]
    Trash {
        /// When it was forgotten, by the store's clock.
        #[n(0)]
        since: Time,
        /// Whether a key holder signed that it cannot be read. Then it keeps only what can be read of it.
        #[n(1)]
        #[cbor(default)]
        is_broken: bool,
    },
    /// It is gone for good.
    #[n(1)]
    Expired {
        /// Whether a key holder forgot it, before or after it expired. Otherwise the store's operator purged it.
        #[n(0)]
        is_signed: bool,
    },
}

/// A record of the log that changes a snapshot's fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FateStep {
    /// It was forgotten. If it is already gone, this acknowledges the operator's purge.
    Forget {
        /// Whether the tombstone states that it cannot be read.
        is_broken: bool,
    },
    /// It came back from the trash.
    Unforget,
    /// It is gone for good.
    Expire,
}

impl Fate {
    /// Returns the fate after a step; `None` means that the snapshot counts. Steps that make no sense change nothing.
    pub fn after(before: Option<Fate>, step: FateStep, at: Time) -> Option<Fate> {
        match (before, step) {
            (None, FateStep::Forget { is_broken }) => Some(Fate::Trash { since: at, is_broken }),
            (Some(Fate::Trash { since, is_broken: false }), FateStep::Forget { is_broken }) => {
                Some(Fate::Trash { since, is_broken })
            }
            (Some(Fate::Trash { .. }), FateStep::Unforget) => None,
            (None, FateStep::Expire) => Some(Fate::Expired { is_signed: false }),
            (Some(Fate::Trash { .. }), FateStep::Expire) => Some(Fate::Expired { is_signed: true }),
            (Some(Fate::Expired { .. }), FateStep::Forget { .. }) => Some(Fate::Expired { is_signed: true }),
            (before, _) => before,
        }
    }

    /// Whether the snapshot is gone for good.
    pub fn is_expired(fate: Option<Fate>) -> bool {
        matches!(fate, Some(Fate::Expired { .. }))
    }
}

/// Returns the time until which the floor protects a snapshot, or `None` if it may be expired now.
pub fn protected_until(received: Time, now: Time, protect_secs: u64) -> Option<Time> {
    let until = kept_until(received, now, protect_secs);
    (protect_secs > 0 && now < until).then_some(until)
}

/// Returns the latest time until which the store keeps something that it stamped at `stamped`. A stamp in the future
/// comes from a clock that was wrong: the store counts from when the clock was corrected, which is not later than now.
pub fn kept_until(stamped: Time, now: Time, protect_secs: u64) -> Time {
    stamped.min(now).plus_secs(protect_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Time {
        Time { secs, nanos: 5 }
    }

    #[test]
    fn each_step_leads_to_the_right_fate() {
        let trash = Some(Fate::Trash { since: at(1), is_broken: false });
        let broken = Some(Fate::Trash { since: at(1), is_broken: true });
        let [forget, forget_broken] = [false, true].map(|is_broken| FateStep::Forget { is_broken });
        let (signed, purged) = (Some(Fate::Expired { is_signed: true }), Some(Fate::Expired { is_signed: false }));
        for (before, step, after) in [
            (None, forget, Some(Fate::Trash { since: at(7), is_broken: false })),
            (None, forget_broken, Some(Fate::Trash { since: at(7), is_broken: true })),
            (None, FateStep::Unforget, None),
            (None, FateStep::Expire, purged),
            (trash, forget, trash),
            (trash, forget_broken, broken),
            (broken, forget, broken),
            (broken, FateStep::Unforget, None),
            (broken, FateStep::Expire, signed),
            (trash, FateStep::Unforget, None),
            (trash, FateStep::Expire, signed),
            (signed, forget_broken, signed),
            (signed, FateStep::Unforget, signed),
            (signed, FateStep::Expire, signed),
            (purged, forget, signed),
            (purged, FateStep::Unforget, purged),
            (purged, FateStep::Expire, purged),
        ] {
            assert_eq!(Fate::after(before, step, at(7)), after, "{before:?} {step:?}");
        }
    }

    #[test]
    fn the_floor_protects_for_its_time_only() {
        assert_eq!(protected_until(at(100), at(100), 0), None, "no floor");
        assert_eq!(protected_until(at(200), at(100), 0), None, "no floor, whatever the clock says");
        assert_eq!(protected_until(at(100), at(149), 50), Some(at(150)));
        assert_eq!(protected_until(at(100), at(150), 50), None);
        assert_eq!(protected_until(at(500), at(100), 50), Some(at(150)), "stamped by a clock that was ahead");
        assert_eq!(kept_until(at(100), at(200), 50), at(150));
        assert_eq!(kept_until(at(500), at(200), 50), at(250), "stamped by a clock that was ahead");
        assert_eq!(protected_until(at(100), at(i64::MAX - 1), u64::MAX), Some(at(i64::MAX)), "forever");
    }
}
