//! How far the index has read the log, and what it remembers of it.

use super::{
    environment::Index,
    meta, prunes,
    rows::{Batch, CommitRow},
};
use crate::{
    base::{codec, error::Result, id::Incarnation, time::Time},
    format::log::file::Position,
};

/// What errors call a position.
const POSITION: &str = "the log's position";
/// What errors call a commit.
pub(super) const COMMIT: &str = "a commit in the index";

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

    /// The time of the newest record.
    pub fn newest_time(self) -> Result<Time> {
        Ok(self.0.meta(meta::NEWEST_TIME)?.and_then(|raw| codec::decode("a time", &raw).ok()).unwrap_or_default())
    }

    /// The newest incarnation.
    pub fn incarnation(self) -> Result<Option<Incarnation>> {
        Ok(self.0.meta(meta::INCARNATION)?.and_then(|raw| Incarnation::from_slice(&raw)))
    }

    /// The newest roster, signed.
    pub fn roster(self) -> Result<Option<Vec<u8>>> {
        self.0.meta(meta::ROSTER)
    }

    /// Applies the records of the log from `start` to `end`. Does nothing if the index is not at `start` any more:
    /// another thread or process was faster, and going back would make the next append overwrite what follows.
    pub fn apply(self, start: Position, batch: &Batch, end: Position) -> Result<()> {
        let tables = &self.0.tables;
        self.0.write(|txn| {
            let at = tables.meta.get(txn, meta::LOG_POSITION)?;
            let at: Option<Position> = at.and_then(|raw| codec::decode(POSITION, raw).ok());
            if at.unwrap_or_default() != start {
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
            if let Some(time) = &batch.newest_time {
                tables.meta.put(txn, meta::NEWEST_TIME, &codec::encode(time))?;
            }
            if let Some(incarnation) = &batch.incarnation {
                tables.meta.put(txn, meta::INCARNATION, &incarnation.0)?;
            }
            if let Some(signed) = &batch.roster {
                tables.meta.put(txn, meta::ROSTER, signed)?;
            }
            tables.meta.put(txn, meta::LOG_POSITION, &codec::encode(&end))
        })
    }
}
