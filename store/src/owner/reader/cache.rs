//! The reader's two caches: chunks, and decoded tree pages. Each has a budget in bytes.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use crate::{base::id::ChunkId, format::tree::Page};

/// Decoded tree pages get one part in four of the budget.
const PAGES_SHARE: u64 = 4;

/// The part of the chunk cache that is reserved for chunks that were used more than once. A chunk that was fetched
/// ahead waits in the other part and must still be there when its reader comes. With the cache's default of 97 % it was
/// not: every third chunk of a sequential read was fetched twice.
const CHUNKS_HOT: f64 = 0.5;
/// The same for tree pages. The upper ones are used again and again.
const PAGES_HOT: f64 = 0.9;

/// Chunks by id.
pub(super) type ChunkCache = Cache<ChunkId, Bytes, ByLen>;
/// Decoded pages by id.
pub(super) type PageCache = Cache<ChunkId, CachedPage, ByLen>;

/// A decoded page.
#[derive(Clone)]
pub(super) struct CachedPage {
    pub page: Arc<Page>,
    /// Its encoded length.
    pub bytes: u64,
}

/// Weighs entries by the memory that they take.
#[derive(Clone)]
pub(super) struct ByLen;

impl Weighter<ChunkId, Bytes> for ByLen {
    fn weight(&self, _: &ChunkId, chunk: &Bytes) -> u64 {
        chunk.len() as u64 + 128
    }
}

impl Weighter<ChunkId, CachedPage> for ByLen {
    /// Decoded nodes take about four times their encoded length.
    fn weight(&self, _: &ChunkId, page: &CachedPage) -> u64 {
        page.bytes * 4 + 128
    }
}

/// Returns both caches, which take about `bytes` together.
pub(super) fn caches(bytes: usize) -> (ChunkCache, PageCache) {
    let pages = bytes as u64 / PAGES_SHARE;
    let chunks = bytes as u64 - pages;
    (cache(chunks, CHUNKS_HOT), cache(pages, PAGES_HOT))
}

/// Returns a cache of `bytes` bytes. `hot` is the part for entries that were used more than once.
fn cache<T: Clone>(bytes: u64, hot: f64) -> Cache<ChunkId, T, ByLen>
where
    ByLen: Weighter<ChunkId, T>,
{
    let options = OptionsBuilder::new()
        .weight_capacity(bytes)
        // A hint for the size of the cache's tables.
        .estimated_items_capacity((bytes / 32_768) as usize)
        .hot_allocation(hot)
        .build()
        .expect("both capacities are set");
    Cache::with_options(options, ByLen, DefaultHashBuilder::default(), DefaultLifecycle::default())
}
