//! Root in another user's repository: what it creates belongs to the owner of the repository, who could not read it
//! otherwise.

use std::{fs::File, os::unix::fs::MetadataExt, path::Path};

/// Gives a file or folder that was just created in `folder` to the owner of `folder`, if root created it. A failure
/// means that the file system has owners of its own, and these are right.
pub fn keep(folder: &Path, created: &File) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    if let Ok(owner) = folder.metadata()
        && owner.uid() != 0
    {
        let _ = std::os::unix::fs::fchown(created, Some(owner.uid()), Some(owner.gid()));
    }
}
