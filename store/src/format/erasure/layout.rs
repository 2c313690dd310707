//! The layout of parity files: lengths, bounds and magics.

use crate::base::{error::Error, id::PackId};

/// The length of a shard in bytes, except in small packs.
pub const SHARD_LEN: usize = 64 * 1024;
/// The shortest shard in bytes, except the only shard of a small pack. Disks lose pages of 4 KiB.
pub(super) const SHARD_LEN_MIN: usize = 4 * 1024;
/// Shards are halved until a pack has this many. Otherwise two parity shards would be far more than a few percent of a
/// small pack.
pub(super) const SHARDS_WANTED: usize = 16;
/// A pack up to this length is one shard, and its only parity shard is as good as a second copy. Two shards of 4 KiB,
/// with a copy of the table and longer heads, would take about as much, and mend less.
pub(super) const SINGLE_MAX: usize = 3 * SHARD_LEN_MIN;
/// Maximum number of data shards, and of parity shards.
pub(super) const SHARDS_MAX: usize = 4096;

pub(super) const MAGIC: [u8; 8] = *b"bkfspari";
pub(super) const TRAILER_MAGIC: [u8; 8] = *b"bkfspare";
pub(super) const VERSION: u16 = 1;
pub(super) const TRAILER_LEN: usize = 16;

/// Returns the length of the shards of `content` bytes: a power of two, so that shards are subtrees of the pack's hash;
/// or the length of the content, rounded up to an even number, if it is one shard.
pub(super) fn shard_len(content: usize) -> usize {
    if content <= SINGLE_MAX {
        return content.next_multiple_of(2);
    }
    let mut len = SHARD_LEN;
    while len > SHARD_LEN_MIN && content < len * SHARDS_WANTED {
        len /= 2;
    }
    len
}

/// Returns the least number of parity shards for so many data shards.
pub(super) fn parity_min(data: usize) -> usize {
    if data <= 1 { 1 } else { 2 }
}

/// Returns the length of the copy of the pack's table in a parity file for so many data shards. The parity of an only
/// shard restores the table with it, so there is no other copy.
pub(super) fn table_copy_len(data: usize, table_len: usize) -> usize {
    if data <= 1 { 0 } else { table_len }
}

pub(super) fn pack_damaged(pack: PackId, reason: impl ToString) -> Error {
    Error::PackDamaged { pack, reason: reason.to_string() }
}
