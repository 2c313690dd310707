//! The snapshots that a prune marks: which ones the store keeps, and their roots.

use std::ops::Range;

use super::session::committed_from;
use crate::{
    access::{COMMITTED_MAX, CommittedSnapshot, Maintain},
    base::{
        error::{Error, ErrorKind, Result},
        id::SnapshotId,
    },
    format::tree::Node,
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

/// Fetches the roots of snapshots, which are in the order of the log. Leaves out those that have expired since.
pub(super) fn roots(reader: &Reader, access: &dyn Maintain, wanted: &[CommittedSnapshot]) -> Result<Vec<Root>> {
    let [Some(first), Some(last)] = [wanted.first(), wanted.last()] else { return Ok(Vec::new()) };
    let (mut objects, mut next, mut roots) = (Vec::new(), first.log_seq, Vec::new());
    // There may be others between them that are not wanted.
    while next <= last.log_seq {
        let more = reader.access().snapshots(next, SNAPSHOTS_PER_REQUEST)?;
        expect_count(more.len(), SNAPSHOTS_PER_REQUEST as usize, "snapshots")?;
        if more.is_empty() {
            break;
        }
        for object in more {
            let after = object.log_seq.checked_add(1).filter(|_| object.log_seq >= next);
            next = after.ok_or_else(other_snapshots)?;
            // Each place in the log comes once, so there are no more of these than are wanted.
            if wanted.iter().any(|wanted| (wanted.log_seq, wanted.id) == (object.log_seq, object.id)) {
                objects.push(object);
            }
        }
    }
    for CommittedSnapshot { log_seq, id, .. } in wanted.iter().copied() {
        match objects.iter().find(|object| object.id == id) {
            Some(object) => match reader.open_snapshot(object) {
                Err(error) if !is_broken(&error) => return Err(error),
                opened => roots.push((id, opened.map(|snapshot| snapshot.root))),
            },
            None if committed(access, log_seq..log_seq + 1)?.is_empty() => {}
            None => {
                let reason = format!("entry {log_seq} of the log committed it, but the store withholds it");
                roots.push((id, Err(Error::SnapshotDamaged { snapshot: id, reason })));
            }
        }
    }
    Ok(roots)
}

fn other_snapshots() -> Error {
    Error::Invalid("the store returned other snapshots than it was asked for".into())
}
