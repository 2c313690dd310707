//! What the index knows of frames in quarantine, and of what was lost with them.
//!
//! Each pack that has frames in quarantine has a row: one bit a frame as in [`FrameBits`], or no bytes if all frames
//! are in quarantine. Each record of the log that announced a loss has a row as well, for clients that were away.

use std::ops::Bound::{Excluded, Unbounded};

use heed::{RoTxn, RwTxn, WithoutTls};

use super::{environment::Index, tables::Tables};
use crate::{
    base::{codec, error::Result, id::PackId},
    format::loss::{DamagedFrames, FrameBits, Lost, Quarantined},
};

/// The frames in quarantine.
#[derive(Debug, Clone, Copy)]
pub struct QuarantineIndex<'i>(&'i Index);

impl Index {
    /// The frames in quarantine.
    pub fn quarantine(&self) -> QuarantineIndex<'_> {
        QuarantineIndex(self)
    }
}

impl QuarantineIndex<'_> {
    /// The frames of a pack that are in quarantine; none if there are no such frames.
    pub fn frames_of(self, pack: &PackId) -> Result<Option<DamagedFrames>> {
        self.0.read(|txn| Ok(self.0.tables.quarantined.get(txn, &pack.0)?.map(decode)))
    }

    /// The packs that have frames in quarantine, in the order of their ids.
    pub fn list(self, after: Option<PackId>, limit: usize) -> Result<Vec<Quarantined>> {
        let from = after.map(|id| id.0);
        let start = from.as_ref().map_or(Unbounded, |id| Excluded(&id[..]));
        self.0.read(|txn| {
            let mut found = Vec::new();
            for row in self.0.tables.quarantined.range(txn, &(start, Unbounded))?.take(limit) {
                let (id, row) = row?;
                found.extend(PackId::from_slice(id).map(|pack| Quarantined { pack, frames: decode(row) }));
            }
            Ok(found)
        })
    }

    /// What the records of the log at `from` or later announced as lost.
    pub fn losses_from(self, from: u64) -> Result<Vec<Lost>> {
        self.0.read(|txn| {
            let rows = self.0.tables.losses.range(txn, &(from..))?;
            // A row that cannot be read may mean any loss.
            let lost = |row: &[u8]| codec::decode("a loss in the index", row).unwrap_or(Lost::Everything);
            rows.map(|found| found.map(|(_, row)| lost(row))).collect()
        })
    }
}

/// Whether a frame is in quarantine.
pub(super) fn has_frame(
    tables: &Tables<'_>,
    txn: &RoTxn<'_, WithoutTls>,
    pack: &[u8],
    frame: u32,
) -> heed::Result<bool> {
    Ok(tables.quarantined.get(txn, pack)?.is_some_and(|row| decode(row).has(frame)))
}

/// Adds the frames of a record of the log, and what was lost with them.
pub(super) fn add(
    tables: &Tables<'_>,
    txn: &mut RwTxn<'_>,
    seq: u64,
    packs: &[Quarantined],
    lost: &Lost,
) -> heed::Result<()> {
    for Quarantined { pack, frames } in packs {
        let before = tables.quarantined.get(txn, &pack.0)?.map(decode);
        let now = match before {
            Some(before) => before.with(frames),
            None => frames.clone(),
        };
        match &now {
            DamagedFrames::All => tables.quarantined.put(txn, &pack.0, &[])?,
            DamagedFrames::Frames(bits) if bits.is_empty() => {}
            DamagedFrames::Frames(bits) => tables.quarantined.put(txn, &pack.0, bits.as_bytes())?,
        }
    }
    tables.losses.put(txn, &seq, &codec::encode(lost))
}

/// Lets packs out of quarantine.
pub(super) fn release(tables: &Tables<'_>, txn: &mut RwTxn<'_>, packs: &[PackId]) -> heed::Result<()> {
    packs.iter().try_for_each(|pack| tables.quarantined.delete(txn, &pack.0).map(drop))
}

fn decode(row: &[u8]) -> DamagedFrames {
    match row {
        [] => DamagedFrames::All,
        bits => DamagedFrames::Frames(FrameBits::from_bytes(bits)),
    }
}
