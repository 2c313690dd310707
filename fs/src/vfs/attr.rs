//! Attributes of what the file system shows, in the terms of stat(2).

use bkfs_store::{
    base::time::Time,
    format::tree::{Content, Extent, Node, NodeKind},
};

use crate::privileges;

/// What stat(2) returns for an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: u64,
    /// Kind.
    pub kind: NodeKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Number of names. 1 for a directory, which means that the file system does not count subdirectories.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device numbers of a device node.
    pub device: (u32, u32),
    /// Length in bytes; of a symbolic link, the length of its target.
    pub size: u64,
    /// Allocated blocks of 512 bytes. With holes, fewer than the size needs.
    pub blocks: u64,
    /// Last change of the contents; also shown as the time of the last access.
    pub mtime: Time,
    /// Last change of the inode on the source machine, or `mtime` if that is not known.
    pub ctime: Time,
    /// Birth on the source machine, or `mtime` if that is not known.
    pub btime: Time,
}

impl Attr {
    /// Returns the attributes of a node. If its client is not trusted, programs do not change their user, and devices
    /// lead nowhere.
    pub fn of(ino: u64, node: &Node, is_trusted: bool) -> Self {
        let size = match (&node.target, node.kind) {
            (Some(target), NodeKind::Symlink) => target.len() as u64,
            (_, NodeKind::File) => node.size,
            (_, NodeKind::Directory) => 4096,
            _ => 0,
        };
        Self {
            ino,
            kind: node.kind,
            mode: (if is_trusted { node.mode } else { privileges::plain_mode(node) } & 0o7777) as u16,
            nlink: if node.is_dir() { 1 } else { node.links.unwrap_or(1).max(1) },
            uid: node.uid,
            gid: node.gid,
            device: node.device.filter(|_| is_trusted).map_or((0, 0), |d| (d.major, d.minor)),
            size,
            blocks: blocks(node),
            mtime: node.mtime,
            ctime: node.ctime.unwrap_or(node.mtime),
            btime: node.btime.unwrap_or(node.mtime),
        }
    }

    /// Returns the attributes of a directory above the snapshots.
    pub fn top_dir(ino: u64, owner: MountOwner, changed: Time) -> Self {
        let (uid, gid) = (owner.uid, owner.gid);
        let (kind, mode) = (NodeKind::Directory, 0o555);
        Self {
            ino,
            kind,
            mode,
            nlink: 1,
            uid,
            gid,
            device: (0, 0),
            size: 4096,
            blocks: 8,
            mtime: changed,
            ctime: changed,
            btime: changed,
        }
    }

    /// Returns the attributes of a symbolic link above the snapshots.
    pub fn top_link(ino: u64, owner: MountOwner, changed: Time, target: &[u8]) -> Self {
        let dir = Self::top_dir(ino, owner, changed);
        Self { kind: NodeKind::Symlink, mode: 0o777, size: target.len() as u64, blocks: 0, ..dir }
    }
}

/// Who owns the entries above the snapshots: the user who mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountOwner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Returns the number of blocks of 512 bytes that hold data, counted in pages of 4 KiB as file systems do.
///
/// If a file's extents are in a content tree, its holes are not known without loading the tree. It is then shown as if
/// its last page were a hole: `cp` and `tar` look for holes with lseek(2) only in files that take less room than their
/// length.
fn blocks(node: &Node) -> u64 {
    let data = match (&node.content, node.kind) {
        (Some(Content::Extents(extents)), NodeKind::File) => {
            extents.iter().filter(|extent| matches!(extent, Extent::Data { .. })).map(Extent::len).sum()
        }
        (Some(Content::Tree(_)), NodeKind::File) => return node.size.saturating_sub(4096) / 4096 * 8,
        (_, NodeKind::File) => node.size,
        (_, NodeKind::Directory) => 4096,
        _ => 0,
    };
    u64::div_ceil(data, 4096) * 8
}

#[cfg(test)]
mod tests {
    use bkfs_store::base::id::ChunkId;

    use super::*;
    use crate::vfs::testing;

    #[test]
    fn holes_take_no_blocks() {
        let mut node = testing::file(b"x", 1 << 30);
        let id = ChunkId([1; 32]);
        node.content = Some(Content::Extents(vec![Extent::Hole { len: (1 << 30) - 10 }, Extent::Data { id, len: 10 }]));
        let attr = Attr::of(7, &node, true);
        assert_eq!((attr.size, attr.blocks), (1 << 30, 8));
        node.content = Some(Content::Extents(vec![Extent::Hole { len: 1 << 30 }]));
        assert_eq!(Attr::of(7, &node, true).blocks, 0);
        node.content = Some(Content::Tree(id));
        assert!(Attr::of(7, &node, true).blocks * 512 < 1 << 30, "fewer, which makes cp look for holes");
    }

    #[test]
    fn stored_attributes_are_shown() {
        let mut node = testing::file(b"x", 5);
        node.mode = 0o4755;
        node.links = Some(3);
        node.mtime = Time { secs: -5, nanos: 7 };
        let attr = Attr::of(9, &node, true);
        assert_eq!((attr.ino, attr.mode, attr.nlink, attr.size, attr.blocks), (9, 0o4755, 3, 5, 8));
        assert_eq!(Attr::of(9, &node, false).mode, 0o755);
        assert_eq!((attr.mtime, attr.ctime), (node.mtime, node.mtime));
        node.ctime = Some(Time { secs: 1, nanos: 0 });
        assert_eq!(Attr::of(9, &node, true).ctime.secs, 1);
    }
}
