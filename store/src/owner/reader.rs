//! Reading with a full key: chunks, tree pages, directories, files and snapshots.
//!
//! A [`Reader`] asks the store for sealed frames, opens each, checks every chunk in it against its id, and keeps the
//! chunks in one cache with a byte budget: a fetch for one small file serves its neighbours. Tree pages are decoded
//! once and kept in a cache of their own. All calls may be made from many threads; threads that miss the same chunk at
//! once fetch it once.
//!
//! What a server sends is never trusted: a frame that does not open, or lacks the chunk that was asked for, is damaged.
//! The store is asked to mend its pack, and the frame is read once more; after that it is an error that names the pack.
//! The reader itself does not write, prune or repair.

mod directory;
mod file;
mod mend;
mod tracker;

pub use directory::Directory;
pub use file::FileContent;
pub use tracker::{Broken, Purged, SnapshotInfo, SnapshotList, Trashed};

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle, GuardResult},
};

use crate::{
    access::{IDS_MAX, Read, ReadRequest, SealedFrame},
    base::{
        error::{Error, Result},
        id::ChunkId,
    },
    format::{
        config::Config,
        frame::{self, ChunkKind},
        keys::FullKey,
        tree::{Node, NodeKind, Page, Subtree},
    },
    owner::keyring::KeyRing,
};

/// A miss on a tree page brings the frames behind it too: trees are stored depth-first, so they are asked for next.
const TREE_NEIGHBOUR_BYTES: u32 = 128 * 1024;
/// If one chunk in so many of a frame was asked for, the others will be, too, and are kept.
const NEAR: usize = 4;
/// The part of the budget that decoded tree pages get.
const PAGES_SHARE: u64 = 4;

/// The part of the chunks' cache for those that were used again. A chunk fetched ahead waits in the other part, and must
/// still be there when its reader comes; with the cache's default of 97 % here it was not, and every third chunk of a
/// sequential read was fetched twice.
const CHUNKS_HOT: f64 = 0.5;
/// The same of tree pages, of which the upper ones are used again and again.
const PAGES_HOT: f64 = 0.9;

/// Reads a repository.
pub struct Reader {
    access: Arc<dyn Read>,
    keys: KeyRing,
    config: Config,
    chunks: Cache<ChunkId, Bytes, ByLen>,
    pages: Cache<ChunkId, Arc<CachedPage>, ByLen>,
    snapshots: Mutex<tracker::State>,
    mender: mend::Mender,
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

/// A cache of so many bytes, of which a part is for what was used again.
fn cache<T: Clone>(bytes: u64, hot: f64) -> Cache<ChunkId, T, ByLen>
where
    ByLen: Weighter<ChunkId, T>,
{
    let options = OptionsBuilder::new()
        .weight_capacity(bytes)
        // A hint for the cache's tables.
        .estimated_items_capacity((bytes / 32_768) as usize)
        .hot_allocation(hot)
        .build()
        .expect("both capacities are set");
    Cache::with_options(options, ByLen, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader(repository {})", self.config.repo)
    }
}

impl Reader {
    /// A reader with a cache of about `cache_bytes`. The configuration must have been verified and belong to the key.
    pub fn new(access: Arc<dyn Read>, full: FullKey, config: &Config, cache_bytes: usize) -> Arc<Self> {
        let pages = cache_bytes as u64 / PAGES_SHARE;
        let chunks = cache_bytes as u64 - pages;
        Arc::new(Self {
            keys: KeyRing::new(full, access.clone()),
            access,
            config: config.clone(),
            chunks: cache(chunks, CHUNKS_HOT),
            pages: cache(pages, PAGES_HOT),
            snapshots: Mutex::default(),
            mender: mend::Mender::default(),
        })
    }

    /// The store that it reads from.
    pub fn access(&self) -> &Arc<dyn Read> {
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
        let elsewhere = self.gather(ids, &mut |id, chunk| {
            found.insert(id, chunk);
        })?;
        // Only now, when nobody waits for this thread, may it wait for others.
        for id in elsewhere {
            found.insert(id, self.data(id)?);
        }
        ids.iter().map(|id| found.get(id).cloned().ok_or(Error::ChunkMissing { id: *id })).collect()
    }

    /// Brings chunks of data into the cache, those that are not there and that nobody else is bringing.
    pub fn prefetch(&self, ids: &[ChunkId]) -> Result<()> {
        self.gather(ids, &mut |_, _| {}).map(drop)
    }

    /// Takes chunks of data from the cache, and fetches those that nobody else is fetching, in the order given: that is
    /// mostly the order in which they are stored. Returns the ones that others are fetching.
    fn gather(&self, ids: &[ChunkId], take: &mut dyn FnMut(ChunkId, Bytes)) -> Result<Vec<ChunkId>> {
        let (mut guards, mut wanted, mut elsewhere) = (HashMap::new(), Vec::new(), Vec::new());
        for id in ids {
            match self.chunks.get_value_or_guard(id, Some(Duration::ZERO)) {
                GuardResult::Value(chunk) => take(*id, chunk),
                GuardResult::Guard(guard) => {
                    guards.insert(*id, guard);
                    wanted.push(*id);
                }
                // Also when this thread itself is the one, because an id comes twice.
                GuardResult::Timeout => elsewhere.push(*id),
            }
        }
        if !wanted.is_empty() {
            self.fetch(ChunkKind::Data, &wanted, 0, &mut |id, chunk| {
                match guards.remove(&id) {
                    // The cache may have dropped the place meanwhile: the chunk is right all the same.
                    Some(guard) => drop(guard.insert(chunk.clone())),
                    None => self.keep(id, &chunk),
                }
                take(id, chunk);
            })?;
        }
        Ok(elsewhere)
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
        self.fetch(kind, &[id], neighbour_bytes, &mut |other, chunk| match other == id {
            true => found = Some(chunk),
            false => others.push((other, chunk)),
        })?;
        let chunk = found.ok_or(Error::ChunkMissing { id })?;
        if let Some(guard) = guard {
            let _ = guard.insert(chunk.clone());
        }
        for (other, chunk) in others {
            self.keep(other, &chunk);
        }
        Ok(chunk)
    }

    /// Keeps a chunk that came along with others.
    fn keep(&self, id: ChunkId, chunk: &Bytes) {
        if !self.chunks.contains_key(&id) {
            self.chunks.insert(id, chunk.clone());
        }
    }

    /// Fetches and opens the frames of the ids; hands out every chunk in them. All ids were handed out if it succeeds.
    pub(crate) fn fetch(
        &self,
        kind: ChunkKind,
        ids: &[ChunkId],
        neighbour_bytes: u32,
        each: &mut dyn FnMut(ChunkId, Bytes),
    ) -> Result<()> {
        let (mut rest, mut is_second_try) = (ids, false);
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
            let mut damaged = Vec::new();
            for sealed in &reply.frames {
                match self.open(kind, sealed) {
                    Ok(chunks) => {
                        let count = chunks.len();
                        let asked_for = chunks.iter().filter(|(id, _)| wanted.contains_key(id)).count();
                        // Who asks for many names all that it needs; of a frame of which it needs little, that is all.
                        let is_near = ids.len() == 1 || asked_for * NEAR >= count;
                        for (id, chunk) in chunks {
                            if wanted.remove(&id).is_some() || is_near {
                                // A slice would hold the whole frame for as long as somebody holds the chunk.
                                each(id, if count == 1 { chunk } else { Bytes::copy_from_slice(&chunk) });
                            }
                        }
                    }
                    // A damaged neighbour hurts nobody; a damaged frame that was asked for is missed below.
                    Err(error) => damaged.push((sealed.pack, error)),
                }
            }
            if let Some(id) = wanted.into_keys().next() {
                if !is_second_try && self.mend(&damaged) {
                    is_second_try = true;
                    continue;
                }
                let first = damaged.into_iter().next().map(|(_, error)| error);
                return Err(first.unwrap_or(match reply.frames.first() {
                    Some(frame) => frame_damaged(frame, format!("it lacks chunk {id}, which the index expects in it")),
                    None => Error::ChunkMissing { id },
                }));
            }
            (rest, is_second_try) = (&rest[reply.done..], false);
        }
        Ok(())
    }

    /// Opens a frame and names its chunks.
    pub fn open(&self, kind: ChunkKind, sealed: &SealedFrame) -> Result<Vec<(ChunkId, Bytes)>> {
        let key = frame::key_id(&sealed.bytes).ok_or_else(|| frame_damaged(sealed, "it is too short"))?;
        let key = self.keys.data_key(key).map_err(|error| match error {
            // More often the frame's own bytes are wrong than that a key is lost.
            Error::KeyMissing { .. } => frame_damaged(sealed, error.to_string()),
            error => error,
        })?;
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
