//! A file to be read, and the pieces that it is read in.

use std::{io, sync::Arc};

use bkfs_store::{
    base::{
        id::{ChunkId, HardLinkGroup},
        time::Time,
    },
    format::tree::Node,
};

use super::{budget::Closed, stream::StreamFile};
use crate::{
    filesystem::{Filesystem, FilesystemId},
    metadata::Stat,
    walk::{DirPath, SourceDir},
};

/// A file to be read.
pub struct ReadJob {
    /// Its number in the order of the push.
    pub number: u64,
    /// The directory that holds it.
    pub dir: Arc<SourceDir>,
    /// Its name.
    pub name: Box<[u8]>,
    /// Its state when the directory was listed.
    pub stat: Stat,
    /// The file system that it is on.
    pub filesystem: Filesystem,
    /// The group of its names, if the inode has others.
    pub hard_link: Option<HardLinkGroup>,
    /// Whether it is a block device.
    pub is_device: bool,
}

/// A file to be read from a stream.
pub struct StreamJob {
    /// Its number in the order of the push.
    pub number: u64,
    /// The directory that holds it.
    pub dir: Arc<DirPath>,
    /// Its name.
    pub name: Box<[u8]>,
    /// Where the contents come from.
    pub file: StreamFile,
    /// What the snapshot says of the file. The length is not known yet.
    pub stat: Stat,
}

/// A part of what is read from a file.
pub enum Piece {
    /// The next chunk.
    Chunk {
        /// Its id.
        id: ChunkId,
        /// Its bytes.
        bytes: Vec<u8>,
        /// Whether it is the whole of a small file.
        is_small: bool,
    },
    /// A hole of this many bytes.
    Hole(u64),
    /// The file changed: the pieces so far are void, and the file starts again.
    Restart,
    /// The file was read to its end.
    End(Box<FileEnd>),
    /// The file cannot be read, or does not exist any more.
    Failed(io::Error),
}

/// What is known of a file once it is read.
pub struct FileEnd {
    /// The node. Its content is set only if the node itself holds it.
    pub node: Node,
    /// The state that the contents belong to.
    pub stat: Stat,
    /// The file system that it is on.
    pub filesystem: FilesystemId,
    /// When reading began.
    pub read_at: Time,
    /// Whether the file changed each time it was read.
    pub is_changing: bool,
    /// Why the extended attributes are missing.
    pub xattr_error: Option<io::Error>,
    /// Whether the next push must read the file again even if its state is the same then.
    pub is_distrusted: bool,
}

impl FileEnd {
    /// Whether both are the same file with the same contents and attributes, whatever its name.
    pub fn is_same_file(&self, other: &FileEnd) -> bool {
        let mut named = self.node.clone();
        named.name.clone_from(&other.node.name);
        // Names that come and go meanwhile change nothing in the file.
        (named.ctime, named.links) = (other.node.ctime, other.node.links);
        self.stat.is_same_inode(&other.stat) && named == other.node
    }

    /// The same for another name of the file, without problems: they are reported once.
    pub fn for_other_name(&self) -> Self {
        let Self { ref node, stat, filesystem, read_at, is_distrusted, .. } = *self;
        Self { node: node.clone(), stat, filesystem, read_at, is_changing: false, xattr_error: None, is_distrusted }
    }
}

/// Takes the pieces of one file.
pub trait PieceSink {
    /// Waits until `bytes` may be held.
    fn reserve(&mut self, bytes: usize) -> Result<(), Closed>;
    /// Takes a piece. The bytes of a chunk have been reserved.
    fn piece(&mut self, piece: Piece) -> Result<(), Closed>;
}
