//! Making the parity file of a pack.

use reed_solomon_simd::ReedSolomonEncoder;

use super::{
    head::{Head, head_len_of},
    layout::{TRAILER_LEN, TRAILER_MAGIC, parity_min, shard_len, table_copy_len},
};
use crate::{
    base::error::Result,
    format::pack::{FOOTER_LEN, Footer},
};

/// The amount of parity of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parity {
    /// The number of parity shards, in percent of the data shards. There are at least two, or one for an only data
    /// shard.
    percent: u8,
}

impl Parity {
    /// Returns a parity of 1 to 100 percent, or `None` for any other number.
    pub fn percent(percent: u8) -> Option<Self> {
        (1..=100).contains(&percent).then_some(Self { percent })
    }

    /// Returns the percentage.
    pub fn get(self) -> u8 {
        self.percent
    }

    /// Returns how long the parity file is of a pack with these lengths in bytes, its table's included.
    pub fn file_len(self, pack_len: u64, table_len: u64) -> u64 {
        let content = pack_len.saturating_sub(FOOTER_LEN as u64);
        let shard_len = shard_len(content as usize).max(1) as u64;
        let data = content.div_ceil(shard_len);
        let parity = self.shards(data as usize) as u64;
        let table = table_copy_len(data as usize, table_len as usize) as u64;
        2 * head_len_of(data, parity) + parity * shard_len + table + TRAILER_LEN as u64
    }

    pub(super) fn shards(self, data: usize) -> usize {
        (data * usize::from(self.percent)).div_ceil(100).max(parity_min(data))
    }
}

impl Default for Parity {
    /// 13 shards for a full pack of 16 MiB: they mend a burst of 768 KiB, for 5 % of the space.
    fn default() -> Self {
        Self { percent: 5 }
    }
}

/// Returns the parity file of a pack. Fails if the pack is damaged.
pub fn encode(pack: &[u8], parity: Parity) -> Result<Vec<u8>> {
    Encoder::default().encode(pack, parity)
}

/// Makes parity files one after another. It keeps the working memory of the code, about the size of a pack: to get it
/// from the system each time would cost as much as the computation.
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
    let encoded = head.encode(&shards);
    let table = &content[footer.table_offset..][..table_copy_len(head.data(), footer.table_len)];
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
