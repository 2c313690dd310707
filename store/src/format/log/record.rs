//! The log of a repository: the append-only, hash-chained record of what happened to it. It is truth; what LMDB holds
//! is derived from it and from the packs.
//!
//! A record's *hash* is BLAKE3 of the hash before it and the record's bytes; the hash of the last record is the log's
//! *head*. Before the first record the head is all zeros. Two parties that agree on (length, head) agree on the past.

use minicbor::{Decode, Encode};

use crate::{
    base::{
        codec,
        id::{ClientId, Hash, Incarnation, PackId, SnapshotId, TargetTag},
        time::Time,
    },
    format::loss::{Lost, Quarantined},
};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LogRecord {
    /// Its place in the log, from 0.
    #[n(0)]
    pub seq: u64,
    /// When the store wrote it, by its own clock.
    #[n(1)]
    pub time: Time,
    /// What happened.
    #[n(2)]
    pub event: Event,
}

/// What can happen to a repository. Numbers are never used again.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Event {
    /// The repository was made; always and only the first record.
    #[n(0)]
    Init {
        /// Hash of the configuration object.
        #[n(0)]
        config: Hash,
    },
    /// A new life of the store began.
    #[n(1)]
    Incarnation {
        /// Its name.
        #[n(0)]
        incarnation: Incarnation,
        /// Why: "init", "rebuild", "restore", "repair", "takeover".
        #[n(1)]
        reason: String,
    },
    /// A new roster.
    #[n(2)]
    Roster {
        /// The signed roster.
        #[cbor(n(0), with = "minicbor::bytes")]
        signed: Vec<u8>,
    },
    /// A snapshot was committed.
    #[n(3)]
    Commit {
        /// The snapshot.
        #[n(0)]
        snapshot: SnapshotId,
        /// Its client.
        #[n(1)]
        client: ClientId,
        /// Its target.
        #[n(2)]
        target: TargetTag,
        /// The client's own count.
        #[n(3)]
        sequence: u64,
        /// Fingerprint of the network identity that sent it; none at a path.
        #[n(4)]
        sender: Option<Hash>,
    },
    /// Tags or a description were added to a snapshot, sealed and signed.
    #[n(4)]
    Annotation {
        /// The snapshot.
        #[n(0)]
        snapshot: SnapshotId,
        /// The signed, sealed annotation.
        #[cbor(n(1), with = "minicbor::bytes")]
        signed: Vec<u8>,
    },
    /// A snapshot went to the trash; or, where it is gone already, its owner took note of that.
    #[n(5)]
    Forget {
        /// The snapshot.
        #[n(0)]
        snapshot: SnapshotId,
        /// The signed tombstone ([`crate::format::tombstone::Tombstone`]).
        #[cbor(n(1), with = "minicbor::bytes")]
        signed: Vec<u8>,
    },
    /// A snapshot came back from the trash.
    #[n(6)]
    Unforget {
        /// The snapshot.
        #[n(0)]
        snapshot: SnapshotId,
    },
    /// A snapshot is gone for good; it no longer keeps anything. Without a tombstone before it, the store's operator did it.
    #[n(7)]
    Expire {
        /// The snapshot.
        #[n(0)]
        snapshot: SnapshotId,
    },
    /// Frames were condemned: the first step of a prune.
    #[n(8)]
    Condemn {
        /// The generation that begins with this.
        #[n(0)]
        generation: u64,
        /// Hash of the fixed set ([`crate::repository::prune::condemned::CondemnedSet`]).
        #[n(1)]
        set: Hash,
    },
    /// Packs were swept: what was live in them lies in others now.
    #[n(9)]
    Sweep {
        /// The packs that are gone.
        #[n(0)]
        packs: Vec<PackId>,
    },
    /// Packs that were condemned or swept are live again.
    #[n(10)]
    Revive {
        /// The packs.
        #[n(0)]
        packs: Vec<PackId>,
    },
    /// A prune was given up: what is condemned and not yet swept is live again.
    #[n(11)]
    Abort,
    /// Frames turned out to be damaged beyond mending, or packs to be gone: nothing relies on them any more.
    #[n(12)]
    Quarantine {
        /// The generation that begins with this: who relied on a frame must hear of it before committing.
        #[n(0)]
        generation: u64,
        /// The frames, besides those that were in quarantine already. None for packs that are gone.
        #[n(1)]
        packs: Vec<Quarantined>,
        /// What lost its last live copy.
        #[n(2)]
        lost: Lost,
    },
    /// Packs are out of quarantine: they are whole again, or gone.
    #[n(13)]
    Release {
        /// The packs.
        #[n(0)]
        packs: Vec<PackId>,
    },
    /// The record that stood here was lost, and the log was repaired without it.
    #[n(14)]
    Gap,
}

impl LogRecord {
    /// The hash that follows `previous` when this record's `bytes` are appended.
    pub fn link(previous: Hash, bytes: &[u8]) -> Hash {
        Hash::of(&[&previous.0, bytes])
    }

    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }
}
