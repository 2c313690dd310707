//! Everything that snapshots reach.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{CheckReport, Findings, Progress, packs::Hurt};
use crate::{
    access::Access,
    base::{
        error::{Error, Result},
        id::{ChunkId, SnapshotId},
    },
    format::tree::{Content, Extent, Node, Page, Subtree, Totals},
    owner::reader::{Reader, SnapshotInfo},
};

/// Chunks asked about at once.
const ASK: usize = 16_384;
/// Chunks read at once, where they are read.
const READ: usize = 256;
/// Ids of which is remembered that they were looked at: saves most of the asking where snapshots share contents.
const REMEMBERED: usize = 1 << 20;

/// Walks all snapshots. Chunks of data that were met in a bad frame are read, not only asked for.
pub(super) fn check(
    reader: &Reader,
    access: &dyn Access,
    snapshots: &[SnapshotInfo],
    hurt: &Hurt,
    findings: &Findings,
    progress: &Progress,
    report: &mut CheckReport,
) -> Result<()> {
    progress.snapshots_total.store(snapshots.len() as u64, Relaxed);
    let mut walk = Walk {
        reader,
        access,
        hurt,
        findings: Findings::default(),
        progress,
        snapshot: SnapshotId::default(),
        seen: HashSet::new(),
        fresh: Vec::new(),
        recent: vec![[0; 16]; REMEMBERED],
        pending: Vec::new(),
        tasks: Vec::new(),
        chunks: 0,
        at_risk: 0,
    };
    // Newest first: what is wrong is named by its place in the snapshot that people are most likely to want.
    for info in snapshots.iter().rev() {
        walk.snapshot = info.id;
        walk.node(&Arc::from(&b""[..]), &info.snapshot.root);
        walk.run()?;
        walk.ask()?;
        walk.conclude(findings)?;
        progress.snapshots.fetch_add(1, Relaxed);
    }
    report.pages = walk.seen.len() as u64;
    report.chunks = walk.chunks;
    report.chunks_at_risk = walk.at_risk;
    Ok(())
}

struct Walk<'a> {
    reader: &'a Reader,
    access: &'a dyn Access,
    hurt: &'a Hurt,
    progress: &'a Progress,
    snapshot: SnapshotId,
    /// What is wrong with this snapshot.
    findings: Findings,
    /// First halves of the ids of pages that were walked.
    seen: HashSet<[u8; 16]>,
    /// Those of them that were met first in this snapshot.
    fresh: Vec<[u8; 16]>,
    /// First halves of ids that were looked at lately, each at the place that its bytes give it.
    recent: Vec<[u8; 16]>,
    /// Chunks to ask for, and who needs them.
    pending: Vec<(ChunkId, Arc<[u8]>)>,
    tasks: Vec<Task>,
    chunks: u64,
    /// Those that can be read, and do not count as stored.
    at_risk: u64,
}

/// A page to be loaded.
struct Task {
    id: ChunkId,
    /// The level of the page above.
    above: Option<u8>,
    /// The folder or file that it belongs to.
    path: Arc<[u8]>,
    expected: Expected,
}

/// What the thing above says about a page.
enum Expected {
    /// The root page of a folder.
    Folder(Subtree),
    /// A page of a folder with so many entries below.
    Entries(u64),
    /// A page of a file's contents with so many bytes below.
    Bytes(u64),
}

impl Walk<'_> {
    fn run(&mut self) -> Result<()> {
        while let Some(task) = self.tasks.pop() {
            self.progress.go_on()?;
            if !self.seen.insert(half(task.id)) {
                continue;
            }
            self.fresh.push(half(task.id));
            self.progress.pages.fetch_add(1, Relaxed);
            if let Err(error) = self.page(&task) {
                self.findings.note(Some(self.snapshot), &task.path, error)?;
            }
            if self.pending.len() >= ASK {
                self.ask()?;
            }
        }
        Ok(())
    }

    /// Ends with a snapshot. If something is wrong with it and it is gone by now, nobody knows whether anything was wrong: what it
    /// shares with older ones is walked again with those.
    fn conclude(&mut self, findings: &Findings) -> Result<()> {
        let fresh = std::mem::take(&mut self.fresh);
        let found = std::mem::take(&mut self.findings);
        let total = found.total.into_inner();
        if total == 0 {
            return Ok(());
        }
        if !self.reader.is_gone(&self.snapshot)? {
            findings.take(found.problems.into_inner(), total);
            return Ok(());
        }
        for page in fresh {
            self.seen.remove(&page);
        }
        self.recent.fill([0; 16]);
        Ok(())
    }

    /// Loads a page, compares it with what is said above it, and plans what is below.
    fn page(&mut self, task: &Task) -> Result<()> {
        let page = self.reader.page(task.id)?;
        let wrong = |reason: &str| Error::damaged(format!("tree page {}", task.id), reason);
        if task.above.is_some_and(|above| page.level() + 1 != above) {
            return Err(wrong("its level does not fit the page above"));
        }
        let sum = |lens: &mut dyn Iterator<Item = u64>| lens.fold(0u64, u64::saturating_add);
        let fits = match (&*page, &task.expected) {
            (Page::Nodes(nodes), Expected::Folder(subtree)) => {
                let mut totals = Totals::default();
                nodes.iter().for_each(|node| totals.add(node));
                nodes.len() as u64 == subtree.entries && totals == subtree.totals
            }
            (Page::Nodes(nodes), Expected::Entries(entries)) => nodes.len() as u64 == *entries,
            (Page::Dirs(_, children), Expected::Folder(Subtree { entries, .. }) | Expected::Entries(entries)) => {
                sum(&mut children.iter().map(|c| c.entries)) == *entries
            }
            (Page::Extents(extents), Expected::Bytes(bytes)) => sum(&mut extents.iter().map(Extent::len)) == *bytes,
            (Page::Spans(_, children), Expected::Bytes(bytes)) => sum(&mut children.iter().map(|c| c.len)) == *bytes,
            _ => return Err(wrong("it is of another kind than what refers to it")),
        };
        match &*page {
            Page::Nodes(nodes) => nodes.iter().for_each(|node| {
                let path = join(&task.path, &node.name);
                self.node(&path, node);
            }),
            Page::Dirs(level, children) => children.iter().rev().for_each(|child| {
                let expected = Expected::Entries(child.entries);
                self.tasks.push(Task { id: child.id, above: Some(*level), path: task.path.clone(), expected });
            }),
            Page::Extents(extents) => self.extents(&task.path, extents),
            Page::Spans(level, children) => children.iter().rev().for_each(|child| {
                let expected = Expected::Bytes(child.len);
                self.tasks.push(Task { id: child.id, above: Some(*level), path: task.path.clone(), expected });
            }),
        }
        if fits { Ok(()) } else { Err(wrong("it does not hold what is counted above it")) }
    }

    fn node(&mut self, path: &Arc<[u8]>, node: &Node) {
        if let Some(subtree) = node.subtree {
            let expected = Expected::Folder(subtree);
            self.tasks.push(Task { id: subtree.id, above: None, path: path.clone(), expected });
        }
        match &node.content {
            Some(Content::Extents(extents)) => self.extents(path, extents),
            Some(Content::Tree(id)) => {
                let expected = Expected::Bytes(node.size);
                self.tasks.push(Task { id: *id, above: None, path: path.clone(), expected });
            }
            Some(Content::Inline(_)) | None => {}
        }
    }

    fn extents(&mut self, path: &Arc<[u8]>, extents: &[Extent]) {
        for extent in extents {
            let Extent::Data { id, .. } = extent else { continue };
            self.chunks += 1;
            let place = u32::from_le_bytes([id.0[0], id.0[1], id.0[2], id.0[3]]) as usize % REMEMBERED;
            if self.recent[place] != half(*id) {
                self.recent[place] = half(*id);
                self.pending.push((*id, path.clone()));
            }
        }
    }

    /// Asks for, or reads, the chunks that wait.
    fn ask(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let size = if self.hurt.is_more { READ } else { ASK };
        for part in pending.chunks(size) {
            self.progress.go_on()?;
            let ids: Vec<ChunkId> = part.iter().map(|(id, _)| *id).collect();
            if self.hurt.is_more {
                if self.reader.data_many(&ids).is_err() {
                    part.iter().try_for_each(|(id, path)| self.read(*id, path).map(drop))?;
                }
                continue;
            }
            let found = self.access.has(&ids)?;
            if found.len() != ids.len() {
                return Err(Error::Invalid("the store answered for another number of chunks".into()));
            }
            for ((id, path), is_stored) in part.iter().zip(found) {
                if !is_stored {
                    // In quarantine it may be readable all the same.
                    self.at_risk += u64::from(self.read(*id, path)?);
                } else if self.hurt.ids.contains(id) {
                    self.read(*id, path)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a chunk can be read; if not, it is noted whose it is.
    fn read(&self, id: ChunkId, path: &[u8]) -> Result<bool> {
        match self.reader.data(id) {
            Ok(_) => Ok(true),
            Err(error) => self.findings.note(Some(self.snapshot), path, error).map(|()| false),
        }
    }
}

fn half(id: ChunkId) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&id.0[..16]);
    half
}

fn join(path: &[u8], name: &[u8]) -> Arc<[u8]> {
    match path.is_empty() {
        true => Arc::from(name),
        false => Arc::from([path, b"/", name].concat()),
    }
}
