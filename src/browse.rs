//! Finding a snapshot and a path in it, for the commands that read.

use std::sync::Arc;

use anyhow::Result;
use bkfs_store::{
    Error,
    reader::{Reader, SnapshotInfo},
    tree::Node,
};

use crate::{
    context::Context,
    selector::{Candidate, Filters, Selector, choose},
    session::Session,
};

/// Bytes of chunks and tree pages that a reading command holds.
const CACHE_BYTES: usize = 128 << 20;

/// A repository opened for reading, with its snapshots.
pub struct Library {
    /// Reads it.
    pub reader: Arc<Reader>,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<SnapshotInfo>,
}

impl Library {
    /// Reads the list of snapshots; warns of what is wrong about it, and of a rollback.
    pub fn open(context: &Context, session: &Session, operation: &'static str) -> Result<Self> {
        session.warn_of_rollback();
        let reader = reader(context, session, operation)?;
        let (snapshots, problems) = reader.with_snapshots(|list| {
            (list.snapshots.clone(), list.problems.iter().map(Error::to_string).collect::<Vec<_>>())
        })?;
        for problem in &problems {
            eprintln!("bkfs: warning: {problem}");
        }
        Ok(Self { reader, snapshots })
    }

    /// The snapshot that is meant.
    pub fn choose(&self, selector: &Selector, filters: &Filters) -> Result<&SnapshotInfo> {
        let candidates: Vec<Candidate<'_>> =
            self.snapshots.iter().map(|info| Candidate { id: info.id, snapshot: &info.snapshot }).collect();
        Ok(&self.snapshots[choose(&candidates, &selector.which, filters)?])
    }

    /// The snapshot that is meant, and the entry in it; without a path its root.
    pub fn find(&self, selector: &Selector, filters: &Filters) -> Result<(&SnapshotInfo, Node)> {
        let info = self.choose(selector, filters)?;
        let path = selector.path.as_deref().unwrap_or_default();
        let node = self.reader.resolve(&info.snapshot.root, path)?;
        Ok((info, node))
    }
}

/// A reader with the full key.
pub fn reader(context: &Context, session: &Session, operation: &'static str) -> Result<Arc<Reader>> {
    let full = session.full_key(context, operation)?;
    Ok(Reader::new(session.access.clone(), full, &session.config, CACHE_BYTES))
}
