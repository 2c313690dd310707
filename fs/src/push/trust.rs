//! What a push may believe of what earlier pushes remembered.

/// How far a push trusts the records of the file cache.
#[derive(Debug, Clone, Copy)]
pub struct RecordTrust {
    /// The epoch whose losses the push takes into account; none if the cache knows of later losses.
    pub epoch: Option<u32>,
    /// Whether no record is trusted.
    pub distrusts_all: bool,
}
