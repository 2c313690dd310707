//! How far the index has read the log, and what it remembers of it.

use heed::{RoTxn, WithoutTls};

use super::{
    environment::Index,
    meta, packs, prunes,
    rows::{Batch, CommitRow, LivenessChange},
    tables::Tables,
};
use crate::{
    base::{
        codec,
        error::{ErrorKind, Result},
        id::Incarnation,
    },
    format::log::file::Position,
};

/// What errors call a position.
pub(super) const POSITION: &str = "the log's position";
/// What errors call a commit.
pub(super) const COMMIT: &str = "a commit in the index";

/// How many rows go in one transaction on a full disk. Each may be on a page of its own.
const ROWS_AT_A_TIME: usize = 16;

/// What the index remembers of the log.
#[derive(Debug, Clone, Copy)]
pub struct LogIndex<'i>(&'i Index);

impl Index {
    /// What the index remembers of the log.
    pub fn log(&self) -> LogIndex<'_> {
        LogIndex(self)
    }
}

impl LogIndex<'_> {
    /// How far the log has been read.
    pub fn position(self) -> Result<Position> {
        Ok(self.0.meta(meta::LOG_POSITION)?.and_then(|raw| codec::decode(POSITION, &raw).ok()).unwrap_or_default())
    }

    /// Where a record of the log begins in its file.
    pub fn offset(self, seq: u64) -> Result<Option<u64>> {
        self.0.read(|txn| self.0.tables.offsets.get(txn, &seq))
    }

    /// The newest incarnation.
    pub fn incarnation(self) -> Result<Option<Incarnation>> {
        Ok(self.0.meta(meta::INCARNATION)?.and_then(|raw| Incarnation::from_slice(&raw)))
    }

    /// The newest roster, signed.
    pub fn roster(self) -> Result<Option<Vec<u8>>> {
        self.0.meta(meta::ROSTER)
    }

    /// The newest list of seal keys, signed; none if the seal key was never rotated.
    pub fn seal_keys(self) -> Result<Option<Vec<u8>>> {
        self.0.meta(meta::SEAL_KEYS)
    }

    /// Applies the records of the log from `start` to `end`. Does nothing if the index is not at `start` any more:
    /// another thread or process was faster, and going back would make the next append overwrite what follows.
    ///
    /// LMDB writes each changed page to a new place, and uses the old place again two transactions later. A transaction
    /// that removes the rows of many chunks may not fit on a full disk. Then the rows go first, a few at a time.
    pub fn apply(self, start: Position, batch: &Batch, end: Position) -> Result<()> {
        match self.apply_at_once(start, batch, end) {
            Err(error) if error.kind() == ErrorKind::Full && batch.sweeps_any() => {
                self.remove_swept_chunks(start, batch)?;
                self.apply_at_once(start, batch, end)
            }
            applied => applied,
        }
    }

    /// Removes the rows of chunks in packs that are swept by records which are not applied yet. The log says that they
    /// go, so whoever applies the records removes the rest.
    fn remove_swept_chunks(self, start: Position, batch: &Batch) -> Result<()> {
        let tables = &self.0.tables;
        for (pack, table) in batch.liveness.iter().flat_map(LivenessChange::swept) {
            let (Some(table), Some(number)) = (table, self.0.packs().number_of(pack)?) else { continue };
            for rows in packs::chunk_rows(number, table).chunks(ROWS_AT_A_TIME) {
                self.0.write(|txn| {
                    let is_still = tables.pack_numbers.get(txn, &pack.0)? == Some(number);
                    match is_still && position(tables, txn)? == start {
                        true => rows.iter().try_for_each(|row| tables.chunks().delete(txn, row)),
                        false => Ok(()),
                    }
                })?;
            }
        }
        Ok(())
    }

    fn apply_at_once(self, start: Position, batch: &Batch, end: Position) -> Result<()> {
        let tables = &self.0.tables;
        self.0.write(|txn| {
            if position(tables, txn)? != start {
                return Ok(());
            }
            for (seq, offset) in &batch.starts {
                tables.offsets.put(txn, seq, offset)?;
            }
            for row in &batch.commits {
                tables.commits.put(txn, &row.seq, &codec::encode(row))?;
                tables.snapshots.put(txn, &row.snapshot.0, &row.seq)?;
                tables.clients.put(txn, &row.client.0, &row.seq)?;
            }
            for change in &batch.changes {
                let Some(seq) = tables.snapshots.get(txn, &change.snapshot.0)? else { continue };
                let row = tables.commits.get(txn, &seq)?;
                let Some(mut row) = row.and_then(|raw| codec::decode::<CommitRow>(COMMIT, raw).ok()) else { continue };
                row.apply(change);
                tables.commits.put(txn, &seq, &codec::encode(&row))?;
            }
            prunes::apply(tables, txn, &batch.liveness)?;
            if let Some(incarnation) = &batch.incarnation {
                tables.meta.put(txn, meta::INCARNATION, &incarnation.0)?;
            }
            if let Some(signed) = &batch.roster {
                tables.meta.put(txn, meta::ROSTER, signed)?;
            }
            if let Some(signed) = &batch.seal_keys {
                tables.meta.put(txn, meta::SEAL_KEYS, signed)?;
            }
            tables.meta.put(txn, meta::LOG_POSITION, &codec::encode(&end))
        })
    }
}

fn position(tables: &Tables<'_>, txn: &RoTxn<'_, WithoutTls>) -> heed::Result<Position> {
    let raw = tables.meta.get(txn, meta::LOG_POSITION)?;
    Ok(raw.and_then(|raw| codec::decode(POSITION, raw).ok()).unwrap_or_default())
}
