//! Measuring the disk space that a repository takes.

use std::sync::Arc;

use super::{copier::Copier, grave::Grave};
use crate::{
    access::Space,
    base::error::Result,
    format::fate::Fate,
    repository::{index::Index, log::Log, packs::files::PackFiles, snapshots::Snapshots},
};

/// Measures disk space.
#[derive(Debug)]
pub(super) struct SpaceMeter {
    pub index: Arc<Index>,
    pub log: Arc<Log>,
    pub files: Arc<PackFiles>,
    pub snapshots: Arc<Snapshots>,
    pub copier: Arc<Copier>,
    pub grave: Arc<Grave>,
}

impl SpaceMeter {
    /// Lists all packs, their parity and the grave: what is on the disk counts, not what the index knows.
    pub fn measure(&self) -> Result<Space> {
        self.log.follow()?;
        self.copier.wait_for_parity();
        let (floor, now) = (self.snapshots.floor(), self.log.trusted_now()?);
        let mut space = Space { protect_secs: floor.secs(), ..Space::default() };
        for first in 0..=u8::MAX {
            for (_, len) in self.files.list(first)? {
                space.packs += 1;
                space.pack_bytes += len;
            }
            space.parity_bytes += self.files.parity_bytes(first)?;
        }
        for (id, len) in self.files.list_grave()? {
            space.grave_packs += 1;
            space.grave_bytes += len;
            space.grave_until = space.grave_until.max(self.grave.until(&id, &now)?);
        }
        for row in self.index.commits().from(0, usize::MAX, |row| matches!(row.fate, Some(Fate::Trash { .. })))? {
            space.trash_snapshots += 1;
            space.trash_until = space.trash_until.max(self.snapshots.trash_until(row.fate, &now));
        }
        space.condemned_packs = self.index.prunes().condemned_count()?;
        Ok(space)
    }
}
