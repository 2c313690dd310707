//! Finding packs that other processes have stored, and packs that are missing.
//!
//! Every pack in a folder that the index lacks is read in. A pack that the index knows and whose file is gone, because
//! it was removed or the disk lost it, leaves the index. Its table is gone with it, and only the table names its
//! chunks, so clients are told that anything may be lost ([`super::quarantine`]), and the next push of the same files
//! stores them again. Only missing files are noticed here; a damaged file is noticed when it is read.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use super::{files::PackFiles, mend::Mender, quarantine::Quarantine};
use crate::{
    base::{
        error::{Error, ErrorKind, Result},
        id::{Hash, PackId},
    },
    format::pack::PackTable,
    repository::{index::Index, log::Log, objects::Objects},
};

/// Brings the index up to date with the log and with the folders of packs.
#[derive(Debug)]
pub struct Finder {
    index: Arc<Index>,
    objects: Arc<Objects>,
    log: Arc<Log>,
    files: Arc<PackFiles>,
    mender: Arc<Mender>,
    quarantine: Arc<Quarantine>,
    /// How long the log was when packs were last searched for.
    searched_at: AtomicU64,
    /// How often packs were searched for.
    searches: AtomicU64,
    /// How long the log was when the index was last compared with all packs.
    compared_at: AtomicU64,
}

/// Whether a search gives up packs that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    GiveUp,
    /// The next opening gives them up.
    Leave,
}

impl Finder {
    pub fn new(
        index: Arc<Index>,
        objects: Arc<Objects>,
        log: Arc<Log>,
        files: Arc<PackFiles>,
        mender: Arc<Mender>,
        quarantine: Arc<Quarantine>,
    ) -> Self {
        let (searched_at, searches, compared_at) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { index, objects, log, files, mender, quarantine, searched_at, searches, compared_at }
    }

    /// Brings the index up to date with the log and the packs.
    pub fn read_in(&self) -> Result<()> {
        // A full disk must not prevent a repository from being opened: then nothing could be freed.
        self.log.reserve().use_for(|| self.read_in_once())
    }

    fn read_in_once(&self) -> Result<()> {
        let owner = Hash::of(&[&self.objects.config()?.signed]);
        if self.index.owner()?.is_some_and(|other| other != owner) {
            self.index.clear()?;
        }
        self.log.settle_files();
        self.objects.settle_config();
        self.log.follow()?;
        if self.is_index_damaged()? {
            // If the log itself is damaged, that comes up again.
            tracing::info!("the index is damaged and is rebuilt");
            self.index.clear()?;
            self.log.follow()?;
        }
        if self.index.owner()?.is_none() {
            self.index.set_owner(owner)?;
        }
        self.search(self.log.len()?, Missing::GiveUp)
    }

    /// Whether the index cannot be believed, or lacks what every log has.
    fn is_index_damaged(&self) -> Result<bool> {
        let needed = self.log.roster().map(drop).and_then(|()| self.log.seen().map(drop));
        match needed {
            Err(error) if error.kind() == ErrorKind::Damaged => Ok(true),
            Err(error) => Err(error),
            Ok(()) => Ok(!self.index.is_consistent()?),
        }
    }

    /// How often packs were searched for.
    pub fn searches(&self) -> u64 {
        self.searches.load(SeqCst)
    }

    /// Takes in what other processes have stored, if the log has grown since packs were last searched for: the log
    /// tells of every snapshot that relies on an unknown pack. Returns whether packs were searched for since
    /// [`Finder::searches`] returned `since`.
    pub fn catch_up(&self, since: u64) -> Result<bool> {
        self.log.follow()?;
        let len = self.log.len()?;
        if self.searched_at.load(SeqCst) != len {
            // A reader gives nothing up for lost.
            self.search(len, Missing::Leave)?;
        }
        Ok(self.searches() != since)
    }

    /// Compares the index with all packs, once for each length of the log, and corrects it. Call this when a chunk is
    /// missing that should be stored: damage of the index may hide it. Returns whether anything was wrong.
    pub fn compare(&self) -> Result<bool> {
        let len = self.log.len()?;
        if self.compared_at.swap(len, SeqCst) == len {
            return Ok(false);
        }
        let mut is_changed = false;
        for first in 0..=u8::MAX {
            for (id, len) in self.files.list(first)? {
                match self.files.table(id, len) {
                    Ok(table) => is_changed |= self.index.packs().correct(&table, len)?,
                    // The pack's own damage is found by those who read it.
                    Err(error) => tracing::debug!(pack = %id, %error, "a pack cannot be compared with the index"),
                }
            }
        }
        if is_changed {
            tracing::info!("the index lacked what packs hold, and was corrected");
        }
        Ok(is_changed)
    }

    /// Searches for packs. `len` is the length of the log.
    fn search(&self, len: u64, missing: Missing) -> Result<()> {
        self.search_folders(missing)?;
        // Not before the search: another thread that comes in the meantime must search as well.
        self.searched_at.store(len, SeqCst);
        self.searches.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Searches all folders, except those that have not changed since they were last read.
    fn search_folders(&self, on_missing: Missing) -> Result<()> {
        // Fails without a roster, which tells the packs that count: no pack must be refused because the roster is
        // missing.
        self.log.roster()?;
        let (mut stamps, mut missing) = (Vec::new(), Vec::new());
        for first in 0..=u8::MAX {
            let stamp = self.files.folder_stamp(first)?.map(|stamp| stamp.to_le_bytes().to_vec());
            if stamp.is_some() && self.index.packs().folder_stamp(first)? == stamp {
                continue;
            }
            let (there, is_read) = self.read_folder(first)?;
            let known = self.index.packs().of_folder(first)?;
            missing.extend(known.into_iter().filter(|id| !there.contains(id)));
            if let Some(stamp) = stamp.filter(|_| is_read) {
                stamps.push((first, stamp));
            }
        }
        if on_missing == Missing::Leave && !missing.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.give_up(&missing) {
            // As in a place that can only be read. A process that can write will find them missing, too.
            tracing::warn!(%error, "packs are missing, and this cannot be logged");
            return Ok(());
        }
        if stamps.is_empty() { Ok(()) } else { self.index.packs().set_folder_stamps(&stamps) }
    }

    /// Reads in the packs of a folder that the index lacks. Returns the packs in the folder, and whether all could be
    /// read.
    fn read_folder(&self, first: u8) -> Result<(HashSet<PackId>, bool)> {
        let (mut is_first, mut is_read, mut there) = (true, true, HashSet::new());
        for (id, len) in self.files.list(first)? {
            there.insert(id);
            if self.index.packs().has(&id)? {
                continue;
            }
            // A swept pack that is still here is about to be moved away.
            if self.index.prunes().swept_at(&id)?.is_some() {
                continue;
            }
            if is_first {
                self.index.packs().add_unsettled(first)?;
                is_first = false;
            }
            match self.table_or_mended(id, len) {
                Ok((table, len)) if self.mender.lacks_parity(id)? => {
                    self.index.packs().add_without_parity(&table, len, None, &[])?;
                }
                Ok((table, len)) => self.index.packs().add(&table, len, None)?,
                Err(error @ Error::Io { .. }) if !error.is_unreadable() => return Err(error),
                Err(error) => {
                    tracing::warn!(pack = %id, %error, "a pack cannot be read in; its chunks count as missing");
                    // It is looked at again until it is mended or put again.
                    is_read = false;
                }
            }
        }
        Ok((there, is_read))
    }

    /// A pack's table and the pack's length; if the table is damaged, after mending the pack.
    fn table_or_mended(&self, id: PackId, len: u64) -> Result<(PackTable, u64)> {
        match self.files.table(id, len) {
            Ok(table) => Ok((table, len)),
            Err(error @ Error::Io { .. }) if !error.is_unreadable() => Err(error),
            Err(error) => {
                // Anything that the file says of itself may be damage, even a version or a length. A pack that has lost
                // frames may still get its table and footer back.
                if let Err(failure) = self.mender.mend(id) {
                    tracing::warn!(pack = %id, %failure, "a damaged pack could not be mended");
                }
                let len = self.files.len(id)?.unwrap_or(0);
                self.files.table(id, len).map(|table| (table, len)).map_err(|_| error)
            }
        }
    }

    /// Gives up packs that were found missing.
    fn give_up(&self, missing: &[PackId]) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let _lock = self.log.lock_for_append()?;
        // Another process may have swept them: then the log told so before their files went.
        let mut gone = Vec::new();
        for id in missing {
            if self.index.packs().has(id)? && !self.files.exists(*id)? {
                tracing::warn!(pack = %id, "a pack is missing; its chunks are lost until a push stores them again");
                gone.push(*id);
            }
        }
        if gone.is_empty() { Ok(()) } else { self.quarantine.announce_missing(&gone) }
    }
}
