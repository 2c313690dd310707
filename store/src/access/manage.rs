//! Making a repository, and managing its clients, keys and snapshots.

use minicbor::{Decode, Encode};

use crate::{
    base::{
        error::Result,
        id::{SlotId, SnapshotId},
    },
    format::keys::Slot,
};

/// What a new repository begins with.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct InitRequest {
    /// The signed configuration.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub config: Vec<u8>,
    /// The signed first roster.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub roster: Vec<u8>,
    /// Passphrase slots, none if they are kept elsewhere.
    #[n(2)]
    pub slots: Vec<Slot>,
}

/// How many snapshots one request forgets, or brings back, at most.
pub const FORGET_MAX: usize = 8192;

/// Asks to forget snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct ForgetRequest {
    /// A signed tombstone ([`crate::format::tombstone::Tombstone`]) of each snapshot, at most [`FORGET_MAX`].
    #[n(0)]
    pub tombstones: Vec<Signature>,
    /// Make them unrecoverable at once, not move them to the trash.
    #[n(1)]
    pub now: bool,
    /// Make unrecoverable, too, what has been in the trash for as long as the floor says.
    #[n(2)]
    pub empty_trash: bool,
}

/// Signed bytes in a list.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Signature(#[cbor(n(0), with = "minicbor::bytes")] pub Vec<u8>);

/// What came of a [`ForgetRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct ForgetReply {
    /// How many snapshots went to the trash, or on the way through it.
    #[n(0)]
    pub forgotten: u64,
    /// The snapshots that are gone for good by this.
    #[n(1)]
    pub expired: Vec<SnapshotId>,
}

/// What the owner of a repository manages: its life, its clients and keys, and which snapshots it keeps.
pub trait Manage: Send + Sync {
    /// Makes the repository. Durable on return; fails with [`crate::Error::RepositoryExists`] if there is one.
    fn init(&self, request: &InitRequest) -> Result<()>;

    /// Appends a roster, which must be signed by the admin key and have the number that follows. Durable on return.
    fn put_roster(&self, signed: &[u8]) -> Result<()>;

    /// Adds or replaces a passphrase slot. Durable on return.
    fn put_slot(&self, slot: &Slot) -> Result<()>;

    /// Removes a passphrase slot; the last one is kept. Durable on return.
    fn remove_slot(&self, id: SlotId) -> Result<()>;

    /// Moves snapshots to the trash, or makes them unrecoverable as far as the floor allows: all of them or, on error, none.
    /// Durable on return. What is there already is left as it is, so asking again is no error.
    fn forget(&self, request: &ForgetRequest) -> Result<ForgetReply>;

    /// Brings snapshots back from the trash: all of them or, on error, none. Durable on return.
    fn unforget(&self, snapshots: &[SnapshotId]) -> Result<()>;
}
