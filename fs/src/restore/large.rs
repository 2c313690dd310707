//! Large files: cut into steps of one request to the store each, which several threads take in turn.
//!
//! Each task holds a reference to the [`LargeFile`]; the thread that drops the last one finishes the file.

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bkfs_store::{
    base::id::ChunkId,
    format::tree::{Extent, Node},
};
use parking_lot::Mutex;

use super::{
    content::{part, wrong_length},
    file::{Files, cannot_write},
    folder::Folder,
    plan::{FileAction, FilePlan, chunk_of},
    report::Reason,
    restored::Restored,
    temp::Temp,
};

/// A large file in progress.
pub(super) struct LargeFile {
    folder: Arc<Folder>,
    node: Node,
    is_first_name: bool,
    open: OpenFile,
    /// Where the next step begins.
    next_offset: Mutex<u64>,
    /// Bytes that are already in the progress.
    counted: AtomicU64,
    failure: Mutex<Option<Failure>>,
}

enum OpenFile {
    Write { file: File, temp: Temp, replace: bool },
    Compare { file: File },
}

enum Failure {
    Reason(Reason),
    Differs,
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Failure::Reason(reason)
    }
}

/// The part of a large file that one thread does at a time.
pub(super) struct FileStep {
    extents: Vec<(u64, Extent)>,
    /// Another step follows.
    pub(super) has_next: bool,
}

/// A file that could not be opened.
pub(super) struct NotOpened {
    pub(super) node: Node,
    pub(super) is_first_name: bool,
    pub(super) reason: Reason,
}

/// What follows the last step.
pub(super) enum Finished {
    /// The restore was stopped: nothing.
    Stopped(Arc<Folder>),
    /// The existing file differs, and is to be overwritten according to this plan.
    Overwrite(Arc<Folder>, FilePlan),
    /// The file is to be settled.
    Settle {
        folder: Arc<Folder>,
        node: Node,
        is_first_name: bool,
        /// Bytes that are already in the progress.
        counted: u64,
        result: Result<Restored, Reason>,
    },
}

impl LargeFile {
    /// Opens a file according to its plan.
    pub(super) fn open(files: &Files<'_>, folder: &Arc<Folder>, plan: FilePlan) -> Result<Self, Box<NotOpened>> {
        let FilePlan { node, is_first_name, action } = plan;
        let open = match action {
            FileAction::Compare => files.open_existing(folder, &node).map(|file| OpenFile::Compare { file }),
            FileAction::Write { replace } => files.create(folder).and_then(|(file, temp)| {
                file.set_len(node.size).map_err(cannot_write)?;
                Ok(OpenFile::Write { file, temp, replace })
            }),
        };
        match open {
            Err(reason) => Err(Box::new(NotOpened { node, is_first_name, reason })),
            Ok(open) => Ok(Self {
                folder: folder.clone(),
                node,
                is_first_name,
                open,
                next_offset: Mutex::new(0),
                counted: AtomicU64::new(0),
                failure: Mutex::new(None),
            }),
        }
    }

    /// Returns the next step; none if no more is to be done.
    pub(super) fn next_step(&self, files: &Files<'_>) -> Option<FileStep> {
        self.list_extents(files).unwrap_or_else(|reason| {
            self.fail(reason.into());
            None
        })
    }

    fn list_extents(&self, files: &Files<'_>) -> Result<Option<FileStep>, Reason> {
        let mut next_offset = self.next_offset.lock();
        let from = *next_offset;
        if from >= self.node.size || self.failure.lock().is_some() || files.shared.is_stopped() {
            return Ok(None);
        }
        let extents = files.shared.source.extents(&self.node, from, files.window.min(self.node.size - from))?;
        // They must follow each other without gap or overlap, and end within the file.
        let mut end = from;
        for (offset, extent) in &extents {
            if *offset != end || extent.is_empty() {
                return Err(wrong_length(&self.node).into());
            }
            end = end.checked_add(extent.len()).ok_or_else(|| wrong_length(&self.node))?;
        }
        if end == from || end > self.node.size {
            return Err(wrong_length(&self.node).into());
        }
        *next_offset = end;
        Ok(Some(FileStep { extents, has_next: end < self.node.size }))
    }

    /// Does a step.
    pub(super) fn run_step(&self, files: &Files<'_>, step: &FileStep) {
        if let Err(failure) = self.try_step(files, step) {
            self.fail(failure);
        }
    }

    fn try_step(&self, files: &Files<'_>, step: &FileStep) -> Result<(), Failure> {
        // The last extent may reach past the window, by less than a chunk.
        let ids: Vec<ChunkId> = step.extents.iter().filter_map(|(_, e)| chunk_of(e)).map(|(id, _)| id).collect();
        let chunks = if ids.is_empty() { Vec::new() } else { files.shared.source.data(&ids).map_err(Reason::from)? };
        let mut chunks = chunks.iter();
        let mut parts = Vec::with_capacity(step.extents.len());
        for (offset, extent) in &step.extents {
            parts.push(part(&self.node, *offset, extent, &mut chunks)?);
        }
        match &self.open {
            OpenFile::Write { file, .. } => files.write(file, &parts)?,
            OpenFile::Compare { file } => {
                if !files.is_same(file, &parts)? {
                    return Err(Failure::Differs);
                }
            }
        }
        let done = step.extents.iter().map(|(_, extent)| extent.len()).fold(0, u64::saturating_add);
        self.counted.fetch_add(done, Ordering::Relaxed);
        files.shared.progress.bytes_done.fetch_add(done, Ordering::Relaxed);
        Ok(())
    }

    /// Records a failure; the first one counts.
    fn fail(&self, failure: Failure) {
        self.failure.lock().get_or_insert(failure);
    }

    /// Completes the file after its last step.
    pub(super) fn finish(self, files: &Files<'_>) -> Finished {
        let Self { folder, node, is_first_name, open, counted, failure, .. } = self;
        let counted = counted.into_inner();
        if files.shared.is_stopped() {
            // Dropping the open file removes the temporary file.
            return Finished::Stopped(folder);
        }
        let result = match (failure.into_inner(), open) {
            (None, OpenFile::Write { file, temp, replace }) => files.complete(&folder, &node, file, temp, replace),
            (None, OpenFile::Compare { file }) => files.keep(&folder, &node, &file),
            (Some(Failure::Reason(reason)), _) => Err(reason),
            (Some(Failure::Differs), _) if files.shared.options.overwrite => {
                files.shared.progress.bytes_done.fetch_sub(counted, Ordering::Relaxed);
                return Finished::Overwrite(folder, FilePlan::write(node, is_first_name, true));
            }
            (Some(Failure::Differs), _) => Err(Reason::Differs),
        };
        Finished::Settle { folder, node, is_first_name, counted, result }
    }
}
