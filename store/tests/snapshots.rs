//! Stored snapshots: who may write them, what binds the inside to the outside, and their chains.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use bkfs_store::{
    Error,
    base::{id::*, time::Time},
    crypto::{DataKey, SigningKey, signed::Signed},
    format::{
        keys::{FullKey, PushKey},
        snapshot::{self, Chains, Snapshot, SnapshotObject, StoredSnapshot},
        tree::NodeKind,
    },
    owner::keyring::KeyRing,
};
use proptest::prelude::*;
use support::*;

fn ring() -> KeyRing {
    KeyRing::new(full_key(), Arc::new(Wraps(vec![])))
}

fn seal_as(push: &PushKey, snapshot: &Snapshot) -> Vec<u8> {
    let key = DataKey::random();
    let wrap = push.seal().unwrap().wrap(push.repo, &key);
    snapshot::seal(snapshot, push, &push.ids(), &key, &wrap)
}

fn seal(snapshot: &Snapshot) -> Vec<u8> {
    seal_as(&push_key(), snapshot)
}

fn open(bytes: &[u8]) -> bkfs_store::Result<Snapshot> {
    let stored = snapshot::verify_stored(bytes, &roster(), time(1))?;
    ring().open_snapshot(&stored, snapshot::snapshot_id(bytes))
}

/// Signs a changed outside again, as a lying client would.
fn resign(bytes: &[u8], change: impl Fn(&mut StoredSnapshot)) -> Vec<u8> {
    let header = StoredSnapshot::HEADER;
    let mut stored: StoredSnapshot = header.decode(&Signed::decode("", bytes).unwrap().payload).unwrap();
    change(&mut stored);
    Signed::new(&header.magic, header.encode(&stored), &push_key().signing).encode()
}

#[test]
fn a_snapshot_opens_as_it_was_sealed() {
    let first = snapshot(1, None);
    assert_eq!(open(&seal(&first)).unwrap(), first);
    assert_ne!(seal(&first), seal(&first), "every seal differs");
}

#[test]
fn clients_that_are_not_on_the_roster_do_not_count() {
    let (stranger, entry) = full_key().new_client("beta", None, DomainId::OWNER, time(1));
    let bytes = seal_as(&stranger, &snapshot(1, None));
    let error = snapshot::verify_stored(&bytes, &roster(), time(1)).unwrap_err();
    assert!(matches!(&error, Error::NotOnRoster { client, .. } if *client == stranger.client_id()), "{error}");

    let mut roster = roster();
    roster.clients.push(entry);
    snapshot::verify_stored(&bytes, &roster, time(1)).unwrap();
    roster.clients[1].until = Some(time(50));
    snapshot::verify_stored(&bytes, &roster, time(49)).unwrap();
    assert!(matches!(snapshot::verify_stored(&bytes, &roster, time(50)), Err(Error::NotOnRoster { .. })));

    // Another client's name under a stranger's signature.
    let forged = PushKey { signing: SigningKey::random(), ..push_key() };
    let bytes = seal_as(&forged, &snapshot(1, None));
    let header = StoredSnapshot::HEADER;
    let mut stored: StoredSnapshot = header.decode(&Signed::decode("", &bytes).unwrap().payload).unwrap();
    stored.client = push_key().client_id();
    let bytes = Signed::new(&header.magic, header.encode(&stored), &forged.signing).encode();
    assert!(matches!(snapshot::verify_stored(&bytes, &roster, time(1)), Err(Error::SnapshotDamaged { .. })));
}

#[test]
fn the_outside_cannot_differ_from_the_sealed_inside() {
    let bytes = seal(&snapshot(2, Some(SnapshotId([1; 32]))));
    open(&resign(&bytes, |_| ())).unwrap();
    let changes: [&dyn Fn(&mut StoredSnapshot); 5] = [
        &|s| s.sequence = 3,
        &|s| s.target = TargetTag([0; 16]),
        &|s| s.repo = RepoId([0; 16]),
        &|s| s.sealed[30] ^= 1,
        &|s| s.wrap = full_key().seal.public().wrap(full_key().repo, &DataKey::random()),
    ];
    for change in changes {
        assert!(matches!(open(&resign(&bytes, change)), Err(Error::SnapshotDamaged { .. })));
    }
    assert!(open(&resign(&bytes, |s| s.sequence = 0)).is_err());
    assert!(open(&resign(&bytes, |s| s.wrap.key = KeyId([0; 32]))).is_err());
}

#[test]
fn the_sealed_inside_is_checked() {
    let second = || snapshot(2, Some(SnapshotId([1; 32])));
    let bad = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = second();
        change(&mut snapshot);
        open(&seal(&snapshot)).unwrap_err()
    };
    let file = node(b"", NodeKind::Fifo);
    for error in [
        bad(&|s| s.previous = None),
        bad(&|s| s.sequence = 1),
        bad(&|s| s.root = file.clone()),
        bad(&|s| s.root.name = b"x".to_vec()),
        bad(&|s| s.root.subtree = None),
        bad(&|s| s.time.nanos = u32::MAX),
    ] {
        assert!(matches!(error, Error::SnapshotDamaged { .. }), "{error}");
    }
}

#[test]
fn only_the_repositorys_full_key_opens_a_snapshot() {
    let bytes = seal(&snapshot(1, None));
    let stored = snapshot::verify_stored(&bytes, &roster(), time(1)).unwrap();
    let id = snapshot::snapshot_id(&bytes);
    let open_with = |full| KeyRing::new(full, Arc::new(Wraps(vec![]))).open_snapshot(&stored, id);
    open_with(full_key()).unwrap();
    // Everything that a push key holds, with a made-up seal key.
    let guess = FullKey { id_key: push_key().id_key, ..FullKey::random(full_key().repo) };
    assert!(open_with(guess).is_err());
    assert!(open_with(FullKey::random(RepoId([9; 16]))).is_err());
}

#[test]
fn an_object_must_match_its_name() {
    let bytes = seal(&snapshot(1, None));
    let mut object = SnapshotObject { id: snapshot::snapshot_id(&bytes), log_seq: 3, received: time(1), bytes };
    ring().open_object(&object, &roster()).unwrap();
    object.id = SnapshotId([0; 32]);
    assert!(matches!(ring().open_object(&object, &roster()), Err(Error::SnapshotDamaged { .. })));
}

#[test]
fn an_object_that_is_too_large_is_refused_before_anything_else() {
    let bytes = vec![0; StoredSnapshot::SIZE_MAX + 1];
    assert!(matches!(snapshot::verify_stored(&bytes, &roster(), Time::default()), Err(Error::TooLarge { .. })));
}

#[test]
fn chains_show_missing_snapshots() {
    let mut made = Vec::new();
    let mut previous = None;
    for sequence in 1..=4 {
        let snapshot = snapshot(sequence, previous);
        let bytes = seal(&snapshot);
        let id = snapshot::snapshot_id(&bytes);
        made.push((id, snapshot::verify_stored(&bytes, &roster(), time(1)).unwrap(), snapshot));
        previous = Some(id);
    }
    let admit = |order: &[usize]| -> Vec<bool> {
        let mut chains = Chains::default();
        order.iter().map(|at| chains.admit(made[*at].0, &made[*at].1, &made[*at].2).is_ok()).collect()
    };
    assert_eq!(admit(&[0, 1, 2, 3]), [true; 4]);
    assert_eq!(admit(&[1, 2, 3]), [false, true, true], "the first is missing");
    assert_eq!(admit(&[0, 2, 3]), [true, false, true], "one is missing, and is reported once");
    assert_eq!(admit(&[0, 1, 1]), [true, true, false], "one is there twice");
    let other = snapshot(2, Some(SnapshotId([0; 32])));
    let bytes = seal(&other);
    let stored = snapshot::verify_stored(&bytes, &roster(), time(1)).unwrap();
    let mut chains = Chains::default();
    chains.admit(made[0].0, &made[0].1, &made[0].2).unwrap();
    assert!(chains.admit(snapshot::snapshot_id(&bytes), &stored, &other).is_err(), "a fork");
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
        prop_assert!(snapshot::verify_stored(&bytes, &roster(), time(1)).is_err());
    }

    #[test]
    fn changed_bytes_are_detected(at: prop::sample::Index, bit in 0u32..8, cut: bool) {
        let mut bytes = seal(&snapshot(1, None));
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1u8 << bit }
        prop_assert!(snapshot::verify_stored(&bytes, &roster(), time(1)).is_err());
    }

    #[test]
    fn an_arbitrary_sealed_record_does_not_panic(plain: Vec<u8>, header: bool) {
        // A client on the roster that seals garbage.
        let push = push_key();
        let key = DataKey::random();
        let mut stored: StoredSnapshot = {
            let bytes = seal(&snapshot(1, None));
            StoredSnapshot::HEADER.decode(&Signed::decode("", &bytes).unwrap().payload).unwrap()
        };
        stored.wrap = push.seal().unwrap().wrap(push.repo, &key);
        let mut record = if header { b"bkfssnap\x01\0".to_vec() } else { Vec::new() };
        record.extend(plain);
        let aad = [b"bkfssnap", &stored.repo.0[..], &stored.client.0, &stored.target.0, &1u64.to_le_bytes()].concat();
        stored.sealed = key.aead().seal(&record, &aad);
        prop_assert!(ring().open_snapshot(&stored, SnapshotId([0; 32])).is_err());
    }
}
