//! Marking: finds all that snapshots reach. Pages that no earlier prune has walked are fetched; the rest is remembered.

use std::{collections::HashSet, ops::Range, path::Path, sync::atomic::Ordering::Relaxed};

use super::{
    damage::is_cache_damage,
    graph::{Entry, PageGraph, chunk_key},
    live_keys::LiveKeys,
    progress::PruneProgress,
    snapshots,
};
use crate::{
    access::{CommittedSnapshot, Maintain},
    base::{
        error::{Error, Result},
        id::{ChunkId, SnapshotId},
    },
    format::tree::Node,
    owner::{
        reader::Reader,
        references::{IdPrefix, References, id_prefix},
    },
};

/// How many snapshots are fetched together.
const FETCHED_MAX: usize = 256;

/// Walks snapshots, and collects the keys of what they reach.
pub(super) struct Marker<'a> {
    reader: &'a Reader,
    access: &'a dyn Maintain,
    graph: PageGraph,
    live: LiveKeys,
    /// The entries of the snapshots that were walked.
    snapshots: HashSet<u64>,
    /// Entries that were visited, including those of snapshots.
    visited: u64,
    fetched: u64,
    chunks: u64,
}

/// What a walk found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walked {
    /// Snapshots in the trash that are due and were skipped.
    pub due: u64,
}

/// A page, or the snapshot, on the way down.
struct Level {
    name: IdPrefix,
    /// What it names. The pages below are added as they are walked.
    entry: Entry,
    /// Pages below it that were not walked yet.
    below: std::vec::IntoIter<ChunkId>,
}

impl Level {
    fn new(name: IdPrefix, references: &References) -> Self {
        let keys = references.chunks.iter().map(chunk_key).collect();
        Self { name, entry: Entry { keys, pages: Vec::new() }, below: references.pages.clone().into_iter() }
    }
}

impl<'a> Marker<'a> {
    /// Returns a marker that has walked nothing. `folder` holds what is remembered from earlier prunes.
    pub fn new(reader: &'a Reader, access: &'a dyn Maintain, folder: &Path) -> Self {
        let graph = PageGraph::open(folder, reader.keys().full());
        let (live, snapshots) = (LiveKeys::new(folder), HashSet::new());
        Self { reader, access, graph, live, snapshots, visited: 0, fetched: 0, chunks: 0 }
    }

    /// Distinct pages that are reached.
    pub fn pages(&self) -> u64 {
        self.visited - self.snapshots.len() as u64
    }

    /// Pages that were fetched.
    pub fn pages_fetched(&self) -> u64 {
        self.fetched
    }

    /// Chunks that are reached, including pages. A chunk that is reached twice may be counted twice.
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Finds all that the snapshots reach that these log records committed.
    ///
    /// With `skips_due`, snapshots that emptying the trash would expire count as gone. Then the trash must be emptied
    /// before anything is condemned, and everything walked once more without skipping: one of them may have been
    /// brought back in between.
    pub fn walk(&mut self, records: Range<u64>, skips_due: bool, progress: &PruneProgress) -> Result<Walked> {
        let walked = match self.try_walk(records.clone(), skips_due, progress) {
            Err(error) if is_cache_damage(&error) => {
                tracing::warn!(%error, "walking all trees again");
                self.graph.clear();
                self.snapshots.clear();
                (self.visited, self.chunks) = (0, 0);
                self.try_walk(0..records.end, skips_due, progress)
            }
            walked => walked,
        };
        // Saved even if the walk was cut short: what it has fetched need not be fetched again.
        self.graph.save(walked.is_ok());
        walked
    }

    fn try_walk(&mut self, records: Range<u64>, skips_due: bool, progress: &PruneProgress) -> Result<Walked> {
        let mut snapshots = snapshots::committed(self.access, records)?;
        let all = snapshots.len() as u64;
        snapshots.retain(|snapshot| !(skips_due && snapshot.is_due));
        let due = all - snapshots.len() as u64;
        progress.snapshots_total.fetch_add(snapshots.len() as u64, Relaxed);
        // Snapshots that follow one another are fetched together: known ones end a run.
        let mut unknown: Vec<CommittedSnapshot> = Vec::new();
        for snapshot in snapshots {
            if let Some(number) = self.graph.find(id_prefix(&snapshot.id.0))? {
                self.fetch(&std::mem::take(&mut unknown), progress)?;
                self.reach(number, progress);
                continue;
            }
            if unknown.len() == FETCHED_MAX {
                self.fetch(&std::mem::take(&mut unknown), progress)?;
            }
            unknown.push(snapshot);
        }
        self.fetch(&unknown, progress)?;
        let (live, chunks) = (&mut self.live, &mut self.chunks);
        self.visited += self.graph.visit_new(&mut |key| {
            *chunks += 1;
            live.add(key)
        })?;
        Ok(Walked { due })
    }

    /// Fetches snapshots that follow one another, and walks them.
    fn fetch(&mut self, snapshots: &[CommittedSnapshot], progress: &PruneProgress) -> Result<()> {
        if snapshots.is_empty() {
            return Ok(());
        }
        for (snapshot, root) in snapshots::roots(self.reader, self.access, snapshots)? {
            let number = self.add_snapshot(snapshot, &root, progress)?;
            self.reach(number, progress);
        }
        Ok(())
    }

    fn reach(&mut self, number: u64, progress: &PruneProgress) {
        self.snapshots.insert(number);
        self.graph.reach(number);
        progress.snapshots.fetch_add(1, Relaxed);
    }

    /// Adds a snapshot and all pages below it that are not in the graph. Returns the number of its entry.
    fn add_snapshot(&mut self, snapshot: SnapshotId, root: &Node, progress: &PruneProgress) -> Result<u64> {
        let mut level = Level::new(id_prefix(&snapshot.0), &References::of_node(root));
        let mut parents = Vec::new();
        loop {
            if let Some(id) = level.below.next() {
                if let Some(number) = self.graph.find(id_prefix(&id.0))? {
                    level.entry.pages.push(number);
                    continue;
                }
                progress.fail_if_stopped()?;
                progress.pages.fetch_add(1, Relaxed);
                let page = self.reader.page(id).map_err(|error| Error::SnapshotDamaged {
                    snapshot,
                    reason: format!("one of its tree pages cannot be read, so what it needs is unknown: {error}"),
                })?;
                self.fetched += 1;
                let mut below = Level::new(id_prefix(&id.0), &References::of_page(&page));
                below.entry.keys.sort_unstable();
                below.entry.keys.dedup();
                below.entry.keys.push(chunk_key(&id));
                parents.push(std::mem::replace(&mut level, below));
                continue;
            }
            let number = self.graph.add(level.name, &level.entry)?;
            let Some(parent) = parents.pop() else { return Ok(number) };
            level = parent;
            level.entry.pages.push(number);
        }
    }

    /// Passes what was found since the last call to `each` as filters: see [`LiveKeys::take_filters`].
    pub fn take_filters(&mut self, each: &mut dyn FnMut(u8, Vec<u8>) -> Result<()>) -> Result<()> {
        self.live.take_filters(each)
    }
}
