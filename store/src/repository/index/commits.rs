//! The commits that the index knows.

use super::{environment::Index, log::COMMIT, rows::CommitRow};
use crate::base::{
    codec,
    error::Result,
    id::{ClientId, SnapshotId},
};

/// The commits of the log.
#[derive(Debug, Clone, Copy)]
pub struct CommitIndex<'i>(&'i Index);

impl Index {
    /// The commits of the log.
    pub fn commits(&self) -> CommitIndex<'_> {
        CommitIndex(self)
    }
}

impl CommitIndex<'_> {
    /// The wanted commits at `from` or later in the log, oldest first.
    pub fn from(self, from: u64, limit: usize, is_wanted: impl Fn(&CommitRow) -> bool) -> Result<Vec<CommitRow>> {
        self.0.read(|txn| Ok(self.choose(self.0.tables.commits.range(txn, &(from..))?, limit, is_wanted)))?
    }

    /// The newest wanted commits, oldest first.
    pub fn newest(self, limit: usize, is_wanted: impl Fn(&CommitRow) -> bool) -> Result<Vec<CommitRow>> {
        let mut rows = self.0.read(|txn| Ok(self.choose(self.0.tables.commits.rev_iter(txn)?, limit, is_wanted)))??;
        rows.reverse();
        Ok(rows)
    }

    fn choose<'t>(
        self,
        rows: impl Iterator<Item = heed::Result<(u64, &'t [u8])>>,
        limit: usize,
        is_wanted: impl Fn(&CommitRow) -> bool,
    ) -> Result<Vec<CommitRow>> {
        let mut found = Vec::new();
        for row in rows {
            if found.len() >= limit {
                break;
            }
            let row = codec::decode(COMMIT, row.map_err(|e| self.0.error(e))?.1)?;
            if is_wanted(&row) {
                found.push(row);
            }
        }
        Ok(found)
    }

    /// The commit of a snapshot.
    pub fn of(self, snapshot: &SnapshotId) -> Result<Option<CommitRow>> {
        let seq = self.0.read(|txn| self.0.tables.snapshots.get(txn, &snapshot.0))?;
        Ok(match seq {
            Some(seq) => self.from(seq, 1, |_| true)?.pop().filter(|row| row.snapshot == *snapshot),
            None => None,
        })
    }

    /// The newest commit of a client.
    pub fn newest_of(self, client: &ClientId) -> Result<Option<CommitRow>> {
        let seq = self.0.read(|txn| self.0.tables.clients.get(txn, &client.0))?;
        Ok(match seq {
            Some(seq) => self.from(seq, 1, |_| true)?.pop(),
            None => None,
        })
    }
}
