//! A source in memory for the tests of the file system: snapshots of directories, files with computed contents,
//! counters, and switches that make it fail or lose ranges.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bkfs_store::{
    Error, Result,
    base::{
        id::{ChunkId, ClientId, Hash, SnapshotId},
        time::Time,
    },
    format::{
        snapshot::{PushStats, Snapshot},
        tree::{Content, Extent, Node, NodeKind, Subtree, Totals},
    },
};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::source::{Seek, ShownSnapshot, VfsSource};
use crate::select::{Candidate, newest_of_each_series};

/// Returns a node of a kind.
pub fn node(name: &[u8], kind: NodeKind) -> Node {
    Node { mode: 0o644, uid: 1000, gid: 1000, mtime: Time { secs: 1_000_000, nanos: 5 }, ..Node::new(name, kind) }
}

/// Returns a file without holes. Its byte at offset `n` is [`byte`] of `n`.
pub fn file(name: &[u8], size: u64) -> Node {
    let extent = Extent::Data { id: ChunkId::default(), len: size.max(1) as u32 };
    Node { size, content: Some(Content::Extents(vec![extent])), ..node(name, NodeKind::File) }
}

/// Returns the byte at an offset, which is the same in every file.
pub fn byte(offset: u64) -> u8 {
    (offset ^ (offset >> 8) ^ (offset >> 16)) as u8
}

/// A repository in memory.
#[derive(Default)]
pub struct Memory {
    dirs: Mutex<HashMap<ChunkId, Arc<Vec<Node>>>>,
    snapshots: Mutex<Vec<Arc<ShownSnapshot>>>,
    grown: Condvar,
    /// Every call fails as if the server were unreachable.
    pub away: AtomicBool,
    /// The newest snapshots are given by themselves.
    pub gives_newest: AtomicBool,
    /// How often all snapshots were asked for.
    pub loads: AtomicU64,
    /// Every read panics.
    pub panics: AtomicBool,
    /// Reads that have begun.
    pub reads: AtomicU64,
    /// Reads that overlap this range of any file fail. While it is locked, all reads wait.
    pub lost: Mutex<Option<Range<u64>>>,
    /// Calls of `visit` and `find`.
    pub lookups: AtomicU64,
    /// Ranges that were fetched ahead.
    pub prefetched: Mutex<Vec<Range<u64>>>,
}

impl Memory {
    /// Adds a directory with these entries, which are sorted here.
    pub fn dir(&self, name: &[u8], mut nodes: Vec<Node>) -> Node {
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let mut totals = Totals::default();
        nodes.iter().for_each(|node| totals.add(node));
        let mut dirs = self.dirs.lock();
        let id = ChunkId(Hash::of(&[&(dirs.len() as u64).to_le_bytes()]).0);
        let entries = nodes.len() as u64;
        dirs.insert(id, Arc::new(nodes));
        Node { mode: 0o755, subtree: Some(Subtree { id, entries, totals }), ..node(name, NodeKind::Directory) }
    }

    /// Adds a snapshot.
    pub fn push(&self, secs: i64, target: &str, host: &str, tags: &[&str], root: Node) -> Arc<ShownSnapshot> {
        let mut snapshots = self.snapshots.lock();
        let log_seq = snapshots.last().map_or(1, |snapshot| snapshot.log_seq + 1);
        let id = SnapshotId(Hash::of(&[b"snapshot", &log_seq.to_le_bytes()]).0);
        let snapshot = Arc::new(shown(id, log_seq, snapshot(secs, target, host, tags, root)));
        snapshots.push(snapshot.clone());
        self.grown.notify_all();
        snapshot
    }

    /// Removes a snapshot, as forgetting does.
    pub fn expire(&self, id: SnapshotId) {
        self.snapshots.lock().retain(|snapshot| snapshot.id != id);
    }

    fn check_reachable(&self) -> Result<()> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(Error::Unreachable("the server is unreachable".into())),
            false => Ok(()),
        }
    }

    fn nodes(&self, dir: &Subtree) -> Result<Arc<Vec<Node>>> {
        self.check_reachable()?;
        self.lookups.fetch_add(1, Ordering::SeqCst);
        self.dirs.lock().get(&dir.id).cloned().ok_or(Error::ChunkMissing { id: dir.id })
    }
}

/// Returns a snapshot that the store received when its record says that it was made. Each host is a client.
pub fn shown(id: SnapshotId, log_seq: u64, record: Snapshot) -> ShownSnapshot {
    let mut client = ClientId::default();
    let len = client.0.len();
    client.0.copy_from_slice(&Hash::of(&[record.host.as_bytes()]).0[..len]);
    ShownSnapshot { id, log_seq, received: record.time, client, is_trusted: true, record }
}

/// Returns a snapshot's record.
pub fn snapshot(secs: i64, target: &str, host: &str, tags: &[&str], root: Node) -> Snapshot {
    Snapshot {
        time: Time { secs, nanos: 0 },
        host: host.into(),
        user: "user".into(),
        target: target.into(),
        paths: vec![],
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        root: Node { name: vec![], ..root },
        stats: PushStats::default(),
        program: "test".into(),
        sequence: 1,
        previous: None,
        log_len: 0,
        log_head: Hash::default(),
    }
}

impl VfsSource for Memory {
    fn find(&self, dir: &Subtree, name: &[u8]) -> Result<Option<(u64, Node)>> {
        let nodes = self.nodes(dir)?;
        let found = nodes.binary_search_by(|node| node.name.as_slice().cmp(name));
        Ok(found.ok().map(|at| (at as u64, nodes[at].clone())))
    }

    fn visit(&self, dir: &Subtree, from: u64, each: &mut dyn FnMut(u64, &Node) -> bool) -> Result<()> {
        let nodes = self.nodes(dir)?;
        for (at, node) in nodes.iter().enumerate().skip(from as usize) {
            if !each(at as u64, node) {
                break;
            }
        }
        Ok(())
    }

    fn read(&self, file: &Node, offset: u64, len: usize) -> Result<Bytes> {
        self.check_reachable()?;
        assert!(!self.panics.load(Ordering::SeqCst), "this panic is part of the test");
        self.reads.fetch_add(1, Ordering::SeqCst);
        let end = (offset + len as u64).min(file.size);
        if self.lost.lock().as_ref().is_some_and(|lost| lost.start < end && offset < lost.end) {
            return Err(Error::ChunkMissing { id: ChunkId([9; 32]) });
        }
        Ok((offset..end).map(byte).collect())
    }

    fn prefetch(&self, _: &Node, range: Range<u64>) -> Result<()> {
        self.prefetched.lock().push(range);
        Ok(())
    }

    fn seek(&self, file: &Node, offset: u64, what: Seek) -> Result<Option<u64>> {
        let Some(Content::Extents(extents)) = &file.content else { return Ok(None) };
        let mut at = 0;
        for extent in extents {
            let end = at + extent.len();
            let fits = matches!(extent, Extent::Data { .. }) == (what == Seek::Data);
            if fits && end > offset {
                return Ok(Some(offset.max(at)));
            }
            at = end;
        }
        Ok((what == Seek::Hole && offset < file.size).then_some(file.size))
    }

    fn newest(&self) -> Result<Option<Vec<Arc<ShownSnapshot>>>> {
        self.check_reachable()?;
        let all = self.snapshots.lock();
        let newest = newest_of_each_series(all.iter().map(|snapshot| Candidate::from(&**snapshot)).enumerate());
        let newest = newest.into_iter().map(|index| all[index].clone()).collect();
        Ok(self.gives_newest.load(Ordering::SeqCst).then_some(newest))
    }

    fn snapshots(&self) -> Result<Vec<Arc<ShownSnapshot>>> {
        self.check_reachable()?;
        self.loads.fetch_add(1, Ordering::SeqCst);
        Ok(self.snapshots.lock().clone())
    }

    fn wait_log(&self, len: u64, timeout: Duration) -> Result<u64> {
        self.check_reachable()?;
        let mut snapshots = self.snapshots.lock();
        let length = |snapshots: &Vec<Arc<ShownSnapshot>>| snapshots.last().map_or(1, |snapshot| snapshot.log_seq + 1);
        if length(&snapshots) <= len {
            self.grown.wait_for(&mut snapshots, timeout);
        }
        Ok(length(&snapshots))
    }
}
