//! The records of the log: an append-only, hash-chained history of a repository. The log is the truth; the index is
//! derived from it and from the packs.
//!
//! A record's *hash* is BLAKE3 of the previous hash and the record's bytes. The hash of the last record is the log's
//! *head*; the head of an empty log is all zeros. Two parties that agree on (length, head) agree on the whole history.

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
    /// Its position in the log, from 0.
    #[n(0)]
    pub seq: u64,
    /// When the store wrote it, by its own clock.
    #[n(1)]
    pub time: Time,
    /// What happened.
    #[n(2)]
    pub event: Event,
}

/// What can happen to a repository. A number that was used once is never given to another event.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Event {
    /// The repository was created. This is always the first record, and only the first.
    #[n(0)]
    Init {
        /// Hash of the configuration object.
        #[n(0)]
        config: Hash,
    },
    /// A new life of the store began.
    #[n(1)]
    Incarnation {
        /// Its id.
        #[n(0)]
        incarnation: Incarnation,
        /// The reason: "init", "rebuild", "restore", "repair" or "takeover".
        #[n(1)]
        reason: String,
    },
    /// The repository has a new roster.
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
        /// The fingerprint of the network identity that sent it; `None` for a repository at a path.
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
    /// A snapshot was moved to the trash. If it is already gone, its owner acknowledged that.
    #[n(5)]
    Forget {
        /// The snapshot.
        #[n(0)]
        snapshot: SnapshotId,
        /// The signed tombstone (`format::tombstone`).
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
    /// A snapshot is gone for good and no longer keeps any data. Without an earlier tombstone, the store's operator
    /// purged it.
    #[n(7)]
    Expire {
        /// The snapshot.
        #[n(0)]
        snapshot: SnapshotId,
    },
    /// Frames were condemned: the first step of a prune.
    #[n(8)]
    Condemn {
        /// The generation that begins with this record.
        #[n(0)]
        generation: u64,
        /// Hash of the condemned set (`repository::prune::condemned`).
        #[n(1)]
        set: Hash,
    },
    /// Packs were swept: their live frames are now in other packs.
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
    /// A prune was aborted: frames that are condemned and not yet swept are live again.
    #[n(11)]
    Abort,
    /// Frames were found damaged beyond mending, or packs missing. Nothing relies on them any more.
    #[n(12)]
    Quarantine {
        /// The generation that begins with this record: clients that relied on a frame must learn of the loss before
        /// they commit.
        #[n(0)]
        generation: u64,
        /// The frames that were not yet in quarantine. Missing packs have no entry.
        #[n(1)]
        packs: Vec<Quarantined>,
        /// The chunks that lost their last live copy.
        #[n(2)]
        lost: Lost,
    },
    /// Packs left quarantine: they are whole again, or gone.
    #[n(13)]
    Release {
        /// The packs.
        #[n(0)]
        packs: Vec<PackId>,
    },
    /// The record at this position was lost, and the log was repaired without it.
    #[n(14)]
    Gap,
    /// A key holder has opened packs. What its verdict refuses is not relied on any more.
    #[n(15)]
    Verdict {
        /// The signed verdict (`format::verdict`).
        #[cbor(n(0), with = "minicbor::bytes")]
        signed: Vec<u8>,
        /// The generation that begins with this record, if something is lost.
        #[n(1)]
        generation: Option<u64>,
        /// The chunks that are lost with the refused frames.
        #[n(2)]
        lost: Lost,
    },
    /// The store copied frames of verified packs, and no others, into these packs: they are verified as well.
    #[n(16)]
    Inherit {
        /// The packs.
        #[n(0)]
        packs: Vec<PackId>,
    },
    /// The repository has a new seal key.
    #[n(17)]
    SealKeys {
        /// The signed list of seal keys (`format::keys::SealKeys`).
        #[cbor(n(0), with = "minicbor::bytes")]
        signed: Vec<u8>,
    },
}

impl LogRecord {
    /// Returns the hash that follows `previous` when a record with these `bytes` is appended.
    pub fn link(previous: Hash, bytes: &[u8]) -> Hash {
        Hash::of(&[&previous.0, bytes])
    }

    /// Encodes the record.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }
}
