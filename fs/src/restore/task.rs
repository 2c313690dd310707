//! The tasks of a restore.

use std::sync::Arc;

use bkfs_store::format::tree::Node;

use super::{folder::Folder, large::LargeFile, link::Waiting, plan::FilePlan, queue::Queue, small::FetchedFile};

/// Work that a thread can do next.
pub(super) enum Task {
    /// Restore a folder's entries from this index on.
    Walk { folder: Arc<Folder>, from: u64 },
    /// Restore an entry.
    Entry { folder: Arc<Folder>, node: Box<Node> },
    /// Open a large file, and do its first step.
    OpenLarge { folder: Arc<Folder>, plan: Box<FilePlan> },
    /// Do a step of a large file.
    LargeStep(Arc<LargeFile>),
    /// Write small files whose contents were read ahead.
    Fetched(Vec<FetchedFile>),
}

impl Queue<Task> {
    /// Adds entries that waited for another name of their file.
    pub(super) fn push_waiting(&self, waiting: Vec<Waiting>) {
        // Most entries are waited for by none; then no thread is woken.
        if !waiting.is_empty() {
            let task = |Waiting { folder, node }| Task::Entry { folder, node: Box::new(node) };
            self.push_all(waiting.into_iter().map(task));
        }
    }
}
