//! What a client remembers of its pushes to one repository: the file cache and the known-set, in LMDB.
//!
//! The *file cache* holds a record for each directory ([`record`]). The *known-set* holds the first sixteen bytes of
//! the ids of chunks that are known to be stored. Both only save work: whatever they lose is read or asked again, and
//! an environment that looks damaged is deleted and recreated. Neither proves that something is *still* stored. The
//! push finds that out from the losses that the repository reports, which the cache remembers as well
//! ([`Cache::note_lost`]).
//!
//! The cache holds the names of files in the clear, even of deleted ones. Its folder can be read only by its owner.

mod cursor;
mod lock;
mod losses;
pub mod record;
mod spool;

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use bkfs_store::{
    Error, Result,
    access::Seen,
    base::{
        codec,
        id::{ClientId, RepoId, TargetTag},
    },
    repository::index::lmdb::{self, EnvError, Environment, Layout, Table},
};
use heed::{
    CommitOrAbort, Database, RwTxn,
    types::{Bytes, Str, Unit},
};

use crate::walk;

pub use cursor::Cursor;
pub use lock::TargetLock;
pub use losses::{LossView, Losses};
pub use spool::{Change, Spool};

/// The environment's layout. An environment of another layout is emptied.
const VERSION: &[u8] = b"2";
/// The map is address space; files grow only as they are filled. Enough for about a billion chunks.
const LAYOUT: Layout<'_> = Layout { map_bytes: 64 << 30, readers: 512, tables: &[DIRS, KNOWN, LOST, META] };
const DIRS: Table<'_> = Table { name: "dirs", has_duplicates: false };
const KNOWN: Table<'_> = Table { name: "known", has_duplicates: false };
const LOST: Table<'_> = Table { name: "lost", has_duplicates: false };
const META: Table<'_> = Table { name: "meta", has_duplicates: false };
/// Bytes of records in one transaction.
const BATCH_BYTES: usize = 16 << 20;
/// Key of the point of the log at which the last committed push left the repository.
const SEEN: &str = "seen";

/// What is remembered of the pushes to one repository.
pub struct Cache {
    folder: PathBuf,
    env: Environment,
    /// Segments of records, by directory and number.
    dirs: Database<'static, Bytes, Bytes>,
    /// The known-set.
    known: Database<'static, Bytes, Unit>,
    /// Lost chunks, with the epoch that noted them.
    lost: Database<'static, Bytes, Bytes>,
    /// Single values by name.
    meta: Database<'static, Str, Bytes>,
}

type Databases = (
    Database<'static, Bytes, Bytes>,
    Database<'static, Bytes, Unit>,
    Database<'static, Bytes, Bytes>,
    Database<'static, Str, Bytes>,
);

impl Cache {
    /// Opens a client's cache for a repository below the user's cache folder, or creates one. Each client has its own,
    /// because what one client may rely on another must not, if it is of another trust domain.
    pub fn open(cache_dir: &Path, repo: RepoId, client: ClientId) -> Result<Self> {
        let folder = cache_dir.join(repo.to_string()).join("push").join(client.to_string());
        lmdb::make_folder(&folder, |folder| DirBuilder::new().recursive(true).mode(0o700).create(folder))?;
        let opened = match Self::open_env(&folder) {
            Err(EnvError::Damage(reason)) => {
                tracing::warn!("the file cache in {} is damaged and is recreated: {reason}", folder.display());
                lmdb::wipe(&folder)?;
                Self::open_env(&folder)
            }
            opened => opened,
        };
        let (env, (dirs, known, lost, meta)) = opened.map_err(|trouble| trouble.into_error(&folder))?;
        Ok(Self { folder, env, dirs, known, lost, meta })
    }

    fn open_env(folder: &Path) -> Result<(Environment, Databases), EnvError> {
        let env_error = |error| match error {
            heed::Error::EnvAlreadyOpened => {
                EnvError::Other(Error::Locked { what: format!("the file cache in {}", folder.display()) })
            }
            error => EnvError::new(folder, error),
        };
        let env = Environment::open(folder, &LAYOUT)?;
        let databases = Self::open_databases(&env).map_err(env_error)?;
        Ok((env, databases))
    }

    fn open_databases(env: &Environment) -> heed::Result<Databases> {
        let databases = env
            .env()
            .create_databases_and_commit(env.env().write_txn()?, |opener, txn| -> heed::Result<_> {
                let dirs = opener.create_database::<Bytes, Bytes>(txn, Some(DIRS.name))?;
                let known = opener.create_database::<Bytes, Unit>(txn, Some(KNOWN.name))?;
                let lost = opener.create_database::<Bytes, Bytes>(txn, Some(LOST.name))?;
                let meta = opener.create_database::<Str, Bytes>(txn, Some(META.name))?;
                Ok(CommitOrAbort::<_, ()>::Commit((dirs, known, lost, meta)))
            })?
            .unwrap_commit();
        let (dirs, known, lost, meta) = databases;
        let txn = env.read_txn()?;
        if meta.get(&txn, "version")? != Some(VERSION) {
            drop(txn);
            let mut txn = env.write_txn()?;
            dirs.clear(&mut txn)?;
            known.clear(&mut txn)?;
            lost.clear(&mut txn)?;
            meta.clear(&mut txn)?;
            meta.put(&mut txn, "version", VERSION)?;
            txn.commit()?;
        }
        Ok(databases)
    }

    /// The point of the log at which the repository was last seen. The client names it when it opens the repository, so
    /// that the reply reports what was lost since.
    pub fn seen(&self) -> Option<Seen> {
        let txn = self.env.read_txn().ok()?;
        codec::decode("the file cache", self.meta.get(&txn, SEEN).ok()??).ok()
    }

    /// Locks a target. Fails without waiting if another process pushes it.
    pub fn lock_target(&self, target: TargetTag) -> Result<TargetLock> {
        TargetLock::acquire(self.folder.join(format!("{target}.lock")))
    }

    /// A spool for changes that [`Cache::apply`] will write.
    pub fn spool(&self) -> Spool {
        Spool::new(&self.folder)
    }

    /// A segment of a directory's record.
    fn segment(&self, key: &[u8; 16], number: u32) -> Option<Vec<u8>> {
        let txn = self.env.read_txn().ok()?;
        self.dirs.get(&txn, &segment_key(key, number)).ok()?.map(<[u8]>::to_vec)
    }

    /// Writes what a committed push claims, and the point of the log at which it saw the repository.
    pub fn apply(&self, spool: Spool, seen: Option<Seen>) -> Result<()> {
        self.try_apply(spool, seen).map_err(|e| self.env.error(e))
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
            self.meta.put(&mut txn, SEEN, &codec::encode(&seen))?;
        }
        txn.commit()
    }

    /// Removes all but the first segment of each record.
    #[cfg(test)]
    pub fn cut_off_records(&self) {
        let mut txn = self.env.write_txn().unwrap();
        let keys: Vec<Vec<u8>> = self.dirs.iter(&txn).unwrap().map(|row| row.unwrap().0.to_vec()).collect();
        for key in keys.iter().filter(|key| key[16..] != [0; 4]) {
            self.dirs.delete(&mut txn, key).unwrap();
        }
        txn.commit().unwrap();
    }

    /// Removes the record of a directory and those of all directories below it.
    fn remove(&self, txn: &mut RwTxn<'_>, key: [u8; 16]) -> heed::Result<()> {
        let mut removed = vec![key];
        while let Some(key) = removed.pop() {
            let mut number = 0;
            while let Some(bytes) = self.dirs.get(txn, &segment_key(&key, number))?.map(<[u8]>::to_vec) {
                removed.extend(record::directories(&bytes).map(|name| walk::child_key(&key, name)));
                self.dirs.delete(txn, &segment_key(&key, number))?;
                number += 1;
            }
        }
        Ok(())
    }
}

fn segment_key(key: &[u8; 16], number: u32) -> [u8; 20] {
    let mut whole = [0; 20];
    whole[..16].copy_from_slice(key);
    whole[16..].copy_from_slice(&number.to_be_bytes());
    whole
}

#[cfg(test)]
mod tests;
