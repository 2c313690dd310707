//! Marking: finds all that snapshots reach. Pages that no earlier prune has walked are fetched; the rest is remembered.

use std::{collections::HashSet, ops::Range, path::Path, sync::atomic::Ordering::Relaxed};

use super::{
    damage::is_cache_damage,
    graph::{Entry, PageGraph, chunk_key},
    live_keys::LiveKeys,
    progress::PruneProgress,
    snapshots::{self, Root, is_broken},
};
use crate::{
    access::{CommittedSnapshot, Maintain},
    base::{
        error::{Error, Result},
        id::{ChunkId, SnapshotId},
    },
    format::tree::Node,
    owner::{
        reader::{BrokenSnapshot, Reader},
        references::{IdPrefix, References, id_prefix},
    },
};

/// How many snapshots that cannot be read are listed at most. Once these are signed away, the next walk lists more.
const BROKEN_MAX: usize = 10_000;
/// How many snapshots are fetched together.
const FETCHED_MAX: usize = 256;

/// Walks snapshots, and collects the keys of what they reach.
pub(super) struct Marker<'a> {
    reader: &'a Reader,
    graph: PageGraph,
    live: LiveKeys,
    /// The entries of the snapshots that were walked.
    snapshots: HashSet<u64>,
    /// Pages of broken snapshots that were read, or found to be unreadable.
    salvaged: HashSet<IdPrefix>,
    /// Snapshots that cannot be read, without those that a key holder signed away.
    broken: Vec<BrokenSnapshot>,
    /// Entries that were visited, including those of snapshots.
    visited: u64,
    fetched: u64,
    chunks: u64,
}

/// What a walk found.
#[derive(Debug)]
pub(super) struct Walked {
    /// Snapshots in the trash that are due and were skipped.
    pub due: u64,
    /// Snapshots that cannot be read. As long as there are any, it is unknown what is needed.
    pub broken: Vec<BrokenSnapshot>,
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
    pub fn new(reader: &'a Reader, folder: &Path) -> Self {
        let graph = PageGraph::open(folder, reader.keys().full());
        let (live, snapshots) = (LiveKeys::new(folder), HashSet::new());
        let (salvaged, broken) = (HashSet::new(), Vec::new());
        Self { reader, graph, live, snapshots, salvaged, broken, visited: 0, fetched: 0, chunks: 0 }
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
    pub fn walk(
        &mut self,
        access: &dyn Maintain,
        records: Range<u64>,
        skips_due: bool,
        progress: &PruneProgress,
    ) -> Result<Walked> {
        let walked = match self.try_walk(access, records.clone(), skips_due, progress) {
            Err(error) if is_cache_damage(&error) => {
                tracing::warn!(%error, "walking all trees again");
                self.graph.clear();
                self.snapshots.clear();
                self.salvaged.clear();
                self.broken.clear();
                (self.visited, self.chunks) = (0, 0);
                self.try_walk(access, 0..records.end, skips_due, progress)
            }
            walked => walked,
        };
        // Saved even if the walk was cut short: what it has fetched need not be fetched again.
        self.graph.save(walked.as_ref().is_ok_and(|walked| walked.broken.is_empty()));
        walked
    }

    fn try_walk(
        &mut self,
        access: &dyn Maintain,
        records: Range<u64>,
        skips_due: bool,
        progress: &PruneProgress,
    ) -> Result<Walked> {
        let mut snapshots = snapshots::committed(access, records)?;
        let all = snapshots.len() as u64;
        snapshots.retain(|snapshot| !(skips_due && snapshot.is_due));
        let due = all - snapshots.len() as u64;
        progress.snapshots_total.fetch_add(snapshots.len() as u64, Relaxed);
        // Snapshots that follow one another are fetched together: known ones end a run.
        let mut unknown: Vec<CommittedSnapshot> = Vec::new();
        for snapshot in snapshots {
            if let Some(number) = self.graph.find(id_prefix(&snapshot.id.0))? {
                self.fetch(access, &std::mem::take(&mut unknown), progress)?;
                self.reach(number, progress);
                continue;
            }
            if unknown.len() == FETCHED_MAX {
                self.fetch(access, &std::mem::take(&mut unknown), progress)?;
            }
            unknown.push(snapshot);
        }
        self.fetch(access, &unknown, progress)?;
        let (live, chunks) = (&mut self.live, &mut self.chunks);
        self.visited += self.graph.visit_new(&mut |key| {
            *chunks += 1;
            live.add(key)
        })?;
        Ok(Walked { due, broken: std::mem::take(&mut self.broken) })
    }

    /// Fetches snapshots that follow one another, and walks them.
    fn fetch(
        &mut self,
        access: &dyn Maintain,
        snapshots: &[CommittedSnapshot],
        progress: &PruneProgress,
    ) -> Result<()> {
        if snapshots.is_empty() {
            return Ok(());
        }
        let roots = snapshots::roots(self.reader, access, snapshots)?;
        roots.into_iter().try_for_each(|root| self.add_root(root, progress))
    }

    /// Adds a snapshot, and all below it. If not all of it can be read, and a key holder signed that, what can be read
    /// is live; otherwise the snapshot is listed as broken.
    fn add_root(&mut self, (snapshot, root): Root, progress: &PruneProgress) -> Result<()> {
        let (root, error) = match root {
            Err(error) => (None, error),
            Ok(root) => match self.add_snapshot(snapshot, &root, progress) {
                Ok(number) => {
                    self.reach(number, progress);
                    return Ok(());
                }
                // What is wrong with the files that earlier prunes left is not wrong with the snapshot.
                Err(error) if is_cache_damage(&error) || !is_broken(&error) => return Err(error),
                Err(error) => (Some(root), error),
            },
        };
        let broken = self.reader.broken(snapshot, error)?;
        if broken.is_signed {
            tracing::warn!(%snapshot, error = %broken.error, "a snapshot that was forgotten as broken is skipped");
            return root.map_or(Ok(()), |root| self.salvage(&root, progress));
        }
        if self.broken.len() < BROKEN_MAX {
            self.broken.push(broken);
        }
        Ok(())
    }

    /// Marks what can be read of a broken snapshot as live. Nothing of it is remembered for the next prune: what could
    /// not be read may be there again then.
    fn salvage(&mut self, root: &Node, progress: &PruneProgress) -> Result<()> {
        let References { mut pages, chunks } = References::of_node(root);
        self.add_live(&chunks)?;
        while let Some(id) = pages.pop() {
            progress.fail_if_stopped()?;
            if let Some(number) = self.graph.find(id_prefix(&id.0))? {
                self.graph.reach(number);
                continue;
            }
            if !self.salvaged.insert(id_prefix(&id.0)) {
                continue;
            }
            self.add_live(&[id])?;
            match self.reader.page(id) {
                Ok(page) => {
                    let below = References::of_page(&page);
                    self.add_live(&below.chunks)?;
                    pages.extend(below.pages);
                }
                Err(error) if is_broken(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn add_live(&mut self, ids: &[ChunkId]) -> Result<()> {
        self.chunks += ids.len() as u64;
        ids.iter().try_for_each(|id| self.live.add(chunk_key(id)))
    }

    /// Walks snapshots that are open already, and returns those that cannot be read.
    pub fn find_broken(&mut self, roots: Vec<Root>, progress: &PruneProgress) -> Result<Vec<BrokenSnapshot>> {
        progress.snapshots_total.fetch_add(roots.len() as u64, Relaxed);
        for root in roots {
            match self.graph.find(id_prefix(&root.0.0))? {
                Some(_) => drop(progress.snapshots.fetch_add(1, Relaxed)),
                None => self.add_root(root, progress)?,
            }
        }
        self.graph.save(false);
        Ok(std::mem::take(&mut self.broken))
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
                let page = self.reader.page(id).map_err(|error| match is_broken(&error) {
                    true => Error::PageUnreadable { snapshot, page: id, reason: error.to_string() },
                    false => error,
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
