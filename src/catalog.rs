//! The catalog of a repository's snapshots. Commands that read find snapshots in it, and paths in snapshots.

use std::sync::Arc;

use anyhow::Result;
use bkfs_store::{
    Error,
    access::Read,
    base::{id::SnapshotId, time::Time},
    format::{keys::FullKey, tree::Node},
    owner::reader::{BrokenSnapshot, PurgedSnapshot, Reader, SnapshotInfo, TrashedSnapshot},
};

use crate::{
    context::Context,
    selector::{Candidate, Filters, Selector, choose},
    session::Session,
};

/// Bytes of chunks and tree pages that a command caches. A mount caches more, because it reads the same data again.
const CACHE_BYTES: usize = 48 << 20;
/// Bytes of chunks and tree pages that a mount caches.
const MOUNT_CACHE_BYTES: usize = 128 << 20;

/// A snapshot that is stored but cannot be read.
#[derive(Debug, Clone, Copy)]
pub struct UnreadableSnapshot {
    /// The snapshot's id.
    pub id: SnapshotId,
    /// When the store received it.
    pub received: Time,
    /// Whether it is in the trash.
    pub is_trashed: bool,
}

/// A repository opened for reading, with its snapshots.
pub struct Catalog {
    /// Reads the repository.
    pub reader: Arc<Reader>,
    /// The snapshots that are not in the trash, oldest first.
    pub snapshots: Vec<SnapshotInfo>,
    /// The snapshots in the trash, oldest first.
    pub trash: Vec<TrashedSnapshot>,
    /// The snapshots that cannot be read, in the trash or not.
    pub unreadable: Vec<UnreadableSnapshot>,
    /// The snapshots that the server's operator purged.
    pub purged: Vec<PurgedSnapshot>,
    /// Length of the log that this catalog was made from, in records.
    pub log_len: u64,
}

impl Catalog {
    /// Reads the list of snapshots with the full key. Prints a warning about each problem in it, and about a rollback.
    pub fn open(context: &Context, session: &Session, operation: &'static str) -> Result<Self> {
        session.warn_of_rollback();
        let full = session.full_key(context, operation)?;
        Self::with_key(session, &full)
    }

    /// Does the same for a mount, with a larger cache.
    pub fn open_for_mount(context: &Context, session: &Session, access: Arc<dyn Read>) -> Result<Self> {
        session.warn_of_rollback();
        let full = session.full_key(context, "mounting")?;
        Self::with(session, access, &full, MOUNT_CACHE_BYTES)
    }

    /// Reads the list of snapshots with a key that the caller has already, so that no passphrase is asked for twice.
    pub fn with_key(session: &Session, full: &FullKey) -> Result<Self> {
        Self::with(session, session.access.clone(), full, CACHE_BYTES)
    }

    fn with(session: &Session, access: Arc<dyn Read>, full: &FullKey, cache_bytes: usize) -> Result<Self> {
        let reader = Reader::new(access, full.clone(), &session.config, cache_bytes);
        let (catalog, problems) = reader.with_snapshots(|list| {
            let catalog = Self {
                reader: reader.clone(),
                snapshots: list.snapshots.clone(),
                trash: list.trash.clone(),
                unreadable: list.broken.iter().map(unreadable).collect(),
                purged: list.purged.clone(),
                log_len: list.log_len,
            };
            // The owner knows about a snapshot in the trash.
            let broken = list.broken.iter().filter(|broken| !broken.is_trashed).map(|broken| &broken.error);
            (catalog, broken.chain(&list.problems).map(Error::to_string).collect::<Vec<_>>())
        })?;
        for problem in problems.into_iter().chain(catalog.purged.iter().map(PurgedSnapshot::to_string)) {
            eprintln!("bkfs: warning: {problem}");
        }
        Ok(catalog)
    }

    /// Returns the snapshot that the selector names.
    pub fn choose(&self, selector: &Selector, filters: &Filters) -> Result<&SnapshotInfo> {
        let candidates: Vec<Candidate<'_>> =
            self.snapshots.iter().map(|info| Candidate { id: info.id, snapshot: &info.snapshot }).collect();
        Ok(&self.snapshots[choose(&candidates, &selector.name, filters)?])
    }

    /// Returns the snapshot that the selector names and the entry at its path. Without a path, that is the root.
    pub fn find(&self, selector: &Selector, filters: &Filters) -> Result<(&SnapshotInfo, Node)> {
        let info = self.choose(selector, filters)?;
        let path = selector.path.as_deref().unwrap_or_default();
        let node = self.reader.resolve(&info.snapshot.root, path)?;
        Ok((info, node))
    }
}

fn unreadable(broken: &BrokenSnapshot) -> UnreadableSnapshot {
    UnreadableSnapshot { id: broken.id, received: broken.received, is_trashed: broken.is_trashed }
}

/// Opens a reader with the full key, without reading the list of snapshots.
pub fn open_reader(context: &Context, session: &Session, operation: &'static str) -> Result<Arc<Reader>> {
    let full = session.full_key(context, operation)?;
    let reader = Reader::new(session.access.clone(), full, &session.config, CACHE_BYTES);
    reader.accept_roster(&session.opened.roster)?;
    Ok(reader)
}
