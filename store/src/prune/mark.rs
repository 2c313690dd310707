//! Finding all that snapshots reach.

use std::{
    collections::HashSet,
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::Ordering::Relaxed,
};

use super::Progress;
use crate::{
    error::{Error, Result},
    id::ChunkId,
    reader::Reader,
    sweep::{FILTER_IDS, encode_filter, filter_key},
    tree::{Content, Extent, Node, Page},
};

/// Ids held in memory, in all; more are written to a file for each first byte.
const HELD: usize = 1 << 20;
/// Bytes of an id's key on disk.
const KEY: usize = 8;

/// The ids that were found since they were last sent.
pub(super) struct Marks {
    scratch: PathBuf,
    shards: Vec<Shard>,
    held: usize,
    /// First halves of the ids of pages that were walked.
    pages: HashSet<[u8; 16]>,
    chunks: u64,
}

/// The ids with one first byte.
#[derive(Default)]
struct Shard {
    held: Vec<u64>,
    spilled: Option<File>,
    /// Whether it was sent before: then it is not sent again empty.
    is_sent: bool,
}

impl Marks {
    pub(super) fn new(scratch: &Path) -> Self {
        let shards = (0..256).map(|_| Shard::default()).collect();
        Self { scratch: scratch.to_owned(), shards, held: 0, pages: HashSet::new(), chunks: 0 }
    }

    pub(super) fn pages(&self) -> u64 {
        self.pages.len() as u64
    }

    pub(super) fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Walks the snapshots that were committed at these places of the log.
    pub(super) fn walk(&mut self, reader: &Reader, places: Range<u64>, progress: &Progress) -> Result<()> {
        let snapshots = reader.roots(places)?;
        progress.snapshots_total.fetch_add(snapshots.len() as u64, Relaxed);
        for (snapshot, root) in snapshots {
            let mut todo = Vec::new();
            self.node(&root, &mut todo)?;
            while let Some(id) = todo.pop() {
                progress.go_on()?;
                let mut half = [0; 16];
                half.copy_from_slice(&id.0[..16]);
                if !self.pages.insert(half) {
                    continue;
                }
                progress.pages.fetch_add(1, Relaxed);
                self.add(&id)?;
                let page = reader.page(id).map_err(|error| Error::SnapshotDamaged {
                    snapshot,
                    reason: format!("one of its trees cannot be read, so nobody knows what is needed: {error}"),
                })?;
                self.page(&page, &mut todo)?;
            }
            progress.snapshots.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    fn page(&mut self, page: &Page, todo: &mut Vec<ChunkId>) -> Result<()> {
        match page {
            Page::Nodes(nodes) => nodes.iter().try_for_each(|node| self.node(node, todo))?,
            // Read in order: the last one put is the first one taken.
            Page::Dirs(_, children) => todo.extend(children.iter().rev().map(|child| child.id)),
            Page::Spans(_, children) => todo.extend(children.iter().rev().map(|child| child.id)),
            Page::Extents(extents) => self.extents(extents)?,
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, todo: &mut Vec<ChunkId>) -> Result<()> {
        todo.extend(node.subtree.map(|subtree| subtree.id));
        match &node.content {
            Some(Content::Extents(extents)) => self.extents(extents),
            Some(Content::Tree(id)) => {
                todo.push(*id);
                Ok(())
            }
            Some(Content::Inline(_)) | None => Ok(()),
        }
    }

    fn extents(&mut self, extents: &[Extent]) -> Result<()> {
        extents.iter().try_for_each(|extent| match extent {
            Extent::Data { id, .. } => self.add(id),
            _ => Ok(()),
        })
    }

    fn add(&mut self, id: &ChunkId) -> Result<()> {
        self.chunks += 1;
        self.shards[usize::from(id.0[0])].held.push(filter_key(id));
        self.held += 1;
        if self.held >= HELD { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        self.held = 0;
        for shard in &mut self.shards {
            // Most of what comes again comes soon: a shared chunk is written once a round.
            shard.held.sort_unstable();
            shard.held.dedup();
            let bytes: Vec<u8> = shard.held.drain(..).flat_map(u64::to_le_bytes).collect();
            let file = match &mut shard.spilled {
                Some(file) => file,
                spilled => spilled.insert(unnamed(&self.scratch)?),
            };
            file.write_all(&bytes).map_err(|e| Error::io(&self.scratch, e))?;
        }
        Ok(())
    }

    /// Sends what was found since the last time as filters, and forgets it; the first time one of every first byte.
    pub(super) fn send(&mut self, send: &mut dyn FnMut(u8, Vec<u8>) -> Result<()>) -> Result<()> {
        self.held = 0;
        for (first, shard) in self.shards.iter_mut().enumerate() {
            let mut keys = std::mem::take(&mut shard.held);
            if let Some(mut file) = shard.spilled.take() {
                let mut bytes = Vec::new();
                let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
                read.map_err(|e| Error::io(&self.scratch, e))?;
                keys.extend(bytes.as_chunks::<KEY>().0.iter().map(|key| u64::from_le_bytes(*key)));
            }
            keys.sort_unstable();
            keys.dedup();
            if keys.is_empty() && shard.is_sent {
                continue;
            }
            shard.is_sent = true;
            if keys.is_empty() {
                send(first as u8, encode_filter(&mut []))?;
            }
            for part in keys.chunks_mut(FILTER_IDS) {
                send(first as u8, encode_filter(part))?;
            }
        }
        Ok(())
    }
}

/// A file that has no name any more, so that nothing of it stays behind.
fn unnamed(folder: &Path) -> Result<File> {
    let name = format!(".prune-{}-{:016x}", std::process::id(), u64::from_le_bytes(crate::crypto::random()));
    let path = folder.join(name);
    let open = || {
        std::fs::create_dir_all(folder)?;
        let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    };
    open().map_err(|e| Error::io(&path, e))
}
