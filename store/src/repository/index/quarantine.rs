//! What the index knows of frames in quarantine, and of what was lost with them.
//!
//! A row for each pack of which frames are in quarantine: a bit a frame as in [`FrameBits`], or nothing at all if it is all of
//! them. And a row for each record of the log that told of a loss, for clients that were away.

use heed::{RoTxn, RwTxn, WithoutTls};

use super::Index;
use crate::{
    base::{codec, error::Result, id::PackId},
    format::loss::{DamagedFrames, FrameBits, Lost, Quarantined},
};

fn decode(row: &[u8]) -> DamagedFrames {
    match row {
        [] => DamagedFrames::All,
        bits => DamagedFrames::Frames(FrameBits::from_bytes(bits)),
    }
}

impl Index {
    /// Whether a frame is in quarantine.
    pub(super) fn is_hurt(&self, txn: &RoTxn<'_, WithoutTls>, pack: &[u8], frame: u32) -> heed::Result<bool> {
        Ok(self.tables.hurt.get(txn, pack)?.is_some_and(|row| decode(row).has(frame)))
    }

    /// Part of [`Index::apply`].
    pub(super) fn apply_quarantine(
        &self,
        txn: &mut RwTxn<'_>,
        seq: u64,
        packs: &[Quarantined],
        lost: &Lost,
    ) -> heed::Result<()> {
        for Quarantined { pack, frames } in packs {
            let before = self.tables.hurt.get(txn, &pack.0)?.map(decode);
            let now = match before {
                Some(before) => before.with(frames),
                None => frames.clone(),
            };
            match &now {
                DamagedFrames::All => self.tables.hurt.put(txn, &pack.0, &[])?,
                DamagedFrames::Frames(bits) if bits.is_empty() => {}
                DamagedFrames::Frames(bits) => self.tables.hurt.put(txn, &pack.0, bits.as_bytes())?,
            }
        }
        self.tables.losses.put(txn, &seq, &codec::encode(lost))
    }

    /// What of a pack is in quarantine; none if nothing is.
    pub fn quarantined(&self, pack: &PackId) -> Result<Option<DamagedFrames>> {
        self.read(|txn| Ok(self.tables.hurt.get(txn, &pack.0)?.map(decode)))
    }

    /// The packs of which something is in quarantine, in the order of their ids.
    pub fn quarantine(&self, after: Option<PackId>, limit: usize) -> Result<Vec<Quarantined>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map(|id| id.0);
        let start = from.as_ref().map_or(Unbounded, |id| Excluded(&id[..]));
        self.read(|txn| {
            let mut found = Vec::new();
            for row in self.tables.hurt.range(txn, &(start, Unbounded))?.take(limit) {
                let (id, row) = row?;
                found.extend(PackId::from_slice(id).map(|pack| Quarantined { pack, frames: decode(row) }));
            }
            Ok(found)
        })
    }

    /// What was found to be lost by records of the log at `from` or later.
    pub fn losses_from(&self, from: u64) -> Result<Vec<Lost>> {
        self.read(|txn| {
            let rows = self.tables.losses.range(txn, &(from..))?;
            // What cannot be read may be anything.
            let lost = |row: &[u8]| codec::decode("a loss in the index", row).unwrap_or(Lost::Everything);
            rows.map(|found| found.map(|(_, row)| lost(row))).collect()
        })
    }
}
