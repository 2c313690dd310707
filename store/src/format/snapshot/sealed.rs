//! Stored snapshots: sealing them, verifying them without keys, and opening them.

use super::{Snapshot, StoredSnapshot};
use crate::{
    base::{
        error::{Error, Result},
        id::SnapshotId,
        time::Time,
    },
    crypto::{DataKey, Wrap, signed::Signed},
    format::{
        keys::{IdKeys, PushKey},
        roster::Roster,
    },
};

/// Seals and signs a snapshot; returns the object to commit. `wrap` is the wrap of `key`. A store rejects an object
/// that is longer than [`StoredSnapshot::SIZE_MAX`].
pub fn seal(snapshot: &Snapshot, push: &PushKey, ids: &IdKeys, key: &DataKey, wrap: &Wrap) -> Vec<u8> {
    assert_eq!(key.id(), wrap.key, "the wrap is that of the data key");
    assert!(snapshot.sequence > 0, "sequences begin at 1");
    let mut stored = StoredSnapshot {
        repo: push.repo,
        client: push.client_id(),
        target: ids.target_tag(&snapshot.target),
        sequence: snapshot.sequence,
        wrap: wrap.clone(),
        sealed: Vec::new(),
    };
    stored.sealed = key.aead().seal(&Snapshot::HEADER.encode(snapshot), &aad(&stored));
    let header = StoredSnapshot::HEADER;
    Signed::new(&header.magic, header.encode(&stored), &push.signing).encode()
}

/// Returns the id of a stored snapshot.
pub fn snapshot_id(bytes: &[u8]) -> SnapshotId {
    SnapshotId(*blake3::hash(bytes).as_bytes())
}

/// Returns the wrap in a stored snapshot. Nothing but the encoding is verified.
pub fn wrap_of(bytes: &[u8]) -> Result<Wrap> {
    let signed = Signed::decode(StoredSnapshot::HEADER.what, bytes)?;
    let stored: StoredSnapshot = StoredSnapshot::HEADER.decode(&signed.payload)?;
    Ok(stored.wrap)
}

/// Checks everything that can be checked without keys: size, encoding, repository, that the client is on the roster and
/// was not removed when the store received the snapshot, and the client's signature.
pub fn verify_stored(bytes: &[u8], roster: &Roster, received: Time) -> Result<StoredSnapshot> {
    let header = StoredSnapshot::HEADER;
    if bytes.len() > StoredSnapshot::SIZE_MAX {
        let (size, limit) = (bytes.len() as u64, StoredSnapshot::SIZE_MAX as u64);
        return Err(Error::TooLarge { what: header.what, size, limit });
    }
    let id = snapshot_id(bytes);
    let damaged = |reason: &str| Error::SnapshotDamaged { snapshot: id, reason: reason.to_owned() };
    let signed = Signed::decode(header.what, bytes)?;
    let stored: StoredSnapshot = header.decode(&signed.payload)?;
    if stored.repo != roster.repo {
        return Err(damaged("it belongs to another repository"));
    }
    let client = roster.active_client(stored.client, received, || format!("snapshot {id}"))?;
    if signed.verify(header.what, &header.magic, &client.key()?).is_err() {
        return Err(damaged("its client's signature is not valid"));
    }
    if stored.sequence == 0 {
        return Err(damaged("its sequence is 0"));
    }
    Ok(stored)
}

/// Opens a verified snapshot with the data key in its wrap. Checks that the record inside the seal agrees with the
/// fields outside it, and that the root is a directory.
pub fn open(stored: &StoredSnapshot, id: SnapshotId, ids: &IdKeys, key: &DataKey) -> Result<Snapshot> {
    let damaged = |reason: &dyn ToString| Error::SnapshotDamaged { snapshot: id, reason: reason.to_string() };
    let plain =
        key.aead().open(&stored.sealed, &aad(stored)).ok_or_else(|| damaged(&"its data key does not open it"))?;
    let snapshot: Snapshot = match Snapshot::HEADER.decode(&plain) {
        Err(error @ Error::NewerVersion { .. }) => return Err(error),
        decoded => decoded.map_err(|e| damaged(&e))?,
    };
    if snapshot.sequence != stored.sequence {
        return Err(damaged(&"its sequence differs inside and outside the seal"));
    }
    if ids.target_tag(&snapshot.target) != stored.target {
        return Err(damaged(&"its target differs inside and outside the seal"));
    }
    if snapshot.previous.is_some() != (snapshot.sequence > 1) {
        return Err(damaged(&"its sequence and its previous snapshot contradict each other"));
    }
    snapshot.root.validate(true).map_err(|reason| damaged(&format!("its root: {reason}")))?;
    match snapshot.root.is_dir() {
        true => Ok(snapshot),
        false => Err(damaged(&"its root is not a directory")),
    }
}

/// Returns the associated data, which binds the sealed record to the fields outside the seal.
fn aad(stored: &StoredSnapshot) -> Vec<u8> {
    [&Snapshot::HEADER.magic[..], &stored.repo.0, &stored.client.0, &stored.target.0, &stored.sequence.to_le_bytes()]
        .concat()
}
