//! Rebuilding the index on purpose: what it holds is deleted unread, and everything is read in from the log and the
//! packs.

use std::{fs, path::Path};

use super::index_report::IndexReport;
use crate::{
    base::error::Result,
    repository::{Repository, index::lmdb},
};

/// Removes a temporary folder.
struct RemoveOnDrop<'a>(&'a Path);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        // Best effort: what is in it is not needed.
        let _ = fs::remove_dir_all(self.0);
    }
}

/// Rebuilds the index of the repository in a folder. Other processes keep using the one that they have open. A dry run
/// builds a second index next to it, and removes that.
pub fn rebuild_index(folder: &Path, index: &Path, dry_run: bool) -> Result<IndexReport> {
    if !dry_run {
        lmdb::wipe(index)?;
        return Repository::local(folder, index)?.maintenance.index_report();
    }
    let dry_index = index.with_extension(format!("dry-{}", std::process::id()));
    let _remove = RemoveOnDrop(&dry_index);
    Repository::local(folder, &dry_index)?.maintenance.index_report()
}
