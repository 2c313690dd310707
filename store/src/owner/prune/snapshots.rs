//! The snapshots that a prune marks: which ones the store keeps, and their roots.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
};

use super::session::committed_from;
use crate::{
    access::{COMMITTED_MAX, CommittedSnapshot, Maintain},
    base::{
        error::{Error, ErrorKind, Result},
        id::SnapshotId,
    },
    format::{snapshot::SnapshotObject, tree::Node},
    owner::{
        pages::expect_count,
        reader::{Reader, check_commits},
    },
};

/// How many snapshots one request asks for.
const SNAPSHOTS_PER_REQUEST: u32 = 256;

/// Returns the snapshots that these log records committed and that have not expired, including those in the trash.
pub(super) fn committed(access: &dyn Maintain, records: Range<u64>) -> Result<Vec<CommittedSnapshot>> {
    let (mut found, mut from) = (Vec::new(), records.start);
    loop {
        let more = committed_from(access, from)?;
        expect_count(more.len(), COMMITTED_MAX, "committed snapshots")?;
        for snapshot in &more {
            let next = snapshot.log_seq.checked_add(1).filter(|_| snapshot.log_seq >= from);
            from = next.ok_or_else(other_snapshots)?;
            if records.contains(&snapshot.log_seq) {
                found.push(*snapshot);
            }
        }
        check_commits(found.len())?;
        if more.len() < COMMITTED_MAX || from >= records.end {
            return Ok(found);
        }
    }
}

/// The root of a snapshot, or why the snapshot cannot be read.
pub(super) type Root = (SnapshotId, Result<Node>);

/// Whether an error means that a snapshot, or a part of it, cannot be read now and maybe never. A snapshot that a newer
/// program wrote is sound, and a store that cannot be reached says nothing.
pub(super) fn is_broken(error: &Error) -> bool {
    error.kind() == ErrorKind::Damaged || matches!(error, Error::TooLarge { .. })
}

/// Returns the roots of snapshots, which are in the order of the log. Fetches those that the reader does not remember.
/// Leaves out those that have expired since.
pub(super) fn roots(reader: &Reader, access: &dyn Maintain, wanted: &[CommittedSnapshot]) -> Result<Vec<Root>> {
    let ids: Vec<SnapshotId> = wanted.iter().map(|wanted| wanted.id).collect();
    let mut remembered = reader.remembered_roots(&ids)?;
    let mut objects = fetch(reader, wanted.iter().filter(|wanted| !remembered.contains_key(&wanted.id)))?;
    let mut roots = Vec::with_capacity(wanted.len());
    for CommittedSnapshot { log_seq, id, .. } in wanted.iter().copied() {
        match (remembered.remove(&id), objects.remove(&(log_seq, id))) {
            (Some(root), _) => roots.push((id, Ok(root))),
            (None, Some(object)) => match reader.open_snapshot(&object) {
                Err(error) if !is_broken(&error) => return Err(error),
                opened => roots.push((id, opened.map(|snapshot| snapshot.root))),
            },
            (None, None) if committed(access, log_seq..log_seq + 1)?.is_empty() => {}
            (None, None) => {
                let reason = format!("entry {log_seq} of the log committed it, but the store withholds it");
                roots.push((id, Err(Error::SnapshotDamaged { snapshot: id, reason })));
            }
        }
    }
    Ok(roots)
}

/// Fetches snapshots, which are in the order of the log.
fn fetch<'a>(
    reader: &Reader,
    wanted: impl Iterator<Item = &'a CommittedSnapshot>,
) -> Result<HashMap<(u64, SnapshotId), SnapshotObject>> {
    let wanted: BTreeSet<(u64, SnapshotId)> = wanted.map(|wanted| (wanted.log_seq, wanted.id)).collect();
    let (mut objects, mut next) = (HashMap::new(), 0);
    // There may be others between them that are not wanted.
    while let Some((first, _)) = wanted.range((next, SnapshotId::default())..).next() {
        let more = reader.access().snapshots(*first, SNAPSHOTS_PER_REQUEST)?;
        expect_count(more.len(), SNAPSHOTS_PER_REQUEST as usize, "snapshots")?;
        if more.is_empty() {
            break;
        }
        next = *first;
        for object in more {
            let after = object.log_seq.checked_add(1).filter(|_| object.log_seq >= next);
            next = after.ok_or_else(other_snapshots)?;
            // Each place in the log comes once, so there are no more of these than are wanted.
            let key = (object.log_seq, object.id);
            if wanted.contains(&key) {
                objects.insert(key, object);
            }
        }
    }
    Ok(objects)
}

fn other_snapshots() -> Error {
    Error::Invalid("the store returned other snapshots than it was asked for".into())
}
