//! Small files: those whose contents fit one request to the store.
//!
//! One request fetches the contents of many. If it fails, the files are fetched one by one: most of them succeed, and
//! the error names the file that is damaged.

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bkfs_store::{Error, base::id::ChunkId, format::tree::Node};
use bytes::Bytes;

use super::{
    content::{Part, parts, wrong_length},
    file::{Files, cannot_write},
    folder::Folder,
    plan::{FileAction, FilePlan},
    report::Reason,
    restored::Restored,
    source::RestoreSource,
};

/// Small files of one folder that are fetched with one request.
#[derive(Default)]
pub(super) struct Batch {
    /// The files, and how many of the ids belong to each.
    files: Vec<(FilePlan, usize)>,
    ids: Vec<ChunkId>,
    bytes: u64,
}

impl Batch {
    /// Returns whether `bytes` more would exceed the window. A batch without files is never full.
    pub(super) fn is_full(&self, bytes: u64, window: u64) -> bool {
        self.bytes + bytes > window && !self.files.is_empty()
    }

    /// Adds a file with its chunks and their total length.
    pub(super) fn add(&mut self, plan: FilePlan, ids: Vec<ChunkId>, bytes: u64) {
        self.bytes += bytes;
        self.files.push((plan, ids.len()));
        self.ids.extend(ids);
    }

    /// Fetches the contents of all files with one request. Returns each file with its chunks.
    pub(super) fn fetch(
        self,
        source: &dyn RestoreSource,
    ) -> impl Iterator<Item = (FilePlan, Result<Vec<Bytes>, Error>)> {
        let Self { files, ids, .. } = self;
        let all = if ids.is_empty() { Some(Vec::new()) } else { source.data(&ids).ok() };
        let mut next = 0;
        files.into_iter().map(move |(plan, count)| {
            let range = next..next + count;
            next += count;
            let chunks = match &all {
                Some(chunks) => chunks.get(range).map(<[Bytes]>::to_vec).ok_or_else(|| wrong_length(&plan.node)),
                None if count == 0 => Ok(Vec::new()),
                None => source.data(ids.get(range).unwrap_or_default()),
            };
            (plan, chunks)
        })
    }
}

/// A small file whose contents were read ahead.
pub(super) struct FetchedFile {
    pub(super) folder: Arc<Folder>,
    pub(super) plan: FilePlan,
    pub(super) ids: Vec<ChunkId>,
    /// The chunks, in the order of the ids; none if the request for many files failed.
    pub(super) chunks: Option<Vec<Bytes>>,
    /// Counts the bytes as held.
    pub(super) held: HeldBytes,
}

impl FetchedFile {
    /// Takes out the chunks. Requests those that could not be read ahead.
    pub(super) fn take_chunks(&mut self, source: &dyn RestoreSource) -> Result<Vec<Bytes>, Error> {
        match self.chunks.take() {
            Some(chunks) => Ok(chunks),
            None => source.data(&self.ids),
        }
    }

    /// Returns the folder. The file's bytes no longer count as held.
    pub(super) fn into_folder(self) -> Arc<Folder> {
        let Self { folder, held, .. } = self;
        drop(held);
        folder
    }
}

/// Adds to a count of held bytes while it is alive.
pub(super) struct HeldBytes {
    total: Arc<AtomicU64>,
    bytes: u64,
}

impl HeldBytes {
    /// Takes over bytes that the caller has already added to `total`; subtracts them when dropped.
    pub(super) fn new(total: &Arc<AtomicU64>, bytes: u64) -> Self {
        Self { total: total.clone(), bytes }
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Writes or compares a small file whose contents have been fetched.
pub(super) fn restore_small(
    files: &Files<'_>,
    folder: &Folder,
    plan: &FilePlan,
    chunks: Result<Vec<Bytes>, Error>,
) -> Result<Restored, Reason> {
    let node = &plan.node;
    let chunks = chunks?;
    let parts = parts(node, &chunks)?;
    match plan.action {
        FileAction::Write { replace } => write(files, folder, node, &parts, replace),
        FileAction::Compare => {
            let file: File = files.open_existing(folder, node)?;
            if files.is_same(&file, &parts)? {
                files.keep(folder, node, &file)
            } else if files.shared.options.overwrite {
                write(files, folder, node, &parts, true)
            } else {
                Err(Reason::Differs)
            }
        }
    }
}

fn write(
    files: &Files<'_>,
    folder: &Folder,
    node: &Node,
    parts: &[Part<'_>],
    replace: bool,
) -> Result<Restored, Reason> {
    let (file, temp) = files.create(folder)?;
    if parts.iter().any(|part| matches!(part, Part::Hole { .. })) {
        file.set_len(node.size).map_err(cannot_write)?;
    }
    files.write(&file, parts)?;
    files.complete(folder, node, file, temp, replace)
}
