//! The sets that prunes have condemned. They are kept to tell clients that were away which chunks were lost. After some
//! time they are removed, and a client that was away for longer asks for everything again.

use std::{collections::HashSet, sync::Arc};

use super::condemned::{CondemnedSet, LOST_MAX, is_old};
use crate::{
    base::{
        error::{Error, Result},
        id::{ChunkId, Hash},
        time::Time,
    },
    format::loss::Lost,
    repository::{index::Index, log::Log, objects::Objects},
};

/// The condemned sets of a repository.
#[derive(Debug)]
pub(super) struct CondemnedSets {
    index: Arc<Index>,
    objects: Arc<Objects>,
    log: Arc<Log>,
}

impl CondemnedSets {
    pub fn new(index: Arc<Index>, objects: Arc<Objects>, log: Arc<Log>) -> Self {
        Self { index, objects, log }
    }

    /// The chunks that lost their last live copy by records of the log at `from` or later.
    pub fn lost_since(&self, from: u64) -> Result<Lost> {
        let mut lost: Vec<ChunkId> = Vec::new();
        for found in self.index.quarantine().losses_from(from)? {
            match found {
                Lost::Ids(ids) if lost.len() + ids.len() <= LOST_MAX => lost.extend(ids),
                _ => return Ok(Lost::Everything),
            }
        }
        for row in self.index.prunes().condemnations_from(from)? {
            match self.objects.condemned_set(row.set) {
                Ok(CondemnedSet { lost: Lost::Ids(ids), .. }) if lost.len() + ids.len() <= LOST_MAX => lost.extend(ids),
                Ok(_) => return Ok(Lost::Everything),
                Err(error @ Error::Io { .. }) => return Err(error),
                Err(_) => return Ok(Lost::Everything),
            }
        }
        Ok(Lost::Ids(lost))
    }

    /// Removes sets that are old, and sets of prunes that died before the log named them. Returns how many.
    pub fn remove_old(&self) -> Result<u64> {
        let stored = self.objects.condemned_sets()?;
        if stored.is_empty() {
            return Ok(0);
        }
        let _lock = self.log.lock_for_append()?;
        // The newest set is needed, however old it is, until all of it is swept.
        if self.index.prunes().condemned_count()? > 0 {
            return Ok(0);
        }
        let now = self.log.look_at_clock()?;
        let rows = self.index.prunes().condemnations_from(0)?;
        let kept: HashSet<Hash> = rows
            .iter()
            .filter(|row| !is_old(now.age_secs(Time { secs: row.secs, nanos: 0 })))
            .map(|row| row.set)
            .collect();
        let old: Vec<Hash> = stored.into_iter().filter(|set| !kept.contains(set)).collect();
        old.iter().try_for_each(|set| self.objects.remove_condemned_set(*set))?;
        Ok(old.len() as u64)
    }
}
