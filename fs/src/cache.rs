//! What a client remembers of its pushes to one repository: the file cache and the known-set, in LMDB.
//!
//! The *file cache* holds a record for each directory ([`record`]); the *known-set* holds the first sixteen bytes of the
//! ids of chunks that are known to be stored. Both are only ever a help: whatever is lost costs reading or asking
//! again, and an environment that looks damaged is thrown away. Neither says that something is *still* stored: that
//! is for the push to find out from what the repository says was lost. Names of deleted files may lie here, in the
//! clear, as the files themselves once did; the folder is readable by its owner only.

pub mod record;
mod spool;

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use bkfs_store::{
    Error, Result,
    access::Seen,
    base::{
        codec,
        id::{ChunkId, RepoId, TargetTag},
    },
    format::loss::Lost,
    repository::index::lmdb::{self, EnvError},
};
use heed::{
    CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithoutTls,
    types::{Bytes, Str, Unit},
};
use rustix::fs::FlockOperation;

pub use spool::{Change, Spool};

/// The environment's layout; another one is thrown away.
const VERSION: &[u8] = b"1";
/// Address space reserved for the map, in bytes; files grow only as they are filled. Enough for about a billion chunks.
const MAP_BYTES: usize = 64 << 30;
/// Transactions that read at once.
const READERS: u32 = 512;
/// Bytes of ids that are kept of each.
const ID_PREFIX: usize = 16;
/// Bytes of records in one transaction.
const BATCH_BYTES: usize = 16 << 20;

/// Name of the place in the log up to which losses were noted.
const CORRECTED: &str = "corrected";

/// Lost ids that are kept; more count as everything.
const LOST_MAX: u64 = 4 << 20;

/// The memory of one repository's pushes.
pub struct Cache {
    folder: PathBuf,
    env: Env<WithoutTls>,
    dirs: Database<'static, Bytes, Bytes>,
    known: Database<'static, Bytes, Unit>,
    lost: Database<'static, Bytes, Bytes>,
    meta: Database<'static, Str, Bytes>,
}

type Databases = (
    Database<'static, Bytes, Bytes>,
    Database<'static, Bytes, Unit>,
    Database<'static, Bytes, Bytes>,
    Database<'static, Str, Bytes>,
);

/// Held while a target is pushed: two pushes of one target at once would only do the same work twice.
pub struct TargetLock(File);

impl Drop for TargetLock {
    /// Not by closing alone: a child process that was just forked holds the file, too, until it runs its program.
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, rustix::fs::FlockOperation::Unlock);
    }
}

impl Cache {
    /// Opens the memory of a repository below the user's cache folder, or begins one.
    pub fn open(cache_dir: &Path, repo: RepoId) -> Result<Self> {
        let folder = cache_dir.join(repo.to_string()).join("push");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|e| Error::io(&folder, e))?;
        let opened = match Self::open_env(&folder) {
            Err(EnvError::Damage(reason)) => {
                tracing::warn!("the file cache in {} is begun anew: {reason}", folder.display());
                lmdb::wipe(&folder)?;
                Self::open_env(&folder)
            }
            opened => opened,
        };
        let (env, (dirs, known, lost, meta)) = opened.map_err(|trouble| trouble.into_error(&folder))?;
        Ok(Self { folder, env, dirs, known, lost, meta })
    }

    fn open_env(folder: &Path) -> Result<(Env<WithoutTls>, Databases), EnvError> {
        lmdb::prepare(folder, READERS)?;
        Self::open_prepared(folder).map_err(|error| match error {
            heed::Error::EnvAlreadyOpened => {
                EnvError::Other(Error::Locked { what: format!("the file cache in {}", folder.display()) })
            }
            error => EnvError::new(folder, error),
        })
    }

    fn open_prepared(folder: &Path) -> heed::Result<(Env<WithoutTls>, Databases)> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP_BYTES).max_dbs(4).max_readers(READERS);
        // SAFETY: the folder is this user's own and only this program writes there; NO_META_SYNC can lose the last
        // transactions in a crash of the machine, never the integrity, and what is lost is only read again.
        let env = unsafe {
            options.flags(EnvFlags::NO_META_SYNC);
            options.open(folder)?
        };
        let databases = env
            .create_databases_and_commit(env.write_txn()?, |opener, txn| -> heed::Result<_> {
                let dirs = opener.create_database::<Bytes, Bytes>(txn, Some("dirs"))?;
                let known = opener.create_database::<Bytes, Unit>(txn, Some("known"))?;
                let lost = opener.create_database::<Bytes, Bytes>(txn, Some("lost"))?;
                let meta = opener.create_database::<Str, Bytes>(txn, Some("meta"))?;
                if meta.get(txn, "version")? != Some(VERSION) {
                    dirs.clear(txn)?;
                    known.clear(txn)?;
                    lost.clear(txn)?;
                    meta.clear(txn)?;
                    meta.put(txn, "version", VERSION)?;
                }
                Ok(CommitOrAbort::<_, ()>::Commit((dirs, known, lost, meta)))
            })?
            .unwrap_commit();
        Ok((env, databases))
    }

    /// What was last seen of the repository: to be sent when it is opened, so that it says what was lost since.
    pub fn seen(&self) -> Option<Seen> {
        let txn = self.env.read_txn().ok()?;
        codec::decode("the file cache", self.meta.get(&txn, "seen").ok()??).ok()
    }

    /// Claims a target; fails at once if another process pushes it.
    pub fn lock_target(&self, target: TargetTag) -> Result<TargetLock> {
        let path = self.folder.join(format!("{target}.lock"));
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = open.map_err(|e| Error::io(&path, e))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(TargetLock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked { what: "a push of this target".to_owned() }),
            Err(error) => Err(Error::io(path, error.into())),
        }
    }

    /// A spool for changes, to be applied by [`Cache::apply`].
    pub fn spool(&self) -> Spool {
        Spool::new(&self.folder)
    }

    /// A segment of a directory's record.
    fn segment(&self, key: &[u8; 16], number: u32) -> Option<Vec<u8>> {
        let txn = self.env.read_txn().ok()?;
        self.dirs.get(&txn, &segment_key(key, number)).ok()?.map(<[u8]>::to_vec)
    }

    /// Writes what a committed push claims, and up to where it saw the repository.
    pub fn apply(&self, spool: Spool, seen: Option<Seen>) -> Result<()> {
        self.try_apply(spool, seen).map_err(|e| index_error(&self.folder, e))
    }

    fn try_apply(&self, spool: Spool, seen: Option<Seen>) -> heed::Result<()> {
        let mut open = Some(self.env.write_txn()?);
        let mut pending = 0;
        spool.drain(|change| {
            let mut txn = match open.take() {
                Some(txn) => txn,
                None => self.env.write_txn()?,
            };
            match change {
                Change::Put { key, number, bytes } => {
                    pending += bytes.len();
                    self.dirs.put(&mut txn, &segment_key(&key, number), &bytes)?;
                }
                Change::Remove { key } => self.remove(&mut txn, key)?,
            }
            if pending > BATCH_BYTES {
                pending = 0;
                txn.commit()?;
            } else {
                open = Some(txn);
            }
            Ok::<_, heed::Error>(())
        })?;
        let mut txn = match open {
            Some(txn) => txn,
            None => self.env.write_txn()?,
        };
        if let Some(seen) = seen {
            self.meta.put(&mut txn, "seen", &codec::encode(&seen))?;
        }
        txn.commit()
    }

    fn remove(&self, txn: &mut RwTxn<'_>, key: [u8; 16]) -> heed::Result<()> {
        let mut doomed = vec![key];
        while let Some(key) = doomed.pop() {
            let mut number = 0;
            while let Some(bytes) = self.dirs.get(txn, &segment_key(&key, number))?.map(<[u8]>::to_vec) {
                doomed.extend(record::directories(&bytes).map(|name| crate::walk::child_key(&key, name)));
                self.dirs.delete(txn, &segment_key(&key, number))?;
                number += 1;
            }
        }
        Ok(())
    }

    /// Which of the ids are in the known-set.
    pub fn known(&self, ids: &[ChunkId]) -> Vec<bool> {
        let look = || -> heed::Result<Vec<bool>> {
            let txn = self.env.read_txn()?;
            ids.iter().map(|id| Ok(self.known.get(&txn, &id.0[..ID_PREFIX])?.is_some())).collect()
        };
        look().unwrap_or_else(|_| vec![false; ids.len()])
    }

    /// Adds ids to the known-set, unless somebody who saw more of the repository than this session has noted losses since: what
    /// this session was told to be stored may be among them, and nobody would say so again.
    pub fn learn(&self, ids: &mut Vec<ChunkId>, sight: &Sight) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        ids.sort_unstable();
        let put = || -> heed::Result<()> {
            let mut txn = self.env.write_txn()?;
            if self.is_corrected_beyond(&txn, &sight.now)? {
                return Ok(());
            }
            for id in ids.iter() {
                self.known.put(&mut txn, &id.0[..ID_PREFIX], &())?;
            }
            txn.commit()
        };
        put().map_err(|e| index_error(&self.folder, e))?;
        ids.clear();
        Ok(())
    }

    /// Whether losses were noted by somebody who saw the repository later than so, or in another life.
    fn is_corrected_beyond(&self, txn: &RoTxn<'_, WithoutTls>, now: &Seen) -> heed::Result<bool> {
        let corrected = self.corrected(txn)?;
        Ok(corrected.is_some_and(|seen| seen.incarnation != now.incarnation || seen.log_len > now.log_len))
    }

    /// Up to where losses were noted.
    fn corrected(&self, txn: &RoTxn<'_, WithoutTls>) -> heed::Result<Option<Seen>> {
        Ok(self.meta.get(txn, CORRECTED)?.and_then(|bytes| codec::decode("the file cache", bytes).ok()))
    }

    /// How many times losses were noted.
    pub fn epoch(&self) -> u32 {
        self.number("epoch")
    }

    /// Notes what the repository says was lost when it was opened and stood at `now`: it leaves the known-set, and records of
    /// before must be checked. What the session writes afterwards carries the sight that is returned.
    pub fn note_lost(&self, lost: &Lost, now: Seen) -> Result<Sight> {
        let noted = match lost {
            Lost::Ids(ids) if ids.is_empty() => self.sight(now),
            _ => self.try_note_lost(lost, now),
        };
        noted.map_err(|e| index_error(&self.folder, e))
    }

    /// The sight of a session to which nothing was told to be lost.
    fn sight(&self, now: Seen) -> heed::Result<Sight> {
        let txn = self.env.read_txn()?;
        let epoch = self.meta.get(&txn, "epoch")?.map_or(0, number);
        let epoch = if self.is_corrected_beyond(&txn, &now)? { None } else { Some(epoch) };
        Ok(Sight { now, epoch })
    }

    fn try_note_lost(&self, lost: &Lost, now: Seen) -> heed::Result<Sight> {
        let mut txn = self.env.write_txn()?;
        let number = self.meta.get(&txn, "epoch")?.map_or(0, number).saturating_add(1);
        let epoch = number.to_le_bytes();
        let mut is_all = matches!(lost, Lost::Everything);
        if let Lost::Ids(ids) = lost {
            for id in ids {
                self.known.delete(&mut txn, &id.0[..ID_PREFIX])?;
                self.lost.put(&mut txn, &id.0[..ID_PREFIX], &epoch)?;
            }
            is_all = self.lost.len(&txn)? > LOST_MAX;
        } else {
            self.known.clear(&mut txn)?;
        }
        if is_all {
            self.lost.clear(&mut txn)?;
            self.meta.put(&mut txn, "all lost", &epoch)?;
        }
        self.meta.put(&mut txn, "epoch", &epoch)?;
        // Whoever opened later may have come first with what it was told. Its losses are then not this session's.
        let corrected = self.corrected(&txn)?;
        let is_behind = corrected.is_some_and(|seen| match seen.incarnation == now.incarnation {
            true => seen.log_len > now.log_len,
            false => !matches!(lost, Lost::Everything),
        });
        if !is_behind {
            self.meta.put(&mut txn, CORRECTED, &codec::encode(&now))?;
        }
        txn.commit()?;
        Ok(Sight { now, epoch: (!is_behind).then_some(number) })
    }

    /// What was lost that a record of an epoch does not take into account.
    pub fn losses(&self, epoch: u32) -> Losses {
        match epoch {
            e if e >= self.epoch() => Losses::None,
            e if e < self.number("all lost") => Losses::All,
            since => Losses::Some { since },
        }
    }

    /// Whether a chunk was lost after an epoch.
    pub fn is_lost(&self, id: &ChunkId, since: u32) -> bool {
        let look = || -> heed::Result<bool> {
            let txn = self.env.read_txn()?;
            Ok(self.lost.get(&txn, &id.0[..ID_PREFIX])?.is_some_and(|epoch| number(epoch) > since))
        };
        // What cannot be looked up cannot be relied on.
        look().unwrap_or(true)
    }

    fn number(&self, name: &str) -> u32 {
        let look = || -> heed::Result<u32> {
            let txn = self.env.read_txn()?;
            Ok(self.meta.get(&txn, name)?.map_or(0, number))
        };
        look().unwrap_or(0)
    }
}

/// Up to where a session has been told what was lost. Several pushes of one machine share a cache, and each knows only what it
/// was told when it opened the repository; the cache may know more.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    now: Seen,
    epoch: Option<u32>,
}

impl Sight {
    /// The epoch whose losses the session takes into account; none if the cache knew more when the session began.
    pub fn epoch(&self) -> Option<u32> {
        self.epoch
    }
}

/// What was lost since a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Losses {
    /// Nothing.
    None,
    /// Single chunks: ask [`Cache::is_lost`].
    Some {
        /// The record's epoch.
        since: u32,
    },
    /// Nobody knows what: the repository must be asked.
    All,
}

fn number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

fn segment_key(key: &[u8; 16], number: u32) -> [u8; 20] {
    let mut whole = [0; 20];
    whole[..16].copy_from_slice(key);
    whole[16..].copy_from_slice(&number.to_be_bytes());
    whole
}

fn index_error(folder: &Path, error: heed::Error) -> Error {
    lmdb::error(folder, error)
}

#[cfg(test)]
mod tests;
