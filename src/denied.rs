//! Files to which the system denies access: to whom they belong, and what to do.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use bkfs_fs::userdb::OwnerNames;

/// Returns what to do about a file or folder to which the system denied access.
pub fn denied(path: &Path) -> String {
    let Some((at, meta)) = nearest(path) else { return String::new() };
    let (me, owner) = (rustix::process::geteuid().as_raw(), meta.uid());
    let mode = meta.mode() & 0o7777;
    let whose = format!("{} belongs to {} (mode {mode:04o}), and this is {}", at.display(), name(owner), name(me));
    match owner {
        _ if owner == me => format!("{whose}: change its mode, or those of the folders above it"),
        0 => {
            format!(
                "{whose}: if root created it by mistake, `sudo chown -R {} {}` gives it back",
                name(me),
                at.display()
            )
        }
        _ => format!("{whose}: run the command as that user, or ask for access"),
    }
}

/// Returns a path, or the nearest folder above it that can be inspected.
pub fn nearest(path: &Path) -> Option<(PathBuf, Metadata)> {
    path.ancestors().find_map(|at| Some((at.to_owned(), at.metadata().ok()?)))
}

/// Returns a user's name, or number.
pub fn name(uid: u32) -> String {
    OwnerNames::default().user(uid).unwrap_or_else(|| format!("user {uid}"))
}
