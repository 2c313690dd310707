//! Error correction: a parity file, from which damaged spans of a pack are restored.
//!
//! The pack's bytes before its footer are cut into shards of equal length, and Reed-Solomon shards are computed over
//! them. The pack's id is the BLAKE3 of the same bytes, and each shard is a whole subtree of that hash. The parity file
//! contains the chaining values of the shards: they merge to the pack's id, which proves them, and they tell which
//! shards are damaged. It also contains the footer and, if there are several shards, a second copy of the pack's table.
//! The description of the parity file, its *head*, is stored at both ends of it. All numbers are little-endian:
//!
//! ```text
//! head      magic "bkfspari" | version u16 = 1 | parity shards u16 | shard length u32 | the pack's footer (64)
//!           BLAKE3 of the pack's table (32)
//!           for each data shard:   chaining value (32)
//!           for each parity shard: BLAKE3 (32)
//!           BLAKE3 of the head so far (32)
//! shards    parity shards, one after another
//! table     the pack's table, if there are several data shards
//! head      again
//! trailer   length of the head u32 | zeros (4) | "bkfspare"                                  16 bytes
//! ```
//!
//! The promise: with m parity shards of S bytes, any m damaged shards are mended, damaged parity shards included, and
//! therefore any burst of (m - 1) x S + 1 bytes. S is 64 KiB in packs of 1 MiB or more. A pack of up to 12 KiB is one
//! shard, and has one parity shard. No mended byte is returned that the pack's id does not vouch for. All inputs may be
//! hostile. This module does no I/O.

mod encode;
mod head;
mod layout;
mod mend;

#[cfg(test)]
mod tests;

pub use encode::{Encoder, Parity, encode};
pub use head::{START_LEN, SubtreeValues, file_len, head_len};
pub use layout::SHARD_LEN;
pub use mend::{MendOutcome, PackDamage, mend, verify};
