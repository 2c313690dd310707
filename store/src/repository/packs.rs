//! Packs: their files and parity, storing and finding them, reading frames, mending, and the quarantine of frames that
//! cannot be mended.
//!
//! Each part owns its state and knows only those before it: [`files`] (the files and the grave), [`quarantine`],
//! [`mend`], [`judge`], [`find`], [`put`] (with [`parity`]), [`read`], [`prove`]. Prunes, scrubs and repairs are handed
//! the parts that they need.

pub(super) mod files;
pub(super) mod find;
mod judge;
pub(super) mod mend;
mod parity;
mod prove;
pub(super) mod put;
pub(super) mod quarantine;
mod read;
mod scan;

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;

use self::{
    files::PackFiles, find::Finder, judge::Judge, mend::Mender, prove::Prover, put::PackStore, quarantine::Quarantine,
    read::FrameReader,
};
use super::{index::Index, limits, log::Log};
use crate::{
    access::{
        CHALLENGES_MAX, Challenge, IDS_MAX, Judged, KEYS_MAX, Lease, Mending, PackInfo, Proofs, ReadReply, ReadRequest,
    },
    base::{
        error::{Error, Result},
        id::{ChunkId, ClientId, KeyId, PackId},
    },
    crypto::Wrap,
    format::{loss::Quarantined, pack::PackUpload},
};

/// What a repository offers of its packs.
#[derive(Debug)]
pub(super) struct Packs {
    index: Arc<Index>,
    log: Arc<Log>,
    files: Arc<PackFiles>,
    quarantine: Arc<Quarantine>,
    mender: Arc<Mender>,
    store: Arc<PackStore>,
    finder: Arc<Finder>,
    reader: FrameReader,
    judge: Judge,
    prover: Prover,
}

impl Packs {
    pub fn new(
        index: Arc<Index>,
        log: Arc<Log>,
        files: Arc<PackFiles>,
        quarantine: Arc<Quarantine>,
        mender: Arc<Mender>,
        store: Arc<PackStore>,
        finder: Arc<Finder>,
    ) -> Self {
        let reader = FrameReader::new(index.clone(), log.clone(), files.clone(), finder.clone());
        let judge = Judge::new(index.clone(), log.clone(), files.clone(), quarantine.clone());
        let prover = Prover::new(index.clone(), log.clone(), files.clone(), mender.clone());
        Self { index, log, files, quarantine, mender, store, finder, reader, judge, prover }
    }

    /// Brings the index up to date with the log and the packs.
    pub fn read_in(&self) -> Result<()> {
        self.finder.read_in()
    }

    /// Stores a pack, and pins it.
    pub fn put(&self, lease: Lease, upload: &PackUpload) -> Result<()> {
        self.store.put(lease, upload)
    }

    /// Whether a pack is stored, none of it condemned or in quarantine. If so, it is durable on return, and pinned.
    pub fn keep(&self, lease: Lease, id: PackId, len: u64) -> Result<bool> {
        self.store.keep(lease, id, len)
    }

    /// Which of the ids have a live copy that a client may rely on; without a client, any live copy.
    pub fn has(&self, client: Option<ClientId>, ids: &[ChunkId]) -> Result<Vec<bool>> {
        self.reader.has(client, ids)
    }

    /// Records a signed verdict.
    pub fn judge(&self, signed: &[u8]) -> Result<()> {
        self.judge.judge(signed)
    }

    /// The packs that are not judged and have copies that may differ from others.
    pub fn contested(&self, after: Option<PackId>, limit: usize) -> Result<Vec<PackId>> {
        self.judge.contested(after, limit)
    }

    /// Shows that chunks are stored on which a client may rely; without a client, any.
    pub fn prove(&self, client: Option<ClientId>, challenges: &[Challenge]) -> Result<Proofs> {
        limits::check_count(challenges.len(), CHALLENGES_MAX)?;
        let ids: Vec<_> = challenges.iter().map(|challenge| challenge.id).collect();
        self.prover.prove(client, challenges, &self.reader.has(client, &ids)?)
    }

    /// Reads frames.
    pub fn read(&self, request: &ReadRequest) -> Result<ReadReply> {
        self.reader.read(request)
    }

    /// Finds the wraps of data keys.
    pub fn wraps(&self, keys: &[KeyId]) -> Result<Vec<Wrap>> {
        limits::check_count(keys.len(), KEYS_MAX)?;
        let keys: HashSet<KeyId> = keys.iter().copied().collect();
        let wraps = self.index.chunks().wraps(&keys)?;
        let found: HashSet<KeyId> = wraps.iter().map(|wrap| wrap.key).collect();
        // A reader asks for keys of what is stored. If the index lacks one, the index may be damaged.
        if !keys.iter().all(|key| found.contains(key)) && self.finder.compare()? {
            self.index.chunks().wraps(&keys)
        } else {
            Ok(wraps)
        }
    }

    /// Sort keys that group chunks by pack and frame; 0 for chunks that are not stored.
    pub fn sort_keys(&self, ids: &[ChunkId]) -> Result<Vec<u64>> {
        limits::check_count(ids.len(), IDS_MAX)?;
        let addresses = self.index.chunks().locate(ids, &*self.log.domains()?)?.into_iter();
        Ok(addresses
            .map(|address| address.map_or(0, |(pack, frame)| u64::from(pack) << 32 | u64::from(frame)))
            .collect())
    }

    /// The packs whose ids follow `after`, in the order of their ids.
    pub fn list(&self, after: Option<PackId>, limit: usize) -> Result<Vec<PackInfo>> {
        // Another process may have pruned.
        self.log.follow()?;
        let packs = self.index.packs().list(after, limit)?;
        let pending = self.index.packs().without_parity()?.into_iter().collect();
        let info = |(id, len)| {
            let is_suspect = self.mender.is_suspect(id, len, &pending)?;
            let verdicts = self.index.verdicts();
            let judged = match (verdicts.refused_frames(&id)?, verdicts.is_verified(&id)?) {
                (Some(_), _) => Judged::Refused,
                (None, true) => Judged::Verified,
                (None, false) => Judged::Not,
            };
            Ok(PackInfo { id, len, is_suspect, judged })
        };
        packs.into_iter().map(info).collect()
    }

    /// A whole pack, as stored.
    pub fn bytes(&self, id: PackId) -> Result<Bytes> {
        if let Some(bytes) = self.files.bytes(id)? {
            return Ok(bytes);
        }
        self.expect_known(id)?;
        Err(Error::PackDamaged { pack: id, reason: "its file is missing".into() })
    }

    /// Verifies a pack, and mends it if it is damaged.
    pub fn mend(&self, id: PackId) -> Result<Mending> {
        self.expect_known(id)?;
        Ok(self.mender.mend(id)?.mending)
    }

    /// What mending a pack would result in. Changes nothing.
    pub fn preview_mend(&self, id: PackId) -> Result<Mending> {
        self.expect_known(id)?;
        self.mender.preview(id)
    }

    fn expect_known(&self, id: PackId) -> Result<()> {
        match self.index.packs().has(&id)? {
            true => Ok(()),
            false => Err(Error::PackDamaged { pack: id, reason: "it is not in the repository".into() }.in_input()),
        }
    }

    /// The packs that have frames in quarantine, in the order of their ids.
    pub fn quarantined(&self, after: Option<PackId>, limit: usize) -> Result<Vec<Quarantined>> {
        self.quarantine.list(after, limit)
    }

    /// The packs that have frames in quarantine and that a repair must look at.
    pub fn quarantined_to_repair(&self, after: Option<PackId>, limit: usize) -> Result<Vec<Quarantined>> {
        self.log.follow()?;
        self.quarantine.list_to_repair(after, limit)
    }

    /// How many chunks are stored. Each copy counts.
    pub fn chunk_count(&self) -> Result<u64> {
        self.index.chunks().count()
    }

    /// Makes the parity that a crash left missing, in the background.
    pub fn resume_parity(&self) -> Result<()> {
        self.store.resume_parity()
    }

    /// Waits for the parity of all packs that were stored so far.
    pub fn wait_for_parity(&self) {
        self.store.wait_for_parity();
    }
}
