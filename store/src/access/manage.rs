//! Creating a repository, and managing its clients, keys and snapshots.

use minicbor::{Decode, Encode};

use crate::{
    base::{
        codec,
        error::Result,
        id::{SlotId, SnapshotId},
    },
    format::keys::{SLOTS_MAX, Slot},
};

/// What a new repository begins with.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct InitRequest {
    /// The signed configuration.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub config: Vec<u8>,
    /// The first roster, signed by the admin key.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub roster: Vec<u8>,
    /// The passphrase slots; empty if they are kept elsewhere.
    #[cbor(n(2), decode_with = "codec::at_most::<SLOTS_MAX, _, _>")]
    pub slots: Vec<Slot>,
}

/// How many snapshots one request may forget or bring back.
pub const FORGET_MAX: usize = 8192;

/// A request to forget snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct ForgetRequest {
    /// A tombstone for each snapshot, at most [`FORGET_MAX`].
    #[cbor(n(0), decode_with = "codec::at_most::<FORGET_MAX, _, _>")]
    pub tombstones: Vec<SignedTombstone>,
    /// Expire the snapshots now, instead of moving them to the trash.
    #[n(1)]
    pub now: bool,
    /// Also expire the snapshots that have been in the trash for at least as long as the floor.
    #[n(2)]
    pub empty_trash: bool,
}

/// A [tombstone](crate::format::tombstone::Tombstone), encoded and signed by the admin key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct SignedTombstone(#[cbor(n(0), with = "minicbor::bytes")] pub Vec<u8>);

/// What a [`ForgetRequest`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct ForgetReply {
    /// How many snapshots do not count any more, whether they are in the trash or expired.
    #[n(0)]
    pub forgotten: u64,
    /// The snapshots that this request expired.
    #[n(1)]
    pub expired: Vec<SnapshotId>,
}

/// What the owner of a repository manages: its creation, its clients and keys, and which snapshots it keeps.
pub trait Manage: Send + Sync {
    /// Creates the repository. Durable on return. Fails with [`crate::Error::RepositoryExists`] if there is one.
    fn init(&self, request: &InitRequest) -> Result<()>;

    /// Appends a roster. It must be signed by the admin key, and its number must follow that of the newest roster.
    /// Durable on return.
    fn put_roster(&self, signed: &[u8]) -> Result<()>;

    /// Appends a list of seal keys ([`crate::format::keys::SealKeys`]). It must be signed by the admin key, and add one
    /// key to the newest list. From then on, the store refuses what is sealed to an older key. Durable on return.
    fn put_seal_keys(&self, signed: &[u8]) -> Result<()>;

    /// Adds a passphrase slot, or replaces the one with the same id. Durable on return.
    fn put_slot(&self, slot: &Slot) -> Result<()>;

    /// Removes a passphrase slot. The last one cannot be removed. Durable on return.
    fn remove_slot(&self, id: SlotId) -> Result<()>;

    /// Moves snapshots to the trash, or expires them. Fails with [`crate::Error::Protected`] if one of those that are
    /// to expire is younger than the floor. On an error, no snapshot is changed. Durable on return. Snapshots that are
    /// forgotten already stay as they are, so a request may be repeated.
    fn forget(&self, request: &ForgetRequest) -> Result<ForgetReply>;

    /// Brings snapshots back from the trash, at most [`FORGET_MAX`]. On an error, no snapshot is changed. Durable on
    /// return.
    fn unforget(&self, snapshots: &[SnapshotId]) -> Result<()>;
}
