//! Restoring into an empty place: in the order of the push, with contents read ahead of those who write them.
//!
//! Small files share frames in the order in which they were pushed. Threads that restore several folders at once, each where it
//! likes, would fetch and open the same frames again and again, or wait for one another. So one thread goes through
//! the tree in that order: by name, and into each folder where it stands. It makes the folders, and gathers the small files to
//! large requests; a few threads fetch these; all the others write what has come.
//!
//! ```text
//! walk ──► requests ──► fetch ──► files with their contents ──► write
//!   └──── large files, which are fetched in steps by those who write them ──┘
//! ```
//!
//! What was fetched and is not written yet is bounded by bytes, and so is everything that waits. A request that fails is left to
//! those who write: they ask file by file, and can say which one is hurt.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::Scope,
    time::Duration,
};

use bkfs_store::{
    Error,
    id::ChunkId,
    tree::{Node, NodeKind},
};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::{
    Reason,
    content::FilePlan,
    engine::{Engine, Task},
    folder::Folder,
    handle::is_file_name,
    queue::Working,
};

/// Threads that fetch; one opens frames while the other waits for the store.
const THREADS: usize = 2;
/// Bytes of contents of one request: a frame at each end of it may be asked for twice, which is to be a small part.
const REQUEST: u64 = 8 << 20;
/// Files of one request.
const FILES: usize = 4096;
/// Files with their contents that are handed to those who write at once.
const HANDFUL: usize = 32;
/// Bytes of contents that were asked for and are not written yet; one more request may come on top.
const HELD: u64 = 16 << 20;
/// Large files that wait to be begun.
const LARGE: usize = 64;
/// How many entries of a folder are taken at once; so many are held of each folder on the way.
const STRETCH: usize = 256;
/// How often it is looked whether the others have caught up.
const PAUSE: Duration = Duration::from_millis(1);

/// A small file and what is in it.
pub(super) struct Filled {
    pub(super) folder: Arc<Folder>,
    pub(super) plan: FilePlan,
    pub(super) ids: Vec<ChunkId>,
    /// The chunks, in the order of the ids; none if they could not be had together with others.
    pub(super) chunks: Option<Vec<Bytes>>,
    /// Counts the bytes as held.
    held: Held,
}

/// Bytes that are held, as long as it lives.
struct Held(Arc<AtomicU64>, u64);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// What one thread fetches at once.
struct Request<'a> {
    files: Vec<Filled>,
    ids: Vec<ChunkId>,
    bytes: u64,
    /// More tasks come of it.
    working: Option<Working<'a, Task>>,
}

/// A folder on the way, and what of it comes next.
struct Listing {
    folder: Arc<Folder>,
    from: u64,
    nodes: std::vec::IntoIter<Node>,
}

/// Goes through the tree.
struct Walk<'a, 'b> {
    engine: &'a Engine<'b>,
    requests: Sender<Request<'a>>,
    next: Request<'a>,
    held: Arc<AtomicU64>,
}

/// Starts the threads that bring what is below a folder.
pub(super) fn start<'scope>(engine: &'scope Engine<'_>, folder: Arc<Folder>, scope: &'scope Scope<'scope, '_>) {
    let (requests, fetched) = bounded(1);
    for _ in 0..THREADS {
        let fetched: Receiver<Request<'_>> = fetched.clone();
        scope.spawn(move || fetched.iter().for_each(|request| fetch(engine, request)));
    }
    let working = engine.queue.working();
    scope.spawn(move || {
        let next = Request { files: Vec::new(), ids: Vec::new(), bytes: 0, working: None };
        Walk { engine, requests, next, held: Arc::default() }.run(folder);
        drop(working);
    });
}

fn fetch(engine: &Engine<'_>, request: Request<'_>) {
    let Request { files, ids, working, .. } = request;
    let chunks = match ids.is_empty() {
        true => Some(Vec::new()),
        false => engine.source.data(&ids).ok(),
    };
    let mut chunks = chunks.map(Vec::into_iter);
    let mut handfuls = Vec::new();
    let mut handful = Vec::new();
    for mut file in files {
        file.chunks = chunks.as_mut().map(|chunks| chunks.take(file.ids.len()).collect());
        handful.push(file);
        if handful.len() == HANDFUL {
            handfuls.push(Task::Files(std::mem::take(&mut handful)));
        }
    }
    if !handful.is_empty() {
        handfuls.push(Task::Files(handful));
    }
    engine.queue.push_all(handfuls.into_iter());
    drop(working);
}

impl Walk<'_, '_> {
    fn run(mut self, folder: Arc<Folder>) {
        let mut way = vec![Listing { folder, from: 0, nodes: Vec::new().into_iter() }];
        while let Some(listing) = way.last_mut() {
            if self.engine.stopped() {
                return;
            }
            let Some(node) = listing.nodes.next() else {
                if !self.list(listing)
                    && let Some(done) = way.pop()
                {
                    self.engine.release(done.folder);
                }
                continue;
            };
            let folder = listing.folder.clone();
            if !is_file_name(&node.name) || node.validate(false).is_err() {
                self.engine.bad_name(&folder);
            } else if node.kind == NodeKind::Directory {
                let inner = self.engine.make(&folder, node);
                way.extend(inner.map(|folder| Listing { folder, from: 0, nodes: Vec::new().into_iter() }));
            } else if let Some(plan) = self.engine.entry(&folder, node) {
                self.take(folder, plan);
            }
        }
        self.send();
    }

    /// Lists more of a folder; false if that was all.
    fn list(&self, listing: &mut Listing) -> bool {
        let Some(subtree) = &listing.folder.node.subtree else { return false };
        if listing.from >= subtree.entries {
            return false;
        }
        let reason: Reason = match self.engine.source.nodes(subtree, listing.from, STRETCH) {
            Ok(nodes) if nodes.is_empty() => {
                let text = format!("{} entries are stated, {} are there", subtree.entries, listing.from);
                Error::damaged("a tree", text).into()
            }
            Ok(nodes) => {
                listing.from = listing.from.saturating_add(nodes.len() as u64);
                listing.nodes = nodes.into_iter();
                return true;
            }
            Err(error) => error.into(),
        };
        self.engine.problem(&listing.folder.dir, b"", reason);
        false
    }

    /// A file that needs contents.
    fn take(&mut self, folder: Arc<Folder>, plan: FilePlan) {
        let Some((ids, bytes)) = plan.small(self.engine.window.min(REQUEST)) else {
            self.wait(|walk| walk.engine.queue.waiting() < LARGE);
            return self.engine.queue.push(Task::Start { folder, plan: Box::new(plan) });
        };
        self.next.ids.extend_from_slice(&ids);
        self.next.bytes += bytes;
        self.held.fetch_add(bytes, Ordering::Relaxed);
        let held = Held(self.held.clone(), bytes);
        self.next.files.push(Filled { folder, plan, ids, chunks: None, held });
        if self.next.bytes >= REQUEST || self.next.files.len() >= FILES {
            self.send();
        }
    }

    fn send(&mut self) {
        let next = Request { files: Vec::new(), ids: Vec::new(), bytes: 0, working: None };
        let mut request = std::mem::replace(&mut self.next, next);
        request.working = Some(self.engine.queue.working());
        self.wait(|walk| walk.held.load(Ordering::Relaxed) <= HELD + request.bytes);
        // Nobody takes it if all are told to stop.
        let _ = self.requests.send(request);
    }

    fn wait(&self, is_over: impl Fn(&Self) -> bool) {
        while !is_over(self) && !self.engine.stopped() {
            std::thread::sleep(PAUSE);
        }
    }
}

impl Filled {
    /// Gives back the folder; its bytes are not held any more.
    pub(super) fn into_folder(self) -> Arc<Folder> {
        let Self { folder, held, .. } = self;
        drop(held);
        folder
    }
}
