//! What the index knows of prunes: condemned frames, swept packs, and the generation.

use heed::RwTxn;

use super::{
    environment::Index,
    meta, packs, quarantine,
    rows::{CondemnRow, LivenessChange, SweptRow},
    tables::Tables,
    verdicts,
};
use crate::{
    base::{error::Result, id::PackId},
    format::loss::FrameBits,
};

/// Condemned frames, swept packs, and the generation.
#[derive(Debug, Clone, Copy)]
pub struct PruneIndex<'i>(&'i Index);

impl Index {
    /// Condemned frames, swept packs, and the generation.
    pub fn prunes(&self) -> PruneIndex<'_> {
        PruneIndex(self)
    }
}

impl PruneIndex<'_> {
    /// The newest generation; none before the first prune.
    pub fn generation(self) -> Result<Option<u64>> {
        Ok(self.0.meta(meta::GENERATION)?.and_then(|raw| raw.try_into().ok()).map(u64::from_le_bytes))
    }

    /// The condemnations at `from` or later in the log, oldest first.
    pub fn condemnations_from(self, from: u64) -> Result<Vec<CondemnRow>> {
        self.0.read(|txn| {
            let rows = self.0.tables.condemnations.range(txn, &(from..))?;
            rows.map(|found| found.map(|(seq, row)| CondemnRow::decode(seq, row))).collect()
        })
    }

    /// Place in the log of the newest condemnation.
    pub fn newest_condemnation(self) -> Result<Option<u64>> {
        self.0.read(|txn| Ok(self.0.tables.condemnations.last(txn)?.map(|(seq, _)| seq)))
    }

    /// The packs that have condemned frames and are not swept yet, with these frames; at most `limit`.
    pub fn condemned(self, limit: usize) -> Result<Vec<(PackId, FrameBits)>> {
        self.0.read(|txn| {
            let mut found = Vec::new();
            for row in self.0.tables.condemned.iter(txn)?.take(limit) {
                let (id, bits) = row?;
                found.extend(PackId::from_slice(id).map(|id| (id, FrameBits::from_bytes(bits))));
            }
            Ok(found)
        })
    }

    /// How many packs have condemned frames and are not swept yet.
    pub fn condemned_count(self) -> Result<u64> {
        self.0.read(|txn| self.0.tables.condemned.len(txn))
    }

    /// The condemned frames of a pack; none if it has no such frames.
    pub fn condemned_frames(self, pack: &PackId) -> Result<Option<FrameBits>> {
        self.0.read(|txn| Ok(self.0.tables.condemned.get(txn, &pack.0)?.map(FrameBits::from_bytes)))
    }

    /// When a pack was swept, in seconds; none if it is not swept.
    pub fn swept_at(self, pack: &PackId) -> Result<Option<i64>> {
        self.0.read(|txn| Ok(self.0.tables.swept.get(txn, &pack.0)?.map(|row| SweptRow::decode(row).secs)))
    }

    /// The swept packs whose files may still be among those of other packs.
    pub fn unmoved(self) -> Result<Vec<PackId>> {
        self.0.read(|txn| {
            let mut found = Vec::new();
            for row in self.0.tables.swept.iter(txn)? {
                let (id, row) = row?;
                if !SweptRow::decode(row).is_moved {
                    found.extend(PackId::from_slice(id));
                }
            }
            Ok(found)
        })
    }

    /// Notes that the files of swept packs have been moved.
    pub fn set_moved(self, packs: &[PackId]) -> Result<()> {
        let swept = &self.0.tables.swept;
        self.0.write(|txn| {
            for pack in packs {
                let Some(row) = swept.get(txn, &pack.0)? else { continue };
                let row = SweptRow { is_moved: true, ..SweptRow::decode(row) };
                swept.put(txn, &pack.0, &row.encode())?;
            }
            Ok(())
        })
    }
}

/// Applies changes to which packs and frames are live.
pub(super) fn apply(tables: &Tables<'static>, txn: &mut RwTxn<'_>, changes: &[LivenessChange]) -> heed::Result<()> {
    for change in changes {
        match change {
            LivenessChange::Condemn { row, generation, set } => {
                tables.condemnations.put(txn, &row.seq, &row.encode())?;
                tables.meta.put(txn, meta::GENERATION, &generation.to_le_bytes())?;
                tables.condemned.clear(txn)?;
                for pack in set.iter().flat_map(|set| &set.packs) {
                    tables.condemned.put(txn, &pack.pack.0, pack.frames.as_bytes())?;
                }
            }
            LivenessChange::Sweep { packs, secs } => {
                let row = SweptRow { secs: *secs, is_moved: false };
                for (pack, table) in packs {
                    packs::remove(tables, txn, pack, table.as_ref())?;
                    tables.condemned.delete(txn, &pack.0)?;
                    tables.swept.put(txn, &pack.0, &row.encode())?;
                }
            }
            LivenessChange::Revive { packs } => {
                for pack in packs {
                    tables.condemned.delete(txn, &pack.0)?;
                    tables.swept.delete(txn, &pack.0)?;
                }
            }
            LivenessChange::Abort => tables.condemned.clear(txn)?,
            LivenessChange::Quarantine { seq, generation, packs, lost } => {
                tables.meta.put(txn, meta::GENERATION, &generation.to_le_bytes())?;
                quarantine::add(tables, txn, *seq, packs, lost)?;
            }
            LivenessChange::Release { packs } => quarantine::release(tables, txn, packs)?,
            LivenessChange::Verdict { seq, verdict, generation, lost } => {
                verdicts::verify(tables, txn, &verdict.verified)?;
                verdicts::refuse(tables, txn, &verdict.refused)?;
                if let Some(generation) = generation {
                    tables.meta.put(txn, meta::GENERATION, &generation.to_le_bytes())?;
                    quarantine::add(tables, txn, *seq, &[], lost)?;
                }
            }
            LivenessChange::Inherit { packs } => verdicts::verify(tables, txn, packs)?,
        }
    }
    Ok(())
}
