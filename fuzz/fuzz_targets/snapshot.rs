//! Stored snapshots: the input as it is, behind the client's signature, and behind the seal.

#![no_main]

use bkfs_fuzz::{encodes_back, keys, support::time};
use bkfs_store::{
    Result,
    base::id::{SnapshotId, TargetTag},
    crypto::signed::Signed,
    format::snapshot::{self, Snapshot, StoredSnapshot},
};

/// Signs the record of a stored snapshot, and verifies and opens the result.
fn open(payload: Vec<u8>) -> Option<Result<Snapshot>> {
    let keys = keys();
    let bytes = Signed::new(&StoredSnapshot::HEADER.magic, payload, &keys.push.signing).encode();
    let stored = snapshot::verify_stored(&bytes, &keys.roster, time(1_763_000_001)).ok()?;
    assert!(bytes.len() <= 4 << 20 && stored.sequence > 0);
    assert_eq!((stored.repo, stored.client), (keys.full.repo, keys.push.client_id()));
    encodes_back(&stored);
    assert_eq!(snapshot::wrap_of(&bytes).expect("a verified snapshot has a wrap"), stored.wrap);
    Some(keys.ring.open_snapshot(&stored, snapshot::snapshot_id(&bytes)))
}

/// Seals the bytes as the record of a snapshot. The fields outside the seal are made to match the record.
fn seal(record: &[u8]) -> Vec<u8> {
    let keys = keys();
    let header = Snapshot::HEADER;
    let inside = header.decode::<Snapshot>(record).ok();
    let (repo, client) = (keys.full.repo, keys.push.client_id());
    let target = inside.as_ref().map_or(TargetTag::default(), |inside| keys.ids.target_tag(&inside.target));
    let sequence = inside.map_or(1, |inside| inside.sequence);
    let aad = [&header.magic[..], &repo.0, &client.0, &target.0, &sequence.to_le_bytes()].concat();
    let sealed = keys.data.aead().seal(record, &aad);
    let wrap = keys.wrap.clone();
    StoredSnapshot::HEADER.encode(&StoredSnapshot { repo, client, target, sequence, wrap, sealed })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let keys = keys();
    if let Ok(stored) = snapshot::verify_stored(data, &keys.roster, time(1_763_000_001)) {
        let _ = keys.ring.open_snapshot(&stored, SnapshotId([0; 32]));
    }
    let _ = snapshot::wrap_of(data);
    let _ = open(data.to_vec());

    let Some(Ok(snapshot)) = open(seal(data)) else { return };
    encodes_back(&snapshot);
    assert!(snapshot.root.is_dir() && snapshot.root.validate(true).is_ok());
    assert!(snapshot.sequence > 0 && snapshot.previous.is_some() == (snapshot.sequence > 1));
    assert!(snapshot.time.nanos < 1_000_000_000);
});
