//! Error correction beside a pack: a parity file from which damaged spans of the pack are made again.
//!
//! The pack's bytes before its footer are cut into shards of one length; Reed-Solomon shards are computed over them. The
//! pack's id is the BLAKE3 of the same bytes, and shards are whole subtrees of that hash: their chaining values stand in
//! the parity file, prove themselves by merging to the pack's id, and so tell which shards are bad. The footer and a
//! second copy of the pack's table stand there too. What the parity file says of itself (its *head*) stands at both its
//! ends. All numbers are little-endian:
//!
//! ```text
//! head      magic "bkfspari" | version u16 = 1 | parity shards u16 | shard length u32 | the pack's footer (64)
//!           BLAKE3 of the pack's table (32)
//!           for each data shard:   chaining value (32)
//!           for each parity shard: BLAKE3 (32)
//!           BLAKE3 of the head so far (32)
//! shards    parity shards, one after another
//! table     the pack's table
//! head      again
//! trailer   length of the head u32 | zeros (4) | "bkfspare"                                  16 bytes
//! ```
//!
//! The promise: with m parity shards of S bytes, any m damaged shards, parity shards counted too, and so any burst of
//! (m - 1) x S + 1 bytes, are mended. S is 64 KiB in packs of 1 MiB and more. No mended byte is handed out that the
//! pack's id does not vouch for. All inputs may be hostile. This reads and writes no files.

mod encode;
mod head;
mod layout;
mod mend;

#[cfg(test)]
mod tests;

pub use encode::{Encoder, Parity, encode};
pub use layout::SHARD_LEN;
pub use mend::{MendOutcome, PackDamage, mend, verify};
