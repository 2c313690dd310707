//! LMDB environments that survive damage. A full disk, a file that is cut off and wrong bytes end in an error and never
//! in a signal, and damage is told apart from everything else: only a new environment helps against it.
//!
//! LMDB maps its files and trusts every byte of them. A page that is beyond the end of the file is a bus error for the
//! whole process, and so is a page that finds no room on the disk when it is first written. A wrong number in a page
//! makes LMDB read and write wherever that number points. So [`Environment::open`] looks at the files before anything
//! is read through LMDB:
//!
//! - The lock file, which is written through the map, gets its room.
//! - Both meta pages must make sense ([`pages`]).
//! - If the environment was closed properly, its [`seal`] tells whether the data file is the one that was closed.
//! - Otherwise, as after a crash, every page is visited that LMDB can reach ([`walk`]).
//!
//! A seal covers every bit of a data file of up to 64 MiB; of a larger one it only tells whether the file was written
//! to. A walk finds everything that could end the process, and no wrong bytes within a value: callers check their rows
//! if [`Environment::is_proven`] says no.

mod error;
mod pages;
mod seal;
mod walk;

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use heed::{Env, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};
use rustix::{fs::FallocateFlags, io::Errno};

pub use self::{error::EnvError, walk::Table};
use self::{error::MARK, pages::Fault, seal::SealState};
use crate::base::error::{Error, Result};

const DATA: &str = "data.mdb";
const LOCK: &str = "lock.mdb";
/// A reader's slot in the lock file, and an upper bound of the lock file's head, in bytes.
const READER: u64 = 64;
const LOCK_HEAD: u64 = 4096;

/// What an environment holds.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    /// Address space for the map, in bytes. The file grows only as it is filled.
    pub map_bytes: usize,
    /// How many transactions can read at the same time.
    pub readers: u32,
    /// All its tables.
    pub tables: &'a [Table<'a>],
}

/// An open environment.
#[derive(Debug)]
pub struct Environment {
    folder: PathBuf,
    env: Env<WithoutTls>,
    is_proven: bool,
    /// Whether the seal on the disk is that of the data file.
    is_sealed: AtomicBool,
}

impl Environment {
    /// Opens the environment in a folder, or creates one. The caller opens its tables with [`Environment::env`].
    pub fn open(folder: &Path, layout: &Layout<'_>) -> Result<Self, EnvError> {
        let other = |error| EnvError::Other(Error::io(folder, error));
        if folder.join(MARK).exists() {
            return Err(EnvError::Damage("damage was found in it".into()));
        }
        for name in [DATA, LOCK] {
            match fs::symlink_metadata(folder.join(name)) {
                Ok(found) if !found.is_file() => return Err(EnvError::Damage(format!("{name} is not a file"))),
                _ => {}
            }
        }
        reserve(&folder.join(LOCK), LOCK_HEAD + READER * u64::from(layout.readers)).map_err(other)?;
        let data = match File::open(folder.join(DATA)) {
            Ok(file) if file.metadata().map_err(other)?.len() > 0 => Some(file),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(other(error)),
        };
        let state = match &data {
            None => {
                seal::remove(folder).map_err(other)?;
                SealState::None
            }
            Some(file) => {
                pages::check_metas(file, layout.map_bytes).map_err(|fault| fault.sort(folder))?;
                seal::state(folder, file).map_err(|error| Fault::Io(error).sort(folder))?
            }
        };
        if state == SealState::Broken {
            return Err(EnvError::Damage("it is not as it was when it was closed".into()));
        }
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        let tables = u32::try_from(layout.tables.len()).unwrap_or(u32::MAX);
        options.map_size(layout.map_bytes).max_dbs(tables).max_readers(layout.readers);
        // SAFETY: the folder belongs to this user, and only this program writes there, through LMDB, which locks
        // between processes. LMDB refuses to open a file twice in a process. If the machine crashes, NO_META_SYNC can
        // lose the last transactions but not the integrity: callers read in again what is lost.
        let env = unsafe { options.flags(EnvFlags::NO_META_SYNC).open(folder) };
        let env = env.map_err(|error| EnvError::new(folder, error))?;
        if let (Some(file), SealState::None) = (&data, state) {
            walk::walk(file, &env, layout.tables).map_err(|fault| fault.sort(folder))?;
        }
        let (is_proven, is_sealed) = (data.is_none() || state == SealState::Proven, state != SealState::None);
        Ok(Self { folder: folder.to_owned(), env, is_proven, is_sealed: AtomicBool::new(is_sealed) })
    }

    /// The environment, to open its tables. Creating tables is all that may be written this way.
    pub fn env(&self) -> &Env<WithoutTls> {
        &self.env
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it is new or, bit by bit, as it was when it was last closed.
    pub fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Begins a transaction that reads.
    pub fn read_txn(&self) -> heed::Result<RoTxn<'_, WithoutTls>> {
        self.env.read_txn()
    }

    /// Begins a transaction that writes. The seal is gone, durably, before anything is written.
    pub fn write_txn(&self) -> heed::Result<RwTxn<'_>> {
        let txn = self.env.write_txn()?;
        // Another process may have sealed the environment since this one wrote last.
        seal::remove(&self.folder)?;
        self.is_sealed.store(false, SeqCst);
        Ok(txn)
    }

    /// The error for a failed operation.
    pub fn error(&self, error: heed::Error) -> Error {
        EnvError::new(&self.folder, error).into_error(&self.folder)
    }

    /// Seals the data file. Nobody writes meanwhile, and what is sealed is durable first.
    fn seal(&self) -> heed::Result<()> {
        let _txn = self.env.write_txn()?;
        self.env.force_sync()?;
        Ok(seal::write(&self.folder, &File::open(self.folder.join(DATA))?)?)
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        if self.is_sealed.load(SeqCst) || self.folder.join(MARK).exists() {
            return;
        }
        // Best effort: without a seal the next opening looks at each page.
        if let Err(error) = self.seal() {
            tracing::debug!(folder = %self.folder.display(), %error, "an environment cannot be sealed");
        }
    }
}

/// Removes the files of an environment. Processes that have it open keep using the removed files.
pub fn wipe(folder: &Path) -> Result<()> {
    for name in [DATA, LOCK, MARK, seal::NAME] {
        let file = folder.join(name);
        let removed = match fs::symlink_metadata(&file) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&file),
            Ok(_) => fs::remove_file(&file),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io(file, error)),
            _ => {}
        }
    }
    Ok(())
}

/// Makes sure that a folder for an environment exists. A file in its place is removed.
pub fn make_folder(folder: &Path, make: impl Fn(&Path) -> io::Result<()>) -> Result<()> {
    if fs::symlink_metadata(folder).is_ok_and(|found| found.is_file()) {
        fs::remove_file(folder).map_err(|e| Error::io(folder, e))?;
    }
    make(folder).map_err(|e| Error::io(folder, e))
}

/// Reserves room for a file without making it longer.
fn reserve(path: &Path, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, len) {
        Err(error @ (Errno::NOSPC | Errno::DQUOT)) => Err(error.into()),
        // Not every file system can reserve room.
        _ => Ok(()),
    }
}
