//! The layout of parity files: lengths, bounds and magics.

use crate::base::{error::Error, id::PackId};

/// Length of a shard in bytes, but for small packs.
pub const SHARD_LEN: usize = 64 * 1024;
/// No shard is shorter but the only one of a tiny pack: what a disk loses, it loses in pages of 4 KiB.
pub(super) const SHARD_LEN_MIN: usize = 4 * 1024;
/// Shards are halved until a pack has so many: else two parity shards would be far more than a small pack's few percent.
pub(super) const SHARDS_WANTED: usize = 16;
/// No pack has fewer parity shards.
pub(super) const PARITY_MIN: usize = 2;
/// Neither data nor parity shards are more than this.
pub(super) const SHARDS_MAX: usize = 4096;

pub(super) const MAGIC: [u8; 8] = *b"bkfspari";
pub(super) const TRAILER_MAGIC: [u8; 8] = *b"bkfspare";
pub(super) const VERSION: u16 = 1;
pub(super) const TRAILER_LEN: usize = 16;

/// The length of the shards of so many bytes: a power of two, so that shards are subtrees of the pack's hash, or the
/// (even) length of all if that is one short shard.
pub(super) fn shard_len(content: usize) -> usize {
    if content <= SHARD_LEN_MIN {
        return content.next_multiple_of(2);
    }
    let mut len = SHARD_LEN;
    while len > SHARD_LEN_MIN && content < len * SHARDS_WANTED {
        len /= 2;
    }
    len
}

pub(super) fn pack_damaged(pack: PackId, reason: impl ToString) -> Error {
    Error::PackDamaged { pack, reason: reason.to_string() }
}
