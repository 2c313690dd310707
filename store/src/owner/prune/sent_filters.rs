//! The filters that were sent, to be asked by whoever writes frames again: what the store was told is live, neither more nor less.

use std::path::Path;

use super::blocks::Blocks;
use crate::{
    access::Filter,
    base::{error::Result, id::ChunkId},
    format::filter::{LiveFilter, filter_key},
};

/// The filters, on disk when they are large.
pub(super) struct Told {
    blocks: Blocks,
    /// Which blocks are filters of each first byte.
    of: Vec<Vec<usize>>,
}

impl Told {
    /// None yet. `folder` is for what does not fit into memory.
    pub fn new(folder: &Path) -> Self {
        Self { blocks: Blocks::new(folder), of: vec![Vec::new(); 256] }
    }

    /// Remembers one.
    pub fn add(&mut self, filter: &Filter) -> Result<()> {
        self.of[usize::from(filter.first)].push(self.blocks.count());
        self.blocks.add(filter.bytes.clone())
    }

    /// Which of the ids are live.
    pub fn live(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|at| ids[*at].0[0]);
        let mut live = vec![false; ids.len()];
        for same in order.chunk_by(|a, b| ids[*a].0[0] == ids[*b].0[0]) {
            let Some(first) = same.first().map(|at| ids[*at].0[0]) else { continue };
            for block in &self.of[usize::from(first)] {
                let filter = LiveFilter::decode(&self.blocks.read(*block)?)?;
                same.iter().for_each(|at| live[*at] |= filter.holds(filter_key(&ids[*at])));
            }
        }
        Ok(live)
    }
}
