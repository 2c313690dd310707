//! The folders above the snapshots, and what is in them. [`super::names`] fills them.

use std::sync::Arc;

use super::source::ShownSnapshot;

/// A folder that has a `latest` of its own shape: the root (none), or a folder in `hosts/` or `tags/`.
pub type LatestFolder = Option<(GroupBy, Arc<[u8]>)>;

/// How snapshots are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GroupBy {
    /// By target.
    Targets,
    /// By the machine that was backed up.
    Hosts,
    /// By tag.
    Tags,
}

impl GroupBy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Targets, Self::Hosts, Self::Tags];

    /// Returns the name of the folder that has the groups.
    pub fn name(self) -> &'static [u8] {
        match self {
            Self::Targets => b"targets",
            Self::Hosts => b"hosts",
            Self::Tags => b"tags",
        }
    }
}

/// A folder above the snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopDir {
    /// The mount's root.
    Root,
    /// `snapshots/`
    Snapshots,
    /// `ids/`
    Ids,
    /// `targets/`, `hosts/` or `tags/`
    Groups(GroupBy),
    /// A folder in one of these.
    Group(GroupBy, Arc<[u8]>),
    /// `latest/`, where it is a folder.
    Latest(LatestFolder),
}

/// An entry of such a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopItem {
    /// A folder.
    Dir(TopDir),
    /// A snapshot.
    Snapshot(Arc<ShownSnapshot>),
    /// A symbolic link to the newest snapshot of a series.
    Latest {
        /// Where it leads.
        target: Vec<u8>,
        /// Number of the snapshot's commit in the log.
        log_seq: u64,
    },
}

/// A named entry in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// What it is.
    pub item: TopItem,
    /// Where the listing continues after it; ascending, less than 2^62.
    pub cookie: u64,
}
