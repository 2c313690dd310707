//! Finding all that snapshots reach: pages that no earlier prune has walked are fetched, the rest is remembered.

use std::{collections::HashSet, ops::Range, path::Path, sync::atomic::Ordering::Relaxed};

use super::{
    Progress,
    graph::{Entry, Half, Reach, half, key_of},
    live_keys::Live,
    snapshots,
};
use crate::{
    access::{Access, CommittedSnapshot},
    base::{
        error::{Error, Result},
        id::{ChunkId, SnapshotId},
    },
    format::tree::{Content, Extent, Node, Page},
    owner::reader::Reader,
};

/// How many snapshots are fetched at once.
const RUN: usize = 256;

/// What was found since it was last sent, and what is remembered.
pub(super) struct Marks<'a> {
    reader: &'a Reader,
    access: &'a dyn Access,
    reach: Reach,
    live: Live,
    /// The numbers of the snapshots that are reached.
    snapshots: HashSet<u64>,
    /// How many entries are reached, snapshots among them.
    told: u64,
    fetched: u64,
    chunks: u64,
}

/// A page, or the snapshot, on the way down.
struct Step {
    name: Half,
    entry: Entry,
    /// The pages below that were not yet looked at.
    below: std::vec::IntoIter<ChunkId>,
}

impl<'a> Marks<'a> {
    /// Nothing found yet; what is remembered lies in `folder`.
    pub(super) fn new(reader: &'a Reader, access: &'a dyn Access, folder: &Path) -> Self {
        let reach = Reach::open(folder, reader.keys().full());
        Self {
            reader,
            access,
            reach,
            live: Live::new(folder),
            snapshots: HashSet::new(),
            told: 0,
            fetched: 0,
            chunks: 0,
        }
    }

    /// Different pages that are reached.
    pub(super) fn pages(&self) -> u64 {
        self.told - self.snapshots.len() as u64
    }

    /// Pages that were fetched.
    pub(super) fn fetched(&self) -> u64 {
        self.fetched
    }

    /// Chunks that are reached, pages included; one that is reached twice may count twice.
    pub(super) fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Finds all that the snapshots reach that were committed at these places of the log.
    ///
    /// Without `trash`, what emptying the trash would let go counts as gone: then it has to be let go before anything is condemned, and all be
    /// walked once more with it, in case that somebody has brought it back meanwhile. Returns how many those are.
    pub(super) fn walk(&mut self, places: Range<u64>, trash: bool, progress: &Progress) -> Result<u64> {
        let walked = self.try_walk(places.clone(), trash, progress);
        let walked = match walked {
            Err(error) if Reach::is_own(&error) => {
                tracing::warn!(%error, "all is walked anew");
                self.reach.begin_anew();
                self.snapshots.clear();
                (self.told, self.chunks) = (0, 0);
                self.try_walk(0..places.end, trash, progress)
            }
            walked => walked,
        };
        // Also of a walk that was cut short: what it has fetched need not be fetched again.
        self.reach.save(walked.is_ok());
        walked
    }

    fn try_walk(&mut self, places: Range<u64>, trash: bool, progress: &Progress) -> Result<u64> {
        let mut snapshots = snapshots::committed(self.access, places)?;
        let all = snapshots.len() as u64;
        snapshots.retain(|snapshot| trash || !snapshot.is_due);
        progress.snapshots_total.fetch_add(snapshots.len() as u64, Relaxed);
        let roots = snapshots.len() as u64;
        let mut unknown: Vec<CommittedSnapshot> = Vec::new();
        for committed in snapshots.iter().map(Some).chain([None]) {
            let known = committed.map_or(Ok(None), |committed| self.reach.find(half(&committed.id.0)))?;
            match (committed, known) {
                (Some(committed), None) if unknown.len() < RUN => {
                    unknown.push(*committed);
                    continue;
                }
                (Some(committed), None) => {
                    self.fetch(&std::mem::replace(&mut unknown, vec![*committed]), progress)?;
                }
                _ => self.fetch(&std::mem::take(&mut unknown), progress)?,
            }
            if let Some(number) = known {
                self.root(number, progress);
            }
        }
        let (live, chunks) = (&mut self.live, &mut self.chunks);
        let told = self.reach.tell(&mut |key| {
            *chunks += 1;
            live.add(key)
        })?;
        // A snapshot that was told before is not told again.
        self.told += told;
        Ok(all - roots)
    }

    /// Fetches snapshots that follow one another, and walks them.
    fn fetch(&mut self, snapshots: &[CommittedSnapshot], progress: &Progress) -> Result<()> {
        if snapshots.is_empty() {
            return Ok(());
        }
        for (snapshot, root) in snapshots::roots(self.reader, self.access, snapshots)? {
            let number = self.snapshot(snapshot, &root, progress)?;
            self.root(number, progress);
        }
        Ok(())
    }

    fn root(&mut self, number: u64, progress: &Progress) {
        self.snapshots.insert(number);
        self.reach.root(number);
        progress.snapshots.fetch_add(1, Relaxed);
    }

    /// Adds a snapshot, and all pages below that are not known.
    fn snapshot(&mut self, snapshot: SnapshotId, root: &Node, progress: &Progress) -> Result<u64> {
        let (entry, below) = named_by_node(root);
        let mut step = Step { name: half(&snapshot.0), entry, below: below.into_iter() };
        let mut above = Vec::new();
        loop {
            if let Some(id) = step.below.next() {
                if let Some(number) = self.reach.find(half(&id.0))? {
                    step.entry.pages.push(number);
                    continue;
                }
                progress.go_on()?;
                progress.pages.fetch_add(1, Relaxed);
                let page = self.reader.page(id).map_err(|error| Error::SnapshotDamaged {
                    snapshot,
                    reason: format!("one of its trees cannot be read, so nobody knows what is needed: {error}"),
                })?;
                self.fetched += 1;
                let (mut entry, below) = named_by(&page);
                entry.keys.push(key_of(&id));
                let down = Step { name: half(&id.0), entry, below: below.into_iter() };
                above.push(std::mem::replace(&mut step, down));
                continue;
            }
            let number = self.reach.add(step.name, &step.entry)?;
            let Some(back) = above.pop() else { return Ok(number) };
            step = back;
            step.entry.pages.push(number);
        }
    }

    /// Sends what was found since the last time as filters, and forgets it; the first time one of every first byte.
    pub(super) fn send(&mut self, send: &mut dyn FnMut(u8, Vec<u8>) -> Result<()>) -> Result<()> {
        self.live.send(send)
    }
}

/// What a page names: an entry that lacks its pages, and those.
fn named_by(page: &Page) -> (Entry, Vec<ChunkId>) {
    let (mut entry, mut below) = (Entry::default(), Vec::new());
    match page {
        Page::Nodes(nodes) => nodes.iter().for_each(|node| add_node(node, &mut entry, &mut below)),
        Page::Dirs(_, children) => below.extend(children.iter().map(|child| child.id)),
        Page::Spans(_, children) => below.extend(children.iter().map(|child| child.id)),
        Page::Extents(extents) => add_extents(extents, &mut entry),
    }
    entry.keys.sort_unstable();
    entry.keys.dedup();
    (entry, below)
}

fn named_by_node(node: &Node) -> (Entry, Vec<ChunkId>) {
    let (mut entry, mut below) = (Entry::default(), Vec::new());
    add_node(node, &mut entry, &mut below);
    (entry, below)
}

fn add_node(node: &Node, entry: &mut Entry, below: &mut Vec<ChunkId>) {
    below.extend(node.subtree.map(|subtree| subtree.id));
    match &node.content {
        Some(Content::Extents(extents)) => add_extents(extents, entry),
        Some(Content::Tree(id)) => below.push(*id),
        Some(Content::Inline(_)) | None => {}
    }
}

fn add_extents(extents: &[Extent], entry: &mut Entry) {
    entry.keys.extend(extents.iter().filter_map(|extent| match extent {
        Extent::Data { id, .. } => Some(key_of(id)),
        _ => None,
    }));
}
