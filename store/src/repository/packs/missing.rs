//! Packs that the index knows and that are not there any more: somebody removed their files, or the disk lost them.
//!
//! They leave the index, and clients are told that anything may be lost ([`super::quarantine`]), since their tables, which alone
//! name their chunks, are gone with them. The next push of the same files stores them anew. Only a missing file is noticed
//! here; a damaged one by whoever reads it.

use std::collections::HashSet;

use crate::{
    base::{error::Result, id::PackId},
    repository::{Repository, layout},
};

impl Repository {
    /// The packs of a folder that the index knows and that are not among those listed.
    pub(in crate::repository) fn missing(&self, first: u8, listed: &HashSet<PackId>) -> Result<Vec<PackId>> {
        Ok(self.index.packs().of_folder(first)?.into_iter().filter(|id| !listed.contains(id)).collect())
    }

    /// Gives packs up that were found missing.
    pub(in crate::repository) fn give_up(&self, missing: &[PackId]) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let _lock = self.writing()?;
        // Another process may have swept them, and the log tells of it before the files go.
        let mut gone = Vec::new();
        for id in missing {
            if self.index.packs().has(id)? && self.backend.len(&layout::pack(*id))?.is_none() {
                tracing::warn!(pack = %id, "a pack is missing; its chunks are lost, and the next push stores them again");
                gone.push(*id);
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        self.tell_gone(&gone)
    }
}
