//! A file to be read, and the pieces that it is read in.

use std::{io, sync::Arc};

use bkfs_store::{
    base::{
        id::{ChunkId, HardLinkGroup},
        time::Time,
    },
    format::tree::Node,
};

use super::budget::Closed;
use crate::{metadata::Stat, walk::SourceDir};

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
    /// The group of its names, if the inode has others.
    pub hard_link: Option<HardLinkGroup>,
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
    /// When reading began.
    pub read_at: Time,
    /// Whether the file changed each time it was read.
    pub is_changing: bool,
    /// Why the extended attributes are missing.
    pub xattr_error: Option<io::Error>,
}

impl FileEnd {
    /// The same for another name of the file, without problems: they are reported once.
    pub fn for_other_name(&self) -> Self {
        Self { node: self.node.clone(), stat: self.stat, read_at: self.read_at, is_changing: false, xattr_error: None }
    }
}

/// Takes the pieces of one file.
pub trait PieceSink {
    /// Waits until `bytes` may be held.
    fn reserve(&mut self, bytes: usize) -> Result<(), Closed>;
    /// Takes a piece. The bytes of a chunk have been reserved.
    fn piece(&mut self, piece: Piece) -> Result<(), Closed>;
}
