//! Filters: which snapshots to consider at all.

use bkfs_store::{base::id::ClientId, format::snapshot::Snapshot};

/// What a snapshot must have. The default lets every snapshot through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// It was pushed by one of these clients.
    pub clients: Option<Vec<ClientId>>,
    /// Its client calls its machine so.
    pub host: Option<String>,
    /// It is of this target.
    pub target: Option<String>,
    /// It has all these tags.
    pub tags: Vec<String>,
    /// Its push named all these paths, without a slash at the end.
    pub paths: Vec<Vec<u8>>,
}

impl SnapshotFilter {
    /// Whether a snapshot passes.
    pub fn matches(&self, client: ClientId, snapshot: &Snapshot) -> bool {
        self.clients.as_ref().is_none_or(|clients| clients.contains(&client))
            && self.host.as_ref().is_none_or(|host| *host == snapshot.host)
            && self.target.as_ref().is_none_or(|target| *target == snapshot.target)
            && self.tags.iter().all(|tag| snapshot.tags.contains(tag))
            && self.paths.iter().all(|path| snapshot.paths.iter().any(|pushed| pushed.0 == *path))
    }

    /// Whether it says of which machine or client snapshots are.
    pub fn names_machine(&self) -> bool {
        self.host.is_some() || self.clients.is_some()
    }

    /// Whether it lets all snapshots of a series through, or none: those have the same client and target, while host,
    /// tags and paths may change.
    pub fn is_by_series(&self) -> bool {
        let Self { clients: _, target: _, host, tags, paths } = self;
        host.is_none() && tags.is_empty() && paths.is_empty()
    }

    /// Whether it lets every snapshot through.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
