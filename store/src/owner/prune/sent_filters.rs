//! The filters that were sent to the store. Rewriting a mixed frame must treat as live exactly what the store was told
//! is live, no more and no less.

use std::path::Path;

use super::blocks::BlockFile;
use crate::{
    access::Filter,
    base::{error::Result, id::ChunkId},
    format::filter::{LiveFilter, filter_key},
};

/// The filters, on disk if they are large.
pub(super) struct SentFilters {
    blocks: BlockFile,
    /// The numbers of the blocks with the filters of each first byte.
    blocks_of: Vec<Vec<usize>>,
}

impl SentFilters {
    /// No filters yet. What does not fit into memory goes to `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { blocks: BlockFile::new(folder), blocks_of: vec![Vec::new(); 256] }
    }

    /// Remembers a filter.
    pub fn add(&mut self, filter: &Filter) -> Result<()> {
        self.blocks_of[usize::from(filter.first)].push(self.blocks.count());
        self.blocks.add(filter.bytes.clone())
    }

    /// Returns for each id whether a filter holds it.
    pub fn hold(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|at| ids[*at].0[0]);
        let mut live = vec![false; ids.len()];
        for same in order.chunk_by(|a, b| ids[*a].0[0] == ids[*b].0[0]) {
            let Some(first) = same.first().map(|at| ids[*at].0[0]) else { continue };
            for block in &self.blocks_of[usize::from(first)] {
                let filter = LiveFilter::decode(&self.blocks.read(*block)?)?;
                same.iter().for_each(|at| live[*at] |= filter.holds(filter_key(&ids[*at])));
            }
        }
        Ok(live)
    }
}
