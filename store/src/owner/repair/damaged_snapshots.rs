//! Finding the damaged snapshots: those that reach a page or chunk that cannot be read.
//!
//! A check names each damaged file once, with the newest snapshot that has it. Here every tree page is read again, and
//! it is remembered of each whether anything at or below it is damaged. So pages that snapshots share cost nothing.
//! This is only done if a check has found problems.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{
    access::Access,
    base::{
        error::{Error, ErrorKind, Result},
        id::{ChunkId, SnapshotId},
    },
    format::tree::Node,
    owner::{
        check::{CheckProgress, Problem},
        reader::Reader,
        references::{IdPrefix, References, id_prefix},
    },
};

/// How many chunks one request asks for.
const ASKED_MAX: usize = 16_384;

/// Finds all snapshots that need something that cannot be read, including those in the trash. Finds none if there are
/// no `problems`.
pub(super) fn find(
    reader: &Reader,
    access: &dyn Access,
    problems: &[Problem],
    progress: &CheckProgress,
) -> Result<BTreeSet<SnapshotId>> {
    let mut found: BTreeSet<SnapshotId> = problems.iter().filter_map(|problem| problem.snapshot).collect();
    if problems.is_empty() {
        return Ok(found);
    }
    let roots = reader.with_snapshots(|list| {
        let trash = list.trash.iter().map(|trashed| &trashed.info);
        list.snapshots.iter().chain(trash).map(|info| (info.id, info.snapshot.root.clone())).collect::<Vec<_>>()
    })?;
    let mut walk = Walk { reader, access, progress, pages: HashMap::new(), chunks: HashMap::new() };
    for (id, root) in roots {
        if walk.is_damaged(&root)? {
            found.insert(id);
        }
    }
    Ok(found)
}

struct Walk<'a> {
    reader: &'a Reader,
    access: &'a dyn Access,
    progress: &'a CheckProgress,
    /// Whether something at or below a page is damaged.
    pages: HashMap<IdPrefix, bool>,
    /// Chunks that the store does not count as stored, and whether they are lost.
    chunks: HashMap<ChunkId, bool>,
}

/// A page, or the root node, on the way down.
struct Level {
    page: IdPrefix,
    /// Pages below it that were not walked yet.
    below: Vec<ChunkId>,
    is_damaged: bool,
}

impl Walk<'_> {
    fn is_damaged(&mut self, root: &Node) -> Result<bool> {
        let References { pages, chunks } = References::of_node(root);
        let is_damaged = self.is_any_lost(&chunks)?;
        let mut stack = vec![Level { page: IdPrefix::default(), below: pages, is_damaged }];
        loop {
            self.progress.fail_if_stopped()?;
            let Some(top) = stack.last_mut() else { return Ok(false) };
            if let Some(id) = top.below.pop() {
                let page = id_prefix(&id.0);
                match self.pages.get(&page) {
                    Some(is_damaged) => top.is_damaged |= is_damaged,
                    None => {
                        // Inserted before the walk below it: a page that refers to itself is walked once.
                        self.pages.insert(page, false);
                        let level = self.open(id)?;
                        stack.push(level);
                    }
                }
                continue;
            }
            let Some(done) = stack.pop() else { return Ok(false) };
            let Some(parent) = stack.last_mut() else { return Ok(done.is_damaged) };
            parent.is_damaged |= done.is_damaged;
            self.pages.insert(done.page, done.is_damaged);
        }
    }

    fn open(&mut self, id: ChunkId) -> Result<Level> {
        let page = id_prefix(&id.0);
        let References { pages: below, chunks } = match self.reader.page(id) {
            Ok(page) => References::of_page(&page),
            Err(error) => {
                expect_damage(error)?;
                return Ok(Level { page, below: Vec::new(), is_damaged: true });
            }
        };
        let is_damaged = self.is_any_lost(&chunks)?;
        Ok(Level { page, below, is_damaged })
    }

    /// Whether any of these chunks cannot be read.
    fn is_any_lost(&mut self, chunks: &[ChunkId]) -> Result<bool> {
        let mut is_any_lost = false;
        for ids in chunks.chunks(ASKED_MAX) {
            let has = self.access.has(None, ids)?;
            let lacking: HashSet<ChunkId> = ids.iter().zip(has).filter(|(_, has)| !has).map(|(id, _)| *id).collect();
            for id in lacking {
                let is_lost = match self.chunks.get(&id) {
                    Some(is_lost) => *is_lost,
                    None => match self.reader.data(id) {
                        Ok(_) => false,
                        Err(error) => expect_damage(error).map(|()| true)?,
                    },
                };
                self.chunks.insert(id, is_lost);
                is_any_lost |= is_lost;
            }
        }
        Ok(is_any_lost)
    }
}

/// Damage is what the walk looks for. Every other error ends it.
fn expect_damage(error: Error) -> Result<()> {
    match error.kind() {
        ErrorKind::Damaged => Ok(()),
        _ => Err(error),
    }
}
