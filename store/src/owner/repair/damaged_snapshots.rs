//! Which snapshots are hurt: those that reach a page or chunk that cannot be read.
//!
//! A check names each hurt file once, by the newest snapshot that has it. Here every tree page is looked at once more, and of each is
//! remembered whether anything below it is hurt; so snapshots that share it cost nothing. Only done where something is hurt.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{
    access::Access,
    base::{
        error::{Error, ErrorKind, Result},
        id::{ChunkId, SnapshotId},
    },
    format::tree::{Content, Extent, Node, Page},
    owner::{
        check::{Problem, Progress},
        reader::Reader,
    },
};

/// Chunks asked about at once.
const ASK: usize = 16_384;

/// All snapshots, those in the trash too, that something is missing of; none if `problems` are none.
pub(super) fn snapshots(
    reader: &Reader,
    access: &dyn Access,
    problems: &[Problem],
    progress: &Progress,
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
        if walk.is_hurt(&root)? {
            found.insert(id);
        }
    }
    Ok(found)
}

struct Walk<'a> {
    reader: &'a Reader,
    access: &'a dyn Access,
    progress: &'a Progress,
    /// First halves of pages' ids, and whether something is hurt there or below.
    pages: HashMap<[u8; 16], bool>,
    /// Chunks that the store does not count as stored, and whether they cannot be read.
    chunks: HashMap<ChunkId, bool>,
}

/// A page that is being looked at.
struct Open {
    id: ChunkId,
    below: Vec<ChunkId>,
    is_hurt: bool,
}

impl Walk<'_> {
    fn is_hurt(&mut self, root: &Node) -> Result<bool> {
        let (mut below, mut chunks) = (Vec::new(), Vec::new());
        references(root, &mut below, &mut chunks);
        let mut stack = vec![Open { id: ChunkId::default(), below, is_hurt: self.are_hurt(&chunks)? }];
        loop {
            self.progress.go_on()?;
            let Some(top) = stack.last_mut() else { return Ok(false) };
            if let Some(id) = top.below.pop() {
                match self.pages.get(&half(id)) {
                    Some(is_hurt) => top.is_hurt |= is_hurt,
                    None => {
                        // Whatever refers to itself is looked at once.
                        self.pages.insert(half(id), false);
                        let open = self.open(id)?;
                        stack.push(open);
                    }
                }
                continue;
            }
            let Some(done) = stack.pop() else { return Ok(false) };
            let Some(above) = stack.last_mut() else { return Ok(done.is_hurt) };
            above.is_hurt |= done.is_hurt;
            self.pages.insert(half(done.id), done.is_hurt);
        }
    }

    fn open(&mut self, id: ChunkId) -> Result<Open> {
        let page = match self.reader.page(id) {
            Ok(page) => page,
            Err(error) => return is_damage(error).map(|()| Open { id, below: Vec::new(), is_hurt: true }),
        };
        let (mut below, mut chunks) = (Vec::new(), Vec::new());
        match &*page {
            Page::Nodes(nodes) => nodes.iter().for_each(|node| references(node, &mut below, &mut chunks)),
            Page::Dirs(_, children) => below.extend(children.iter().map(|child| child.id)),
            Page::Spans(_, children) => below.extend(children.iter().map(|child| child.id)),
            Page::Extents(extents) => data(extents, &mut chunks),
        }
        let is_hurt = self.are_hurt(&chunks)?;
        Ok(Open { id, below, is_hurt })
    }

    /// Whether any of these chunks cannot be read.
    fn are_hurt(&mut self, chunks: &[ChunkId]) -> Result<bool> {
        let mut is_hurt = false;
        for ids in chunks.chunks(ASK) {
            let has = self.access.has(ids)?;
            let lacking: HashSet<ChunkId> = ids.iter().zip(has).filter(|(_, has)| !has).map(|(id, _)| *id).collect();
            for id in lacking {
                let is_lost = match self.chunks.get(&id) {
                    Some(is_lost) => *is_lost,
                    None => match self.reader.data(id) {
                        Ok(_) => false,
                        Err(error) => is_damage(error).map(|()| true)?,
                    },
                };
                self.chunks.insert(id, is_lost);
                is_hurt |= is_lost;
            }
        }
        Ok(is_hurt)
    }
}

/// Damage is what is looked for; everything else ends the search.
fn is_damage(error: Error) -> Result<()> {
    match error.kind() {
        ErrorKind::Damaged => Ok(()),
        _ => Err(error),
    }
}

/// The pages and chunks that a node names.
fn references(node: &Node, pages: &mut Vec<ChunkId>, chunks: &mut Vec<ChunkId>) {
    pages.extend(node.subtree.map(|subtree| subtree.id));
    match &node.content {
        Some(Content::Tree(id)) => pages.push(*id),
        Some(Content::Extents(extents)) => data(extents, chunks),
        Some(Content::Inline(_)) | None => {}
    }
}

fn data(extents: &[Extent], chunks: &mut Vec<ChunkId>) {
    chunks.extend(extents.iter().filter_map(|extent| match extent {
        Extent::Data { id, .. } => Some(*id),
        Extent::Hole { .. } => None,
    }));
}

fn half(id: ChunkId) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&id.0[..16]);
    half
}
