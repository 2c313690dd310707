//! What a repository in a folder takes of the disk: everything that is stored, whatever part of the repository wrote
//! it. The index is left out: it is derived, and its file has holes. So is the reserve, which holds nothing.
//!
//! This lists folders, and opens no repository. A file that vanishes meanwhile does not count.

use std::{fs, io, path::Path};

use super::layout;
use crate::base::{
    error::{Error, Result},
    id::SnapshotId,
};

/// The folder of the index of a repository on a server.
const INDEX: &str = "index";

/// What is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of all files: packs, parity, the grave, snapshots and other small objects with their second copies, logs.
    pub bytes: u64,
    /// How many files these are.
    pub files: u64,
}

impl Usage {
    /// Measures the repository in a folder. Nothing is stored in a folder that does not exist.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        let mut usage = Self::default();
        usage.add_folder(folder, &|name| ![INDEX, layout::RESERVE].contains(&name))?;
        Ok(usage)
    }

    /// Adds the files of a folder, with all that its folders hold; of the entries of the folder itself only those whose
    /// name `counts`. Temporary files do not count: they become files that count, or are removed.
    fn add_folder(&mut self, folder: &Path, counts: &dyn Fn(&str) -> bool) -> Result<()> {
        for entry in found(folder, fs::read_dir(folder))?.into_iter().flatten() {
            let entry = entry.map_err(|e| Error::io(folder, e))?;
            let name = entry.file_name();
            if !name.to_str().is_some_and(|name| !name.starts_with('.') && counts(name)) {
                continue;
            }
            let path = entry.path();
            let Some(meta) = found(&path, entry.metadata())? else { continue };
            if meta.is_dir() {
                self.add_folder(&path, &|_| true)?;
            } else {
                self.bytes += meta.len();
                self.files += 1;
            }
        }
        Ok(())
    }
}

/// Whether a snapshot's object is stored in a repository's folder, whether or not the log names it yet.
pub fn stores_snapshot(folder: &Path, id: SnapshotId) -> bool {
    layout::copies(&layout::snapshot(id)).iter().all(|name| folder.join(name).is_file())
}

/// How many bytes one of the two files of a repository's log has. A folder without a log has none.
pub fn log_bytes(folder: &Path) -> Result<u64> {
    let path = folder.join(layout::LOG);
    Ok(found(&path, path.metadata())?.map_or(0, |meta| meta.len()))
}

fn found<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, error)),
    }
}
