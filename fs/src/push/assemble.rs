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
    format::tree::{Content, Node, NodeKind, Subtree, TreeBuilder},
};
use crossbeam_channel::Receiver;

use super::{
    alarm::{Look, Upheaval},
    change::{Change, FileCounts},
    chunk_writer::ChunkWriter,
    context::{OnChange, PushContext},
    event::{DirEntry, Event, NewEntry, is_distrusted},
    file_assembler::FileAssembler,
    options::PushedSource,
    piece::FileEnd,
    problems::ProblemList,
    progress::PushProgress,
    record::{data_chunks, root_entry_key},
    sample::Sample,
    sources::SourceCounts,
};
use crate::{
    cache::{
        Cache, Cursor, Spool,
        record::{CachedEntry, RecordStamp, RecordWriter, stamp},
    },
    walk::{self, DirPath, Problems},
};

/// Puts the snapshot together.
pub struct Assembler<'a> {
    cache: &'a Cache,
    spool: Spool,
    /// What this push's records carry, which tells them from others.
    stamp: RecordStamp,
    writer: ChunkWriter<'a>,
    files: FileAssembler<'a>,
    sources: SourceCounts,
    problems: &'a ProblemList,
    progress: &'a PushProgress,
    base: &'a Path,
    on_change: Option<&'a OnChange>,
    counts: FileCounts,
    upheaval: Upheaval,
    /// The root pages of trees and content trees that are reused. The sample joins them at the end.
    relied_on: Vec<ChunkId>,
    /// Of the remembered chunks of files, to notice a loss early.
    sample: Sample,
}

/// A directory on the way from the root to the assembler's position.
struct DirAssembly<'a> {
    path: Arc<DirPath>,
    entry: DirEntry,
    state: TreeState<'a>,
    /// Trees of its subdirectories that are reused, while the directory is clean.
    reused: Vec<ChunkId>,
    /// What the last push stored under the name that comes next.
    replaced: Option<Node>,
    /// Whether that was a calm file.
    was_calm: bool,
    /// The last calm file that the last push stored and that is gone. Names come in order, so what has this name with
    /// something after it comes soon.
    calm_gone: Option<Box<[u8]>>,
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
        Self {
            path,
            entry,
            state: TreeState::Clean { kept: 0 },
            reused: Vec::new(),
            replaced: None,
            was_calm: false,
            calm_gone: None,
        }
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
    /// The files that were looked at more closely. The scanner counts the others.
    pub counts: FileCounts,
    /// What was seen of files that became noise.
    pub upheaval: Upheaval,
    /// What was counted of each source.
    pub sources: Vec<PushedSource>,
}

impl<'a> Assembler<'a> {
    /// An assembler for a snapshot of `base`. The records that it writes carry `stamp`.
    pub fn new(
        context: &'a PushContext<'_>,
        base: &'a Path,
        stamp: RecordStamp,
        writer: ChunkWriter<'a>,
        files: FileAssembler<'a>,
        sources: SourceCounts,
    ) -> Self {
        Self {
            cache: &context.cache,
            spool: context.cache.spool(),
            stamp,
            writer,
            files,
            sources,
            problems: &context.problems,
            progress: &context.progress,
            base,
            on_change: context.on_change,
            counts: FileCounts::default(),
            upheaval: Upheaval::default(),
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
                Event::Replaced => self.replace(top)?,
                Event::New(entry) => {
                    self.note_change(top, &entry.node);
                    self.add_new(top, *entry)?;
                }
                Event::File(file) => {
                    if let Some(end) = self.files.file(&file, &mut self.writer)? {
                        let look = self.files.take_look();
                        self.add_file(top, end, look)?;
                    }
                }
                Event::Stream(job) => {
                    if let Some(end) = self.files.stream(&job, &mut self.writer)? {
                        self.add_file(top, end, None)?;
                    }
                }
                Event::Link(file) => {
                    if let Some(end) = self.files.link(&file, &mut self.writer)? {
                        // Its first name was looked at.
                        self.add_file(top, end, None)?;
                    }
                }
                Event::Leave(subtree) => {
                    let Some(dir) = stack.pop() else { continue };
                    let path = dir.path.clone();
                    let finished = self.leave(dir, subtree)?;
                    self.sources.ended(&path, finished.subtree.totals.files);
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
        data_chunks(&node).for_each(|id| self.sample.offer(id));
        if let Some(subtree) = node.subtree {
            self.sample.offer(subtree.id);
        }
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
        let (mut removed, mut calm_gone) = (Vec::new(), None);
        let dirty = self.dirty(dir)?;
        for _ in 0..count {
            if let Some(entry) = dirty.old.entry().filter(|entry| entry.is_calm) {
                calm_gone = Some(entry.name.into());
            }
            if let Some(entry) = dirty.old.entry().filter(CachedEntry::is_dir) {
                removed.push(walk::child_key(&parent, entry.name));
            }
            dirty.old.advance();
        }
        removed.iter().for_each(|key| self.spool.remove(key));
        dir.calm_gone = calm_gone.or(dir.calm_gone.take());
        Ok(())
    }

    /// Passes the next entry of the old record. A different one follows under its name, if that can be read.
    fn replace(&mut self, dir: &mut DirAssembly<'a>) -> Result<()> {
        let old = &mut self.dirty(dir)?.old;
        let was_calm = old.entry().is_some_and(|entry| entry.is_calm);
        let was = old.entry().and_then(|entry| entry.decode().ok());
        old.advance();
        (dir.replaced, dir.was_calm) = (was, was_calm);
        Ok(())
    }

    /// Compares an entry with what the last push stored under its name, and counts it if it is a file.
    fn note_change(&mut self, dir: &mut DirAssembly<'a>, node: &Node) {
        let was = dir.replaced.take().filter(|was| was.name == node.name);
        let change = Change::between(was.as_ref(), node);
        if node.kind == NodeKind::File {
            self.counts.add(change);
        }
        if let (Some(change), Some(on_change)) = (change, self.on_change) {
            on_change(change, &walk::join(self.base, &dir.path.entry(&node.name)));
        }
    }

    fn add_new(&mut self, dir: &mut DirAssembly<'a>, new: NewEntry) -> Result<()> {
        self.dirty(dir)?;
        let TreeState::Dirty(dirty) = &mut dir.state else { return Ok(()) };
        let bytes = codec::encode(&new.node);
        let entry = CachedEntry {
            name: &new.node.name,
            stamp: &stamp(&new.stat, &new.filesystem),
            is_distrusted: new.is_distrusted,
            is_calm: new.is_calm,
            node: &bytes,
        };
        dirty.record.add(&entry, &mut self.spool);
        self.writer.add_node(&mut dirty.tree, new.node)
    }

    fn add_file(&mut self, dir: &mut DirAssembly<'a>, end: FileEnd, look: Option<Look>) -> Result<()> {
        let was_file = dir.replaced.as_ref().is_some_and(|was| was.name == end.node.name);
        match look {
            Some(Look::Noise) if was_file => self.upheaval.became_noise += u64::from(dir.was_calm),
            Some(Look::Noise) => {
                let gone = dir.calm_gone.take_if(|gone| end.node.name.starts_with(gone));
                self.upheaval.renamed += u64::from(gone.is_some());
            }
            _ => {}
        }
        self.note_change(dir, &end.node);
        let path = || walk::join(self.base, &dir.path.entry(&end.node.name));
        if end.is_changing {
            self.problems.problem(path(), io::Error::other("it changed while it was read"));
        }
        let is_incomplete = end.is_changing || end.xattr_error.is_some() || end.is_distrusted;
        if let Some(error) = end.xattr_error {
            self.problems.problem(path(), error);
        }
        let is_distrusted = is_incomplete || is_distrusted(&end.stat, end.read_at);
        let (stat, filesystem) = (end.stat, end.filesystem);
        let is_calm = look == Some(Look::Calm);
        self.add_new(dir, NewEntry { node: end.node, stat, filesystem, is_distrusted, is_calm })
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
            (None, DirEntry::New(new)) => {
                (new.node, stamp(&new.stat, &new.filesystem).to_vec(), new.is_distrusted, false)
            }
            (None, DirEntry::Kept(_)) => return Err(Error::damaged("the file cache", "the root's record is missing")),
        };
        let root = Node { subtree: Some(finished.subtree), ..node };
        if !is_same {
            let mut record = RecordWriter::new(key, self.stamp);
            let bytes = codec::encode(&root);
            let entry = CachedEntry { name: b"", stamp: &entry_stamp, is_distrusted, is_calm: false, node: &bytes };
            record.add(&entry, &mut self.spool);
            record.finish(&finished.subtree, &mut self.spool);
        }
        self.relied_on.extend(self.sample.ids());
        self.writer.finish()?;
        let sources = self.sources.into_sources();
        Ok(Assembled {
            root,
            spool: self.spool,
            relied_on: self.relied_on,
            counts: self.counts,
            upheaval: self.upheaval,
            sources,
        })
    }
}

/// The scanner counted more entries than the record has now.
fn record_ended() -> Error {
    Error::damaged("the file cache", "a record ended early")
}
