//! How snapshots fall into groups.
//!
//! The host of a group is the client *and* the name that its machine claims, because only the client is authenticated.
//! So no client can get its snapshots into another client's group. A grouping by target or paths alone mixes clients,
//! and trusts all of them.

use std::{collections::BTreeMap, str::FromStr};

use super::{error::RetentionError, group::Group, row::SnapshotRow};

/// By what snapshots are grouped. The policy is applied to each group separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouping {
    /// By client, whatever the name of its machine.
    pub client: bool,
    /// By client and the name of its machine.
    pub host: bool,
    /// By target.
    pub target: bool,
    /// By the set of paths.
    pub paths: bool,
}

impl Grouping {
    /// All snapshots in one group.
    pub const NONE: Grouping = Grouping { client: false, host: false, target: false, paths: false };

    /// Returns the groups with their snapshots, newest first. A snapshot that is given twice is in its group once.
    pub(super) fn split(self, rows: &[SnapshotRow]) -> BTreeMap<Group, Vec<&SnapshotRow>> {
        let mut groups: BTreeMap<Group, Vec<&SnapshotRow>> = BTreeMap::new();
        for row in rows {
            groups.entry(self.group(row)).or_default().push(row);
        }
        for rows in groups.values_mut() {
            rows.sort_unstable_by_key(|row| std::cmp::Reverse((row.order(), row.id)));
            rows.dedup_by_key(|row| row.id);
        }
        groups
    }

    /// Returns the group of a snapshot.
    pub fn group(self, row: &SnapshotRow) -> Group {
        let paths = || {
            let mut paths = row.paths.clone();
            paths.sort_unstable();
            paths.dedup();
            paths
        };
        Group {
            client: (self.client || self.host).then_some(row.client),
            host: self.host.then(|| row.host.clone()),
            target: self.target.then(|| row.target.clone()),
            paths: self.paths.then(paths),
        }
    }
}

impl Default for Grouping {
    /// By client, host, target and paths.
    fn default() -> Self {
        Grouping { client: true, host: true, target: true, paths: true }
    }
}

impl FromStr for Grouping {
    type Err = RetentionError;

    /// Reads a list like `host,paths`. An empty text is [`Grouping::NONE`].
    fn from_str(text: &str) -> Result<Self, RetentionError> {
        let mut grouping = Grouping::NONE;
        for word in text.split(',').filter(|_| !text.is_empty()) {
            match word {
                "client" => grouping.client = true,
                "host" => (grouping.client, grouping.host) = (true, true),
                "target" => grouping.target = true,
                "paths" => grouping.paths = true,
                _ => {
                    let reason = format!("{word:?} is unknown; use client, host, target and paths");
                    return Err(RetentionError::syntax("grouping", text, reason));
                }
            }
        }
        Ok(grouping)
    }
}
