//! Restoring into an empty place: in the order in which contents are stored, read ahead of those who write them.
//!
//! Small files share frames. Threads that restore several folders at once, each where it likes, would fetch and open the
//! same frames again and again; so would one that goes by the tree alone, as files that changed in later pushes, and copies
//! of other files, lie far from their neighbours. So one thread goes through the tree, makes the folders, and gathers the
//! small files to stretches; another asks where their contents lie, and cuts each stretch, in that order, to large requests; a few
//! fetch these; all the others write what has come.
//!
//! ```text
//! walk ──► stretches ──► sort ──► requests ──► fetch ──► files with their contents ──► write
//!   └──── large files, which are fetched in steps by those who write them ──┘
//! ```
//!
//! The first stretch is one request, so that writing begins at once; each is longer than the one before, up to a bound
//! on what is remembered of the files in it. What was fetched and is not written yet is bounded by bytes, and so is everything that
//! waits. A request that fails is left to those who write: they ask file by file, and can say which one is hurt.

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
    folder::Folder,
    handle::is_file_name,
    queue::Working,
    run::{Engine, Task},
};

/// Threads that fetch; one opens frames while the other waits for the store.
const THREADS: usize = 2;
/// Bytes of contents of one request: a frame at each end of it may be asked for twice, which is to be a small part.
const REQUEST: u64 = 8 << 20;
/// Files of the first stretch, and of the longest. A file waits in about 700 bytes, and two stretches may be on their way.
const STRETCH_FILES: std::ops::RangeInclusive<usize> = 2048..=16_384;
/// How many times longer each stretch is than the one before.
const GROWTH: usize = 4;
/// Files with their contents that are handed to those who write at once.
const HANDFUL: usize = 32;
/// Bytes of contents that were asked for and are not written yet; one more request may come on top.
const HELD: u64 = 16 << 20;
/// Large files that wait to be begun.
const LARGE: usize = 64;
/// How many entries of a folder are taken at once; so many are held of each folder on the way.
const ENTRIES: usize = 256;
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

/// A small file that waits for its request.
struct Small {
    folder: Arc<Folder>,
    plan: FilePlan,
    ids: Vec<ChunkId>,
    bytes: u64,
}

/// Small files, in the order of the tree.
#[derive(Default)]
struct Stretch {
    files: Vec<Small>,
    bytes: u64,
}

/// What one thread fetches at once.
struct Request<'a> {
    files: Vec<Filled>,
    /// More tasks come of it.
    working: Working<'a, Task>,
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
    stretches: Sender<Stretch>,
    next: Stretch,
    /// How many files the next stretch may have, and how many bytes.
    files: usize,
    bytes: u64,
}

/// Cuts stretches to requests.
struct Sort<'a, 'b> {
    engine: &'a Engine<'b>,
    requests: Sender<Request<'a>>,
    held: Arc<AtomicU64>,
}

/// Starts the threads that bring what is below a folder.
pub(super) fn start<'scope>(engine: &'scope Engine<'_>, folder: Arc<Folder>, scope: &'scope Scope<'scope, '_>) {
    let (requests, fetched) = bounded(1);
    for _ in 0..THREADS {
        let fetched: Receiver<Request<'_>> = fetched.clone();
        scope.spawn(move || fetched.iter().for_each(|request| fetch(engine, request)));
    }
    // Nothing lies in the channel: one stretch is gathered while another is asked for.
    let (stretches, gathered) = bounded::<Stretch>(0);
    let working = engine.queue.working();
    scope.spawn(move || {
        let sort = Sort { engine, requests, held: Arc::default() };
        gathered.iter().for_each(|stretch| sort.send_all(stretch));
        // Held by this thread, the last that has something to send.
        drop(working);
    });
    scope.spawn(move || {
        let next = Stretch::default();
        Walk { engine, stretches, next, files: *STRETCH_FILES.start(), bytes: REQUEST }.run(folder);
    });
}

fn fetch(engine: &Engine<'_>, request: Request<'_>) {
    let Request { files, working } = request;
    let ids: Vec<ChunkId> = files.iter().flat_map(|file| &file.ids).copied().collect();
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
        let reason: Reason = match self.engine.source.nodes(subtree, listing.from, ENTRIES) {
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
            while self.engine.queue.waiting() >= LARGE && !self.engine.stopped() {
                std::thread::sleep(PAUSE);
            }
            return self.engine.queue.push(Task::Start { folder, plan: Box::new(plan) });
        };
        self.next.bytes += bytes;
        self.next.files.push(Small { folder, plan, ids, bytes });
        if self.next.bytes >= self.bytes || self.next.files.len() >= self.files {
            self.send();
            self.bytes = self.bytes.saturating_mul(GROWTH as u64);
            self.files = (self.files * GROWTH).min(*STRETCH_FILES.end());
        }
    }

    fn send(&mut self) {
        // Nobody takes it if all are told to stop.
        let _ = self.stretches.send(std::mem::take(&mut self.next));
    }
}

impl<'a> Sort<'a, '_> {
    fn send_all(&self, stretch: Stretch) {
        // Its last file made it longer than a request.
        let is_one = stretch.bytes < REQUEST + REQUEST / 2;
        let mut request = Vec::new();
        let (mut bytes, mut last) = (0, None);
        for (place, file) in self.by_place(stretch.files, is_one) {
            // A frame's files go together, or it would be fetched twice; but for very many copies of the same.
            if bytes >= REQUEST && (last != Some(place) || bytes >= 2 * REQUEST) {
                self.send(std::mem::take(&mut request), bytes);
                bytes = 0;
            }
            bytes += file.bytes;
            last = Some(place);
            request.push(file);
        }
        self.send(request, bytes);
    }

    /// The files in the order in which their contents are stored, as far as the store tells: what is fetched is right in any
    /// order. Who asks only once need not know.
    fn by_place(&self, files: Vec<Small>, is_one: bool) -> Vec<(u64, Small)> {
        let first: Vec<ChunkId> = files.iter().filter_map(|file| file.ids.first().copied()).collect();
        let places = if is_one { None } else { self.engine.source.places(&first).ok() };
        let mut places = places.into_iter().flatten();
        let mut files: Vec<_> = files
            .into_iter()
            .map(|file| (if file.ids.is_empty() { 0 } else { places.next().unwrap_or(0) }, file))
            .collect();
        files.sort_by_key(|(place, _)| *place);
        files
    }

    fn send(&self, files: Vec<Small>, bytes: u64) {
        let working = self.engine.queue.working();
        while self.held.load(Ordering::Relaxed) > HELD && !self.engine.stopped() {
            std::thread::sleep(PAUSE);
        }
        self.held.fetch_add(bytes, Ordering::Relaxed);
        let fill = |Small { folder, plan, ids, bytes }| {
            let held = Held(self.held.clone(), bytes);
            Filled { folder, plan, ids, chunks: None, held }
        };
        // Nobody takes it if all are told to stop.
        let _ = self.requests.send(Request { files: files.into_iter().map(fill).collect(), working });
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
