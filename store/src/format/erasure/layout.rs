//! The layout of parity files: lengths, bounds and magics.

use crate::base::{error::Error, id::PackId};

/// The length of a shard in bytes, except in small packs.
pub const SHARD_LEN: usize = 64 * 1024;
/// The shortest shard in bytes, except the only shard of a tiny pack. Disks lose pages of 4 KiB.
pub(super) const SHARD_LEN_MIN: usize = 4 * 1024;
/// Shards are halved until a pack has this many. Otherwise two parity shards would be far more than a few percent of a
/// small pack.
pub(super) const SHARDS_WANTED: usize = 16;
/// Minimum number of parity shards of a pack.
pub(super) const PARITY_MIN: usize = 2;
/// Maximum number of data shards, and of parity shards.
pub(super) const SHARDS_MAX: usize = 4096;

pub(super) const MAGIC: [u8; 8] = *b"bkfspari";
pub(super) const TRAILER_MAGIC: [u8; 8] = *b"bkfspare";
pub(super) const VERSION: u16 = 1;
pub(super) const TRAILER_LEN: usize = 16;

/// Returns the length of the shards of `content` bytes: a power of two, so that shards are subtrees of the pack's hash;
/// or the length of the content, rounded up to an even number, if it fits in one short shard.
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
