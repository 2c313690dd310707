//! Reading with a full key: chunks, tree pages, directories, files and snapshots.
//!
//! A [`Reader`] asks the store for sealed frames, opens each, checks every chunk in it against its id, and keeps the
//! chunks in one cache with a byte budget: a fetch for one small file serves its neighbours. Tree pages are decoded
//! once and kept in a cache of their own. All calls may be made from many threads; threads that miss the same chunk at
//! once fetch it once.
//!
//! What a server sends is never trusted: a frame that does not open, or lacks the chunk that was asked for, is an error
//! that names the pack. The reader does not write, prune or repair.

mod directory;
mod file;
mod snapshots;

pub use directory::Directory;
pub use file::FileContent;
pub use snapshots::{SnapshotInfo, SnapshotList};

use std::{collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::{
    Weighter,
    sync::{Cache, GuardResult},
};

use crate::{
    access::{Access, IDS_MAX, ReadRequest, SealedFrame},
    config::Config,
    error::{Error, Result},
    frame::{self, ChunkKind},
    id::ChunkId,
    keyring::KeyRing,
    keys::FullKey,
    tree::{Node, NodeKind, Page, Subtree},
};

/// A miss on a tree page brings the frames behind it too: trees are stored depth-first, so they are asked for next.
const TREE_NEIGHBOUR_BYTES: u32 = 128 * 1024;
/// The part of the budget that decoded tree pages get.
const PAGES_SHARE: u64 = 4;

/// Reads a repository.
pub struct Reader {
    access: Arc<dyn Access>,
    keys: KeyRing,
    config: Config,
    chunks: Cache<ChunkId, Bytes, ByLen>,
    pages: Cache<ChunkId, Arc<CachedPage>, ByLen>,
    snapshots: Mutex<snapshots::State>,
}

struct CachedPage {
    page: Arc<Page>,
    bytes: u64,
}

#[derive(Clone)]
struct ByLen;

impl Weighter<ChunkId, Bytes> for ByLen {
    fn weight(&self, _: &ChunkId, chunk: &Bytes) -> u64 {
        chunk.len() as u64 + 128
    }
}

impl Weighter<ChunkId, Arc<CachedPage>> for ByLen {
    /// Decoded nodes take about four times their encoded length.
    fn weight(&self, _: &ChunkId, page: &Arc<CachedPage>) -> u64 {
        page.bytes * 4 + 128
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader(repository {})", self.config.repo)
    }
}

impl Reader {
    /// A reader with a cache of about `cache_bytes`. The configuration must have been verified and belong to the key.
    pub fn new(access: Arc<dyn Access>, full: FullKey, config: &Config, cache_bytes: usize) -> Arc<Self> {
        let pages = cache_bytes as u64 / PAGES_SHARE;
        let chunks = cache_bytes as u64 - pages;
        Arc::new(Self {
            keys: KeyRing::new(full, access.clone()),
            access,
            config: config.clone(),
            // The expected number of items is a hint for the cache's tables.
            chunks: Cache::with_weighter((chunks / 32_768) as usize, chunks, ByLen),
            pages: Cache::with_weighter((pages / 32_768) as usize, pages, ByLen),
            snapshots: Mutex::default(),
        })
    }

    /// The store behind it.
    pub fn access(&self) -> &Arc<dyn Access> {
        &self.access
    }

    /// The keys that it opens with.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The repository's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// One chunk of data.
    pub fn data(&self, id: ChunkId) -> Result<Bytes> {
        self.chunk(ChunkKind::Data, id, 0)
    }

    /// Many chunks of data, in the order of the ids. If one fails, all do: ask one by one to learn which.
    pub fn data_many(&self, ids: &[ChunkId]) -> Result<Vec<Bytes>> {
        let mut found: HashMap<ChunkId, Bytes> = HashMap::with_capacity(ids.len());
        let mut wanted = Vec::new();
        for id in ids {
            if !found.contains_key(id) {
                match self.chunks.get(id) {
                    Some(chunk) => drop(found.insert(*id, chunk)),
                    None => wanted.push(*id),
                }
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        if !wanted.is_empty() {
            // Asked for in the order given: that is mostly the order in which they are stored.
            let order: HashMap<ChunkId, usize> = ids.iter().enumerate().rev().map(|(i, id)| (*id, i)).collect();
            wanted.sort_unstable_by_key(|id| order[id]);
            self.fetch(ChunkKind::Data, &wanted, 0, &mut |id, chunk| {
                found.insert(id, chunk);
            })?;
        }
        ids.iter().map(|id| found.get(id).cloned().ok_or(Error::ChunkMissing { id: *id })).collect()
    }

    /// Brings chunks of data into the cache, those that are not there.
    pub fn prefetch(&self, ids: &[ChunkId]) -> Result<()> {
        let wanted: Vec<ChunkId> = ids.iter().copied().filter(|id| !self.chunks.contains_key(id)).collect();
        if wanted.is_empty() { Ok(()) } else { self.fetch(ChunkKind::Data, &wanted, 0, &mut |_, _| {}) }
    }

    /// Whether a chunk is in the cache.
    pub fn is_cached(&self, id: &ChunkId) -> bool {
        self.chunks.contains_key(id)
    }

    /// One page of a tree, decoded.
    pub fn page(&self, id: ChunkId) -> Result<Arc<Page>> {
        let guard = match self.pages.get_value_or_guard(&id, None) {
            GuardResult::Value(cached) => return Ok(cached.page.clone()),
            GuardResult::Guard(guard) => Some(guard),
            GuardResult::Timeout => None,
        };
        let bytes = self.chunk(ChunkKind::Tree, id, TREE_NEIGHBOUR_BYTES)?;
        let page = Arc::new(Page::decode(id, &bytes)?);
        if let Some(guard) = guard {
            // The cache may have dropped the place meanwhile: the page is right all the same.
            let _ = guard.insert(Arc::new(CachedPage { page: page.clone(), bytes: bytes.len() as u64 }));
        }
        Ok(page)
    }

    /// A directory, to be listed and searched.
    pub fn dir<'a>(&'a self, subtree: &Subtree) -> Directory<'a> {
        Directory::new(self, *subtree)
    }

    /// The contents of a regular file.
    pub fn file<'a>(&'a self, node: &'a Node) -> FileContent<'a> {
        FileContent::new(self, node)
    }

    /// Follows a path of names below a root node; symbolic links are not followed. Empty components are passed over.
    pub fn resolve(&self, root: &Node, path: &[u8]) -> Result<Node> {
        let mut node = root.clone();
        let mut seen = Vec::new();
        for name in path.split(|&b| b == b'/').filter(|name| !name.is_empty() && *name != b".") {
            let missing = |what: &str, seen: &[u8]| {
                let (name, seen) = (name.escape_ascii(), seen.escape_ascii());
                Error::SnapshotNotFound(format!("the snapshot has no `{seen}/{name}`: {what}"))
            };
            let subtree = match (&node.subtree, node.kind) {
                (Some(subtree), NodeKind::Directory) => *subtree,
                _ => return Err(missing("what stands before it is no folder", &seen)),
            };
            node = self.dir(&subtree).lookup(name)?.ok_or_else(|| missing("no such file or folder", &seen))?;
            seen.push(b'/');
            seen.extend_from_slice(name);
        }
        Ok(node)
    }

    fn chunk(&self, kind: ChunkKind, id: ChunkId, neighbour_bytes: u32) -> Result<Bytes> {
        let guard = match self.chunks.get_value_or_guard(&id, None) {
            GuardResult::Value(chunk) => return Ok(chunk),
            GuardResult::Guard(guard) => Some(guard),
            GuardResult::Timeout => None,
        };
        let mut found = None;
        let mut others = Vec::new();
        self.fetch_uncached(kind, &[id], neighbour_bytes, &mut |other, chunk| match other == id {
            true => found = Some(chunk),
            false => others.push((other, chunk)),
        })?;
        let chunk = found.ok_or(Error::ChunkMissing { id })?;
        if let Some(guard) = guard {
            let _ = guard.insert(chunk.clone());
        }
        for (other, chunk) in others {
            if !self.chunks.contains_key(&other) {
                self.chunks.insert(other, chunk);
            }
        }
        Ok(chunk)
    }

    fn fetch(
        &self,
        kind: ChunkKind,
        ids: &[ChunkId],
        neighbour_bytes: u32,
        each: &mut dyn FnMut(ChunkId, Bytes),
    ) -> Result<()> {
        self.fetch_uncached(kind, ids, neighbour_bytes, &mut |id, chunk| {
            self.chunks.insert(id, chunk.clone());
            each(id, chunk);
        })
    }

    /// Fetches and opens the frames of the ids; hands out every chunk in them. All ids were handed out if it succeeds.
    fn fetch_uncached(
        &self,
        kind: ChunkKind,
        ids: &[ChunkId],
        neighbour_bytes: u32,
        each: &mut dyn FnMut(ChunkId, Bytes),
    ) -> Result<()> {
        let mut rest = ids;
        while !rest.is_empty() {
            let asked = &rest[..rest.len().min(IDS_MAX)];
            let reply = self.access.read(&ReadRequest { ids: asked.to_vec(), neighbour_bytes })?;
            if reply.done == 0 || reply.done > asked.len() {
                return Err(Error::Invalid("the store answered a read with nothing".into()));
            }
            if let Some(id) = reply.missing.first() {
                return Err(Error::ChunkMissing { id: *id });
            }
            let mut wanted: HashMap<ChunkId, ()> = asked[..reply.done].iter().map(|id| (*id, ())).collect();
            let mut damaged = None;
            for sealed in &reply.frames {
                match self.open(kind, sealed) {
                    Ok(chunks) => chunks.into_iter().for_each(|(id, chunk)| {
                        wanted.remove(&id);
                        each(id, chunk);
                    }),
                    // A damaged neighbour hurts nobody; a damaged frame that was asked for is missed below.
                    Err(error) => damaged = damaged.or(Some(error)),
                }
            }
            if let Some(id) = wanted.into_keys().next() {
                return Err(damaged.unwrap_or(match reply.frames.first() {
                    Some(frame) => frame_damaged(frame, format!("it lacks chunk {id}, which the index expects in it")),
                    None => Error::ChunkMissing { id },
                }));
            }
            rest = &rest[reply.done..];
        }
        Ok(())
    }

    /// Opens a frame and names its chunks.
    pub fn open(&self, kind: ChunkKind, sealed: &SealedFrame) -> Result<Vec<(ChunkId, Bytes)>> {
        let key = frame::key_id(&sealed.bytes).ok_or_else(|| frame_damaged(sealed, "it is too short"))?;
        let key = self.keys.data_key(key)?;
        let chunks = frame::open(&sealed.bytes, self.config.repo, kind, &key).map_err(|e| frame_damaged(sealed, e))?;
        let ids = self.keys.ids();
        let name = |chunk: &Bytes| match kind {
            ChunkKind::Data => ids.data_id(chunk),
            ChunkKind::Tree => ids.tree_id(chunk),
        };
        Ok(chunks.into_iter().map(|chunk| (name(&chunk), chunk)).collect())
    }
}

fn frame_damaged(frame: &SealedFrame, reason: impl Into<String>) -> Error {
    Error::FrameDamaged { pack: frame.pack, frame: frame.frame, reason: reason.into() }
}
