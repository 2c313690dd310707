//! What a push found about an entry that it looked at more closely.

use bkfs_store::format::tree::Node;

/// How an entry differs from what the last push stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The last push did not have it.
    New,
    /// It is not as the last push stored it.
    Changed,
}

impl Change {
    /// Compares what the last push stored, if it did, with what is there now. None if both are the same: then the entry
    /// was only looked at again.
    pub fn between(was: Option<&Node>, is: &Node) -> Option<Self> {
        match was {
            None => Some(Self::New),
            Some(was) if was == is => None,
            Some(_) => Some(Self::Changed),
        }
    }
}

/// Counts of files, for the snapshot's statistics.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileCounts {
    /// Files that the last push did not have.
    pub new: u64,
    /// Files that differ from what the last push stored.
    pub changed: u64,
    /// Files that are the same, whether they were read or not.
    pub unchanged: u64,
}

impl FileCounts {
    /// Counts a file.
    pub fn add(&mut self, change: Option<Change>) {
        match change {
            Some(Change::New) => self.new += 1,
            Some(Change::Changed) => self.changed += 1,
            None => self.unchanged += 1,
        }
    }
}
