//! What verdicts of key holders say of packs: which are verified, and which of their frames are refused.
//!
//! A row stays when its pack goes: the pack may come back, and then the verdict still holds.

use heed::{RoTxn, RwTxn, WithoutTls};

use super::{environment::Index, meta, tables::Tables};
use crate::{
    base::{error::Result, id::PackId},
    format::{
        loss::FrameBits,
        verdict::{Refused, Verdict},
    },
};

/// What verdicts say.
#[derive(Debug, Clone, Copy)]
pub struct VerdictIndex<'i>(&'i Index);

impl Index {
    /// What verdicts say.
    pub fn verdicts(&self) -> VerdictIndex<'_> {
        VerdictIndex(self)
    }
}

impl VerdictIndex<'_> {
    /// Whether a pack is verified.
    pub fn is_verified(self, pack: &PackId) -> Result<bool> {
        self.0.read(|txn| is_verified(&self.0.tables, txn, &pack.0))
    }

    /// The refused frames of a pack; none if it has none.
    pub fn refused_frames(self, pack: &PackId) -> Result<Option<FrameBits>> {
        self.0.read(|txn| Ok(self.0.tables.refused.get(txn, &pack.0)?.map(FrameBits::from_bytes)))
    }

    /// The packs that have refused frames, with these frames.
    pub fn refused(self) -> Result<Vec<(PackId, FrameBits)>> {
        self.0.read(|txn| {
            let mut found = Vec::new();
            for row in self.0.tables.refused.iter(txn)? {
                let (id, bits) = row?;
                found.extend(PackId::from_slice(id).map(|id| (id, FrameBits::from_bytes(bits))));
            }
            Ok(found)
        })
    }

    /// Whether no pack is verified.
    pub fn are_none_verified(self) -> Result<bool> {
        self.0.read(|txn| self.0.tables.verified.is_empty(txn))
    }

    /// Whether a verdict would tell the index something new.
    pub fn is_news(self, verdict: &Verdict) -> Result<bool> {
        let tables = &self.0.tables;
        self.0.read(|txn| {
            for pack in &verdict.verified {
                if !is_verified(tables, txn, &pack.0)? {
                    return Ok(true);
                }
            }
            for Refused { pack, frames } in &verdict.refused {
                let known = tables.refused.get(txn, &pack.0)?.map(FrameBits::from_bytes).unwrap_or_default();
                if frames.iter().any(|frame| !known.has(frame)) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }
}

/// Whether a pack is verified.
pub(super) fn is_verified(tables: &Tables<'_>, txn: &RoTxn<'_, WithoutTls>, pack: &[u8]) -> heed::Result<bool> {
    Ok(tables.verified.get(txn, pack)?.is_some())
}

/// Whether a frame is refused.
pub(super) fn is_refused(
    tables: &Tables<'_>,
    txn: &RoTxn<'_, WithoutTls>,
    pack: &[u8],
    frame: u32,
) -> heed::Result<bool> {
    Ok(tables.refused.get(txn, pack)?.is_some_and(|bits| FrameBits::from_bytes(bits).has(frame)))
}

/// Notes that packs are verified.
pub(super) fn verify(tables: &Tables<'_>, txn: &mut RwTxn<'_>, packs: &[PackId]) -> heed::Result<()> {
    packs.iter().try_for_each(|pack| tables.verified.put(txn, &pack.0, b""))?;
    note_counts(tables, txn)
}

/// Notes that frames are refused.
pub(super) fn refuse(tables: &Tables<'_>, txn: &mut RwTxn<'_>, refused: &[Refused]) -> heed::Result<()> {
    for Refused { pack, frames } in refused {
        let known = tables.refused.get(txn, &pack.0)?.map(FrameBits::from_bytes).unwrap_or_default();
        tables.refused.put(txn, &pack.0, known.with(frames).as_bytes())?;
    }
    note_counts(tables, txn)
}

/// Notes how many rows there are: nothing else would show that one is missing.
fn note_counts(tables: &Tables<'_>, txn: &mut RwTxn<'_>) -> heed::Result<()> {
    let counts = [tables.verified.len(txn)?.to_le_bytes(), tables.refused.len(txn)?.to_le_bytes()].concat();
    tables.meta.put(txn, meta::JUDGED, &counts)
}

/// Whether there are as many rows as were noted.
pub(super) fn are_counts_right(tables: &Tables<'_>, txn: &RoTxn<'_, WithoutTls>) -> heed::Result<bool> {
    let counts = [tables.verified.len(txn)?.to_le_bytes(), tables.refused.len(txn)?.to_le_bytes()].concat();
    Ok(tables.meta.get(txn, meta::JUDGED)?.map_or(counts == [0; 16], |noted| noted == counts))
}
