//! Reading a repository with its full key: chunks, tree pages, directories, files and snapshots.
//!
//! A [`Reader`] fetches sealed frames from the store, opens them, and checks every chunk in them against its id. Chunks
//! go into one cache with a byte budget, so that the fetch for one small file also serves the files stored next to it.
//! Tree pages are decoded once and have a cache of their own. All calls may be made from many threads; if several
//! threads miss the same chunk, one of them fetches it.
//!
//! The store is never trusted. A frame that does not open, or that lacks the chunk it was returned for, is damaged: the
//! reader asks the store to mend its pack and reads the frame once more. If that fails, too, it asks for another copy
//! of the chunk. A pack that is whole and does not hold what its table names is refused ([`crate::format::verdict`]),
//! so that nobody relies on it any more. If no copy is right, the error names the pack and the client that made it.
//!
//! The reader only needs [`Read`]. Besides verdicts it does not write, prune or repair.

mod cache;
mod chunks;
mod commits;
mod copies;
mod directory;
mod facts;
mod fields;
mod file;
mod list;
mod log;
mod memory;
mod mend;
mod roster;
mod tracker;

use std::{collections::HashMap, fmt, path::Path, sync::Arc};

use bytes::Bytes;

use self::{chunks::ChunkReader, roster::RosterCache, tracker::SnapshotTracker};
use crate::{
    access::{Read, SealedFrame, Seen},
    base::{
        error::{Error, Result},
        id::{ChunkId, ClientId, SnapshotId},
    },
    format::{
        config::Config,
        frame::ChunkKind,
        keys::FullKey,
        roster::Roster,
        snapshot::{Snapshot, SnapshotObject},
        tree::{Node, NodeKind, Page, Subtree},
    },
    owner::keyring::KeyRing,
};

pub use directory::Directory;
pub use file::FileContent;
pub use list::{BrokenSnapshot, Contradiction, PurgedSnapshot, SnapshotInfo, SnapshotList, TrashedSnapshot};
pub(super) use log::{check_commits, check_len, log_records};

/// Reads a repository.
pub struct Reader {
    access: Arc<dyn Read>,
    keys: Arc<KeyRing>,
    config: Config,
    chunks: ChunkReader,
    roster: Arc<RosterCache>,
    snapshots: SnapshotTracker,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader(repository {})", self.config.repo)
    }
}

impl Reader {
    /// Returns a reader with caches of about `cache_bytes` bytes in all. The caller has verified the configuration and
    /// checked that it belongs to the key.
    pub fn new(access: Arc<dyn Read>, full: FullKey, config: &Config, cache_bytes: usize) -> Arc<Self> {
        let keys = Arc::new(KeyRing::new(full, access.clone()));
        let roster = Arc::new(RosterCache::new(access.clone(), keys.clone()));
        Arc::new(Self {
            chunks: ChunkReader::new(access.clone(), keys.clone(), roster.clone(), cache_bytes),
            snapshots: SnapshotTracker::new(access.clone(), keys.clone(), roster.clone()),
            access,
            keys,
            config: config.clone(),
            roster,
        })
    }

    /// The store that it reads from.
    pub fn access(&self) -> &Arc<dyn Read> {
        &self.access
    }

    /// The keys that it opens frames and snapshots with.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The repository's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns one chunk of data. Fails with [`Error::ChunkMissing`] if the store does not have it.
    pub fn data(&self, id: ChunkId) -> Result<Bytes> {
        self.chunks.data(id)
    }

    /// Returns chunks of data in the order of the ids. If one of them cannot be read, the whole call fails: read them
    /// one by one to learn which.
    pub fn data_many(&self, ids: &[ChunkId]) -> Result<Vec<Bytes>> {
        self.chunks.data_many(ids)
    }

    /// Fetches chunks of data into the cache, except those that are there already or that another thread is fetching.
    pub fn prefetch(&self, ids: &[ChunkId]) -> Result<()> {
        self.chunks.prefetch(ids)
    }

    /// Returns a page of a tree, decoded.
    pub fn page(&self, id: ChunkId) -> Result<Arc<Page>> {
        self.chunks.page(id)
    }

    /// Opens a frame and returns its chunks, each with the id that its contents have.
    pub fn open(&self, kind: ChunkKind, sealed: &SealedFrame) -> Result<Vec<(ChunkId, Bytes)>> {
        self.chunks.open(kind, sealed)
    }

    /// Fetches and opens the frames of `ids`, and passes every chunk in them to `each`. If it returns without an error,
    /// all ids were passed.
    pub(crate) fn fetch(
        &self,
        kind: ChunkKind,
        ids: &[ChunkId],
        neighbour_bytes: u32,
        each: &mut dyn FnMut(ChunkId, Bytes),
    ) -> Result<()> {
        self.chunks.fetch(kind, ids, neighbour_bytes, each)
    }

    /// Returns a directory, to list it and to look names up in it. Loads nothing yet.
    pub fn dir<'a>(&'a self, subtree: &Subtree) -> Directory<'a> {
        Directory::new(&self.chunks, *subtree)
    }

    /// Returns the contents of a regular file. Loads nothing yet.
    pub fn file<'a>(&'a self, node: &'a Node) -> FileContent<'a> {
        FileContent::new(&self.chunks, node)
    }

    /// Follows a path of names, separated by `/`, from a root node. Ignores empty components and `.`; does not follow
    /// symbolic links.
    pub fn resolve(&self, root: &Node, path: &[u8]) -> Result<Node> {
        let mut node = root.clone();
        let mut seen = Vec::new();
        for name in path.split(|&b| b == b'/').filter(|name| !name.is_empty() && *name != b".") {
            let missing = |what: &str, seen: &[u8]| {
                let (name, seen) = (name.escape_ascii(), seen.escape_ascii());
                Error::SnapshotNotFound(format!("the snapshot has no `{seen}/{name}`: {what}"))
            };
            let subtree = match (&node.subtree, node.kind) {
                (Some(subtree), NodeKind::Directory) => *subtree,
                _ => return Err(missing("its parent is not a folder", &seen)),
            };
            node = self.dir(&subtree).lookup(name)?.ok_or_else(|| missing("no such file or folder", &seen))?;
            seen.push(b'/');
            seen.extend_from_slice(name);
        }
        Ok(node)
    }

    /// Returns the snapshots that count, oldest first. Fetches only those that are new since the last call.
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        self.with_snapshots(|list| list.snapshots.clone())
    }

    /// Brings the list of snapshots up to date and passes it to `show`. The list is locked during the call: `show` must
    /// not ask this reader for snapshots.
    pub fn with_snapshots<T>(&self, show: impl FnOnce(&SnapshotList) -> T) -> Result<T> {
        self.snapshots.with_list(show)
    }

    /// Does the same, but the list has only the newest snapshot of each series (client and target) that counts, and no
    /// trash. On a machine that has seen few of the snapshots, only the newest are fetched. What is wrong with the
    /// others is not noticed then.
    pub fn with_newest_snapshots<T>(&self, show: impl FnOnce(&SnapshotList) -> T) -> Result<T> {
        self.snapshots.with_newest(show)
    }

    /// Returns how many snapshots there are that have not expired, according to the log. Opens none.
    pub fn snapshot_count(&self) -> Result<usize> {
        self.snapshots.count()
    }

    /// Brings the list of snapshots up to date, and has the store show every snapshot: what is remembered does not
    /// replace it.
    pub fn with_fetched_snapshots<T>(&self, show: impl FnOnce(&SnapshotList) -> T) -> Result<T> {
        self.snapshots.with_fetched_list(show)
    }

    /// Remembers opened snapshots and the log in a cache folder, in the folder of this repository, and uses what was
    /// remembered there before. Call it before the first call for snapshots.
    pub fn remember(&self, cache: &Path) {
        self.snapshots.remember_in(cache.join(self.config.repo.to_string()).join("snapshots"));
    }

    /// Notes what the store said of its log when it was opened. The list of snapshots is read up to there, and compared
    /// with it.
    pub fn announce_log(&self, now: Seen) {
        self.snapshots.announce(now);
    }

    /// Returns whether a snapshot has expired by now, according to the log.
    pub(crate) fn is_gone(&self, id: &SnapshotId) -> Result<bool> {
        self.snapshots.is_gone(id)
    }

    /// Returns what the log records about a snapshot that cannot be read because of `error`. Fails with that error if
    /// the log does not know the snapshot.
    pub(crate) fn broken(&self, id: SnapshotId, error: Error) -> Result<BrokenSnapshot> {
        self.snapshots.broken(id, error)
    }

    /// Returns the roots of those of the snapshots that are remembered.
    pub(crate) fn remembered_roots(&self, ids: &[SnapshotId]) -> Result<HashMap<SnapshotId, Node>> {
        self.snapshots.remembered_roots(ids)
    }

    /// Verifies and opens a snapshot object, whatever became of the snapshot.
    pub(crate) fn open_snapshot(&self, object: &SnapshotObject) -> Result<Snapshot> {
        let stored = self.roster.verify(object)?;
        self.keys.open_snapshot(&stored, object.id)
    }

    /// Verifies a roster that came with an opened repository, and remembers it: that saves a request later.
    pub fn accept_roster(&self, signed: &[u8]) -> Result<()> {
        self.roster.accept(signed)
    }

    /// Returns whether a client holds the full key. What it stored may then set rights on the machine that reads it.
    pub fn is_trusted(&self, client: ClientId) -> Result<bool> {
        self.roster.is_trusted(client)
    }

    /// Fetches the repository's newest roster and verifies it.
    pub fn roster(&self) -> Result<Roster> {
        self.roster.fetch()
    }
}
