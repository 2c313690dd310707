//! What to do if an entry with the name exists already: a pure function, so that the rule is in one place.

use bkfs_store::{
    base::time::Time,
    format::tree::{Node, NodeKind},
};
use rustix::fs::{FileType, Stat};

use super::{options::RestoreOptions, report::Reason, times::mtime};

/// What to do with an entry that is not a folder.
#[derive(Debug)]
pub(super) enum Decision {
    /// Create it; with `replace`, in place of the existing entry.
    Create { replace: bool },
    /// The existing entry is the stored one: leave it.
    Keep,
    /// The existing file looks like the stored one: read and compare it.
    Compare,
    /// A different entry exists.
    Refuse(Reason),
}

/// Decides for a node and the existing entry with its name. `target` reads the existing symbolic link. `kept_time`
/// returns what the destination makes of the stored time.
pub(super) fn decide(
    node: &Node,
    found: Option<&Stat>,
    options: &RestoreOptions,
    target: impl FnOnce() -> Option<Vec<u8>>,
    kept_time: impl FnOnce() -> Option<Time>,
) -> Decision {
    let Some(stat) = found else { return Decision::Create { replace: false } };
    if kind_of(stat) == Some(NodeKind::Directory) {
        return Decision::Refuse(Reason::IsFolder { stored: kind_name(node.kind) });
    }
    let is_same = kind_of(stat) == Some(node.kind)
        && match node.kind {
            NodeKind::File => looks_same(node, stat, kept_time),
            NodeKind::Symlink => target().as_deref() == node.target.as_deref(),
            NodeKind::CharDevice | NodeKind::BlockDevice => {
                node.device.is_some_and(|d| stat.st_rdev == rustix::fs::makedev(d.major, d.minor))
            }
            NodeKind::Fifo | NodeKind::Socket => true,
            NodeKind::Directory => false,
        };
    match (is_same, options.verify && node.kind == NodeKind::File, options.overwrite) {
        (true, false, _) => Decision::Keep,
        (true, true, _) => Decision::Compare,
        (false, _, true) => Decision::Create { replace: true },
        (false, _, false) => Decision::Refuse(Reason::Differs),
    }
}

/// Returns whether a file has the stored size and modification time, or what the destination makes of that time.
pub(super) fn looks_same(node: &Node, stat: &Stat, kept_time: impl FnOnce() -> Option<Time>) -> bool {
    let found = mtime(stat);
    kind_of(stat) == Some(node.kind)
        && stat.st_size as u64 == node.size
        && (found == node.mtime || kept_time() == Some(found))
}

/// Returns the kind of an existing entry; none for a kind that is never stored.
pub(super) fn kind_of(stat: &Stat) -> Option<NodeKind> {
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => NodeKind::File,
        FileType::Directory => NodeKind::Directory,
        FileType::Symlink => NodeKind::Symlink,
        FileType::Fifo => NodeKind::Fifo,
        FileType::Socket => NodeKind::Socket,
        FileType::CharacterDevice => NodeKind::CharDevice,
        FileType::BlockDevice => NodeKind::BlockDevice,
        _ => return None,
    })
}

/// Returns a kind in words.
pub(super) fn kind_name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::File => "file",
        NodeKind::Directory => "folder",
        NodeKind::Symlink => "symbolic link",
        NodeKind::Fifo => "fifo",
        NodeKind::Socket => "socket",
        NodeKind::CharDevice | NodeKind::BlockDevice => "device",
    }
}
