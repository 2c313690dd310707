//! The fate of a snapshot after its commit: it counts, is in the trash, or is gone for good. And when a snapshot may
//! leave the trash for good.
//!
//! ```text
//! commit ──► counts ──forget──► trash ──expire──► gone
//!               ▲                  │
//!               └─────unforget─────┘      an operator's purge goes from either to gone
//! ```
//!
//! These are pure functions over log records and times. The store uses them to decide what it allows; its index and
//! every reader use them to decide what they show. So all of them agree. Signatures are checked elsewhere
//! (`format::tombstone`): the store rejects unsigned requests, and a reader ignores unsigned records.
//!
//! **The floor.** A store has a minimum age below which no credential makes a snapshot unrecoverable. A snapshot that
//! was received longer ago may be expired at once ([`protected_until`]). On its own, the store expires a snapshot only
//! after it has been in the trash for that long ([`is_due`]), whatever the snapshot's age. So there is always that much
//! time to notice.

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
    Forget,
    /// It came back from the trash.
    Unforget,
    /// It is gone for good.
    Expire,
}

impl Fate {
    /// Returns the fate after a step; `None` means that the snapshot counts. Steps that make no sense change nothing.
    pub fn after(before: Option<Fate>, step: FateStep, at: Time) -> Option<Fate> {
        match (before, step) {
            (None, FateStep::Forget) => Some(Fate::Trash { since: at }),
            (Some(Fate::Trash { .. }), FateStep::Unforget) => None,
            (None, FateStep::Expire) => Some(Fate::Expired { is_signed: false }),
            (Some(Fate::Trash { .. }), FateStep::Expire) => Some(Fate::Expired { is_signed: true }),
            (Some(Fate::Expired { .. }), FateStep::Forget) => Some(Fate::Expired { is_signed: true }),
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
    let until = received.plus_secs(protect_secs);
    (protect_secs > 0 && now < until).then_some(until)
}

/// Whether the store may expire, on its own, a snapshot that went to the trash at `since`. `newest` is the time of the
/// log's newest record: if the clock jumps ahead, nothing expires until a record was written after the jump. That gives
/// a person one more chance to notice.
pub fn is_due(since: Time, newest: Time, now: Time, protect_secs: u64) -> bool {
    since.plus_secs(protect_secs) <= newest.min(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Time {
        Time { secs, nanos: 5 }
    }

    #[test]
    fn each_step_leads_to_the_right_fate() {
        let trash = Some(Fate::Trash { since: at(1) });
        let (signed, purged) = (Some(Fate::Expired { is_signed: true }), Some(Fate::Expired { is_signed: false }));
        for (before, step, after) in [
            (None, FateStep::Forget, Some(Fate::Trash { since: at(7) })),
            (None, FateStep::Unforget, None),
            (None, FateStep::Expire, purged),
            (trash, FateStep::Forget, trash),
            (trash, FateStep::Unforget, None),
            (trash, FateStep::Expire, signed),
            (signed, FateStep::Forget, signed),
            (signed, FateStep::Unforget, signed),
            (signed, FateStep::Expire, signed),
            (purged, FateStep::Forget, signed),
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
        assert_eq!(protected_until(at(500), at(100), 50), Some(at(550)), "received in the future");
        assert_eq!(protected_until(at(100), at(i64::MAX - 1), u64::MAX), Some(at(i64::MAX)), "forever");
    }

    #[test]
    fn the_trash_is_emptied_when_both_clock_and_log_are_past_the_time() {
        assert!(is_due(at(100), at(100), at(100), 0), "no floor: at the next run");
        assert!(!is_due(at(100), at(149), at(149), 50));
        assert!(is_due(at(100), at(150), at(150), 50));
        assert!(!is_due(at(100), at(120), at(9999), 50), "the clock jumped ahead, or nothing happened since");
        assert!(!is_due(at(100), at(9999), at(120), 50), "the clock jumped back");
        assert!(!is_due(at(i64::MAX), at(100), at(100), u64::MAX));
    }
}
