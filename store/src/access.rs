//! The seam: the traits through which a store of ciphertext is used. An embedded repository, a repository of a server,
//! a repository in memory and a remote client all look the same from here.
//!
//! There is a trait for each kind of caller. [`Access`] is their sum.
//!
//! | trait | for |
//! |---|---|
//! | [`Open`] | everybody: open a repository, wait for news |
//! | [`Read`] | readers: frames, keys, snapshots, the log, whole packs, verdicts |
//! | [`Push`] | pushers: what is stored already, packs, commits |
//! | [`Manage`] | owners: clients, passphrase slots, forgetting snapshots |
//! | [`Maintain`] | maintenance: prune, repair, the list of packs |
//!
//! **Trust.** Nothing here needs or accepts a key of the repository. An implementation trusts no caller: it bounds and
//! verifies all that it is given. A caller trusts no store either: it verifies what it gets back, with keys or hashes.
//!
//! **Calls.** All calls block, and may be made from many threads. A call whose reply was lost may be repeated without
//! harm; only [`Manage::init`] fails the second time. Lists of ids are limited to [`IDS_MAX`]; longer ones fail with
//! [`crate::Error::TooLarge`].
//!
//! **Durability.** Each method states what is durable when it returns. What is durable survives a crash of the machine
//! (except in a repository in memory).
//!
//! **Encoding.** The types that travel over the network are CBOR; the numbers of their fields and variants are part of
//! the protocol (`docs/PROTOCOL.md`).

mod challenge;
mod maintain;
mod manage;
mod open;
mod prune;
mod push;
mod read;
mod repair;
mod space;

pub use challenge::{CHALLENGES_MAX, Challenge, PROOF_BYTES, ProofPlace, Proofs};
pub use maintain::{Judged, Maintain, PackInfo};
pub use manage::{FORGET_MAX, ForgetReply, ForgetRequest, InitRequest, Manage, SignedTombstone};
pub use open::{LastSnapshot, Lease, OPENED_SNAPSHOTS_MAX, Open, OpenRequest, Opened, Room, Seen};
pub use prune::{
    COMMITTED_MAX, CommittedSnapshot, FILTERS_MAX, Filter, MixedFrame, MovedFrame, PruneLimits, PruneReply,
    PruneRequest, PruneStats, Swept, Unused,
};
pub use push::{Push, Receipt};
pub use read::{
    AVOID_MAX, LOG_BYTES, LOG_RECORDS_MAX, Mending, READ_BYTES_MAX, Read, ReadReply, ReadRequest, SNAPSHOTS_BYTES,
    SealedFrame, Span,
};
pub use repair::{CONTESTED_MAX, Dropped, Keep, QUARANTINE_MAX, RepairReply, RepairRequest};
pub use space::Space;

/// How many ids one request may name.
pub const IDS_MAX: usize = 65_536;

/// How many data keys one request may name. The wraps of as many keys take about 5 MB.
pub const KEYS_MAX: usize = 4096;

/// All that a store offers.
pub trait Access: Read + Push + Manage + Maintain {}

impl<T: Read + Push + Manage + Maintain> Access for T {}
