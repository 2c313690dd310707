//! The sets that prunes have condemned. They are kept so that clients that were away are told what was lost one by one; after a while
//! they are removed, and whoever was away for longer asks for everything again.

use std::collections::{BTreeSet, HashSet};

use crate::{
    base::{error::Result, id::Hash},
    repository::{Repository, layout},
};

/// How long a set is kept, in seconds. Who pushes less often than that asks again what is stored: a few requests.
const KEPT_SECS: i64 = 90 * 24 * 3600;

impl Repository {
    /// Removes the sets that are old, and those that a prune has left that died before the log named them. Returns how many.
    pub(in crate::repository) fn remove_old_sets(&self) -> Result<u64> {
        let mut there = BTreeSet::new();
        for folder in [layout::PRUNES.to_owned(), layout::second_folder(layout::PRUNES)] {
            there.extend(self.backend.list(&folder)?.iter().filter_map(|listed| listed.name.parse::<Hash>().ok()));
        }
        if there.is_empty() {
            return Ok(0);
        }
        let _lock = self.writing()?;
        // The newest one is still needed, however old it is, until all of it is swept.
        if self.index.prunes().condemned_count()? > 0 {
            return Ok(0);
        }
        // A clock that jumps ahead makes nothing old before a record of the log has seen it.
        let now = (self.clock)().secs.min(self.newest_time()?.secs);
        let rows = self.index.prunes().condemnations_from(0)?;
        let kept: HashSet<Hash> = rows.iter().filter(|row| !is_old(row.secs, now)).map(|row| row.set).collect();
        let old: Vec<Hash> = there.into_iter().filter(|set| !kept.contains(set)).collect();
        old.iter().try_for_each(|set| self.delete_object(&layout::condemned(*set)))?;
        Ok(old.len() as u64)
    }
}

/// Whether a set that was condemned then may be gone.
pub(in crate::repository) fn is_old(secs: i64, now: i64) -> bool {
    secs.saturating_add(KEPT_SECS) <= now
}
