//! What to do where something has the name already: a pure function, so that the rule can be read in one place.

use bkfs_store::format::tree::{Node, NodeKind};
use rustix::fs::{FileType, Stat};

use super::{Reason, RestoreOptions};

/// What to do about an entry that is not a folder.
#[derive(Debug)]
pub(super) enum Decision {
    /// Make it; with `replace`, in place of what is there.
    Make { replace: bool },
    /// It is there.
    Keep,
    /// It is there by its looks: read it and see.
    Compare,
    /// Something else is there.
    Refuse(Reason),
}

/// Decides for a node and what has its name. `target` reads the symbolic link that is there.
pub(super) fn decide(
    node: &Node,
    found: Option<&Stat>,
    options: &RestoreOptions,
    target: impl FnOnce() -> Option<Vec<u8>>,
) -> Decision {
    let Some(stat) = found else { return Decision::Make { replace: false } };
    if kind_of(stat) == Some(NodeKind::Directory) {
        return Decision::Refuse(Reason::IsFolder { stored: kind_name(node.kind) });
    }
    let same = kind_of(stat) == Some(node.kind)
        && match node.kind {
            NodeKind::File => looks_same(node, stat),
            NodeKind::Symlink => target().as_deref() == node.target.as_deref(),
            NodeKind::CharDevice | NodeKind::BlockDevice => {
                node.device.is_some_and(|d| stat.st_rdev == rustix::fs::makedev(d.major, d.minor))
            }
            NodeKind::Fifo | NodeKind::Socket => true,
            NodeKind::Directory => false,
        };
    match (same, options.verify && node.kind == NodeKind::File, options.overwrite) {
        (true, false, _) => Decision::Keep,
        (true, true, _) => Decision::Compare,
        (false, _, true) => Decision::Make { replace: true },
        (false, _, false) => Decision::Refuse(Reason::Differs),
    }
}

/// Whether a file has the size and the time of change that are stored.
pub(super) fn looks_same(node: &Node, stat: &Stat) -> bool {
    kind_of(stat) == Some(node.kind)
        && stat.st_size as u64 == node.size
        && stat.st_mtime == node.mtime.secs
        && stat.st_mtime_nsec == u64::from(node.mtime.nanos)
}

/// The kind of what is there; none for a kind that is never stored.
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

/// A kind in words.
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
