//! Nodes: the entries of directories, with everything that a restore needs.

use minicbor::{Decode, Encode};

use crate::base::{
    id::{ChunkId, HardLinkGroup},
    time::Time,
};

/// The kind of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum NodeKind {
    /// A regular file.
    #[n(0)]
    File,
    /// A directory.
    #[n(1)]
    Directory,
    /// A symbolic link.
    #[n(2)]
    Symlink,
    /// A named pipe.
    #[n(3)]
    Fifo,
    /// A socket.
    #[n(4)]
    Socket,
    /// A character device.
    #[n(5)]
    CharDevice,
    /// A block device.
    #[n(6)]
    BlockDevice,
}

/// An extended attribute. POSIX ACLs are attributes too (`system.posix_acl_access`), in the kernel's own encoding.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Xattr {
    /// The full name with its namespace.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub name: Vec<u8>,
    /// The value: any bytes.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub value: Vec<u8>,
}

/// The numbers of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Device {
    /// Major number.
    #[n(0)]
    pub major: u32,
    /// Minor number.
    #[n(1)]
    pub minor: u32,
}

/// The location of the bytes of a regular file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Content {
    /// In the node itself, for short files.
    #[n(0)]
    Inline(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// In at most [`Content::EXTENTS_MAX`] extents.
    #[n(1)]
    Extents(#[n(0)] Vec<Extent>),
    /// In the extents that a content tree lists. The id is that of its root page, a chunk of kind tree.
    #[n(2)]
    Tree(#[n(0)] ChunkId),
}

impl Content {
    /// Maximum number of extents in a node. More extents go to a content tree.
    pub const EXTENTS_MAX: usize = 4;
    /// Files up to this many bytes are stored in their node.
    pub const INLINE_MAX: usize = 256;
}

/// A span of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Extent {
    /// A chunk of data.
    #[n(0)]
    Data {
        /// The chunk.
        #[n(0)]
        id: ChunkId,
        /// Its length in bytes, at least 1.
        #[n(1)]
        len: u32,
    },
    /// A hole: zeros that take no space.
    #[n(1)]
    Hole {
        /// Its length in bytes, at least 1.
        #[n(0)]
        len: u64,
    },
}

impl Extent {
    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Extent::Data { len, .. } => u64::from(*len),
            Extent::Hole { len } => *len,
        }
    }

    /// Whether it spans no bytes. No extent of a valid tree does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Totals of everything below a directory. The directory itself is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Totals {
    /// Regular files.
    #[n(0)]
    pub files: u64,
    /// Directories.
    #[n(1)]
    pub dirs: u64,
    /// Entries of other kinds.
    #[n(2)]
    pub others: u64,
    /// The sum of the sizes of regular files, in bytes.
    #[n(3)]
    pub bytes: u64,
}

impl Totals {
    /// Adds a node of the directory and everything below the node.
    pub fn add(&mut self, node: &Node) {
        match node.kind {
            NodeKind::File => {
                self.files = self.files.saturating_add(1);
                self.bytes = self.bytes.saturating_add(node.size);
            }
            NodeKind::Directory => {
                self.dirs = self.dirs.saturating_add(1);
                if let Some(sub) = &node.subtree {
                    self.files = self.files.saturating_add(sub.totals.files);
                    self.dirs = self.dirs.saturating_add(sub.totals.dirs);
                    self.others = self.others.saturating_add(sub.totals.others);
                    self.bytes = self.bytes.saturating_add(sub.totals.bytes);
                }
            }
            _ => self.others = self.others.saturating_add(1),
        }
    }
}

/// The contents of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Subtree {
    /// The root page of the directory's tree, a chunk of kind tree.
    #[n(0)]
    pub id: ChunkId,
    /// The number of entries of the directory itself.
    #[n(1)]
    pub entries: u64,
    /// Totals of everything below it.
    #[n(2)]
    pub totals: Totals,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Node {
    /// Name: 1 to 255 bytes, any but `/` and NUL, and neither `.` nor `..`. Only the name of a snapshot's root is
    /// empty.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub name: Vec<u8>,
    /// Kind.
    #[n(1)]
    pub kind: NodeKind,
    /// Permission bits, including setuid, setgid and sticky (07777).
    #[n(2)]
    pub mode: u32,
    /// The owner's number.
    #[n(3)]
    pub uid: u32,
    /// The group's number.
    #[n(4)]
    pub gid: u32,
    /// The owner's name, if the source machine knew one.
    #[n(5)]
    pub user: Option<String>,
    /// The group's name, if the source machine knew one.
    #[n(6)]
    pub group: Option<String>,
    /// The last change of the contents.
    #[n(7)]
    pub mtime: Time,
    /// The last change of the inode on the source machine. Shown, never restored.
    #[n(8)]
    pub ctime: Option<Time>,
    /// The birth of the inode on the source machine. Shown, never restored.
    #[n(9)]
    pub btime: Option<Time>,
    /// The length of a regular file in bytes; 0 for other kinds.
    #[n(10)]
    pub size: u64,
    /// Extended attributes, sorted by name. `None` if there are none.
    #[n(11)]
    pub xattrs: Option<Vec<Xattr>>,
    /// The target of a symbolic link.
    #[cbor(n(12), with = "minicbor::bytes")]
    pub target: Option<Vec<u8>>,
    /// The numbers of a device.
    #[n(13)]
    pub device: Option<Device>,
    /// Set if the inode has several names: equal for all of them in one snapshot.
    #[n(14)]
    pub hard_link: Option<HardLinkGroup>,
    /// The number of names of the inode on the source machine, if more than one.
    #[n(15)]
    pub links: Option<u32>,
    /// The contents of a regular file.
    #[n(16)]
    pub content: Option<Content>,
    /// The contents of a directory.
    #[n(17)]
    pub subtree: Option<Subtree>,
}

impl Node {
    /// The longest name in bytes.
    pub const NAME_MAX: usize = 255;

    /// Returns a node with a name and a kind. The caller sets the other fields.
    pub fn new(name: impl Into<Vec<u8>>, kind: NodeKind) -> Self {
        Self {
            name: name.into(),
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            user: None,
            group: None,
            mtime: Time::default(),
            ctime: None,
            btime: None,
            size: 0,
            xattrs: None,
            target: None,
            device: None,
            hard_link: None,
            links: None,
            content: None,
            subtree: None,
        }
    }

    /// Returns the extended attributes; possibly none.
    pub fn xattrs(&self) -> &[Xattr] {
        self.xattrs.as_deref().unwrap_or_default()
    }

    /// Whether the node is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == NodeKind::Directory
    }

    /// Checks what readers rely on: the name is one path component, the fields match the kind, the times are valid. The
    /// name of a snapshot's root must be empty, which `is_root` tells.
    pub fn validate(&self, is_root: bool) -> Result<(), &'static str> {
        let name = self.name.as_slice();
        if name.is_empty() != is_root {
            return Err(if is_root { "it has a name" } else { "a name is empty" });
        }
        if name.len() > Self::NAME_MAX || name.contains(&b'/') || name.contains(&0) || name == b"." || name == b".." {
            return Err("a name is not a path component");
        }
        if self.mode & !0o7777 != 0 {
            return Err("a mode has unknown bits");
        }
        let times = [Some(self.mtime), self.ctime, self.btime];
        if times.into_iter().flatten().any(|t| t.nanos >= 1_000_000_000) {
            return Err("a time has too many nanoseconds");
        }
        let fits = match self.kind {
            NodeKind::File => self.content.is_some() && self.subtree.is_none(),
            NodeKind::Directory => self.subtree.is_some() && self.content.is_none(),
            NodeKind::Symlink => self.target.is_some(),
            NodeKind::CharDevice | NodeKind::BlockDevice => self.device.is_some(),
            NodeKind::Fifo | NodeKind::Socket => true,
        };
        if !fits {
            return Err("the fields of a node do not match its kind");
        }
        match &self.content {
            Some(Content::Inline(bytes)) if bytes.len() as u64 != self.size => {
                Err("a size differs from the length of the contents")
            }
            Some(Content::Extents(extents)) => {
                let mut sum = 0u64;
                for extent in extents {
                    sum = sum
                        .checked_add(extent.len())
                        .filter(|_| !extent.is_empty())
                        .ok_or("the length of an extent is out of bounds")?;
                }
                if sum == self.size { Ok(()) } else { Err("a size differs from the length of the contents") }
            }
            _ => Ok(()),
        }
    }
}
