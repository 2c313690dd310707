//! Putting the snapshot together: events in, new chunks and the root's node out.
//!
//! A directory begins *clean*: while everything in it is as its record says, entries are only counted. If that holds to
//! the end, its tree is reused unchanged. The first difference makes the directory *dirty*: the entries counted so far
//! are copied from the record, and from there on a tree and a new record are written. So a push without changes encodes
//! nothing, and no push holds a directory in memory.

use std::{io, path::Path, sync::Arc};

use bkfs_store::{
    Error, Result,
    base::{codec, id::ChunkId},
    format::tree::{Content, Node, Subtree, TreeBuilder},
};
use crossbeam_channel::Receiver;

use super::{
    chunk_writer::ChunkWriter,
    context::PushContext,
    event::{DirEntry, Event, NewEntry, is_distrusted},
    file_assembler::FileAssembler,
    piece::FileEnd,
    problems::ProblemList,
    progress::PushProgress,
    record::{data_chunks, root_entry_key},
};
use crate::{
    cache::{
        Cache, Cursor, Spool,
        record::{CachedEntry, RecordStamp, RecordWriter, stamp},
    },
    walk::{self, DirPath, Problems},
};

/// How many of the remembered chunks that a push relies on are asked about, so that a loss is noticed early.
const SAMPLE: usize = 64;

/// Puts the snapshot together.
pub struct Assembler<'a> {
    cache: &'a Cache,
    spool: Spool,
    /// What this push's records carry, which tells them from others.
    stamp: RecordStamp,
    writer: ChunkWriter<'a>,
    files: FileAssembler<'a>,
    problems: &'a ProblemList,
    progress: &'a PushProgress,
    base: &'a Path,
    /// The root pages of trees and content trees that are reused. The sample joins them at the end.
    relied_on: Vec<ChunkId>,
    sample: Sample,
}

/// A few of many ids, each as likely as any other.
#[derive(Default)]
struct Sample {
    ids: Vec<ChunkId>,
    offered: u64,
}

impl Sample {
    fn add(&mut self, id: ChunkId) {
        self.offered += 1;
        if self.ids.len() < SAMPLE {
            self.ids.push(id);
            return;
        }
        // Ids are uniform and secret, so their own bytes serve as random numbers.
        let random = u64::from_le_bytes([id.0[0], id.0[1], id.0[2], id.0[3], id.0[4], id.0[5], id.0[6], id.0[7]]);
        if let Some(slot) = self.ids.get_mut((random % self.offered) as usize) {
            *slot = id;
        }
    }
}

/// A directory on the way from the root to the assembler's position.
struct DirAssembly<'a> {
    path: Arc<DirPath>,
    entry: DirEntry,
    state: TreeState<'a>,
    /// Trees of its subdirectories that are reused, while the directory is clean.
    reused: Vec<ChunkId>,
}

enum TreeState<'a> {
    Clean { kept: u64 },
    Dirty(Box<DirtyTree<'a>>),
}

struct DirtyTree<'a> {
    tree: TreeBuilder,
    record: RecordWriter,
    old: Cursor<'a>,
}

impl DirAssembly<'_> {
    fn new(path: Arc<DirPath>, entry: DirEntry) -> Self {
        Self { path, entry, state: TreeState::Clean { kept: 0 }, reused: Vec::new() }
    }
}

/// A directory that has ended.
struct FinishedDir {
    entry: DirEntry,
    subtree: Subtree,
    /// Its tree, if it is reused.
    reused: Vec<ChunkId>,
}

/// The snapshot's tree, put together.
pub struct Assembled {
    /// The root's node.
    pub root: Node,
    /// What the file cache will claim once the snapshot is committed.
    pub spool: Spool,
    /// Ids that must still be stored.
    pub relied_on: Vec<ChunkId>,
}

impl<'a> Assembler<'a> {
    /// An assembler for a snapshot of `base`. The records that it writes carry `stamp`.
    pub fn new(
        context: &'a PushContext<'_>,
        base: &'a Path,
        stamp: RecordStamp,
        writer: ChunkWriter<'a>,
        files: FileAssembler<'a>,
    ) -> Self {
        Self {
            cache: &context.cache,
            spool: context.cache.spool(),
            stamp,
            writer,
            files,
            problems: &context.problems,
            progress: &context.progress,
            base,
            relied_on: Vec::new(),
            sample: Sample::default(),
        }
    }

    /// Handles events until the root has ended. Then all frames are on their way.
    pub fn run(mut self, events: Receiver<Event>) -> Result<Assembled> {
        let mut stack: Vec<DirAssembly<'a>> = Vec::new();
        loop {
            if self.progress.is_stopped() {
                return Err(Error::Interrupted);
            }
            // The scanner ends first only if it has failed.
            let event = events.recv().map_err(|_| Error::Interrupted)?;
            let Some(top) = stack.last_mut() else {
                if let Event::Enter { path, entry } = event {
                    stack.push(DirAssembly::new(path, entry));
                }
                continue;
            };
            match event {
                Event::Enter { path, entry } => stack.push(DirAssembly::new(path, entry)),
                Event::Kept(count) => self.keep(top, count)?,
                Event::Gone(count) => self.remove(top, count)?,
                Event::Replaced => self.dirty(top)?.old.advance(),
                Event::New(entry) => self.add_new(top, *entry)?,
                Event::File(file) => {
                    if let Some(end) = self.files.file(&file, &mut self.writer)? {
                        self.add_file(top, end)?;
                    }
                }
                Event::Link(file) => {
                    if let Some(end) = self.files.link(&file, &mut self.writer)? {
                        self.add_file(top, end)?;
                    }
                }
                Event::Leave(subtree) => {
                    let Some(dir) = stack.pop() else { continue };
                    let path = dir.path.clone();
                    let finished = self.leave(dir, subtree)?;
                    match stack.last_mut() {
                        Some(parent) => self.add_dir(parent, finished)?,
                        None => return self.finish(&path, finished),
                    }
                }
            }
        }
    }

    /// Makes a directory dirty: writes what was only counted so far.
    fn dirty<'d>(&mut self, dir: &'d mut DirAssembly<'a>) -> Result<&'d mut DirtyTree<'a>> {
        if let TreeState::Clean { kept } = dir.state {
            let mut dirty = Box::new(DirtyTree {
                tree: self.writer.dir(),
                record: RecordWriter::new(dir.path.key(), self.stamp),
                old: Cursor::new(self.cache, dir.path.key()),
            });
            for _ in 0..kept {
                self.copy(&mut dirty)?;
            }
            dir.state = TreeState::Dirty(dirty);
            // The tree above the reused trees is not reused any more, so it does not vouch for them.
            self.relied_on.append(&mut dir.reused);
        }
        match &mut dir.state {
            TreeState::Dirty(dirty) => Ok(dirty),
            TreeState::Clean { .. } => unreachable!("made dirty above"),
        }
    }

    /// Copies the next entry of the old record.
    fn copy(&mut self, dirty: &mut DirtyTree<'a>) -> Result<()> {
        let entry = dirty.old.entry().ok_or_else(record_ended)?;
        let node = entry.decode()?;
        data_chunks(&node).for_each(|id| self.sample.add(id));
        if let Some(Content::Tree(id)) = &node.content {
            self.relied_on.push(*id);
        }
        dirty.record.add(&entry, &mut self.spool);
        self.writer.add_node(&mut dirty.tree, node)?;
        dirty.old.advance();
        Ok(())
    }

    /// Keeps the next entries of the old record.
    fn keep(&mut self, dir: &mut DirAssembly<'a>, count: u64) -> Result<()> {
        match &mut dir.state {
            TreeState::Clean { kept } => *kept += count,
            TreeState::Dirty(dirty) => {
                for _ in 0..count {
                    self.copy(dirty)?;
                }
            }
        }
        Ok(())
    }

    /// Passes the next entries of the old record, and removes the records of the directories among them.
    fn remove(&mut self, dir: &mut DirAssembly<'a>, count: u64) -> Result<()> {
        let parent = dir.path.key();
        let dirty = self.dirty(dir)?;
        let mut removed = Vec::new();
        for _ in 0..count {
            if let Some(entry) = dirty.old.entry().filter(CachedEntry::is_dir) {
                removed.push(walk::child_key(&parent, entry.name));
            }
            dirty.old.advance();
        }
        removed.iter().for_each(|key| self.spool.remove(key));
        Ok(())
    }

    fn add_new(&mut self, dir: &mut DirAssembly<'a>, new: NewEntry) -> Result<()> {
        self.dirty(dir)?;
        let TreeState::Dirty(dirty) = &mut dir.state else { return Ok(()) };
        let bytes = codec::encode(&new.node);
        let entry = CachedEntry {
            name: &new.node.name,
            stamp: &stamp(&new.stat),
            is_distrusted: new.is_distrusted,
            node: &bytes,
        };
        dirty.record.add(&entry, &mut self.spool);
        self.writer.add_node(&mut dirty.tree, new.node)
    }

    fn add_file(&mut self, dir: &mut DirAssembly<'a>, end: FileEnd) -> Result<()> {
        let path = || walk::join(self.base, &dir.path.entry(&end.node.name));
        if end.is_changing {
            self.problems.problem(path(), io::Error::other("it changed while it was read"));
        }
        let is_incomplete = end.is_changing || end.xattr_error.is_some();
        if let Some(error) = end.xattr_error {
            self.problems.problem(path(), error);
        }
        let is_distrusted = is_incomplete || is_distrusted(&end.stat, end.read_at);
        self.add_new(dir, NewEntry { node: end.node, stat: end.stat, is_distrusted })
    }

    /// Ends a directory. `reusable` is the tree of its record, if the whole record was kept.
    fn leave(&mut self, mut dir: DirAssembly<'a>, reusable: Option<Subtree>) -> Result<FinishedDir> {
        if let (TreeState::Clean { .. }, Some(subtree)) = (&dir.state, reusable) {
            return Ok(FinishedDir { entry: dir.entry, subtree, reused: vec![subtree.id] });
        }
        self.dirty(&mut dir)?;
        let TreeState::Dirty(dirty) = dir.state else { unreachable!("made dirty above") };
        let subtree = self.writer.finish_dir(dirty.tree)?;
        dirty.record.finish(&subtree, &mut self.spool);
        Ok(FinishedDir { entry: dir.entry, subtree, reused: Vec::new() })
    }

    fn add_dir(&mut self, parent: &mut DirAssembly<'a>, mut finished: FinishedDir) -> Result<()> {
        match finished.entry {
            DirEntry::Kept(subtree) if subtree == finished.subtree => {
                match parent.state {
                    TreeState::Clean { .. } => parent.reused.append(&mut finished.reused),
                    TreeState::Dirty(_) => self.relied_on.append(&mut finished.reused),
                }
                self.keep(parent, 1)
            }
            DirEntry::Kept(_) => {
                self.relied_on.append(&mut finished.reused);
                self.dirty(parent)?;
                let TreeState::Dirty(dirty) = &mut parent.state else { return Ok(()) };
                let entry = dirty.old.entry().ok_or_else(record_ended)?;
                let mut node = entry.decode()?;
                node.subtree = Some(finished.subtree);
                let bytes = codec::encode(&node);
                dirty.record.add(&CachedEntry { node: &bytes, ..entry }, &mut self.spool);
                dirty.old.advance();
                self.writer.add_node(&mut dirty.tree, node)
            }
            DirEntry::New(mut new) => {
                self.relied_on.append(&mut finished.reused);
                new.node.subtree = Some(finished.subtree);
                self.add_new(parent, *new)
            }
        }
    }

    /// Ends the root. Its own entry has a record of its own.
    fn finish(mut self, path: &DirPath, mut finished: FinishedDir) -> Result<Assembled> {
        let key = root_entry_key(path);
        self.relied_on.append(&mut finished.reused);
        let old = Cursor::new(self.cache, key);
        let kept = match finished.entry {
            DirEntry::Kept(subtree) => old.entry().map(|entry| (entry, subtree == finished.subtree)),
            DirEntry::New(_) => None,
        };
        let (node, entry_stamp, is_distrusted, is_same) = match (kept, finished.entry) {
            (Some((entry, is_same)), _) => (entry.decode()?, entry.stamp.to_vec(), entry.is_distrusted, is_same),
            (None, DirEntry::New(new)) => (new.node, stamp(&new.stat).to_vec(), new.is_distrusted, false),
            (None, DirEntry::Kept(_)) => return Err(Error::damaged("the file cache", "the root's record is missing")),
        };
        let root = Node { subtree: Some(finished.subtree), ..node };
        if !is_same {
            let mut record = RecordWriter::new(key, self.stamp);
            let bytes = codec::encode(&root);
            let entry = CachedEntry { name: b"", stamp: &entry_stamp, is_distrusted, node: &bytes };
            record.add(&entry, &mut self.spool);
            record.finish(&finished.subtree, &mut self.spool);
        }
        self.relied_on.extend(self.sample.ids);
        self.writer.finish()?;
        Ok(Assembled { root, spool: self.spool, relied_on: self.relied_on })
    }
}

/// The scanner counted more entries than the record has now.
fn record_ended() -> Error {
    Error::damaged("the file cache", "a record ended early")
}
