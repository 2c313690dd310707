//! Finds the damage of a pack and its parity file, and restores the pack.

use std::ops::Range;

use super::{head::Head, layout::pack_damaged};
use crate::{
    base::{error::Result, id::PackId},
    format::pack::FOOTER_LEN,
};

/// The damage of a pack and its parity file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackDamage {
    /// The length of a shard in bytes.
    pub shard_len: usize,
    /// Damaged data shards of the pack, by number.
    pub data_shards: Vec<usize>,
    /// Whether the pack's footer, or its length, is wrong.
    pub is_footer_damaged: bool,
    /// Damaged parity shards, by number.
    pub parity_shards: Vec<usize>,
    /// Whether another part of the parity file is damaged: a head, the copy of the table, its length.
    pub has_other_parity_damage: bool,
    /// The total number of parity shards: how many damaged shards can be mended.
    pub parity_total: usize,
}

impl PackDamage {
    /// Whether the pack is undamaged.
    pub fn is_pack_whole(&self) -> bool {
        self.data_shards.is_empty() && !self.is_footer_damaged
    }

    /// Whether the parity file is undamaged.
    pub fn is_parity_whole(&self) -> bool {
        self.parity_shards.is_empty() && !self.has_other_parity_damage
    }
}

/// The outcome of mending a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MendOutcome {
    /// The pack is undamaged.
    Whole,
    /// The pack was mended.
    Mended {
        /// All bytes of the pack.
        bytes: Vec<u8>,
        /// How many of its shards were restored.
        shards: usize,
    },
    /// Too much is damaged.
    Lost {
        /// The pack with everything that could be mended (its length, footer and table), and with its damaged shards.
        bytes: Vec<u8>,
        /// The damaged spans of the pack in ascending order, in bytes. Everything else is undamaged.
        ranges: Vec<Range<usize>>,
    },
}

/// Finds the damage of a pack and its parity file. Fails if both heads of the parity file are damaged.
pub fn verify(pack: &[u8], parity: &[u8], id: PackId) -> Result<PackDamage> {
    let (head, one_head) = Head::find(parity, id)?;
    Ok(damage(&head, one_head, pack, parity))
}

fn damage(head: &Head, one_head: bool, pack: &[u8], parity: &[u8]) -> PackDamage {
    let is_pack_len = pack.len() == head.content_len() + FOOTER_LEN;
    PackDamage {
        shard_len: head.shard_len,
        data_shards: (0..head.data()).filter(|&i| !head.is_data(i, shard(head, pack, i))).collect(),
        is_footer_damaged: !is_pack_len || !pack.ends_with(&head.footer_bytes),
        parity_shards: (0..head.parity).filter(|&i| head.parity_shard(parity, i).is_none()).collect(),
        has_other_parity_damage: one_head
            || (head.has_table() && head.table(parity).is_none())
            || parity.len() != head.file_len(),
        parity_total: head.parity,
    }
}

/// Restores a pack from its parity file and what is left of it, which is nothing if its file is missing. Fails if both
/// heads of the parity file are damaged.
pub fn mend(pack: &[u8], parity: &[u8], id: PackId) -> Result<MendOutcome> {
    let (head, one_head) = Head::find(parity, id)?;
    let damage = damage(&head, one_head, pack, parity);
    if damage.is_pack_whole() {
        return Ok(MendOutcome::Whole);
    }
    let mut bytes = pack.to_vec();
    bytes.resize(head.content_len(), 0);
    let mut bad = damage.data_shards.clone();
    if let Some(table) = head.table(parity) {
        // Shards that overlap the table are patched from its copy. A patched shard is used only if it is right then.
        bad.retain(|&i| {
            let span = span(&head, i);
            let mut patched = bytes[span.clone()].to_vec();
            let from = head.footer.table_offset.max(span.start);
            if from >= span.end {
                return true;
            }
            patched[from - span.start..].copy_from_slice(&table[from - head.footer.table_offset..][..span.end - from]);
            let is_whole = head.is_data(i, &patched);
            if is_whole {
                bytes[span].copy_from_slice(&patched);
            }
            !is_whole
        });
    }
    let whole_parity = head.parity - damage.parity_shards.len();
    if !bad.is_empty() && bad.len() <= whole_parity {
        restore(&head, &mut bytes, &mut bad, parity)?;
    }
    bytes.extend_from_slice(&head.footer_bytes);
    match bad.is_empty() {
        true => Ok(MendOutcome::Mended { bytes, shards: damage.data_shards.len() }),
        false => {
            let mut ranges: Vec<Range<usize>> = Vec::new();
            for span in bad.into_iter().map(|i| span(&head, i)) {
                match ranges.last_mut().filter(|last| last.end == span.start) {
                    Some(last) => last.end = span.end,
                    None => ranges.push(span),
                }
            }
            Ok(MendOutcome::Lost { bytes, ranges })
        }
    }
}

/// Computes the damaged shards, and removes those from `bad` that then have the right hash.
fn restore(head: &Head, bytes: &mut [u8], bad: &mut Vec<usize>, parity: &[u8]) -> Result<()> {
    let fail = |e: reed_solomon_simd::Error| pack_damaged(head.footer.id, format!("it cannot be mended: {e}"));
    let mut decoder =
        reed_solomon_simd::ReedSolomonDecoder::new(head.data(), head.parity, head.shard_len).map_err(fail)?;
    for i in (0..head.data()).filter(|i| bad.binary_search(i).is_err()) {
        decoder.add_original_shard(i, head.padded(&bytes[span(head, i)])).map_err(fail)?;
    }
    let whole = (0..head.parity).filter_map(|i| Some((i, head.parity_shard(parity, i)?)));
    for (i, shard) in whole.take(bad.len()) {
        decoder.add_recovery_shard(i, shard).map_err(fail)?;
    }
    let decoded = decoder.decode().map_err(fail)?;
    bad.retain(|&i| {
        let span = span(head, i);
        let restored = decoded.restored_original(i).and_then(|shard| shard.get(..span.len()));
        let Some(restored) = restored.filter(|shard| head.is_data(i, shard)) else { return true };
        bytes[span].copy_from_slice(restored);
        false
    });
    Ok(())
}

/// Returns the span of a data shard in the pack.
fn span(head: &Head, number: usize) -> Range<usize> {
    let start = number * head.shard_len;
    start..(start + head.shard_len).min(head.content_len())
}

/// Returns what is left of a data shard in the pack.
fn shard<'a>(head: &Head, pack: &'a [u8], number: usize) -> &'a [u8] {
    let span = span(head, number);
    let end = span.end.min(pack.len());
    &pack[span.start.min(end)..end]
}
