//! Requests: cut from stretches in the order in which contents are stored, and fetched.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use bkfs_store::base::id::ChunkId;
use crossbeam_channel::Sender;

use super::stretch::{REQUEST_BYTES, SmallFile, Stretch};
use crate::restore::{
    queue::Working,
    small::{FetchedFile, HeldBytes},
    task::Task,
    worker::Workers,
};

/// How many fetched files a writing thread is given at a time.
const FILES_PER_TASK: usize = 32;
/// Bytes of contents that were requested and are not written yet; one more request may come on top.
const HELD_MAX: u64 = 16 << 20;
/// How often to check whether the writing threads have caught up.
const PAUSE: Duration = Duration::from_millis(1);

/// The files that one thread fetches with one request to the store.
pub(super) struct Request<'a> {
    files: Vec<FetchedFile>,
    /// Tasks will follow.
    working: Working<'a, Task>,
}

/// Cuts stretches into requests.
pub(super) struct Requester<'a> {
    workers: &'a Workers<'a>,
    requests: Sender<Request<'a>>,
    /// Bytes of contents that were requested and are not written yet.
    held: Arc<AtomicU64>,
}

impl<'a> Requester<'a> {
    /// Returns a requester that sends to `requests`.
    pub(super) fn new(workers: &'a Workers<'a>, requests: Sender<Request<'a>>) -> Self {
        Self { workers, requests, held: Arc::default() }
    }

    /// Requests all files of a stretch.
    pub(super) fn request(&self, stretch: Stretch) {
        // The last file may have made the stretch longer than a request.
        let is_one_request = stretch.bytes < REQUEST_BYTES + REQUEST_BYTES / 2;
        let mut request = Vec::new();
        let (mut bytes, mut last) = (0, None);
        for (frame, file) in self.in_storage_order(stretch.files, is_one_request) {
            // The files of one frame stay together, or it would be fetched twice. The exception is a very large number
            // of copies of one file.
            if bytes >= REQUEST_BYTES && (last != Some(frame) || bytes >= 2 * REQUEST_BYTES) {
                self.send(std::mem::take(&mut request), bytes);
                bytes = 0;
            }
            bytes += file.bytes;
            last = Some(frame);
            request.push(file);
        }
        self.send(request, bytes);
    }

    /// Returns the files in the order in which their contents are stored, each with the sort key of its frame. If the
    /// store does not tell, they keep their order: contents are right in any order. A stretch that is one request needs
    /// no order.
    fn in_storage_order(&self, files: Vec<SmallFile>, is_one_request: bool) -> Vec<(u64, SmallFile)> {
        let first: Vec<ChunkId> = files.iter().filter_map(|file| file.ids.first().copied()).collect();
        let keys = if is_one_request { None } else { self.workers.shared.source.storage_order(&first).ok() };
        let mut keys = keys.into_iter().flatten();
        let mut files: Vec<_> = files
            .into_iter()
            .map(|file| (if file.ids.is_empty() { 0 } else { keys.next().unwrap_or(0) }, file))
            .collect();
        files.sort_by_key(|(key, _)| *key);
        files
    }

    fn send(&self, files: Vec<SmallFile>, bytes: u64) {
        let working = self.workers.queue.working();
        while self.held.load(Ordering::Relaxed) > HELD_MAX && !self.workers.shared.is_stopped() {
            thread::sleep(PAUSE);
        }
        self.held.fetch_add(bytes, Ordering::Relaxed);
        let to_fetch = |SmallFile { folder, plan, ids, bytes }| {
            let held = HeldBytes::new(&self.held, bytes);
            FetchedFile { folder, plan, ids, chunks: None, held }
        };
        // If the restore was stopped, there may be no receiver.
        let _ = self.requests.send(Request { files: files.into_iter().map(to_fetch).collect(), working });
    }
}

/// Fetches a request, and adds the tasks to write its files.
pub(super) fn fetch(workers: &Workers<'_>, request: Request<'_>) {
    let Request { files, working } = request;
    let ids: Vec<ChunkId> = files.iter().flat_map(|file| &file.ids).copied().collect();
    let chunks = match ids.is_empty() {
        true => Some(Vec::new()),
        false => workers.shared.source.data(&ids).ok(),
    };
    let mut chunks = chunks.map(Vec::into_iter);
    let mut tasks = Vec::new();
    let mut task_files = Vec::new();
    for mut file in files {
        file.chunks = chunks.as_mut().map(|chunks| chunks.take(file.ids.len()).collect());
        task_files.push(file);
        if task_files.len() == FILES_PER_TASK {
            tasks.push(Task::Fetched(std::mem::take(&mut task_files)));
        }
    }
    if !task_files.is_empty() {
        tasks.push(Task::Fetched(task_files));
    }
    workers.queue.push_all(tasks.into_iter());
    drop(working);
}
