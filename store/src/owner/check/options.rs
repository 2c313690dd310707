//! What to check.

use super::subset::ReadData;

/// What to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// Which packs to read and open, besides checking history and trees.
    pub read_data: ReadData,
    /// Threads that open packs, at least one.
    pub threads: usize,
}

impl Default for CheckOptions {
    /// Reads no packs. One thread for each processor.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get());
        Self { read_data: ReadData::None, threads }
    }
}
