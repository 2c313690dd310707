//! How much disk space a repository takes.

use minicbor::{Decode, Encode};

use crate::base::time::Time;

/// How much disk space a repository takes, and until when the trash and the grave keep what is in them. The log, the
/// index and small objects are not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Space {
    /// Packs in use, condemned ones included.
    #[n(0)]
    pub packs: u64,
    /// Bytes of their files.
    #[n(1)]
    pub pack_bytes: u64,
    /// Bytes of all parity, of packs in the grave included.
    #[n(2)]
    pub parity_bytes: u64,
    /// Packs in the grave.
    #[n(3)]
    pub grave_packs: u64,
    /// Bytes of their files.
    #[n(4)]
    pub grave_bytes: u64,
    /// When the last of the packs leaves the grave; none if it is empty.
    #[n(5)]
    pub grave_until: Option<Time>,
    /// Snapshots in the trash.
    #[n(6)]
    pub trash_snapshots: u64,
    /// When the last of them may leave the trash; none if it is empty, or if the next prune empties it.
    #[n(7)]
    pub trash_until: Option<Time>,
    /// Packs that a prune has condemned and not swept.
    #[n(8)]
    pub condemned_packs: u64,
    /// The store's floor, in seconds.
    #[n(9)]
    pub protect_secs: u64,
}

impl Space {
    /// All bytes on the disk.
    pub fn bytes(&self) -> u64 {
        self.pack_bytes.saturating_add(self.parity_bytes).saturating_add(self.grave_bytes)
    }
}
