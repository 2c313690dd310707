//! The start of a restore: opens and locks the destination, and decides how to begin.

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use bkfs_store::{
    Error, Result,
    format::tree::{Node, NodeKind},
};
use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};

use super::{
    folder::{Folder, Folders},
    shared::Shared,
    temp::MARK,
};

/// The opened destination.
pub(super) struct Started {
    /// Holds the lock of the destination.
    pub(super) lock: OwnedFd,
    pub(super) folder: Arc<Folder>,
    pub(super) begin: Begin,
}

/// How a restore begins.
pub(super) enum Begin {
    /// The destination is empty: read its contents ahead, in the order in which they are stored.
    Ahead,
    /// The destination contains something: walk the folder.
    Walk,
    /// A single entry is restored into the destination.
    Entry(Box<Node>),
}

/// Opens the destination for a node: a folder, whose contents are restored into it, or another entry.
pub(super) fn start(shared: &Shared<'_>, folders: &Folders<'_>, node: Node, dest: &Path) -> Result<Started> {
    let failed = |error: io::Error| Error::io(dest, error);
    std::fs::create_dir_all(dest).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Error::Invalid(format!("{} is not a folder; name a folder to restore into", dest.display()))
        }
        _ => failed(error),
    })?;
    let open = || -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(dest, flags, Mode::empty())?)
    };
    let (fd, lock) = (open().map_err(failed)?, open().map_err(failed)?);
    // Any other failure means that the file system has no locks.
    if let Err(Errno::WOULDBLOCK) = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        return Err(Error::Locked { what: dest.display().to_string() });
    }
    let is_dir = node.kind == NodeKind::Directory;
    set_totals(shared, &node);

    let (is_new, is_marked) = inspect(&fd).map_err(failed)?;
    if !is_dir {
        folders.remove_leftovers(&fd, &node).map_err(failed)?;
        let folder = Folder::destination(fd, stand_in(&node), false);
        return Ok(Started { lock, folder, begin: Begin::Entry(Box::new(node)) });
    }
    let sets_attributes = claim(shared, folders, &fd, &node, is_new, is_marked).map_err(failed)?;
    folders.remove_leftovers(&fd, &node).map_err(failed)?;
    let folder = Folder::destination(fd, node, sets_attributes);
    Ok(Started { lock, folder, begin: if is_new { Begin::Ahead } else { Begin::Walk } })
}

fn set_totals(shared: &Shared<'_>, node: &Node) {
    let totals = node.subtree.map(|s| s.totals).unwrap_or_default();
    let (entries, bytes) = match node.kind {
        NodeKind::Directory => {
            let entries = [totals.files, totals.dirs, totals.others].into_iter().fold(0, u64::saturating_add);
            (entries, totals.bytes)
        }
        _ => (1, node.size),
    };
    shared.progress.entries_total.store(entries, Ordering::Relaxed);
    shared.progress.bytes_total.store(bytes, Ordering::Relaxed);
}

/// Returns whether a folder is empty, and whether it contains the mark of a restore that did not end.
fn inspect(fd: &OwnedFd) -> io::Result<(bool, bool)> {
    let (mut is_empty, mut is_marked) = (true, false);
    for entry in rustix::fs::Dir::read_from(fd)? {
        match entry?.file_name().to_bytes() {
            b"." | b".." => {}
            MARK => (is_empty, is_marked) = (false, true),
            _ => is_empty = false,
        }
    }
    Ok((is_empty, is_marked))
}

/// Returns whether the destination gets the stored folder's attributes: if it is new or empty, if an earlier restore
/// that found it so did not end, or if it may be overwritten. Marks the destination in case this restore does not end.
fn claim(
    shared: &Shared<'_>,
    folders: &Folders<'_>,
    fd: &OwnedFd,
    node: &Node,
    is_empty: bool,
    is_marked: bool,
) -> io::Result<bool> {
    // If a stored entry has the name of the mark, it is restored like any other, and no mark is used.
    if let Some(subtree) = &node.subtree
        && shared.source.lookup(subtree, MARK).is_ok_and(|found| found.is_some())
    {
        return Ok(is_empty || shared.options.overwrite);
    }
    let is_ours = is_empty || is_marked;
    if is_ours {
        folders.mark(fd)?;
    }
    Ok(is_ours || shared.options.overwrite)
}

/// Returns a node to represent the destination of a single entry. None of its attributes are set.
fn stand_in(node: &Node) -> Node {
    Node { name: Vec::new(), xattrs: None, content: None, target: None, hard_link: None, ..node.clone() }
}
