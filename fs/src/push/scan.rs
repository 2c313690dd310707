//! Comparing the source with what the last push remembers of it.
//!
//! The scanner goes through the walk in order, merges each directory's entries with its record, and says what it found as
//! a stream of [`Event`]s; files that must be read go to the readers as well. Entries that are as they were are only
//! counted: whether their nodes are needed at all shows when the directory is over.

use std::{collections::HashSet, io, path::PathBuf, sync::Arc, time::Instant};

use bkfs_store::{
    Error, Result,
    access::Access,
    id::{ChunkId, HardLinkGroup},
    keys::IdKeys,
    tree::{Content, Extent, Node, NodeKind, Subtree, Time, Xattr},
};
use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::{
    outbox::Outbox,
    progress::{self, Progress},
    read::{Clock, Job},
};
use crate::{
    cache::{
        Cache, Losses,
        record::{Cursor, stamp},
    },
    metadata::{self, Stat},
    userdb::OwnerNames,
    walk::{self, Dir, Entry, Listed, Place, Problems, Task, Walk},
};

/// Entries changed so shortly before they were looked at may change again without a trace in their times, in seconds.
const DISTRUST_SECS: i64 = 2;
/// Problems that are kept with their paths; more are only counted.
const PROBLEMS_MAX: usize = 10_000;
/// Ids in one question.
const ASK_MAX: usize = 16 * 1024;

/// What the scanner says, in depth-first order of names.
pub enum Event {
    /// A directory begins.
    Enter {
        /// Where.
        place: Arc<Place>,
        /// What is known of the directory itself.
        entry: DirEntry,
    },
    /// So many entries of the record are as they were.
    Keep(u64),
    /// So many entries of the record are gone.
    Gone(u64),
    /// The next entry of the record is another one now.
    Replaced,
    /// An entry that needs no reading.
    Ready(Box<Fresh>),
    /// A file that is being read.
    File(Arc<Outbox>),
    /// Another name of a file that was read before.
    Link(Arc<Outbox>),
    /// The directory is over; the tree of its record, if all of it was kept.
    Leave(Option<Subtree>),
}

/// What is known of a directory before its contents are.
pub enum DirEntry {
    /// It is as it was; this was its tree.
    Kept(Subtree),
    /// It is new, or its own attributes changed.
    Fresh(Box<Fresh>),
}

/// A node with what the file cache must know of it.
pub struct Fresh {
    /// The node.
    pub node: Node,
    /// The state that it comes from.
    pub stat: Stat,
    /// See [`is_distrusted`].
    pub is_distrusted: bool,
}

/// Whether an entry changed so shortly before it was looked at that its times prove nothing next time.
pub fn is_distrusted(stat: &Stat, looked_at: Time) -> bool {
    stat.ctime.secs.saturating_add(DISTRUST_SECS) >= looked_at.secs
}

/// What went wrong with which entries.
#[derive(Debug, Default)]
pub struct ProblemList {
    list: Mutex<Vec<(PathBuf, io::Error)>>,
    progress: Arc<Progress>,
}

impl ProblemList {
    pub(super) fn new(progress: Arc<Progress>) -> Self {
        Self { list: Mutex::default(), progress }
    }

    pub(super) fn take(&self) -> Vec<(PathBuf, io::Error)> {
        std::mem::take(&mut self.list.lock())
    }
}

impl Problems for ProblemList {
    fn problem(&self, path: PathBuf, error: io::Error) {
        progress::add(&self.progress.errors, 1);
        let mut list = self.list.lock();
        if list.len() < PROBLEMS_MAX {
            list.push((path, error));
        }
    }
}

/// Counts of files, for the snapshot's statistics.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Files that the record did not have.
    pub new: u64,
    /// Files that differ from the record.
    pub changed: u64,
    /// Files as in the record.
    pub unchanged: u64,
}

/// The scanner.
pub struct Scanner<'a> {
    pub(super) walk: Walk,
    pub(super) access: &'a dyn Access,
    pub(super) cache: &'a Cache,
    /// The epoch whose losses this push takes into account; none if that is not all that the cache knows.
    pub(super) epoch: Option<u32>,
    /// Take nothing from the cache.
    pub(super) distrust: bool,
    pub(super) ids: &'a IdKeys,
    pub(super) owners: &'a OwnerNames,
    pub(super) problems: &'a ProblemList,
    pub(super) progress: &'a Progress,
    pub(super) base: PathBuf,
    pub(super) clock: Clock,
    pub(super) events: Sender<Event>,
    /// Gives a file to the readers; false if they are gone.
    pub(super) read: &'a dyn Fn(Arc<Outbox>) -> bool,
    pub(super) counts: Counts,
    pub(super) jobs: u64,
    pub(super) linked: HashSet<HardLinkGroup>,
}

struct Frame<'a> {
    /// None if it could not be listed, or must not be.
    listed: Option<Listed>,
    cursor: Cursor<'a>,
    losses: Losses,
    /// If everything may be lost: what of the record is.
    missing: HashSet<ChunkId>,
    kept: u64,
    is_whole: bool,
    looked_at: Time,
}

impl<'a> Scanner<'a> {
    /// Goes through the whole source.
    pub fn run(mut self, root: &Arc<Task>, stat: Stat) -> Result<Counts> {
        let place = root.place().clone();
        let mut record = Cursor::new(self.cache, root_record(&place));
        let listed = self.walk.take(root).map_err(|e| Error::io(&self.base, e))?;
        let looked_at = self.time_of(listed.looked_at);
        let root_dir = listed.dir.clone();
        let attributes = || metadata::xattrs_of_handle(&root_dir);
        let entry = self.dir_entry(&mut record, b"", &stat, attributes, &place, looked_at);
        let mut stack = vec![self.enter(place, entry, Some(listed))?];
        while let Some(top) = stack.last_mut() {
            if self.progress.is_stopped() {
                return Err(Error::Interrupted);
            }
            match top.listed.as_mut().and_then(|listed| self.walk.next(listed)) {
                Some((entry, task)) => {
                    if let Some(frame) = self.entry(top, entry, task)? {
                        stack.push(frame);
                    }
                }
                None => {
                    self.leave(top)?;
                    stack.pop();
                }
            }
        }
        Ok(self.counts)
    }

    fn enter(&mut self, place: Arc<Place>, entry: DirEntry, listed: Option<Listed>) -> Result<Frame<'a>> {
        let cursor = Cursor::new(self.cache, place.key());
        let losses = match cursor.is_absent() || Some(cursor.epoch()) == self.epoch {
            true => Losses::None,
            false => self.cache.losses(cursor.epoch()),
        };
        let missing = match losses {
            Losses::All => self.missing(place.key())?,
            _ => HashSet::new(),
        };
        // An unlisted directory has nothing that could be compared.
        let is_whole = losses == Losses::None && listed.is_some() && !self.distrust;
        let looked_at = listed.as_ref().map_or_else(|| (self.clock)(), |listed| self.time_of(listed.looked_at));
        self.say(Event::Enter { place, entry })?;
        Ok(Frame { listed, cursor, losses, missing, kept: 0, is_whole, looked_at })
    }

    /// The wall clock at a moment of the past, at the latest.
    fn time_of(&self, moment: Instant) -> Time {
        let now = (self.clock)();
        let ago = i64::try_from(moment.elapsed().as_secs()).unwrap_or(i64::MAX);
        Time { secs: now.secs.saturating_sub(ago).saturating_sub(1), ..now }
    }

    /// Asks which chunks of a record's files the repository does not have.
    fn missing(&self, key: [u8; 16]) -> Result<HashSet<ChunkId>> {
        let mut missing = HashSet::new();
        let mut ids = Vec::new();
        let mut cursor = Cursor::new(self.cache, key);
        loop {
            let node = cursor.entry().map(|entry| entry.decode());
            let is_end = node.is_none();
            if let Some(Ok(node)) = node {
                ids.extend(chunks(&node));
            }
            cursor.advance();
            if is_end || ids.len() >= ASK_MAX {
                for ids in ids.chunks(ASK_MAX) {
                    let stored = self.access.has(ids)?;
                    missing.extend(ids.iter().zip(stored).filter(|(_, stored)| !stored).map(|(id, _)| *id));
                }
                ids.clear();
            }
            if is_end {
                return Ok(missing);
            }
        }
    }

    fn leave(&mut self, frame: &mut Frame<'a>) -> Result<()> {
        self.gone(frame, None)?;
        self.flush(frame)?;
        progress::add(&self.progress.dirs, 1);
        let subtree = if frame.is_whole { frame.cursor.subtree() } else { None };
        self.say(Event::Leave(subtree))
    }

    /// Passes the record's entries before `name`, or all that are left.
    fn gone(&mut self, frame: &mut Frame<'a>, name: Option<&[u8]>) -> Result<()> {
        let mut gone = 0;
        while frame.cursor.entry().is_some_and(|e| name.is_none_or(|name| e.name < name)) {
            frame.cursor.advance();
            gone += 1;
        }
        if gone > 0 {
            self.flush(frame)?;
            frame.is_whole = false;
            self.say(Event::Gone(gone))?;
        }
        Ok(())
    }

    fn flush(&mut self, frame: &mut Frame<'a>) -> Result<()> {
        match std::mem::take(&mut frame.kept) {
            0 => Ok(()),
            kept => self.say(Event::Keep(kept)),
        }
    }

    fn entry(&mut self, frame: &mut Frame<'a>, entry: Entry, task: Option<Arc<Task>>) -> Result<Option<Frame<'a>>> {
        let Entry { name, stat, .. } = entry;
        let Some(dir) = frame.listed.as_ref().map(|listed| listed.dir.clone()) else { return Ok(None) };
        self.gone(frame, Some(&name))?;
        let was = frame.cursor.entry().filter(|was| was.name == &*name);
        if stat.kind == NodeKind::File {
            progress::add(&self.progress.files, 1);
            progress::add(&self.progress.bytes, stat.size);
        }
        if stat.kind == NodeKind::Directory {
            return self.directory(frame, &dir, &name, &stat, task).map(Some);
        }
        let has_record = was.is_some();
        let is_kept = was.is_some_and(|was| {
            !self.distrust
                && !was.is_distrusted
                && was.stamp == stamp(&stat)
                && (frame.losses == Losses::None || was.decode().is_ok_and(|node| self.is_stored(frame, &node)))
        });
        if is_kept {
            frame.cursor.advance();
            frame.kept += 1;
            self.counts.unchanged += u64::from(stat.kind == NodeKind::File);
            return Ok(None);
        }
        self.flush(frame)?;
        frame.is_whole = false;
        if has_record {
            frame.cursor.advance();
            self.say(Event::Replaced)?;
        }
        if stat.kind == NodeKind::File {
            match has_record {
                true => self.counts.changed += 1,
                false => self.counts.new += 1,
            }
            self.file(dir, name, stat)?;
        } else {
            match self.other(&dir, &name, &stat) {
                Ok(node) => {
                    let is_distrusted = is_distrusted(&stat, frame.looked_at);
                    self.say(Event::Ready(Box::new(Fresh { node, stat, is_distrusted })))?;
                }
                Err(error) => self.problem(&dir.place, &name, error),
            }
        }
        Ok(None)
    }

    fn directory(
        &mut self,
        frame: &mut Frame<'a>,
        dir: &Arc<Dir>,
        name: &[u8],
        stat: &Stat,
        task: Option<Arc<Task>>,
    ) -> Result<Frame<'a>> {
        self.flush(frame)?;
        let place = task.as_ref().map_or_else(|| dir.place.child(name), |task| task.place().clone());
        let listed = match task.map(|task| self.walk.take(&task)) {
            Some(Ok(listed)) => Some(listed),
            Some(Err(error)) => {
                self.problem(&dir.place, name, error);
                None
            }
            // On another file system, which is left out.
            None => None,
        };
        let handle = listed.as_ref().map(|listed| listed.dir.clone());
        let has_record = frame.cursor.entry().is_some_and(|was| was.name == name);
        let attributes = || match &handle {
            Some(handle) => metadata::xattrs_of_handle(handle),
            None => metadata::xattrs_of_entry(dir, name),
        };
        let entry = self.dir_entry(&mut frame.cursor, name, stat, attributes, &dir.place, frame.looked_at);
        if matches!(entry, DirEntry::Fresh(_)) {
            frame.is_whole = false;
            if has_record {
                self.say(Event::Replaced)?;
            }
        }
        self.enter(place, entry, listed)
    }

    /// What is known of a directory, by its entry in the record that the cursor stands at; passes that entry.
    fn dir_entry(
        &self,
        cursor: &mut Cursor<'a>,
        name: &[u8],
        stat: &Stat,
        attributes: impl FnOnce() -> io::Result<Option<Vec<Xattr>>>,
        parent: &Place,
        looked_at: Time,
    ) -> DirEntry {
        let was = cursor.entry().filter(|was| was.name == name);
        let has_record = was.is_some();
        let kept = was
            .filter(|was| !self.distrust && !was.is_distrusted && was.stamp == stamp(stat))
            .and_then(|was| was.decode().ok())
            .and_then(|node| node.subtree);
        if has_record {
            cursor.advance();
        }
        if let Some(subtree) = kept {
            return DirEntry::Kept(subtree);
        }
        let mut node = stat.node(name, self.owners);
        let mut is_distrusted = is_distrusted(stat, looked_at);
        match attributes() {
            Ok(xattrs) => node.xattrs = xattrs,
            Err(error) => {
                self.problem(parent, name, error);
                is_distrusted = true;
            }
        }
        DirEntry::Fresh(Box::new(Fresh { node, stat: *stat, is_distrusted }))
    }

    /// Whether the contents of a remembered node are still stored, as far as losses are known.
    fn is_stored(&self, frame: &Frame<'a>, node: &Node) -> bool {
        // The chunks behind a content tree are named by pages that a push key cannot read.
        !matches!(node.content, Some(Content::Tree(_)))
            && chunks(node).all(|id| match frame.losses {
                Losses::None => true,
                Losses::Some { since } => !self.cache.is_lost(&id, since),
                Losses::All => !frame.missing.contains(&id),
            })
    }

    fn file(&mut self, dir: Arc<Dir>, name: Box<[u8]>, stat: Stat) -> Result<()> {
        let hard_link = (stat.links > 1).then(|| self.ids.hard_link(&dir.mount_root, stat.inode, stat.btime));
        let is_again = hard_link.is_some_and(|group| !self.linked.insert(group));
        self.jobs += 1;
        let outbox = Arc::new(Outbox::new(Job { number: self.jobs, dir, name, stat, hard_link }));
        if is_again {
            return self.say(Event::Link(outbox));
        }
        self.say(Event::File(outbox.clone()))?;
        if (self.read)(outbox) { Ok(()) } else { Err(Error::Interrupted) }
    }

    /// The node of something that is neither a file nor a directory.
    fn other(&self, dir: &Arc<Dir>, name: &[u8], stat: &Stat) -> io::Result<Node> {
        let mut node = stat.node(name, self.owners);
        if stat.kind == NodeKind::Symlink {
            node.target = Some(metadata::link_target(dir, &metadata::c_name(name)?)?);
        }
        node.xattrs = metadata::xattrs_of_entry(dir, name).or_else(|error| match error.kind() {
            // No /proc to go through: links and devices hardly ever have attributes.
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(None),
            _ => Err(error),
        })?;
        if stat.links > 1 {
            node.hard_link = Some(self.ids.hard_link(&dir.mount_root, stat.inode, stat.btime));
        }
        Ok(node)
    }

    fn problem(&self, parent: &Place, name: &[u8], error: io::Error) {
        self.problems.problem(walk::join(&self.base, &parent.path_of(name)), error);
    }

    fn say(&self, event: Event) -> Result<()> {
        // The receiver goes first only when it has failed, and then its error is the one that counts.
        self.events.send(event).map_err(|_| Error::Interrupted)
    }
}

/// The chunks that a node names.
pub fn chunks(node: &Node) -> impl Iterator<Item = ChunkId> + '_ {
    let extents = match &node.content {
        Some(Content::Extents(extents)) => extents.as_slice(),
        _ => &[],
    };
    extents.iter().filter_map(|extent| match extent {
        Extent::Data { id, .. } => Some(*id),
        Extent::Hole { .. } => None,
    })
}

/// The record of the root itself, which is in no directory.
pub fn root_record(place: &Place) -> [u8; 16] {
    walk::child_key(&place.key(), b"/")
}
