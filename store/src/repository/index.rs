//! The index: where each chunk is stored, and everything else that is derived from packs and log. It is kept in LMDB.
//!
//! The index is never truth: it can be deleted at any moment and is rebuilt. It is rebuilt when its file is damaged
//! ([`lmdb`]), when rows are missing or do not fit one another ([`Index::is_consistent`]), when it names no roster that
//! the admin key has signed, and when it belongs to another repository or has another format. Whatever is read from the
//! index is only a hint, which packs and ids confirm. If it lacks a chunk that a reader needs, it is compared with all
//! packs before the chunk counts as missing.
//!
//! The row of a chunk is a key without a value: the first 16 bytes of its id, pack u32, frame u24, big-endian. That
//! takes 33 bytes in a full page, and about 50 in a page that is filled in random order. Two ids that agree in 128 bits
//! count as one; a reader would notice. Commits of transactions keep their order and their integrity over a crash, but
//! the last one may be lost (`NO_META_SYNC`): what is missing is read in again.

mod chunk_tables;
mod chunks;
mod commits;
mod consistent;
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
mod trust;
mod unsettled;
mod verdicts;

pub use chunk_tables::FrameAddress;
pub use chunks::{ChunkIndex, LostChunks, ManyCopy, Wanted};
pub use commits::CommitIndex;
pub use environment::Index;
pub use log::LogIndex;
pub use packs::PackIndex;
pub use prunes::PruneIndex;
pub use quarantine::QuarantineIndex;
pub use rows::{Batch, CommitRow, CondemnRow, LivenessChange, PackRow, Pin, SnapshotChange};
pub use trust::Trust;
pub use verdicts::VerdictIndex;
