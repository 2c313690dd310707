//! Putting the snapshot together: events in, new chunks and the root's node out.
//!
//! A directory begins *clean*: as long as everything in it is as its record says, entries are only counted, and if that
//! holds to the end its tree is reused as it is. The first difference makes it *dirty*: the entries counted so far are
//! replayed from the record, and from there on a tree and a new record are written. So a push without changes encodes
//! nothing, and none holds a directory in memory.

use std::{collections::HashMap, io, path::PathBuf, sync::Arc};

use bkfs_store::{
    Error, Result, codec,
    id::{ChunkId, HardLinkGroup},
    tree::{Content, Extent, Node, Subtree},
};
use crossbeam_channel::Receiver;

use super::{
    budget::{Budget, Closed},
    chunk_writer::{ContentWriter, DirWriter, Output},
    dedup::Dedup,
    pending_file::Outbox,
    progress::Progress,
    read::{FileEnd, Job, Piece, Reader, Sink},
    scan::{DirEntry, Event, Fresh, ProblemList, is_distrusted, root_record},
};
use crate::{
    cache::{
        Cache, Cursor, Spool,
        record::{CachedEntry, RecordStamp, RecordWriter, stamp},
    },
    walk::{self, DirPath, Problems},
};

/// How many of the remembered chunks that a push relies on are asked about, so that a loss shows early.
const SAMPLE: usize = 64;

/// Puts the snapshot together.
pub struct Assembler<'a> {
    pub(super) cache: &'a Cache,
    pub(super) spool: Spool,
    /// Tells this push's records from others.
    pub(super) stamp: RecordStamp,
    pub(super) budget: &'a Budget,
    pub(super) reader: &'a Reader,
    pub(super) dedup: &'a Dedup,
    pub(super) output: Output<'a>,
    pub(super) problems: &'a ProblemList,
    pub(super) progress: &'a Progress,
    pub(super) base: PathBuf,
    pub(super) links: HashMap<HardLinkGroup, Linked>,
    /// Root pages of trees that are reused, and a sample of reused chunks.
    pub(super) relied: Vec<ChunkId>,
    pub(super) sample: Sample,
}

/// A file with several names, once read.
pub struct Linked {
    end: FileEnd,
    names_left: u32,
}

/// A few of very many ids, each as likely as any other.
#[derive(Default)]
pub struct Sample {
    ids: Vec<ChunkId>,
    seen: u64,
}

impl Sample {
    fn add(&mut self, id: ChunkId) {
        self.seen += 1;
        if self.ids.len() < SAMPLE {
            self.ids.push(id);
            return;
        }
        // Ids are uniform and secret: their own bytes are the dice.
        let dice = u64::from_le_bytes([id.0[0], id.0[1], id.0[2], id.0[3], id.0[4], id.0[5], id.0[6], id.0[7]]);
        if let Some(place) = self.ids.get_mut((dice % self.seen) as usize) {
            *place = id;
        }
    }
}

struct Frame<'a> {
    place: Arc<DirPath>,
    entry: DirEntry,
    state: State<'a>,
    /// Trees that are reused here.
    reused: Vec<ChunkId>,
}

enum State<'a> {
    Clean { kept: u64 },
    Dirty(Box<Dirty<'a>>),
}

struct Dirty<'a> {
    tree: DirWriter,
    record: RecordWriter,
    old: Cursor<'a>,
}

/// What came of a push.
pub struct Assembled {
    /// The root's node.
    pub root: Node,
    /// What the file cache is to learn.
    pub spool: Spool,
    /// Ids that must still be stored.
    pub relied: Vec<ChunkId>,
}

impl<'a> Assembler<'a> {
    /// Takes events until the root is over; then all frames are on their way.
    pub fn run(mut self, events: Receiver<Event>) -> Result<Assembled> {
        let mut stack: Vec<Frame<'a>> = Vec::new();
        loop {
            if self.progress.is_stopped() {
                return Err(Error::Interrupted);
            }
            // The scanner goes first only when it has failed.
            let event = events.recv().map_err(|_| Error::Interrupted)?;
            let Some(top) = stack.last_mut() else {
                if let Event::Enter { place, entry } = event {
                    stack.push(Frame { place, entry, state: State::Clean { kept: 0 }, reused: Vec::new() });
                }
                continue;
            };
            match event {
                Event::Enter { place, entry } => {
                    stack.push(Frame { place, entry, state: State::Clean { kept: 0 }, reused: Vec::new() });
                }
                Event::Keep(count) => self.keep(top, count)?,
                Event::Gone(count) => self.gone(top, count)?,
                Event::Replaced => self.dirty(top)?.old.advance(),
                Event::Ready(fresh) => self.add_fresh(top, *fresh)?,
                Event::File(outbox) => {
                    if let Some(end) = self.file(&outbox)? {
                        self.add_file(top, end)?;
                    }
                }
                Event::Link(outbox) => {
                    if let Some(end) = self.link(&outbox)? {
                        self.add_file(top, end)?;
                    }
                }
                Event::Leave(subtree) => {
                    let Some(frame) = stack.pop() else { continue };
                    let place = frame.place.clone();
                    let done = self.leave(frame, subtree)?;
                    match stack.last_mut() {
                        Some(parent) => self.add_dir(parent, done)?,
                        None => return self.finish(&place, done),
                    }
                }
            }
        }
    }

    /// Makes a directory dirty: what was only counted so far is written.
    fn dirty<'f>(&mut self, frame: &'f mut Frame<'a>) -> Result<&'f mut Dirty<'a>> {
        if let State::Clean { kept } = frame.state {
            let mut dirty = Box::new(Dirty {
                tree: self.output.dir(),
                record: RecordWriter::new(frame.place.key(), self.stamp),
                old: Cursor::new(self.cache, frame.place.key()),
            });
            for _ in 0..kept {
                self.copy(&mut dirty)?;
            }
            frame.state = State::Dirty(dirty);
            // What the reused subtrees need is no longer vouched for by the one above them.
            self.relied.append(&mut frame.reused);
        }
        match &mut frame.state {
            State::Dirty(dirty) => Ok(dirty),
            State::Clean { .. } => unreachable!("made dirty above"),
        }
    }

    /// Takes the next entry of the old record over as it is.
    fn copy(&mut self, dirty: &mut Dirty<'a>) -> Result<()> {
        let gone = || Error::damaged("the file cache", "a record ended early");
        let entry = dirty.old.entry().ok_or_else(gone)?;
        let node = entry.decode()?;
        super::scan::chunks(&node).for_each(|id| self.sample.add(id));
        if let Some(Content::Tree(id)) = &node.content {
            self.relied.push(*id);
        }
        dirty.record.add(&entry, &mut self.spool);
        self.output.add_node(&mut dirty.tree, node)?;
        dirty.old.advance();
        Ok(())
    }

    fn keep(&mut self, frame: &mut Frame<'a>, count: u64) -> Result<()> {
        match &mut frame.state {
            State::Clean { kept } => *kept += count,
            State::Dirty(dirty) => {
                for _ in 0..count {
                    self.copy(dirty)?;
                }
            }
        }
        Ok(())
    }

    fn gone(&mut self, frame: &mut Frame<'a>, count: u64) -> Result<()> {
        let place = frame.place.key();
        let dirty = self.dirty(frame)?;
        let mut removed = Vec::new();
        for _ in 0..count {
            if let Some(entry) = dirty.old.entry().filter(CachedEntry::is_dir) {
                removed.push(walk::child_key(&place, entry.name));
            }
            dirty.old.advance();
        }
        removed.iter().for_each(|key| self.spool.remove(key));
        Ok(())
    }

    fn add_fresh(&mut self, frame: &mut Frame<'a>, fresh: Fresh) -> Result<()> {
        self.dirty(frame)?;
        let State::Dirty(dirty) = &mut frame.state else { return Ok(()) };
        let bytes = codec::encode(&fresh.node);
        let entry = CachedEntry {
            name: &fresh.node.name,
            stamp: &stamp(&fresh.stat),
            is_distrusted: fresh.is_distrusted,
            node: &bytes,
        };
        dirty.record.add(&entry, &mut self.spool);
        self.output.add_node(&mut dirty.tree, fresh.node)
    }

    fn add_file(&mut self, frame: &mut Frame<'a>, end: FileEnd) -> Result<()> {
        let path = || walk::join(&self.base, &frame.place.entry(&end.node.name));
        if end.is_changing {
            self.problems.problem(path(), io::Error::other("it changed while it was read"));
        }
        let is_incomplete = end.is_changing || end.xattr_error.is_some();
        if let Some(error) = end.xattr_error {
            self.problems.problem(path(), error);
        }
        let is_distrusted = is_incomplete || is_distrusted(&end.stat, end.read_at);
        self.add_fresh(frame, Fresh { node: end.node, stat: end.stat, is_distrusted })
    }

    /// Ends a directory.
    fn leave(&mut self, mut frame: Frame<'a>, reusable: Option<Subtree>) -> Result<Done> {
        if let (State::Clean { .. }, Some(subtree)) = (&frame.state, reusable) {
            return Ok(Done { entry: frame.entry, subtree, reused: vec![subtree.id] });
        }
        self.dirty(&mut frame)?;
        let State::Dirty(dirty) = frame.state else { unreachable!("made dirty above") };
        let subtree = self.output.finish_dir(dirty.tree)?;
        dirty.record.finish(&subtree, &mut self.spool);
        Ok(Done { entry: frame.entry, subtree, reused: Vec::new() })
    }

    fn add_dir(&mut self, parent: &mut Frame<'a>, mut done: Done) -> Result<()> {
        match done.entry {
            DirEntry::Kept(subtree) if subtree == done.subtree => {
                match parent.state {
                    State::Clean { .. } => parent.reused.append(&mut done.reused),
                    State::Dirty(_) => self.relied.append(&mut done.reused),
                }
                self.keep(parent, 1)
            }
            DirEntry::Kept(_) => {
                self.relied.append(&mut done.reused);
                self.dirty(parent)?;
                let State::Dirty(dirty) = &mut parent.state else { return Ok(()) };
                let gone = || Error::damaged("the file cache", "a record ended early");
                let entry = dirty.old.entry().ok_or_else(gone)?;
                let mut node = entry.decode()?;
                node.subtree = Some(done.subtree);
                let bytes = codec::encode(&node);
                dirty.record.add(&CachedEntry { node: &bytes, ..entry }, &mut self.spool);
                dirty.old.advance();
                self.output.add_node(&mut dirty.tree, node)
            }
            DirEntry::Fresh(mut fresh) => {
                self.relied.append(&mut done.reused);
                fresh.node.subtree = Some(done.subtree);
                self.add_fresh(parent, *fresh)
            }
        }
    }

    /// Ends the root, whose own entry has a record of its own.
    fn finish(mut self, place: &DirPath, mut done: Done) -> Result<Assembled> {
        let key = root_record(place);
        self.relied.append(&mut done.reused);
        let old = Cursor::new(self.cache, key);
        let kept = match done.entry {
            DirEntry::Kept(subtree) => old.entry().map(|entry| (entry, subtree == done.subtree)),
            DirEntry::Fresh(_) => None,
        };
        let (node, entry_stamp, is_distrusted, is_same) = match (kept, done.entry) {
            (Some((entry, is_same)), _) => (entry.decode()?, entry.stamp.to_vec(), entry.is_distrusted, is_same),
            (None, DirEntry::Fresh(fresh)) => {
                let stamp = stamp(&fresh.stat).to_vec();
                (fresh.node, stamp, fresh.is_distrusted, false)
            }
            (None, DirEntry::Kept(_)) => return Err(Error::damaged("the file cache", "the root's record is gone")),
        };
        let root = Node { subtree: Some(done.subtree), ..node };
        if !is_same {
            let mut record = RecordWriter::new(key, self.stamp);
            let bytes = codec::encode(&root);
            let entry = CachedEntry { name: b"", stamp: &entry_stamp, is_distrusted, node: &bytes };
            record.add(&entry, &mut self.spool);
            record.finish(&done.subtree, &mut self.spool);
        }
        self.relied.extend(self.sample.ids);
        self.output.finish()?;
        Ok(Assembled { root, spool: self.spool, relied: self.relied })
    }

    /// Takes a file from its reader; none if it could not be read.
    fn file(&mut self, outbox: &Outbox) -> Result<Option<FileEnd>> {
        let job = &outbox.job;
        self.budget.set_head(job.number);
        *self.progress.current.lock() = self.path(job);
        let mut state = FileState::new(self.output.content());
        while !state.is_over {
            let piece = outbox.next();
            let held = match &piece {
                Piece::Chunk { bytes, .. } => bytes.len(),
                _ => 0,
            };
            let taken = self.piece(job, &mut state, piece);
            if held > 0 {
                self.budget.give(job.number, held);
            }
            taken?;
        }
        self.read(job, state)
    }

    /// A further name of a file: what was read under the first one counts, if it could be.
    fn link(&mut self, outbox: &Outbox) -> Result<Option<FileEnd>> {
        let job = &outbox.job;
        let Some(group) = job.hard_link else { return self.read_here(job) };
        let Some(linked) = self.links.get_mut(&group) else { return self.read_here(job) };
        let end = FileEnd { node: Node { name: job.name.to_vec(), ..linked.end.node.clone() }, ..linked.end.copy() };
        linked.names_left = linked.names_left.saturating_sub(1);
        if linked.names_left == 0 {
            self.links.remove(&group);
        }
        Ok(Some(end))
    }

    /// Reads a file on this thread.
    fn read_here(&mut self, job: &Job) -> Result<Option<FileEnd>> {
        let reader = self.reader;
        let state = FileState::new(self.output.content());
        let mut direct = Direct { assembler: self, job, state, failed: None };
        let _ = reader.read(job, &mut direct);
        let Direct { state, failed, .. } = direct;
        match failed {
            Some(error) => Err(error),
            None => self.read(job, state),
        }
    }

    fn piece(&mut self, job: &Job, state: &mut FileState, piece: Piece) -> Result<()> {
        match piece {
            Piece::Chunk { id, bytes, is_small } => {
                // A chunk is at most a few megabytes.
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                self.output.add_extent(&mut state.content, Extent::Data { id, len })?;
                state.has_extents = true;
                if self.dedup.is_new(&id)? {
                    self.output.add_data(id, &bytes, is_small)?;
                }
            }
            Piece::Hole(len) => {
                state.has_extents = true;
                self.output.add_extent(&mut state.content, Extent::Hole { len })?;
            }
            Piece::Restart => *state = FileState::new(self.output.content()),
            Piece::End(end) => (state.end, state.is_over) = (Some(*end), true),
            Piece::Failed(error) => {
                if self.progress.is_stopped() {
                    return Err(Error::Interrupted);
                }
                state.is_over = true;
                self.problems.problem(self.path(job), error);
            }
        }
        Ok(())
    }

    /// Completes the node of a file that was read.
    fn read(&mut self, job: &Job, state: FileState) -> Result<Option<FileEnd>> {
        let Some(mut end) = state.end else { return Ok(None) };
        if end.node.content.is_none() {
            end.node.content = Some(match state.has_extents {
                true => self.output.finish_content(state.content)?,
                false => Content::Inline(Vec::new()),
            });
        }
        if let Some(group) = job.hard_link {
            let names_left = job.stat.links.saturating_sub(1);
            self.links.entry(group).or_insert_with(|| Linked { end: end.copy(), names_left });
        }
        Ok(Some(end))
    }

    fn path(&self, job: &Job) -> PathBuf {
        walk::join(&self.base, &job.dir.path.entry(&job.name))
    }
}

/// A directory that is over.
struct Done {
    entry: DirEntry,
    subtree: Subtree,
    /// Its tree, if it is reused.
    reused: Vec<ChunkId>,
}

/// What has come of a file so far.
struct FileState {
    content: ContentWriter,
    has_extents: bool,
    end: Option<FileEnd>,
    is_over: bool,
}

impl FileState {
    fn new(content: ContentWriter) -> Self {
        Self { content, has_extents: false, end: None, is_over: false }
    }
}

impl FileEnd {
    /// The same for another name; what went wrong is reported once.
    fn copy(&self) -> Self {
        Self { node: self.node.clone(), stat: self.stat, read_at: self.read_at, is_changing: false, xattr_error: None }
    }
}

/// Takes pieces on the thread that reads them.
struct Direct<'x, 'a> {
    assembler: &'x mut Assembler<'a>,
    job: &'x Job,
    state: FileState,
    failed: Option<Error>,
}

impl Sink for Direct<'_, '_> {
    fn reserve(&mut self, _: usize) -> Result<(), Closed> {
        Ok(())
    }

    fn piece(&mut self, piece: Piece) -> Result<(), Closed> {
        self.assembler.piece(self.job, &mut self.state, piece).map_err(|error| {
            self.failed = Some(error);
            Closed
        })
    }
}
