//! Fetches frames, opens them and caches their chunks: what directories, files and pages are read through.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use quick_cache::sync::GuardResult;

use super::{
    cache::{CachedPage, ChunkCache, PageCache, caches},
    copies::Copies,
    mend::Mender,
    roster::RosterCache,
};
use crate::{
    access::{IDS_MAX, Read, ReadReply, ReadRequest, SealedFrame},
    base::{
        error::{Error, Result},
        id::{ChunkId, PackId},
    },
    format::{frame::ChunkKind, tree::Page},
    owner::{frames, keyring::KeyRing},
};

/// A miss on a tree page also fetches the frames behind it: trees are stored depth-first, so those are needed next.
const TREE_NEIGHBOUR_BYTES: u32 = 128 * 1024;
/// All chunks of a frame are kept if at least one in this many was asked for: the others will probably be needed, too.
const KEEP_ALL_RATIO: usize = 4;

/// Reads chunks and tree pages.
pub(super) struct ChunkReader {
    access: Arc<dyn Read>,
    keys: Arc<KeyRing>,
    chunks: ChunkCache,
    pages: PageCache,
    mender: Mender,
    copies: Copies,
}

impl fmt::Debug for ChunkReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkReader(repository {})", self.keys.repo())
    }
}

impl ChunkReader {
    pub fn new(access: Arc<dyn Read>, keys: Arc<KeyRing>, roster: Arc<RosterCache>, cache_bytes: usize) -> Self {
        let (chunks, pages) = caches(cache_bytes);
        let copies = Copies::new(access.clone(), keys.clone(), roster);
        Self { copies, access, keys, chunks, pages, mender: Mender::default() }
    }

    /// One chunk of data.
    pub fn data(&self, id: ChunkId) -> Result<Bytes> {
        self.chunk(ChunkKind::Data, id, 0)
    }

    /// Chunks of data, in the order of the ids.
    pub fn data_many(&self, ids: &[ChunkId]) -> Result<Vec<Bytes>> {
        let mut found: HashMap<ChunkId, Bytes> = HashMap::with_capacity(ids.len());
        let fetched_by_others = self.gather(ids, &mut |id, chunk| {
            found.insert(id, chunk);
        })?;
        // No other thread waits for this one any more, so this one may wait for others.
        for id in fetched_by_others {
            found.insert(id, self.data(id)?);
        }
        ids.iter().map(|id| found.get(id).cloned().ok_or(Error::ChunkMissing { id: *id })).collect()
    }

    /// Fetches chunks of data into the cache, except those that are there or on their way.
    pub fn prefetch(&self, ids: &[ChunkId]) -> Result<()> {
        self.gather(ids, &mut |_, _| {}).map(drop)
    }

    /// Takes chunks of data from the cache and fetches the missing ones, except those that another thread is fetching:
    /// their ids are returned. Fetches in the order of the ids, which is mostly the order in which they are stored.
    fn gather(&self, ids: &[ChunkId], take: &mut dyn FnMut(ChunkId, Bytes)) -> Result<Vec<ChunkId>> {
        let (mut guards, mut wanted, mut fetched_by_others) = (HashMap::new(), Vec::new(), Vec::new());
        for id in ids {
            match self.chunks.get_value_or_guard(id, Some(Duration::ZERO)) {
                GuardResult::Value(chunk) => take(*id, chunk),
                GuardResult::Guard(guard) => {
                    guards.insert(*id, guard);
                    wanted.push(*id);
                }
                // That thread may be this one, if an id comes twice.
                GuardResult::Timeout => fetched_by_others.push(*id),
            }
        }
        if !wanted.is_empty() {
            self.fetch(ChunkKind::Data, &wanted, 0, &mut |id, chunk| {
                match guards.remove(&id) {
                    // Fails if the cache has dropped the placeholder since. The chunk is right all the same.
                    Some(guard) => drop(guard.insert(chunk.clone())),
                    None => self.keep(id, &chunk),
                }
                take(id, chunk);
            })?;
        }
        Ok(fetched_by_others)
    }

    /// One page of a tree, decoded.
    pub fn page(&self, id: ChunkId) -> Result<Arc<Page>> {
        let guard = match self.pages.get_value_or_guard(&id, None) {
            GuardResult::Value(cached) => return Ok(cached.page),
            GuardResult::Guard(guard) => Some(guard),
            GuardResult::Timeout => None,
        };
        let bytes = self.chunk(ChunkKind::Tree, id, TREE_NEIGHBOUR_BYTES)?;
        let page = Arc::new(Page::decode(id, &bytes)?);
        if let Some(guard) = guard {
            // Fails if the cache has dropped the placeholder since. The page is right all the same.
            let _ = guard.insert(CachedPage { page: page.clone(), bytes: bytes.len() as u64 });
        }
        Ok(page)
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

    /// Caches a chunk that came along with others.
    fn keep(&self, id: ChunkId, chunk: &Bytes) {
        if !self.chunks.contains_key(&id) {
            self.chunks.insert(id, chunk.clone());
        }
    }

    /// Fetches and opens the frames of `ids`, and passes every chunk in them to `each`. If it returns without an error,
    /// all ids were passed.
    pub fn fetch(
        &self,
        kind: ChunkKind,
        ids: &[ChunkId],
        neighbour_bytes: u32,
        each: &mut dyn FnMut(ChunkId, Bytes),
    ) -> Result<()> {
        let (mut rest, mut is_second_try) = (ids, false);
        while !rest.is_empty() {
            let asked = &rest[..rest.len().min(IDS_MAX)];
            let request = ReadRequest { ids: asked.to_vec(), neighbour_bytes, ..ReadRequest::default() };
            let reply = self.access.read(&request)?;
            if reply.done == 0 || reply.done > asked.len() {
                return Err(Error::Invalid("the store's reply to a read does not fit the request".into()));
            }
            if let Some(id) = reply.missing.first() {
                return Err(Error::ChunkMissing { id: *id });
            }
            let (lacking, failed) = self.open_reply(kind, ids.len(), &asked[..reply.done], &reply, each);
            if !lacking.is_empty() {
                if !is_second_try && self.mender.mend(&*self.access, &failed) {
                    is_second_try = true;
                    continue;
                }
                lacking.iter().try_for_each(|id| self.copies.fetch(kind, *id, each))?;
            }
            (rest, is_second_try) = (&rest[reply.done..], false);
        }
        Ok(())
    }

    /// Opens the frames of a reply. Returns those of the `asked` ids that none of the frames holds, and the errors of
    /// frames that do not open.
    fn open_reply(
        &self,
        kind: ChunkKind,
        total: usize,
        asked: &[ChunkId],
        reply: &ReadReply,
        each: &mut dyn FnMut(ChunkId, Bytes),
    ) -> (Vec<ChunkId>, Vec<(PackId, Error)>) {
        let mut wanted: HashSet<ChunkId> = asked.iter().copied().collect();
        let mut failed = Vec::new();
        for sealed in &reply.frames {
            let chunks = match self.open(kind, sealed) {
                Ok(chunks) => chunks,
                // A damaged neighbour does no harm. If the frame was asked for, its chunk is found to be lacking below.
                Err(error) => {
                    failed.push((sealed.pack, error));
                    continue;
                }
            };
            let count = chunks.len();
            let asked_for = chunks.iter().filter(|(id, _)| wanted.contains(id)).count();
            // A caller that asks for many chunks names all that it needs: if it needs little of a frame, it needs no
            // more.
            let keeps_all = total == 1 || asked_for * KEEP_ALL_RATIO >= count;
            for (id, chunk) in chunks {
                if wanted.remove(&id) || keeps_all {
                    // A slice would keep the whole frame in memory for as long as the chunk.
                    each(id, if count == 1 { chunk } else { Bytes::copy_from_slice(&chunk) });
                }
            }
        }
        (wanted.into_iter().collect(), failed)
    }

    /// Opens a frame and computes the ids of its chunks.
    pub fn open(&self, kind: ChunkKind, sealed: &SealedFrame) -> Result<Vec<(ChunkId, Bytes)>> {
        frames::open(&self.keys, kind, sealed)
    }
}
