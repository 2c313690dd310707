//! What becomes of a snapshot after its commit: counted, in the trash, or gone for good; and when what is in the trash
//! may go.
//!
//! ```text
//! commit ──► counts ──forget──► trash ──expire──► gone
//!               ▲                  │
//!               └─────unforget─────┘      an operator's purge goes from either to gone
//! ```
//!
//! Pure functions over records of the log and moments in time. The store decides with them what it allows, its index and
//! every reader what they show, so that all of them mean the same. Signatures are looked at elsewhere
//! ([`crate::format::tombstone`]): the store refuses what is not signed, and a reader passes over it.
//!
//! **The floor.** A store has an age below which no credential makes a snapshot unrecoverable. A snapshot may be expired at
//! once if it was received longer ago than that ([`protected_until`]). By itself the store expires what has lain in the
//! trash for that long ([`is_due`]), whatever the snapshot's age: so there is always that much time to notice.

use minicbor::{Decode, Encode};

use crate::base::time::Time;

/// What became of a snapshot that does not count any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Fate {
    /// It is in the trash. It keeps all that it reaches, and can come back.
    #[n(0)]
    Trash {
        /// When it was forgotten, by the store's clock.
        #[n(0)]
        since: Time,
    },
    /// It is gone for good.
    #[n(1)]
    Expired {
        /// Whether a key of the repository had it forgotten, before or after; else the store's operator removed it.
        #[n(0)]
        is_signed: bool,
    },
}

/// A step of a snapshot's way, as the log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FateStep {
    /// It was forgotten. After it is gone this is an acknowledgement of an operator's purge.
    Forget,
    /// It came back from the trash.
    Unforget,
    /// It is gone for good.
    Expire,
}

impl Fate {
    /// What a step at a moment makes of a fate; none counts. Steps that make no sense change nothing.
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

/// Until when the floor keeps a snapshot that was received then; none if it may be expired now.
pub fn protected_until(received: Time, now: Time, protect_secs: u64) -> Option<Time> {
    let until = received.plus_secs(protect_secs);
    (protect_secs > 0 && now < until).then_some(until)
}

/// Whether the store may expire, unasked, what went to the trash at `since`. `newest` is the time of the log's newest record: a
/// clock that jumps ahead empties no trash until a record was written after the jump, which gives a person one look more.
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
    fn each_step_leads_where_it_should() {
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
    fn the_floor_protects_for_its_time_and_no_longer() {
        assert_eq!(protected_until(at(100), at(100), 0), None, "no floor");
        assert_eq!(protected_until(at(200), at(100), 0), None, "no floor, whatever the clock says");
        assert_eq!(protected_until(at(100), at(149), 50), Some(at(150)));
        assert_eq!(protected_until(at(100), at(150), 50), None);
        assert_eq!(protected_until(at(500), at(100), 50), Some(at(550)), "received in the future");
        assert_eq!(protected_until(at(100), at(i64::MAX - 1), u64::MAX), Some(at(i64::MAX)), "for ever");
    }

    #[test]
    fn the_trash_is_emptied_when_its_time_is_over_by_clock_and_log() {
        assert!(is_due(at(100), at(100), at(100), 0), "no floor: at the next run");
        assert!(!is_due(at(100), at(149), at(149), 50));
        assert!(is_due(at(100), at(150), at(150), 50));
        assert!(!is_due(at(100), at(120), at(9999), 50), "the clock jumped ahead, or nothing happened since");
        assert!(!is_due(at(100), at(9999), at(120), 50), "the clock jumped back");
        assert!(!is_due(at(i64::MAX), at(100), at(100), u64::MAX));
    }
}
