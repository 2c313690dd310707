//! The LMDB environment of an index: how it is opened, rebuilt, read and written.

use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use heed::{CommitOrAbort, RoTxn, RwTxn, WithoutTls};
use parking_lot::Mutex;

use super::{
    lmdb::{self, EnvError, Environment, Layout},
    meta,
    tables::Tables,
};
use crate::{
    base::{
        error::{Error, Result},
        id::{Hash, PackId},
    },
    crypto,
};

/// Raised whenever a table changes its form. An index of another format is rebuilt.
const FORMAT: u32 = 8;
/// The map is address space, not room on disk.
const LAYOUT: Layout<'_> = Layout { map_bytes: 64 << 30, readers: 1024, tables: Tables::LIST };

/// The index of one repository.
///
/// What it holds is reached by subject: [`Index::chunks`], [`Index::packs`], [`Index::log`], [`Index::commits`],
/// [`Index::prunes`], [`Index::quarantine`] and [`Index::verdicts`].
pub struct Index {
    env: Environment,
    /// Whether the rows have to be looked at before they are believed ([`Index::is_consistent`]).
    is_doubtful: AtomicBool,
    pub(super) tables: Tables<'static>,
    /// Last, so that the folder is removed after the environment is closed.
    _scratch: Option<Scratch>,
}

/// A folder that is removed with the index in it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: it is in the system's temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// LMDB must not be opened twice in a process. Opening the same folder again returns the same index.
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<Index>>>> = LazyLock::new(Mutex::default);

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Index({})", self.env.folder().display())
    }
}

impl Index {
    /// Opens the index in a folder, or creates one. An index that does not open is deleted and rebuilt.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        Self::open_with(path, None)
    }

    /// A new index in the system's temporary folder. It is removed when it is dropped.
    pub fn temporary() -> Result<Arc<Self>> {
        let name = format!("bkfs-memory-{}-{}", std::process::id(), PackId(crypto::random()).short());
        let path = std::env::temp_dir().join(name);
        Self::open_with(&path, Some(Scratch(path.clone())))
    }

    fn open_with(path: &Path, scratch: Option<Scratch>) -> Result<Arc<Self>> {
        lmdb::make_folder(path, |path| fs::create_dir_all(path))?;
        let path = path.canonicalize().map_err(|e| Error::io(path, e))?;
        let mut open = OPEN.lock();
        if let Some(index) = open.get(&path).and_then(Weak::upgrade) {
            return Ok(index);
        }
        open.retain(|_, index| index.strong_count() > 0);
        let index = match Self::try_open(&path) {
            Err(EnvError::Damage(reason)) => {
                tracing::info!(path = %path.display(), reason, "the index is damaged and is rebuilt");
                lmdb::wipe(&path)?;
                Self::try_open(&path)
            }
            opened => opened,
        };
        let index = index.map_err(|error| error.into_error(&path))?;
        let index = Arc::new(Self { _scratch: scratch, ..index });
        open.insert(path, Arc::downgrade(&index));
        Ok(index)
    }

    fn try_open(path: &Path) -> Result<Self, EnvError> {
        // An index that this process has just dropped may still be closing.
        if let Some(event) = heed::env_closing_event(path) {
            event.wait();
        }
        let env_error = |error| EnvError::new(path, error);
        let env = Environment::open(path, &LAYOUT)?;
        let txn = env.env().write_txn().map_err(env_error)?;
        let tables = env
            .env()
            .create_databases_and_commit(txn, |opener, txn| {
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(Tables::open(opener, txn)?))
            })
            .map_err(env_error)?
            .unwrap_commit();
        let is_doubtful = AtomicBool::new(!env.is_proven());
        let index = Self { env, is_doubtful, tables, _scratch: None };
        if index.meta(meta::FORMAT).map_err(EnvError::Other)?.as_deref() != Some(&FORMAT.to_le_bytes()) {
            index.clear().map_err(EnvError::Other)?;
        }
        Ok(index)
    }

    /// Empties all tables, and begins a new life of the index.
    pub fn clear(&self) -> Result<()> {
        self.write(|txn| {
            self.tables.clear(txn)?;
            self.tables.meta.put(txn, meta::LIFE, &crypto::random::<16>())?;
            self.tables.meta.put(txn, meta::FORMAT, &FORMAT.to_le_bytes())
        })
    }

    /// A name that changes when the index is rebuilt, which gives all packs new numbers.
    pub fn life(&self) -> Result<Option<Vec<u8>>> {
        self.meta(meta::LIFE)
    }

    /// The hash that names the repository to which the index belongs.
    pub fn owner(&self) -> Result<Option<Hash>> {
        Ok(self.meta(meta::OWNER)?.and_then(|raw| Hash::from_slice(&raw)))
    }

    /// Notes to which repository the index belongs.
    pub fn set_owner(&self, owner: Hash) -> Result<()> {
        self.write(|txn| self.tables.meta.put(txn, meta::OWNER, &owner.0))
    }

    /// A single value.
    pub(super) fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.read(|txn| Ok(self.tables.meta.get(txn, key)?.map(<[u8]>::to_vec)))
    }

    /// Runs a transaction that only reads.
    pub(super) fn read<T>(&self, run: impl FnOnce(&RoTxn<'_, WithoutTls>) -> heed::Result<T>) -> Result<T> {
        self.env.read_txn().and_then(|txn| run(&txn)).map_err(|e| self.error(e))
    }

    /// Runs a transaction and commits it.
    pub(super) fn write<T>(&self, run: impl FnOnce(&mut RwTxn<'_>) -> heed::Result<T>) -> Result<T> {
        let run = || {
            let mut txn = self.env.write_txn()?;
            let value = run(&mut txn)?;
            txn.commit()?;
            Ok(value)
        };
        run().map_err(|e| self.error(e))
    }

    /// Returns, once, whether the rows have to be looked at before they are believed.
    pub(super) fn take_doubt(&self) -> bool {
        self.is_doubtful.swap(false, SeqCst)
    }

    /// The error for a failed operation.
    pub(super) fn error(&self, error: heed::Error) -> Error {
        self.env.error(error)
    }
}
