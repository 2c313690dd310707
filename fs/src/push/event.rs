//! What the scanner tells the assembler.

use std::sync::Arc;

use bkfs_store::{
    base::time::Time,
    format::tree::{Node, Subtree},
};

use super::{pending_file::PendingFile, piece::StreamJob};
use crate::{filesystem::FilesystemId, metadata::Stat, walk::DirPath};

/// If an entry changed this shortly before it was looked at, in seconds, it may change again without a trace in its
/// times.
const DISTRUST_SECS: i64 = 2;

/// What the scanner found. Events come depth-first, in the order of names. Kept, gone and replaced entries are counted
/// in the order of the directory's record.
pub enum Event {
    /// A directory begins.
    Enter {
        /// Its path.
        path: Arc<DirPath>,
        /// What is known of the directory itself.
        entry: DirEntry,
    },
    /// The next entries of the record, this many, are unchanged.
    Kept(u64),
    /// The next entries of the record, this many, do not exist any more.
    Gone(u64),
    /// The next entry of the record is a different one now.
    Replaced,
    /// A new entry that need not be read.
    New(Box<NewEntry>),
    /// A file that is being read.
    File(Arc<PendingFile>),
    /// A file that the assembler reads from a stream.
    Stream(Box<StreamJob>),
    /// Another name of a file that came before.
    Link(Arc<PendingFile>),
    /// The directory ends. Carries the tree of its record if the whole record was kept.
    Leave(Option<Subtree>),
}

/// What is known of a directory before its entries are.
pub enum DirEntry {
    /// It is unchanged, and this was its tree.
    Kept(Subtree),
    /// It is new, or its own attributes changed.
    New(Box<NewEntry>),
}

/// A node with what the file cache must know of it.
pub struct NewEntry {
    /// The node.
    pub node: Node,
    /// The state that the node was made from.
    pub stat: Stat,
    /// The file system that it is on.
    pub filesystem: FilesystemId,
    /// See [`is_distrusted`].
    pub is_distrusted: bool,
    /// Whether it is a file whose bytes do not look like noise.
    pub is_calm: bool,
}

/// Whether an entry changed so shortly before it was looked at that the next push cannot trust its times.
pub fn is_distrusted(stat: &Stat, looked_at: Time) -> bool {
    stat.ctime.secs.saturating_add(DISTRUST_SECS) >= looked_at.secs
}
