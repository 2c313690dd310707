//! What a prune reports.

use super::blocking::BlockingSnapshot;
use crate::access::{PruneStats, Space, Swept};

/// What a prune did. On a dry run, [`stats`](Self::stats), [`expired`](Self::expired) and
/// [`reframed_read_bytes`](Self::reframed_read_bytes) are what it would have done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PruneReport {
    /// What was condemned.
    pub stats: PruneStats,
    /// What was swept, including what an earlier prune had left.
    pub swept: Swept,
    /// Snapshots that were expired from the trash.
    pub expired: u64,
    /// Distinct tree pages that snapshots reach.
    pub pages: u64,
    /// How many of those pages were fetched, because no earlier prune had walked them.
    pub pages_fetched: u64,
    /// Chunks that snapshots reach, including pages. A chunk that is reached twice may be counted twice.
    pub chunks: u64,
    /// Bytes of filters sent to the store.
    pub sent_bytes: u64,
    /// Mixed frames whose live chunks were written into new packs.
    pub reframed: u64,
    /// Bytes of the mixed frames that were fetched.
    pub reframed_read_bytes: u64,
    /// Bytes of the packs that were written in their place.
    pub reframed_written_bytes: u64,
    /// Mixed frames that could not be read. They are left as they are.
    pub frames_lost: u64,
    /// The disk space of the repository before the prune.
    pub before: Space,
    /// The disk space after it. On a dry run it is the same. Pushes that run at the same time count as well.
    pub after: Space,
    /// Whether the prune did nothing because more than half of the repository would have gone, and that was not
    /// confirmed ([`super::PruneOptions::is_confirmed`]).
    pub is_unconfirmed: bool,
    /// The snapshots that cannot be read. If there are any, the prune ended before it condemned anything, because it is
    /// unknown what they need. In the order of the log.
    pub blocking: Vec<BlockingSnapshot>,
}
