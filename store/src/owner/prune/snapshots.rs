//! The snapshots that a prune marks: which of them the store keeps, and their roots.

use std::ops::Range;

use crate::{
    access::{COMMITTED_MAX, CommittedSnapshot, Maintain, PruneReply, PruneRequest},
    base::{
        error::{Error, Result},
        id::SnapshotId,
    },
    format::tree::Node,
    owner::reader::Reader,
};

/// How many snapshots one request asks for.
const BATCH: u32 = 256;

/// The snapshots that the store keeps and that were committed at these places of the log, the trash included.
pub(super) fn committed(access: &dyn Maintain, places: Range<u64>) -> Result<Vec<CommittedSnapshot>> {
    let (mut found, mut from) = (Vec::new(), places.start);
    loop {
        let PruneReply::Committed(rows) = access.prune(&PruneRequest::Committed { from })? else {
            return Err(other_snapshots());
        };
        for row in &rows {
            if row.log_seq < from {
                return Err(other_snapshots());
            }
            from = row.log_seq + 1;
            if places.contains(&row.log_seq) {
                found.push(*row);
            }
        }
        if rows.len() < COMMITTED_MAX || from >= places.end {
            return Ok(found);
        }
    }
}

/// The roots of snapshots, in the order of the log. Those that are gone for good meanwhile are left out. Fails at the
/// first that does not open: what cannot be seen cannot be said to be dead.
pub(super) fn roots(
    reader: &Reader,
    access: &dyn Maintain,
    wanted: &[CommittedSnapshot],
) -> Result<Vec<(SnapshotId, Node)>> {
    let [Some(first), Some(last)] = [wanted.first(), wanted.last()] else { return Ok(Vec::new()) };
    let (mut objects, mut next, mut roots) = (Vec::new(), first.log_seq, Vec::new());
    // Between them others may lie that are not wanted.
    while next <= last.log_seq {
        let more = reader.access().snapshots(next, BATCH)?;
        match more.last().map(|object| object.log_seq) {
            None => break,
            Some(newest) if newest < next => return Err(other_snapshots()),
            Some(newest) => next = newest + 1,
        }
        objects.extend(more.into_iter().filter(|object| wanted.iter().any(|wanted| wanted.id == object.id)));
    }
    for CommittedSnapshot { log_seq, id, .. } in wanted.iter().copied() {
        match objects.iter().find(|object| object.id == id) {
            Some(object) => roots.push((id, reader.open_snapshot(object)?.root)),
            None if committed(access, log_seq..log_seq + 1)?.is_empty() => {}
            None => {
                let reason = format!("entry {log_seq} of the log committed it, but it is not handed out");
                return Err(Error::SnapshotDamaged { snapshot: id, reason });
            }
        }
    }
    Ok(roots)
}

fn other_snapshots() -> Error {
    Error::Invalid("the store answered with other snapshots than were asked for".into())
}
