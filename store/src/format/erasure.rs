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

mod head;
mod mend;

#[cfg(test)]
mod tests;

pub use mend::{Damage, Mended, mend, verify};

use reed_solomon_simd::ReedSolomonEncoder;

use crate::{
    base::{
        error::{Error, Result},
        id::PackId,
    },
    format::pack::{FOOTER_LEN, Footer},
};
use head::Head;

/// Length of a shard in bytes, but for small packs.
pub const SHARD_LEN: usize = 64 * 1024;
/// No shard is shorter but the only one of a tiny pack: what a disk loses, it loses in pages of 4 KiB.
const SHARD_LEN_MIN: usize = 4 * 1024;
/// Shards are halved until a pack has so many: else two parity shards would be far more than a small pack's few percent.
const SHARDS_WANTED: usize = 16;
/// No pack has fewer parity shards.
const PARITY_MIN: usize = 2;
/// Neither data nor parity shards are more than this.
const SHARDS_MAX: usize = 4096;

pub(crate) const MAGIC: [u8; 8] = *b"bkfspari";
const TRAILER_MAGIC: [u8; 8] = *b"bkfspare";
const VERSION: u16 = 1;
const TRAILER_LEN: usize = 16;

/// How much parity a pack gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parity {
    /// Parity shards, in percent of the data shards; at least two shards are made.
    percent: u8,
}

impl Parity {
    /// From 1 to 100 percent.
    pub fn percent(percent: u8) -> Option<Self> {
        (1..=100).contains(&percent).then_some(Self { percent })
    }

    /// The percentage.
    pub fn get(self) -> u8 {
        self.percent
    }

    fn shards(self, data: usize) -> usize {
        (data * usize::from(self.percent)).div_ceil(100).max(PARITY_MIN)
    }
}

impl Default for Parity {
    /// 13 shards for a full pack of 16 MiB: a burst of 768 KiB, for a twentieth of the space.
    fn default() -> Self {
        Self { percent: 5 }
    }
}

/// Makes the parity file of a whole pack; fails if it is not whole.
pub fn encode(pack: &[u8], parity: Parity) -> Result<Vec<u8>> {
    Encoder::default().encode(pack, parity)
}

/// Makes parity files one after another. It keeps the code's working memory, about the size of a pack: fresh from the system
/// each time, that costs as much as the computing.
#[derive(Default)]
pub struct Encoder(Option<ReedSolomonEncoder>);

impl Encoder {
    /// The same as [`encode`].
    pub fn encode(&mut self, pack: &[u8], parity: Parity) -> Result<Vec<u8>> {
        encode_with(&mut self.0, pack, parity)
    }
}

fn encode_with(encoder: &mut Option<ReedSolomonEncoder>, pack: &[u8], parity: Parity) -> Result<Vec<u8>> {
    let footer = Footer::parse(pack)?;
    let content = &pack[..pack.len() - FOOTER_LEN];
    let shard_len = shard_len(content.len());
    let head = Head::of(pack, &footer, shard_len, parity.shards(content.len().div_ceil(shard_len)))?;
    let shards = head.encode_shards(content, encoder)?;
    let (encoded, table) = (head.encode(&shards), &content[footer.table_offset..]);
    let mut file = Vec::with_capacity(2 * encoded.len() + shards.len() * shard_len + table.len() + TRAILER_LEN);
    file.extend_from_slice(&encoded);
    shards.iter().for_each(|shard| file.extend_from_slice(shard));
    file.extend_from_slice(table);
    file.extend_from_slice(&encoded);
    file.extend_from_slice(&(encoded.len() as u32).to_le_bytes());
    file.extend_from_slice(&[0; 4]);
    file.extend_from_slice(&TRAILER_MAGIC);
    Ok(file)
}

/// The length of the shards of so many bytes: a power of two, so that shards are subtrees of the pack's hash, or the
/// (even) length of all if that is one short shard.
fn shard_len(content: usize) -> usize {
    if content <= SHARD_LEN_MIN {
        return content.next_multiple_of(2);
    }
    let mut len = SHARD_LEN;
    while len > SHARD_LEN_MIN && content < len * SHARDS_WANTED {
        len /= 2;
    }
    len
}

fn pack_damaged(pack: PackId, reason: impl ToString) -> Error {
    Error::PackDamaged { pack, reason: reason.to_string() }
}
