//! Trees: everything that snapshots reach.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{context::CheckContext, findings::Findings, packs::BadChunks, report::CheckReport, tree_path::TreePath};
use crate::{
    base::{
        error::{Error, Result},
        id::{ChunkId, SnapshotId},
    },
    format::tree::{Content, Extent, Node, Page, Subtree, Totals},
    owner::{
        reader::SnapshotInfo,
        references::{IdPrefix, id_prefix},
    },
};

/// How many chunks one request asks for.
const ASKED_MAX: usize = 16_384;
/// How many chunks are read together, if chunks are read.
const READ_MAX: usize = 256;
/// How many ids are remembered as asked for. That saves most requests where snapshots share contents.
const REMEMBERED: usize = 1 << 20;

/// Walks all snapshots. Chunks of data that are known to be bad are read; the store is asked for the others.
pub(super) fn check(
    check: &CheckContext<'_>,
    snapshots: &[SnapshotInfo],
    bad: &BadChunks,
    report: &mut CheckReport,
) -> Result<()> {
    check.progress.snapshots_total.store(snapshots.len() as u64, Relaxed);
    let mut walk = Walk {
        check: *check,
        bad,
        findings: Findings::default(),
        snapshot: SnapshotId::default(),
        walked: HashSet::new(),
        walked_first: Vec::new(),
        recent: vec![[0; 16]; REMEMBERED],
        pending: Vec::new(),
        tasks: Vec::new(),
        chunks: 0,
        at_risk: 0,
    };
    // Newest first: a problem is reported with the snapshot that people are most likely to want.
    for info in snapshots.iter().rev() {
        walk.snapshot = info.id;
        walk.node(&Arc::default(), &info.snapshot.root);
        walk.run()?;
        walk.ask()?;
        if walk.end_snapshot()? {
            *report.clients.entry(info.client).or_default() += 1;
        }
        check.progress.snapshots.fetch_add(1, Relaxed);
    }
    report.pages = walk.walked.len() as u64;
    report.chunks = walk.chunks;
    report.chunks_at_risk = walk.at_risk;
    Ok(())
}

struct Walk<'a> {
    check: CheckContext<'a>,
    bad: &'a BadChunks,
    /// The snapshot that is being walked.
    snapshot: SnapshotId,
    /// What is wrong with it.
    findings: Findings,
    /// Pages that were walked.
    walked: HashSet<IdPrefix>,
    /// The pages among them that were first found in this snapshot.
    walked_first: Vec<IdPrefix>,
    /// A hash table of chunks that were asked for. A slot holds the last id with its hash.
    recent: Vec<IdPrefix>,
    /// Chunks to ask for, with the paths of the files that need them.
    pending: Vec<(ChunkId, Arc<TreePath>)>,
    tasks: Vec<PageTask>,
    /// References to chunks of data.
    chunks: u64,
    /// References to chunks that can be read and do not count as stored.
    at_risk: u64,
}

/// A page to load.
struct PageTask {
    id: ChunkId,
    /// The level of the parent page; none for a root page.
    parent_level: Option<u8>,
    /// The folder or file that it belongs to.
    path: Arc<TreePath>,
    expected: Expected,
}

/// What the parent of a page states about it.
enum Expected {
    /// The root page of a folder.
    Folder(Subtree),
    /// Another page of a folder, with this many entries below it.
    Entries(u64),
    /// A page of a file's contents, with this many bytes below it.
    Bytes(u64),
}

impl Walk<'_> {
    fn run(&mut self) -> Result<()> {
        while let Some(task) = self.tasks.pop() {
            self.check.progress.fail_if_stopped()?;
            if !self.walked.insert(id_prefix(&task.id.0)) {
                continue;
            }
            self.walked_first.push(id_prefix(&task.id.0));
            self.check.progress.pages.fetch_add(1, Relaxed);
            if let Err(error) = self.page(&task) {
                self.findings.note(Some(self.snapshot), &task.path.to_bytes(), error)?;
            }
            if self.pending.len() >= ASKED_MAX {
                self.ask()?;
            }
        }
        Ok(())
    }

    /// Ends the walk of a snapshot. If something is wrong with it and it is gone by now, its data may simply have been
    /// pruned. Then its problems do not count, and what it shares with older snapshots is walked again with those.
    /// Returns whether it has problems.
    fn end_snapshot(&mut self) -> Result<bool> {
        let walked_first = std::mem::take(&mut self.walked_first);
        let found = std::mem::take(&mut self.findings);
        if found.is_empty() {
            return Ok(false);
        }
        if !self.check.reader.is_gone(&self.snapshot)? {
            self.check.findings.merge(found);
            return Ok(true);
        }
        for page in walked_first {
            self.walked.remove(&page);
        }
        self.recent.fill([0; 16]);
        Ok(false)
    }

    /// Loads a page, compares it with what its parent states, and adds tasks for what is below it.
    fn page(&mut self, task: &PageTask) -> Result<()> {
        let page = self.check.reader.page(task.id)?;
        let wrong = |reason: &str| Error::damaged(format!("tree page {}", task.id), reason);
        if task.parent_level.is_some_and(|level| page.level() + 1 != level) {
            return Err(wrong("its level does not fit its parent page"));
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
            _ => return Err(wrong("it is not of the kind that its parent refers to")),
        };
        match &*page {
            Page::Nodes(nodes) => nodes.iter().for_each(|node| {
                let path = TreePath::child(&task.path, &node.name);
                self.node(&path, node);
            }),
            Page::Dirs(level, children) => children.iter().rev().for_each(|child| {
                let expected = Expected::Entries(child.entries);
                self.tasks.push(PageTask {
                    id: child.id,
                    parent_level: Some(*level),
                    path: task.path.clone(),
                    expected,
                });
            }),
            Page::Extents(extents) => self.extents(&task.path, extents),
            Page::Spans(level, children) => children.iter().rev().for_each(|child| {
                let expected = Expected::Bytes(child.len);
                self.tasks.push(PageTask {
                    id: child.id,
                    parent_level: Some(*level),
                    path: task.path.clone(),
                    expected,
                });
            }),
        }
        if fits { Ok(()) } else { Err(wrong("its contents do not have the totals that its parent states")) }
    }

    fn node(&mut self, path: &Arc<TreePath>, node: &Node) {
        if let Some(subtree) = node.subtree {
            let expected = Expected::Folder(subtree);
            self.tasks.push(PageTask { id: subtree.id, parent_level: None, path: path.clone(), expected });
        }
        match &node.content {
            Some(Content::Extents(extents)) => self.extents(path, extents),
            Some(Content::Tree(id)) => {
                let expected = Expected::Bytes(node.size);
                self.tasks.push(PageTask { id: *id, parent_level: None, path: path.clone(), expected });
            }
            Some(Content::Inline(_)) | None => {}
        }
    }

    fn extents(&mut self, path: &Arc<TreePath>, extents: &[Extent]) {
        for extent in extents {
            let Extent::Data { id, .. } = extent else { continue };
            self.chunks += 1;
            // Ids are hashes, so their first bytes choose the slot.
            let slot = u32::from_le_bytes([id.0[0], id.0[1], id.0[2], id.0[3]]) as usize % REMEMBERED;
            if self.recent[slot] != id_prefix(&id.0) {
                self.recent[slot] = id_prefix(&id.0);
                self.pending.push((*id, path.clone()));
            }
        }
    }

    /// Asks the store for the pending chunks. If the ids of some bad chunks are unknown, reads them instead.
    fn ask(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let size = if self.bad.has_unknown { READ_MAX } else { ASKED_MAX };
        for part in pending.chunks(size) {
            self.check.progress.fail_if_stopped()?;
            let ids: Vec<ChunkId> = part.iter().map(|(id, _)| *id).collect();
            if self.bad.has_unknown {
                if self.check.reader.data_many(&ids).is_err() {
                    part.iter().try_for_each(|(id, path)| self.read(*id, path).map(drop))?;
                }
                continue;
            }
            let found = self.check.access.has(None, &ids)?;
            if found.len() != ids.len() {
                return Err(Error::Invalid(
                    "the store's reply is about another number of chunks than it was asked for".into(),
                ));
            }
            for ((id, path), is_stored) in part.iter().zip(found) {
                if !is_stored {
                    // It may be in quarantine, and still readable.
                    self.at_risk += u64::from(self.read(*id, path)?);
                } else if self.bad.ids.contains(id) {
                    self.read(*id, path)?;
                }
            }
        }
        Ok(())
    }

    /// Reads a chunk. Returns whether that succeeds; if not, notes the file that needs it.
    fn read(&self, id: ChunkId, path: &TreePath) -> Result<bool> {
        match self.check.reader.data(id) {
            Ok(_) => Ok(true),
            Err(error) => self.findings.note(Some(self.snapshot), &path.to_bytes(), error).map(|()| false),
        }
    }
}
