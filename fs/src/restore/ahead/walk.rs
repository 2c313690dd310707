//! The walk through the tree: creates the folders, and gathers the small files into stretches.

use std::{sync::Arc, thread, time::Duration};

use bkfs_store::format::tree::{Node, NodeKind};
use crossbeam_channel::Sender;

use super::stretch::{REQUEST_BYTES, SmallFile, Stretch};
use crate::restore::{
    entry::Next,
    folder::{Folder, is_valid},
    plan::FilePlan,
    task::Task,
    worker::Workers,
};

/// How many files the first stretch and the longest may have. A file that waits takes about 700 bytes, and two
/// stretches may be in memory.
const STRETCH_FILES: std::ops::RangeInclusive<usize> = 2048..=16_384;
/// How many times longer each stretch is than the one before.
const GROWTH: usize = 4;
/// Large files that wait to be opened.
const LARGE_MAX: usize = 64;
/// How often to check whether the writing threads have caught up.
const PAUSE: Duration = Duration::from_millis(1);

/// A folder on the path to the present one, with the entries that come next.
struct Level {
    folder: Arc<Folder>,
    nodes: std::vec::IntoIter<Node>,
    /// Where the listing continues; none at its end.
    next: Option<u64>,
}

impl Level {
    fn new(folder: Arc<Folder>) -> Self {
        Self { folder, nodes: Vec::new().into_iter(), next: Some(0) }
    }
}

/// Walks the tree.
pub(super) struct TreeWalk<'a> {
    workers: &'a Workers<'a>,
    stretches: Sender<Stretch>,
    /// The stretch that is being gathered.
    stretch: Stretch,
    /// How many files it may have.
    files_max: usize,
    /// How many bytes it may have; its last file may exceed them.
    bytes_max: u64,
}

impl<'a> TreeWalk<'a> {
    /// Returns a walk that sends its stretches to `stretches`.
    pub(super) fn new(workers: &'a Workers<'a>, stretches: Sender<Stretch>) -> Self {
        let stretch = Stretch::default();
        Self { workers, stretches, stretch, files_max: *STRETCH_FILES.start(), bytes_max: REQUEST_BYTES }
    }

    /// Walks everything below a folder.
    pub(super) fn run(mut self, folder: Arc<Folder>) {
        let Workers { shared, queue, folders, entries, .. } = *self.workers;
        let mut levels = vec![Level::new(folder)];
        while let Some(level) = levels.last_mut() {
            if shared.is_stopped() {
                return;
            }
            let Some(node) = level.nodes.next() else {
                if !self.list(level)
                    && let Some(done) = levels.pop()
                {
                    folders.release(done.folder);
                }
                continue;
            };
            let folder = level.folder.clone();
            if !is_valid(&node) {
                folders.skip_invalid(&folder);
            } else if node.kind == NodeKind::Directory {
                levels.extend(folders.create(&folder, node).map(Level::new));
            } else {
                let Next { contents, entries } = entries.restore(&folder, node);
                queue.push_waiting(entries);
                if let Some(plan) = contents {
                    self.add(folder, plan);
                }
            }
        }
        self.send();
    }

    /// Lists more of a folder; returns false at its end.
    fn list(&self, level: &mut Level) -> bool {
        let Some(listing) = level.next.and_then(|from| self.workers.folders.list(&level.folder, from)) else {
            return false;
        };
        level.nodes = listing.nodes.into_iter();
        level.next = listing.next;
        true
    }

    /// Adds a file: a small one to the stretch, a large one to the tasks.
    fn add(&mut self, folder: Arc<Folder>, plan: FilePlan) {
        let Workers { shared, queue, files, .. } = *self.workers;
        let Some((ids, bytes)) = plan.small(files.window.min(REQUEST_BYTES)) else {
            while queue.waiting() >= LARGE_MAX && !shared.is_stopped() {
                thread::sleep(PAUSE);
            }
            return queue.push(Task::OpenLarge { folder, plan: Box::new(plan) });
        };
        self.stretch.bytes += bytes;
        self.stretch.files.push(SmallFile { folder, plan, ids, bytes });
        if self.stretch.bytes >= self.bytes_max || self.stretch.files.len() >= self.files_max {
            self.send();
            self.bytes_max = self.bytes_max.saturating_mul(GROWTH as u64);
            self.files_max = (self.files_max * GROWTH).min(*STRETCH_FILES.end());
        }
    }

    fn send(&mut self) {
        // If the restore was stopped, there may be no receiver.
        let _ = self.stretches.send(std::mem::take(&mut self.stretch));
    }
}
