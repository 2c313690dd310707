//! The files of packs and of their parity, and the grave.
//!
//! This is the only part that knows where these files are. It reads tables, and decides nothing.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    base::{
        error::{Error, Result},
        id::PackId,
    },
    format::pack::{FOOTER_LEN, Footer, Pack, PackTable},
    repository::{
        backend::{Backend, Listed},
        index::Index,
        layout,
        log::Rosters,
    },
};

/// The files of packs.
#[derive(Debug)]
pub struct PackFiles {
    backend: Arc<dyn Backend>,
    index: Arc<Index>,
    rosters: Arc<Rosters>,
}

impl PackFiles {
    pub fn new(backend: Arc<dyn Backend>, index: Arc<Index>, rosters: Arc<Rosters>) -> Self {
        Self { backend, index, rosters }
    }

    /// How many bytes there is room for; none if that is not known.
    pub fn free_bytes(&self) -> Option<u64> {
        self.backend.room().map(|room| room.free)
    }

    /// The length of a pack's file; none if it does not exist.
    pub fn len(&self, id: PackId) -> Result<Option<u64>> {
        self.backend.len(&layout::pack(id))
    }

    /// Whether a pack's file exists.
    pub fn exists(&self, id: PackId) -> Result<bool> {
        Ok(self.len(id)?.is_some())
    }

    /// A pack's bytes; none if its file does not exist.
    pub fn bytes(&self, id: PackId) -> Result<Option<Bytes>> {
        self.backend.get(&layout::pack(id))
    }

    /// Part of a pack; fewer bytes if its file ends before. None if the file does not exist.
    pub fn range(&self, id: PackId, offset: u64, len: usize) -> Result<Option<Bytes>> {
        self.backend.get_range(&layout::pack(id), offset, len)
    }

    /// Stores a pack, or replaces its file. Durable on return.
    pub fn put(&self, id: PackId, bytes: &[u8]) -> Result<()> {
        self.backend.put(&layout::pack(id), bytes)
    }

    /// Ids and lengths of the packs in a folder.
    pub fn list(&self, first: u8) -> Result<Vec<(PackId, u64)>> {
        Ok(ids(self.backend.list(&layout::pack_folder(first))?))
    }

    /// A number that changes whenever a folder of packs changes; none if that cannot be told.
    pub fn folder_stamp(&self, first: u8) -> Result<Option<u64>> {
        self.backend.stamp(&layout::pack_folder(first))
    }

    /// Makes packs durable that were found and not put. Call this before anything is acknowledged that may rely on
    /// them.
    pub fn settle_found(&self) -> Result<()> {
        let unsettled = self.index.packs().unsettled()?;
        if unsettled.is_empty() {
            return Ok(());
        }
        unsettled.iter().try_for_each(|(first, _)| self.backend.settle(&layout::pack_folder(*first)))?;
        self.index.packs().remove_unsettled(&unsettled)
    }

    /// A pack's table, read from the end of its file. Frames are not read: each proves itself when it is opened.
    pub fn table(&self, id: PackId, len: u64) -> Result<PackTable> {
        let damaged = |reason: &str| Error::PackDamaged { pack: id, reason: reason.to_owned() };
        let tail_at = len.checked_sub(FOOTER_LEN as u64).ok_or_else(|| damaged("it is too short"))?;
        let tail = self.range(id, tail_at, FOOTER_LEN)?.ok_or_else(|| damaged("it vanished"))?;
        let footer = Footer::parse_tail(&tail, len)?;
        if footer.id != id {
            return Err(damaged("its footer names another pack"));
        }
        let table = self.range(id, footer.table_offset as u64, footer.table_len)?;
        let mut table = footer.table(&table.ok_or_else(|| damaged("it vanished"))?)?;
        if !table.proves_itself() {
            table = Pack::parse(&self.bytes(id)?.ok_or_else(|| damaged("it vanished"))?)?.table;
        }
        table.verify(&*self.rosters.newest()?)?;
        Ok(table)
    }

    /// The table of a pack that is in the index and that the log names as swept; none if it cannot be read any more.
    pub fn table_of_swept(&self, id: PackId) -> Option<PackTable> {
        if !self.index.packs().has(&id).unwrap_or(false) {
            return None;
        }
        let len = self.len(id).ok().flatten()?;
        self.table(id, len).ok()
    }

    /// The length of a pack's parity file; none if it does not exist.
    pub fn parity_len(&self, id: PackId) -> Result<Option<u64>> {
        self.backend.len(&layout::parity(id))
    }

    /// Part of a parity file, like [`PackFiles::range`].
    pub fn parity_range(&self, id: PackId, offset: u64, len: usize) -> Result<Option<Bytes>> {
        self.backend.get_range(&layout::parity(id), offset, len)
    }

    /// Stores a pack's parity. Durable on return.
    pub fn put_parity(&self, id: PackId, bytes: &[u8]) -> Result<()> {
        self.backend.put(&layout::parity(id), bytes)
    }

    pub fn remove_parity(&self, id: PackId) -> Result<()> {
        self.backend.delete(&layout::parity(id))
    }

    /// The packs whose parity is in a folder.
    pub fn list_parity(&self, first: u8) -> Result<Vec<PackId>> {
        Ok(ids(self.backend.list(&layout::parity_folder(first))?).into_iter().map(|(id, _)| id).collect())
    }

    /// Bytes of all parity in a folder.
    pub fn parity_bytes(&self, first: u8) -> Result<u64> {
        Ok(self.backend.list(&layout::parity_folder(first))?.iter().map(|listed| listed.len).sum())
    }

    /// Makes the names in the folder of a pack's parity durable, whichever process stored them.
    pub fn settle_parity(&self, id: PackId) -> Result<()> {
        self.backend.settle(&layout::parity_folder(id.0[0]))
    }

    /// Whether a swept pack's file is in the grave.
    pub fn is_in_grave(&self, id: PackId) -> Result<bool> {
        Ok(self.backend.len(&layout::in_grave(id))?.is_some())
    }

    /// Ids and lengths of the packs in the grave.
    pub fn list_grave(&self) -> Result<Vec<(PackId, u64)>> {
        Ok(ids(self.backend.list(layout::GRAVE)?))
    }

    /// Moves a swept pack's file into the grave.
    pub fn move_to_grave(&self, id: PackId) -> Result<()> {
        self.backend.rename(&layout::pack(id), &layout::in_grave(id))
    }

    /// Moves a pack's file out of the grave.
    pub fn move_from_grave(&self, id: PackId) -> Result<()> {
        self.backend.rename(&layout::in_grave(id), &layout::pack(id))
    }

    /// Takes the file of a pack that is live in the log out of the grave: moves it back, or removes it if there is a
    /// file already. Call this before the pack is put again. A pack's file is in one place only: if it stayed in the
    /// grave, bringing it back from there would replace what was put with the damage for which the pack was dropped.
    /// The caller holds the lock.
    pub fn take_out_of_grave(&self, id: PackId) -> Result<()> {
        match self.is_in_grave(id)? && !self.exists(id)? {
            true => self.move_from_grave(id),
            // Even if there is nothing: another process may have taken it out and died before that was durable.
            false => self.backend.delete(&layout::in_grave(id)),
        }
    }

    /// Removes a pack for good. Its parity goes first.
    pub fn remove(&self, id: PackId) -> Result<()> {
        self.remove_parity(id)?;
        self.backend.delete(&layout::pack(id))
    }

    /// Removes a pack in the grave for good. Its parity goes first.
    pub fn remove_from_grave(&self, id: PackId) -> Result<()> {
        self.remove_parity(id)?;
        self.backend.delete(&layout::in_grave(id))
    }
}

/// Ids and lengths of listed packs; files with other names do not count.
fn ids(listed: Vec<Listed>) -> Vec<(PackId, u64)> {
    listed.into_iter().filter_map(|listed| Some((listed.name.parse().ok()?, listed.len))).collect()
}
