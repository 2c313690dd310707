//! The order of snapshots: which of two is the newer one.

/// The place of a snapshot among all snapshots of a repository; of two snapshots, the newer one has the greater place.
///
/// Snapshots have the order in which the store received them. The log records that order, and no clock can change it:
/// not the clock of the client, which gives a snapshot its name, and not the clock of the store, which gives it its
/// receive time. Everything that needs an order takes it from here: lists, `latest`, the mount and retention. The
/// floor does not: it protects a snapshot for a time after its receive time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotOrder {
    log_seq: u64,
}

impl SnapshotOrder {
    /// The place of a snapshot that the store received from the client that made it. `log_seq` is the log record that
    /// committed it.
    pub fn received(log_seq: u64) -> Self {
        Self { log_seq }
    }
}
