//! The floor: a younger snapshot cannot be made unrecoverable through [`crate::access`], and swept packs stay in the
//! grave for this long.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{base::time::Time, format::fate::Fate, repository::clock::TrustedNow};

/// The floor of a store. It is 0 until the program that opens the repository sets it.
#[derive(Debug, Default)]
pub struct Floor {
    protect_secs: AtomicU64,
}

impl Floor {
    /// Sets the floor, in seconds; 0 stands for none.
    pub fn set(&self, protect_secs: u64) {
        self.protect_secs.store(protect_secs, Relaxed);
    }

    /// The floor, in seconds.
    pub fn secs(&self) -> u64 {
        self.protect_secs.load(Relaxed)
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.secs() == 0
    }

    /// Until when a snapshot is protected that was received at a time; none if it may be expired now.
    pub fn protected_until(&self, received: Time, now: &TrustedNow) -> Option<Time> {
        now.kept_until(received, self.secs())
    }

    /// Whether a snapshot has been in the trash for long enough.
    pub fn is_due(&self, fate: Option<Fate>, now: &TrustedNow) -> bool {
        matches!(fate, Some(Fate::Trash { since, .. }) if self.is_past(since, now))
    }

    /// Whether a pack has been in the grave for long enough that was swept at a time, in seconds.
    pub fn is_over(&self, swept_at: i64, now: &TrustedNow) -> bool {
        self.is_past(Time { secs: swept_at, nanos: 0 }, now)
    }

    /// Without a floor nothing waits, whatever the clock shows.
    fn is_past(&self, since: Time, now: &TrustedNow) -> bool {
        now.age_secs(since) >= self.secs()
    }
}
