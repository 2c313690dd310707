//! The rows that retention works on, and how they fall into groups.
//!
//! Who pushed and to which target is authenticated: the client signs both. Host and paths are what that client says.
//! So the host of a group is the client *and* the name that it gives itself, and no client can get among another's
//! snapshots; only a grouping by target or paths alone mixes clients, and trusts all of them.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::RetentionError;
use crate::{
    base::{
        id::{ClientId, SnapshotId},
        time::Time,
    },
    format::snapshot::PathBytes,
};

/// What retention knows of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotRow {
    /// When the store received it, by the store's clock.
    pub received: Time,
    /// Place of its commit in the repository's log.
    pub log_seq: u64,
    /// The snapshot.
    pub id: SnapshotId,
    /// The client that signed it.
    pub client: ClientId,
    /// The name that the client's machine gives itself.
    pub host: String,
    /// The series, signed by the client.
    pub target: String,
    /// What was pushed.
    pub paths: Vec<PathBytes>,
    /// Its tags, added ones included.
    pub tags: Vec<String>,
    /// Sum of the sizes of its files, in bytes.
    pub bytes: u64,
    /// How many files it has.
    pub files: u64,
}

/// By what snapshots are grouped. Each kind of group has its own policy's worth of snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouping {
    /// By client, whatever its machine is called.
    pub client: bool,
    /// By client and the name of its machine.
    pub host: bool,
    /// By target.
    pub target: bool,
    /// By the set of paths.
    pub paths: bool,
}

impl Grouping {
    /// One group of all.
    pub const NONE: Grouping = Grouping { client: false, host: false, target: false, paths: false };

    /// The groups with their snapshots, newest first.
    pub(super) fn split(self, rows: &[SnapshotRow]) -> BTreeMap<Group, Vec<&SnapshotRow>> {
        let mut groups: BTreeMap<Group, Vec<&SnapshotRow>> = BTreeMap::new();
        for row in rows {
            groups.entry(self.group(row)).or_default().push(row);
        }
        for rows in groups.values_mut() {
            // A row's own order begins with time, place in the log and id.
            rows.sort_unstable_by(|a, b| b.cmp(a));
            rows.dedup_by_key(|row| row.id);
        }
        groups
    }

    /// The group of a snapshot.
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
    /// By host, target and paths.
    fn default() -> Self {
        Grouping { client: true, host: true, target: true, paths: true }
    }
}

impl FromStr for Grouping {
    type Err = RetentionError;

    /// Reads a list like `host,paths`; an empty one groups by nothing.
    fn from_str(text: &str) -> Result<Self, RetentionError> {
        let mut grouping = Grouping::NONE;
        for word in text.split(',').filter(|_| !text.is_empty()) {
            match word {
                "client" => grouping.client = true,
                "host" => (grouping.client, grouping.host) = (true, true),
                "target" => grouping.target = true,
                "paths" => grouping.paths = true,
                _ => {
                    let reason = format!("there is no {word:?}; choose of client, host, target and paths");
                    return Err(RetentionError::syntax("grouping", text, reason));
                }
            }
        }
        Ok(grouping)
    }
}

/// A group: what its snapshots have in common. What the grouping leaves out is not there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// The client.
    pub client: Option<ClientId>,
    /// The name of its machine.
    pub host: Option<String>,
    /// The target.
    pub target: Option<String>,
    /// The paths, sorted.
    pub paths: Option<Vec<PathBytes>>,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match (&self.host, self.client) {
            (Some(host), Some(client)) => parts.push(format!("host {host:?} (client {})", client.short())),
            (_, Some(client)) => parts.push(format!("client {}", client.short())),
            _ => {}
        }
        if let Some(target) = &self.target {
            parts.push(format!("target {target:?}"));
        }
        if let Some(paths) = &self.paths {
            let paths: Vec<_> = paths.iter().map(|p| format!("{:?}", String::from_utf8_lossy(&p.0))).collect();
            parts.push(format!("paths {}", paths.join(" ")));
        }
        match parts.is_empty() {
            true => f.write_str("the repository"),
            false => f.write_str(&parts.join(", ")),
        }
    }
}
