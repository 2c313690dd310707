//! Reading ahead of the threads that restore.
//!
//! Small files share frames in the order in which they were pushed. Threads that restore several folders at once would
//! each fetch and open the same frames; and each would wait for its own request, one round trip a folder. So a few
//! threads walk the tree in that order and bring the contents of small files into the reader's cache by large requests,
//! as far ahead of those who write as the cache bears. Whoever needs a chunk while these threads are at work waits for
//! it, and fetches it only when they have nothing to do: then it is not where they read.
//!
//! Large files are left to the threads that write them: their requests are large by themselves. And nothing is read
//! ahead for a destination that holds something already, because that may not be needed. Failures are left to those who
//! need the chunk.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread::{Builder, Scope},
    time::Duration,
};

use bkfs_store::{
    id::ChunkId,
    tree::{Content, Extent, Node, Subtree},
};
use parking_lot::Mutex;

use super::engine::Engine;

/// Threads; one opens frames while the other waits for the store.
const THREADS: usize = 2;
/// Bytes of contents of one request: a frame at each end of it may be asked for twice, which is to be a small part.
const REQUEST: u64 = 4 << 20;
/// Bytes of contents that are read ahead of what is written.
const LEAD: u64 = 16 << 20;
/// How many entries of a folder are taken at once; so many are held of each folder on the way.
const STRETCH: usize = 64;
/// How often it is looked whether the others have caught up.
const PAUSE: Duration = Duration::from_millis(1);

/// What reads ahead.
pub(super) struct Ahead {
    place: Mutex<Place>,
    /// Threads that live.
    threads: AtomicUsize,
    /// Requests under way.
    requests: AtomicUsize,
    /// No more requests come before others have caught up.
    rests: AtomicBool,
    over: AtomicBool,
}

/// Counts something as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Where it is in the tree.
struct Place {
    /// The folders on the way to where it is.
    folders: Vec<Listing>,
    /// Bytes of the files that were passed.
    passed: u64,
}

/// A folder, and what of it comes next.
struct Listing {
    subtree: Subtree,
    from: u64,
    nodes: std::vec::IntoIter<Node>,
}

impl Listing {
    fn new(subtree: Subtree) -> Self {
        Self { subtree, from: 0, nodes: Vec::new().into_iter() }
    }
}

impl Ahead {
    /// Begins at the contents of a folder.
    pub(super) fn new(folder: Subtree) -> Self {
        let place = Place { folders: vec![Listing::new(folder)], passed: 0 };
        Self {
            place: Mutex::new(place),
            threads: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            rests: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// Starts the threads. Without them a restore is slower, no more.
    pub(super) fn start<'scope>(&'scope self, engine: &'scope Engine<'_>, scope: &'scope Scope<'scope, '_>) {
        for number in 0..THREADS {
            let counted = Counted::new(&self.threads);
            let run = move || {
                let _counted = counted;
                self.run(engine);
            };
            let _ = Builder::new().name(format!("ahead-{number}")).spawn_scoped(scope, run);
        }
    }

    /// Makes the threads end.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Waits until the chunks are at hand, or nobody is about to bring them.
    pub(super) fn wait(&self, engine: &Engine<'_>, ids: &[ChunkId]) {
        let mut missing = ids;
        while let Some(next) = missing.iter().position(|id| !engine.source.is_at_hand(id)) {
            missing = &missing[next..];
            let rests = self.rests.load(Ordering::SeqCst) && self.requests.load(Ordering::SeqCst) == 0;
            if rests || self.threads.load(Ordering::SeqCst) == 0 || engine.stopped() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn run(&self, engine: &Engine<'_>) {
        while let Some((ids, _request)) = self.next(engine) {
            // What fails here fails again for whoever needs it, who can say for which file.
            let _ = engine.source.prefetch(&ids);
        }
    }

    /// The chunks of the next request; waits until they are wanted.
    fn next(&self, engine: &Engine<'_>) -> Option<(Vec<ChunkId>, Counted<'_>)> {
        let done = &engine.progress.bytes_done;
        let wanted = |place: &Place| place.passed <= done.load(Ordering::Relaxed).saturating_add(LEAD);
        let mut place = self.place.lock();
        while !wanted(&place) {
            self.rests.store(true, Ordering::SeqCst);
            if self.over.load(Ordering::SeqCst) || engine.stopped() {
                return None;
            }
            std::thread::sleep(PAUSE);
        }
        self.rests.store(false, Ordering::SeqCst);
        let (mut ids, mut bytes) = (Vec::new(), 0);
        while bytes < REQUEST && (ids.is_empty() || wanted(&place)) && !self.over.load(Ordering::SeqCst) {
            let Some(node) = place.step(engine) else { break };
            place.passed = place.passed.saturating_add(node.size);
            if let Some(Content::Extents(extents)) = &node.content {
                for extent in extents {
                    if let Extent::Data { id, len } = extent {
                        ids.push(*id);
                        bytes += u64::from(*len);
                    }
                }
            }
        }
        if ids.is_empty() {
            self.rests.store(true, Ordering::SeqCst);
            return None;
        }
        Some((ids, Counted::new(&self.requests)))
    }
}

impl Place {
    /// The next entry that is no folder, in the order of the push: by name, and into each folder where it stands.
    fn step(&mut self, engine: &Engine<'_>) -> Option<Node> {
        loop {
            let listing = self.folders.last_mut()?;
            match listing.nodes.next() {
                Some(Node { subtree: Some(below), .. }) => self.folders.push(Listing::new(below)),
                Some(node) => return Some(node),
                None => match engine.source.nodes(&listing.subtree, listing.from, STRETCH) {
                    Ok(nodes) if !nodes.is_empty() && listing.from < listing.subtree.entries => {
                        listing.from += nodes.len() as u64;
                        listing.nodes = nodes.into_iter();
                    }
                    // Done with it, or it cannot be read: whoever restores it will say so.
                    _ => drop(self.folders.pop()),
                },
            }
        }
    }
}
