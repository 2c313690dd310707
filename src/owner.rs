//! Whose folders the program works in.
//!
//! Root can write everywhere, and what it creates in another user's folder that user cannot read. What is done about
//! it differs:
//!
//! - The configuration and the cache are one user's: they hold that user's identity, push keys and caches. `sudo` often
//!   keeps HOME, so root would work with another user's. It is refused.
//! - A server's data is read by the user who runs the server. It is refused, too: the operator can become that user.
//! - A repository in a folder keeps its owner (in `store`): root may well back up `/etc` into a user's repository, and
//!   only root can.

use std::{fs::Metadata, os::unix::fs::MetadataExt, path::Path};

use anyhow::Result;

use crate::{
    denied::{name, nearest},
    failure::Failure,
};

/// Fails if this is root, and a folder for this user's own files is another user's. With `is_below_home`, that of a
/// folder that does not exist yet is decided by the folder in which it would be created.
pub fn check_own_folder(what: &str, folder: &Path, is_below_home: bool) -> Result<()> {
    let existing = match folder.metadata() {
        Ok(meta) => Some((folder.to_owned(), meta)),
        Err(_) if is_below_home => nearest(folder),
        Err(_) => None,
    };
    let Some((at, meta)) = existing.filter(|(at, meta)| is_foreign_to_root(at, meta)) else { return Ok(()) };
    Err(Failure::new(
        format!(
            "the {what} {} {} {}, who could not read what root creates there",
            folder.display(),
            if at == folder { "belongs to" } else { "would be in a folder of" },
            name(meta.uid())
        ),
        "run the command as that user, or with root's own home folder, as `sudo -H` does; or set BKFS_CONFIG_DIR and \
         BKFS_CACHE_DIR",
    )
    .into())
}

/// Fails if what this process creates in a server's folder would not belong to the folder's owner.
pub fn check_server_folder(data: &Path) -> Result<()> {
    let Some((at, meta)) = nearest(data) else { return Ok(()) };
    let me = rustix::process::geteuid().as_raw();
    // A server that is being created belongs to the user who creates it.
    if at != data || meta.uid() == me || creates_for_owner(&at, &meta) {
        return Ok(());
    }
    let owner = name(meta.uid());
    Err(Failure::new(
        format!("{} belongs to {owner}, who could not read files that {} creates there", data.display(), name(me)),
        format!("run this command as that user: `sudo -u {owner} bkfs server ...`"),
    )
    .into())
}

fn is_foreign_to_root(folder: &Path, meta: &Metadata) -> bool {
    rustix::process::geteuid().is_root() && meta.uid() != 0 && !creates_for_owner(folder, meta)
}

/// Returns whether the file system gives what is created in a folder to the folder's owner, whoever creates it, as FAT
/// and some network file systems do.
fn creates_for_owner(folder: &Path, meta: &Metadata) -> bool {
    let probe = folder.join(format!(".bkfs-owner-{}.tmp", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let created = options.write(true).create_new(true).open(&probe).and_then(|file| file.metadata());
    let _ = std::fs::remove_file(&probe);
    created.is_ok_and(|created| created.uid() == meta.uid())
}
