//! Making the parity file of a pack.

use reed_solomon_simd::ReedSolomonEncoder;

use super::{
    head::Head,
    layout::{PARITY_MIN, TRAILER_LEN, TRAILER_MAGIC, shard_len},
};
use crate::{
    base::error::Result,
    format::pack::{FOOTER_LEN, Footer},
};

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

    pub(super) fn shards(self, data: usize) -> usize {
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
