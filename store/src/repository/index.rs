//! The index: where each chunk is stored, and everything else that is derived from packs and log. It is kept in LMDB.
//!
//! The index is never truth: it can be deleted at any moment and is rebuilt. It is rebuilt when it does not open, when
//! its last page is beyond the end of its file, or when it belongs to another repository or has another format. LMDB
//! has no checksums, so whatever is read from the index is only a hint, which packs and ids confirm.
//!
//! Chunks are keyed by the first three bytes of their ids, with duplicates of fixed size (13 more bytes, pack u32,
//! frame u24, big-endian). That takes 30 to 48 bytes a chunk; full keys would take 70. Two ids that agree in 128 bits
//! count as one; a reader would notice. Commits of transactions keep their order and their integrity over a crash, but
//! the last one may be lost (`NO_META_SYNC`): what is missing is read in again.

mod chunk_tables;
mod chunks;
mod commits;
mod environment;
mod liveness;
pub mod lmdb;
mod log;
mod meta;
mod packs;
mod parity_marks;
mod prunes;
mod quarantine;
mod rows;
mod tables;
mod unsettled;

pub use chunk_tables::FrameAddress;
pub use chunks::ChunkIndex;
pub use commits::CommitIndex;
pub use environment::Index;
pub use log::LogIndex;
pub use packs::PackIndex;
pub use prunes::PruneIndex;
pub use quarantine::QuarantineIndex;
pub use rows::{Batch, CommitRow, CondemnRow, LivenessChange, PackRow, Pin, SnapshotChange};
