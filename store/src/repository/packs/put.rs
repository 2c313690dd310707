//! Storing packs: those that clients put, and those that the store makes of frames that it copies.
//!
//! **Order.** A pack that was condemned or swept is live again in the log before it is relied on, or a later reading of
//! the log would remove it. Its file leaves the grave before it is written again. The file is durable before the pack
//! enters the index. A pack that was in quarantine is released last.

use std::sync::Arc;

use bytes::Bytes;

use super::{files::PackFiles, parity::ParityMaker, quarantine::Quarantine};
use crate::{
    access::Lease,
    base::{
        error::{Error, Result},
        id::PackId,
    },
    format::{
        log::Event,
        pack::{Pack, PackTable, PackUpload, PackWriter},
    },
    repository::{
        backend::Lock,
        index::{Index, Pin},
        log::Log,
        objects::Objects,
    },
};

/// Stores packs.
#[derive(Debug)]
pub struct PackStore {
    index: Arc<Index>,
    objects: Arc<Objects>,
    log: Arc<Log>,
    files: Arc<PackFiles>,
    quarantine: Arc<Quarantine>,
    parity: ParityMaker,
}

impl PackStore {
    pub fn new(
        index: Arc<Index>,
        objects: Arc<Objects>,
        log: Arc<Log>,
        files: Arc<PackFiles>,
        quarantine: Arc<Quarantine>,
    ) -> Self {
        let parity = ParityMaker::new(index.clone(), files.clone());
        Self { index, objects, log, files, quarantine, parity }
    }

    /// Stores a pack that a client has made, and pins it.
    pub fn put(&self, lease: Lease, upload: &PackUpload) -> Result<()> {
        let pack = Pack::parse(&upload.bytes).map_err(Error::in_input)?;
        let table = &pack.table;
        let damaged = |reason: String| Error::PackDamaged { pack: upload.id, reason }.in_input();
        if table.id != upload.id {
            return Err(damaged(format!("it is pack {}", table.id)));
        }
        if self.index.verdicts().refused_frames(&table.id)?.is_some() {
            return Err(damaged("a key holder found that it does not hold what its table says".into()));
        }
        if table.is_copied {
            return Err(damaged("only a store makes packs of this kind".into()));
        }
        self.objects.config()?;
        let roster = self.log.roster()?;
        roster.active_client(table.client, self.log.now()?, || format!("pack {}", table.id))?;
        table.verify(&roster).map_err(Error::in_input)?;
        self.log.check_sealed(&table.wraps)?;
        let len = upload.bytes.len() as u64;
        loop {
            let lock = self.make_live(table.id)?;
            if self.keep(lease, table.id, len)? {
                return Ok(());
            }
            self.files.put(table.id, &upload.bytes)?;
            self.add(table, &upload.bytes, Some(self.pin(lease)?))?;
            if self.is_stored(table.id, lock.as_deref())? {
                return self.quarantine.release_put(table.id, lock);
            }
        }
    }

    /// Stores a pack of copied frames, unless it is empty. If all come from verified packs, it becomes verified as
    /// well: that is in the log before the caller goes on, and so before the originals go. If the copies make room,
    /// they may take it from the reserve. Returns how many bytes were written.
    pub fn put_copies(&self, writer: PackWriter, is_verified: bool, makes_room: bool) -> Result<u64> {
        if writer.is_empty() {
            return Ok(0);
        }
        let upload = writer.finish();
        let table = Pack::parse(&upload.bytes)?.table;
        self.log.reserve().use_if(makes_room, || self.put_copied(&upload, &table, is_verified))
    }

    fn put_copied(&self, upload: &PackUpload, table: &PackTable, is_verified: bool) -> Result<u64> {
        loop {
            // Another prune may have copied the same frames into the same pack: one that was cut short and given up, or
            // one that runs now. Then that pack may have been pruned.
            let lock = self.make_live(upload.id)?;
            self.files.put(upload.id, &upload.bytes)?;
            self.add(table, &upload.bytes, None)?;
            if self.is_stored(upload.id, lock.as_deref())? {
                self.quarantine.release_put(upload.id, lock)?;
                break;
            }
        }
        if is_verified {
            self.inherit(upload.id)?;
        }
        Ok(upload.bytes.len() as u64)
    }

    /// Records that a pack of copies is verified as its originals are.
    fn inherit(&self, id: PackId) -> Result<()> {
        let _lock = self.log.lock_for_append()?;
        match self.index.verdicts().is_verified(&id)? {
            true => Ok(()),
            false => self.log.append(&[Event::Inherit { packs: vec![id] }]),
        }
    }

    /// Whether a pack that was just added is in the index. Without the lock it may not be: another process may have
    /// found it already and pruned it, and the index may have learned of that first.
    fn is_stored(&self, id: PackId, lock: Option<&dyn Lock>) -> Result<bool> {
        Ok(lock.is_some() || self.index.packs().has(&id)?)
    }

    /// Whether a pack is stored. If so, it is pinned for a session that is about to rely on it, and durable on return.
    pub fn keep(&self, lease: Lease, id: PackId, len: u64) -> Result<bool> {
        let is_there = self.has_live(id, len)?;
        if is_there {
            self.index.packs().pin(&id, self.pin(lease)?)?;
        }
        Ok(is_there)
    }

    /// Whether a pack's file has its full length, and none of its frames is condemned, in quarantine or refused. If
    /// so, the pack is durable on return.
    fn has_live(&self, id: PackId, len: u64) -> Result<bool> {
        let is_live = self.index.packs().has(&id)?
            && self.index.prunes().condemned_frames(&id)?.is_none()
            && !self.quarantine.has(id)?
            && self.index.verdicts().refused_frames(&id)?.is_none();
        let is_there = is_live && self.files.len(id)? == Some(len);
        if is_there {
            self.files.settle_found()?;
        }
        Ok(is_there)
    }

    fn pin(&self, lease: Lease) -> Result<Pin> {
        Ok(Pin { session: lease.session, secs: self.log.now()?.secs })
    }

    /// Makes a pack live again in the log that is condemned or swept, and takes its file out of the grave. The caller
    /// holds the returned lock until the pack's file and rows are there, and until the pack is out of quarantine
    /// ([`Quarantine::release_put`]) if it was in it. Any other pack needs no lock.
    fn make_live(&self, pack: PackId) -> Result<Option<Box<dyn Lock>>> {
        let is_gone = || {
            let prunes = self.index.prunes();
            Ok::<_, Error>(prunes.condemned_frames(&pack)?.is_some() || prunes.swept_at(&pack)?.is_some())
        };
        self.log.follow()?;
        if !is_gone()? && !self.quarantine.has(pack)? {
            return Ok(None);
        }
        let lock = self.log.lock_for_append()?;
        if is_gone()? {
            self.log.append(&[Event::Revive { packs: vec![pack] }])?;
        }
        self.files.take_out_of_grave(pack)?;
        Ok(Some(lock))
    }

    /// Adds a durable pack to the index, and has its parity made.
    fn add(&self, table: &PackTable, bytes: &Bytes, pin: Option<Pin>) -> Result<()> {
        let len = bytes.len() as u64;
        match self.objects.config()?.parity {
            None => self.index.packs().add(table, len, pin),
            Some(parity) => {
                self.index.packs().add_without_parity(table, len, pin, &self.parity.take_made())?;
                self.parity.add(table.id, bytes, parity)
            }
        }
    }

    /// Makes the parity that a crash left missing, in the background. Storing a pack does this as well.
    pub fn resume_parity(&self) -> Result<()> {
        match self.objects.config()?.parity {
            Some(parity) => self.parity.start(parity),
            None => Ok(()),
        }
    }

    /// Waits for the parity of all packs that were stored so far.
    pub fn wait_for_parity(&self) {
        self.parity.wait();
    }
}
