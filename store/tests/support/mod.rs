//! What several tests of the store share: fixed keys, and a store that has nothing but wraps.

#![allow(dead_code)]

pub mod fuse;
pub mod world;

use std::time::Duration;

use bkfs_store::{
    Error, Result,
    access::*,
    base::{id::*, time::Time},
    crypto::{DataKey, SealNumber, SealSecret, Secret, SigningKey, Wrap},
    format::{
        config::{ChunkerParams, Config},
        keys::{FullKey, PushKey, SealKeys},
        roster::{Endorsement, EndorsementSignature, Roster, RosterClient},
        snapshot::{PathBytes, PushStats, Snapshot, SnapshotObject},
        tree::*,
    },
};
use bytes::Bytes;

/// A full key that is the same in every run.
pub fn full_key() -> FullKey {
    FullKey {
        repo: RepoId([0x11; 16]),
        id_key: Secret::new([0x22; 32]),
        seal: SealSecret::from_seed(Secret::new([0x33; 32]), SealNumber::FIRST),
        older: vec![],
        admin: SigningKey::from_seed(Secret::new([0x44; 32])),
    }
}

/// A push key made from it.
pub fn push_key() -> PushKey {
    let signing = SigningKey::from_seed(Secret::new([0x55; 32]));
    full_key().push_key(signing, "alpha", Some("bkfs://127.0.0.1:7443/alice".into()))
}

/// The endorsement of a client of [`full_key`]'s repository.
pub fn endorsement(push: &PushKey) -> EndorsementSignature {
    let full = full_key();
    Endorsement::sign(&push.signing.verifying_key(), full.repo, &full.admin)
}

/// The first roster, with the client of [`push_key`]. Its label is bytes that do not open.
pub fn roster() -> Roster {
    let push = push_key();
    let client = RosterClient {
        id: push.client_id(),
        public: push.signing.verifying_key().0.to_vec(),
        since: time(1_700_000_000),
        until: None,
        domain: DomainId::OWNER,
        label: vec![0x66; 72],
        endorsement: endorsement(&push),
    };
    Roster { repo: push.repo, number: 1, clients: vec![client] }
}

/// A configuration, signed.
pub fn config() -> Vec<u8> {
    full_key().config(time(1_700_000_000), ChunkerParams::default())
}

/// The configuration's record.
pub fn config_record() -> Config {
    bkfs_store::format::config::verify_config(&config()).unwrap()
}

/// The seal keys of a repository that has the first one.
pub fn seal_keys() -> SealKeys {
    SealKeys::verify(&[], &config_record()).unwrap()
}

pub fn time(secs: i64) -> Time {
    Time { secs, nanos: 123_456_789 }
}

/// A node of the given kind, with nothing that the kind does not need.
pub fn node(name: &[u8], kind: NodeKind) -> Node {
    Node { mode: 0o755, uid: 1000, gid: 1001, mtime: time(-1), ..Node::new(name, kind) }
}

/// A root directory.
pub fn root() -> Node {
    let totals = Totals { files: 3, dirs: 2, others: 1, bytes: 12_345 };
    let subtree = Some(Subtree { id: ChunkId([0x77; 32]), entries: 4, totals });
    Node { subtree, ..node(b"", NodeKind::Directory) }
}

/// A snapshot's record.
pub fn snapshot(sequence: u64, previous: Option<SnapshotId>) -> Snapshot {
    Snapshot {
        time: time(1_763_000_000),
        host: "alpha".into(),
        user: "alice".into(),
        target: "home".into(),
        paths: vec![PathBytes(b"/home/alice".to_vec()), PathBytes(b"/srv/\xff".to_vec())],
        tags: vec!["release".into()],
        root: root(),
        stats: PushStats { files_new: 3, bytes_read: 12_345, duration_ms: 17, ..PushStats::default() },
        program: "bkfs 0.1.0".into(),
        sequence,
        previous,
        log_len: 3,
        log_head: Hash([0x88; 32]),
    }
}

/// A data key that is the same in every run.
pub fn data_key() -> DataKey {
    DataKey::new(Secret::new([0x99; 32]))
}

/// A store that returns wraps and does nothing else.
pub struct Wraps(pub Vec<Wrap>);

fn no<T>() -> Result<T> {
    Err(Error::Invalid("this store has only wraps".into()))
}

impl Open for Wraps {
    fn open(&self, _: &OpenRequest) -> Result<Opened> {
        no()
    }

    fn wait_log(&self, _: u64, _: Duration) -> Result<u64> {
        no()
    }
}

impl Read for Wraps {
    fn read(&self, _: &ReadRequest) -> Result<ReadReply> {
        no()
    }

    fn wraps(&self, keys: &[KeyId]) -> Result<Vec<Wrap>> {
        Ok(self.0.iter().filter(|w| keys.contains(&w.key)).cloned().collect())
    }

    fn places(&self, _: &[ChunkId]) -> Result<Vec<u64>> {
        no()
    }

    fn snapshots(&self, _: u64, _: u32) -> Result<Vec<SnapshotObject>> {
        no()
    }

    fn log(&self, _: u64, _: u32) -> Result<Vec<Vec<u8>>> {
        no()
    }

    fn mend(&self, _: PackId) -> Result<Mending> {
        no()
    }

    fn read_pack(&self, _: PackId) -> Result<Bytes> {
        no()
    }

    fn judge(&self, _: &[u8]) -> Result<()> {
        no()
    }
}
