//! Restoring: a stored tree becomes files again.
//!
//! Several threads share one stack of tasks (`queue`); the loop that takes tasks and adds those that follow is
//! `worker`. The work itself belongs to owners that know no tasks: `folder`, `entry` with `link`, and `file`
//! with `small` and `large`. They return what is to be done next.
//!
//! Folders are walked depth first. Into an empty destination, contents are read in the order in which they are stored
//! (`ahead`). A file is written under a temporary name (`.bkfs-<16 hex digits>.partial`), gets its attributes, and is
//! then renamed: a file with its own name is complete, so a restore that was killed can be run again. A folder gets its
//! attributes when everything in it is done.
//!
//! Nothing is ever written outside the destination, whatever the tree contains: each step uses one name, which is
//! checked here again, relative to the handle of the folder that holds it, and no symbolic link is followed. For the
//! same reason, paths may be longer than the system's limit.
//!
//! An existing entry is left alone if it is what would be restored (same kind, and for files the same size, and the
//! modification time or what the destination makes of it: `kept_times`). What the destination cannot hold is counted by
//! kind (`limits`). Otherwise it is reported and left alone too, unless [`RestoreOptions::overwrite`] is set.
//! `docs/SEMANTICS.md` states the rules for users.
//!
//! Not here: which snapshot is restored, and how progress is shown. Nothing is flushed to disk: after a power cut, run
//! the restore again with [`RestoreOptions::verify`].

mod ahead;
mod attributes;
mod content;
mod decide;
mod destination;
mod entry;
mod file;
mod folder;
mod handle;
mod kept_times;
mod large;
mod limits;
mod link;
mod options;
mod owner;
mod plan;
mod progress;
mod queue;
mod report;
mod restored;
mod run;
mod shared;
mod small;
mod source;
mod start;
mod task;
mod temp;
#[cfg(test)]
mod tests;
mod times;
mod worker;

use std::{os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use bkfs_store::{
    Result,
    format::tree::{Node, NodeKind},
    owner::reader::Reader,
};

pub use limits::{Limit, LimitMet};
pub use options::RestoreOptions;
pub use owner::RestoreOwners;
pub use progress::RestoreProgress;
pub use report::{Problem, Reason, RestoreReport};

/// Restores a tree, or one path of it, below `dest`.
///
/// `root` is a snapshot's root node. Without `path`, everything in it appears in `dest`. With the path of a folder, the
/// contents of that folder do. With the path of another entry, `dest` is read as cp does: in an existing folder, or one
/// that is named with a slash at its end, the entry appears under its name; otherwise `dest` is the entry. Folders are
/// created if missing. A new or empty `dest` gets the attributes of the folder that is restored into it; any other
/// keeps its own, unless `options.overwrite` is set.
///
/// An error means that the restore ended early. Problems of single entries are in the report.
pub fn restore(
    reader: &Arc<Reader>,
    root: &Node,
    path: Option<&[u8]>,
    dest: &Path,
    options: &RestoreOptions,
    progress: &RestoreProgress,
) -> Result<RestoreReport> {
    let node = match path {
        None => root.clone(),
        Some(path) => reader.resolve(root, path)?,
    };
    let (node, dest) = place(node, dest);
    run::run(&**reader, node, dest, options, progress)
}

/// Returns the node with the name that it gets, and the folder that it is restored into.
fn place(node: Node, dest: &Path) -> (Node, &Path) {
    let bytes = dest.as_os_str().as_bytes();
    let is_folder = bytes.ends_with(b"/") || bytes.ends_with(b"/.") || dest.is_dir();
    match (dest.file_name(), dest.parent()) {
        (Some(name), Some(parent)) if node.kind != NodeKind::Directory && !is_folder => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            (Node { name: name.as_bytes().to_vec(), ..node }, parent)
        }
        _ => (node, dest),
    }
}
