//! Snapshots that stop a prune: as long as it is unknown what they need, nothing may count as unused.
//!
//! A client can commit a snapshot that nobody can read: the store cannot see inside the seal. Damage, or a disk that is
//! missing at this moment, has the same effect. The difference is for a person to see, so each such snapshot is listed
//! with its client, what is wrong, and since when the log knows of the loss. A tombstone that says so
//! ([`crate::format::tombstone::Tombstone::is_broken`]) lets prunes go on.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::Path,
};

use super::{marker::Marker, progress::PruneProgress, snapshots::Root};
use crate::{
    access::Read,
    base::{
        codec,
        error::{Error, Result},
        id::{ChunkId, ClientId, SnapshotId},
        time::Time,
    },
    format::{
        log::{Event, LogRecord},
        loss::Lost,
    },
    owner::reader::{BrokenSnapshot, Reader, log_records},
};

/// A snapshot that stops every prune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockingSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The log record that committed it, counted from 0.
    pub log_seq: u64,
    /// The client that pushed it, as the log names it.
    pub client: ClientId,
    /// When the store received it.
    pub received: Time,
    /// Whether it is in the trash already.
    pub is_trashed: bool,
    /// What is wrong with it.
    pub problem: BrokenPart,
}

/// What cannot be read of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokenPart {
    /// Its record: it does not open, its client does not count, or the store withholds it.
    Record(String),
    /// A page of its tree.
    Page {
        /// The first such page.
        id: ChunkId,
        /// What is wrong.
        reason: String,
        /// When the store noted in its log that it lost the page. Without such a note, the page was probably never
        /// stored.
        lost_at: Option<Time>,
    },
}

impl fmt::Display for BrokenPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokenPart::Record(reason) => f.write_str(reason),
            BrokenPart::Page { id, reason, .. } => write!(f, "its tree page {id} cannot be read: {reason}"),
        }
    }
}

/// Returns the snapshots that would stop a prune, in the order of the log. `cache` is the folder that prunes use.
pub fn find_blocking(reader: &Reader, cache: &Path, progress: &PruneProgress) -> Result<Vec<BlockingSnapshot>> {
    let (roots, mut broken) = reader.with_snapshots(|list| {
        // What was pushed after a rotation is not broken, but this key is from before.
        if let Some(Error::KeyOutdated { have, needed }) =
            list.broken.iter().map(|broken| &broken.error).find(|error| matches!(error, Error::KeyOutdated { .. }))
        {
            return Err(Error::KeyOutdated { have: *have, needed: *needed });
        }
        let trash = list.trash.iter().map(|trashed| &trashed.info);
        let mut infos: Vec<_> = list.snapshots.iter().chain(trash).collect();
        infos.sort_by_key(|info| info.order());
        let roots: Vec<Root> = infos.iter().map(|info| (info.id, Ok(info.snapshot.root.clone()))).collect();
        let broken = list.broken.iter().filter(|broken| !broken.is_signed);
        Ok((roots, broken.map(|broken| blocking(broken, &HashMap::new())).collect::<Vec<_>>()))
    })??;
    let found = Marker::new(reader, &marks_folder(reader, cache)).find_broken(roots, progress)?;
    broken.extend(with_losses(reader, &found)?);
    broken.sort_by_key(|snapshot| snapshot.log_seq);
    Ok(broken)
}

/// The folder for what prunes of a repository remember.
pub(super) fn marks_folder(reader: &Reader, cache: &Path) -> std::path::PathBuf {
    cache.join(reader.config().repo.to_string()).join("marks")
}

/// Describes broken snapshots, with the times at which the store lost their pages.
pub(super) fn with_losses(reader: &Reader, found: &[BrokenSnapshot]) -> Result<Vec<BlockingSnapshot>> {
    let page = |broken: &BrokenSnapshot| match broken.error {
        Error::PageUnreadable { page, .. } => Some(page),
        _ => None,
    };
    let pages: HashSet<ChunkId> = found.iter().filter_map(page).collect();
    let lost = if pages.is_empty() { HashMap::new() } else { losses(&**reader.access(), &pages)? };
    Ok(found.iter().map(|broken| blocking(broken, &lost)).collect())
}

fn blocking(broken: &BrokenSnapshot, lost: &HashMap<ChunkId, Time>) -> BlockingSnapshot {
    let problem = match &broken.error {
        Error::PageUnreadable { page, reason, .. } => {
            BrokenPart::Page { id: *page, reason: reason.clone(), lost_at: lost.get(page).copied() }
        }
        Error::SnapshotDamaged { reason, .. } => BrokenPart::Record(reason.clone()),
        error => BrokenPart::Record(error.to_string()),
    };
    let BrokenSnapshot { id, log_seq, client, received, is_trashed, .. } = *broken;
    BlockingSnapshot { id, log_seq, client, received, is_trashed, problem }
}

/// When the store last noted the loss of each of these chunks.
fn losses(access: &dyn Read, wanted: &HashSet<ChunkId>) -> Result<HashMap<ChunkId, Time>> {
    let mut found = HashMap::new();
    log_records(access, 0, |bytes| {
        // A record that does not decode is a problem of the log, which `check` reports.
        if let Ok(LogRecord { event: Event::Quarantine { lost: Lost::Ids(ids), .. }, time, .. }) =
            codec::decode("an entry of the log", bytes)
        {
            found.extend(ids.into_iter().filter(|id| wanted.contains(id)).map(|id| (id, time)));
        }
        Ok(())
    })?;
    Ok(found)
}
