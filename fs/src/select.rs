//! Choosing snapshots: which ones a filter lets through, which form a series, and which one `latest` stands for.
//!
//! These are pure functions over descriptions of snapshots. The command line and the mount both use them, so `latest`
//! means the same in both. A *series* is what one client pushes to one target. Only the newest snapshot of each series,
//! among those that pass the filter, can be `latest`: the newest of *all* snapshots depends on which of several jobs
//! ran last.
//!
//! Not here: parsing what a user types, and the tree behind a path. A path is compared with the paths that were pushed,
//! so a file that was deleted since is not searched for in older snapshots.

mod filter;
mod latest;
mod sources;

use std::collections::HashMap;

use bkfs_store::{
    base::id::{ClientId, SnapshotId},
    format::snapshot::{Snapshot, SnapshotOrder},
    owner::reader::SnapshotInfo,
};

pub use filter::SnapshotFilter;
pub use latest::{Here, NoLatest, WantedPath, latest};
pub use sources::{Coverage, coverage};

/// A snapshot to choose from.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its id.
    pub id: SnapshotId,
    /// Its place among all snapshots.
    pub order: SnapshotOrder,
    /// The client that pushed it.
    pub client: ClientId,
    /// Its record.
    pub snapshot: &'a Snapshot,
}

impl<'a> Candidate<'a> {
    /// The series that it belongs to.
    pub fn series(&self) -> Series<'a> {
        Series { client: self.client, target: &self.snapshot.target }
    }
}

impl<'a> From<&'a SnapshotInfo> for Candidate<'a> {
    fn from(info: &'a SnapshotInfo) -> Self {
        Self { id: info.id, order: info.order(), client: info.client, snapshot: &info.snapshot }
    }
}

/// The snapshots of one client with one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series<'a> {
    /// The client, which signed them.
    pub client: ClientId,
    /// The target.
    pub target: &'a str,
}

/// Returns the indexes of the newest snapshot of each series, oldest first.
pub fn newest_of_each_series<'a>(candidates: impl IntoIterator<Item = (usize, Candidate<'a>)>) -> Vec<usize> {
    let mut newest: HashMap<Series<'a>, (SnapshotOrder, usize)> = HashMap::new();
    for (index, candidate) in candidates {
        let place = (candidate.order, index);
        newest.entry(candidate.series()).and_modify(|found| *found = (*found).max(place)).or_insert(place);
    }
    let mut places: Vec<_> = newest.into_values().collect();
    places.sort_unstable();
    places.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
mod tests;
