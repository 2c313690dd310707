//! Comparing the source with what the last push remembers of it.
//!
//! The scanner follows the walk in order, merges each directory's entries with its record, and sends what it finds as a
//! stream of [`Event`]s. Files that must be read go to the readers as well. Unchanged entries are only counted: whether
//! their nodes are needed shows when the directory ends.

mod next;
mod streams;
mod unseen;

use std::{
    collections::HashSet,
    io,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use bkfs_store::{
    Error, Result,
    access::Push,
    base::{
        id::{ChunkId, ClientId},
        time::Time,
    },
    format::tree::{Content, Node, NodeKind, Xattr},
};
use crossbeam_channel::Sender;

use self::next::Next;
use super::{
    clock::Clock,
    context::PushContext,
    event::{DirEntry, Event, NewEntry, is_distrusted},
    follow::Following,
    link_groups::LinkGroups,
    pending_file::PendingFile,
    piece::ReadJob,
    problems::ProblemList,
    progress::{self, PushProgress},
    record::{chunks, data_chunks, root_entry_key},
    sample::{RandomNumbers, Sample},
    stream::StreamTree,
    trust::RecordTrust,
};
use crate::{
    cache::{Cache, Cursor, Losses, record::stamp},
    filesystem::{Filesystem, Filesystems, Sizes},
    metadata::{self, Stat},
    pool::{SubmitError, WorkerPool},
    userdb::OwnerNames,
    walk::{self, DirPath, Entry, ListTask, Listed, Problems, SourceDir, Walk},
};

/// Ids in one question.
const ASK_MAX: usize = 16 * 1024;

/// What the scanner knows at the end.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Files that are as in the record.
    pub unchanged: u64,
    /// Patterns that decided about no entry.
    pub unused_patterns: Vec<String>,
    /// A few of the chunks that unchanged entries rely on.
    pub relied_on: Sample,
    /// Whether a record ended too early for entries to be kept unseen.
    pub is_cut_off: bool,
}

/// Where the scanner sends what it finds.
pub struct ScanOutput<'a> {
    /// To the assembler.
    pub events: Sender<Event>,
    /// The threads that read files.
    pub readers: WorkerPool<'a, Arc<PendingFile>>,
}

/// Compares the source with the file cache.
pub struct Scanner<'a> {
    walk: Walk,
    access: &'a dyn Push,
    client: ClientId,
    cache: &'a Cache,
    trust: RecordTrust,
    owners: &'a OwnerNames,
    problems: &'a ProblemList,
    progress: &'a PushProgress,
    base: &'a Path,
    clock: Clock,
    /// When the push began.
    time: Time,
    output: ScanOutput<'a>,
    unchanged: u64,
    /// How many files were numbered.
    files: u64,
    links: LinkGroups<'a>,
    filesystems: Filesystems,
    /// Of the chunks that unchanged entries rely on.
    relied_on: Sample,
    random: RandomNumbers,
    /// The names of inodes that have several, if this push follows another.
    link_names: Option<&'a Following>,
    is_cut_off: bool,
}

/// A directory on the way from the root to the scanner's position.
struct DirScan<'a> {
    path: Arc<DirPath>,
    /// None if it could not be listed, or is on an excluded file system.
    listed: Option<Listed>,
    cursor: Cursor<'a>,
    losses: Losses,
    /// The lost chunks of the record, if everything may be lost.
    missing: HashSet<ChunkId>,
    /// Entries that were kept since the last event.
    kept: u64,
    /// Whether every entry so far was kept, and nothing else was found.
    is_whole: bool,
    looked_at: Time,
    /// The next entry of the source, if a stream comes before it.
    waiting: Option<(Entry, Option<Arc<ListTask>>)>,
    /// The streams that are still to come in it.
    streams: StreamTree,
}

/// The state of a directory when its parent was listed.
struct DirState<'s> {
    stat: &'s Stat,
    filesystem: Filesystem,
    looked_at: Time,
}

impl<'a> Scanner<'a> {
    /// A scanner that has found nothing yet. Paths in messages are below `base`.
    pub fn new(
        context: &'a PushContext<'_>,
        trust: RecordTrust,
        walk: Walk,
        base: &'a Path,
        owners: &'a OwnerNames,
        output: ScanOutput<'a>,
    ) -> Self {
        let link_names = context.follow.as_ref().map(|follow| follow.following);
        Self {
            walk,
            access: context.access.as_ref(),
            client: context.key.client_id(),
            cache: &context.cache,
            trust,
            owners,
            problems: &context.problems,
            progress: &context.progress,
            base,
            clock: context.clock,
            time: context.time,
            output,
            unchanged: 0,
            files: 0,
            links: match link_names {
                Some(following) => LinkGroups::reserving(&context.ids, following.lock().links.reserved()),
                None => LinkGroups::new(&context.ids),
            },
            filesystems: Filesystems::default(),
            relied_on: Sample::default(),
            random: RandomNumbers::default(),
            link_names,
            is_cut_off: false,
        }
    }

    /// Goes through the whole source, and the streams that come with it.
    pub fn run(mut self, root: &Arc<ListTask>, stat: Stat, streams: StreamTree) -> Result<Scanned> {
        let path = root.path().clone();
        let mut record = Cursor::new(self.cache, root_entry_key(&path));
        let last_totals = record.entry().and_then(|was| was.decode().ok()).and_then(|node| node.subtree);
        self.progress.bytes_expected.store(last_totals.map_or(0, |subtree| subtree.totals.bytes), Relaxed);
        let listed = self.walk.take(root).map_err(|e| Error::io(self.base, e))?;
        let looked_at = self.time_of(listed.looked_at);
        let root_dir = listed.dir.clone();
        let attributes = || metadata::xattrs_of_handle(&root_dir);
        let filesystem = self.filesystems.of_handle(&root_dir, &stat);
        let state = DirState { stat: &stat, filesystem, looked_at };
        let entry = self.dir_entry(&mut record, b"", state, attributes, &path);
        let mut stack = vec![self.enter(path, entry, Some(listed))?];
        stack[0].streams = streams;
        while let Some(top) = stack.last_mut() {
            if self.progress.is_stopped() {
                return Err(Error::Interrupted);
            }
            let below = match self.next(top) {
                Next::Entry { entry, task, streams } => self.entry(top, entry, task)?.map(|scan| (scan, streams)),
                Next::Stream { name, file } => {
                    self.stream(top, name, file)?;
                    None
                }
                Next::StreamDir { name, streams } => Some((self.stream_dir(top, &name)?, streams)),
                Next::End => {
                    self.leave(top)?;
                    stack.pop();
                    None
                }
            };
            if let Some((scan, streams)) = below {
                stack.push(DirScan { streams, ..scan });
            }
        }
        let Self { unchanged, relied_on, walk, is_cut_off, .. } = self;
        Ok(Scanned { unchanged, unused_patterns: walk.unused_patterns(), relied_on, is_cut_off })
    }

    fn enter(&mut self, path: Arc<DirPath>, entry: DirEntry, listed: Option<Listed>) -> Result<DirScan<'a>> {
        let cursor = Cursor::new(self.cache, path.key());
        let losses = match cursor.is_absent() || Some(cursor.epoch()) == self.trust.epoch {
            true => Losses::None,
            false => self.cache.losses(cursor.epoch()),
        };
        let missing = match losses {
            Losses::All => self.missing(path.key())?,
            _ => HashSet::new(),
        };
        // An unlisted directory has no entries to compare.
        let is_whole = losses == Losses::None && listed.is_some() && !self.trust.distrusts_all;
        let looked_at = listed.as_ref().map_or_else(|| (self.clock)(), |listed| self.time_of(listed.looked_at));
        self.send(Event::Enter { path: path.clone(), entry })?;
        Ok(DirScan {
            path,
            listed,
            cursor,
            losses,
            missing,
            kept: 0,
            is_whole,
            looked_at,
            waiting: None,
            streams: StreamTree::default(),
        })
    }

    /// An estimate of the wall clock at a past moment, never later than that moment.
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
                ids.extend(data_chunks(&node));
            }
            cursor.advance();
            if is_end || ids.len() >= ASK_MAX {
                for ids in ids.chunks(ASK_MAX) {
                    let stored = self.access.has(Some(self.client), ids)?;
                    missing.extend(ids.iter().zip(stored).filter(|(_, stored)| !stored).map(|(id, _)| *id));
                }
                ids.clear();
            }
            if is_end {
                return Ok(missing);
            }
        }
    }

    fn leave(&mut self, scan: &mut DirScan<'a>) -> Result<()> {
        self.pass_gone(scan, None)?;
        self.send_kept(scan)?;
        progress::add(&self.progress.dirs, 1);
        self.is_cut_off |= scan.is_named() && scan.cursor.subtree().is_none();
        let subtree = if scan.is_whole { scan.cursor.subtree() } else { None };
        if let Some(subtree) = subtree {
            self.relied_on.offer(subtree.id);
        }
        self.send(Event::Leave(subtree))
    }

    /// Passes the record's entries before `name`, or all that are left: they do not exist any more.
    fn pass_gone(&mut self, scan: &mut DirScan<'a>, name: Option<&[u8]>) -> Result<()> {
        if scan.is_named() {
            return self.pass_unseen(scan, name);
        }
        let mut gone = 0;
        while scan.cursor.entry().is_some_and(|e| name.is_none_or(|name| e.name < name)) {
            self.pass_link(&scan.cursor);
            scan.cursor.advance();
            gone += 1;
        }
        self.send_gone(scan, gone)
    }

    fn send_gone(&mut self, scan: &mut DirScan<'a>, gone: u64) -> Result<()> {
        if gone > 0 {
            self.send_kept(scan)?;
            scan.is_whole = false;
            self.send(Event::Gone(gone))?;
        }
        Ok(())
    }

    fn send_kept(&mut self, scan: &mut DirScan<'a>) -> Result<()> {
        match std::mem::take(&mut scan.kept) {
            0 => Ok(()),
            kept => self.send(Event::Kept(kept)),
        }
    }

    /// Compares an entry with the record. Returns the directory to enter, if it is one.
    fn entry(
        &mut self,
        scan: &mut DirScan<'a>,
        entry: Entry,
        task: Option<Arc<ListTask>>,
    ) -> Result<Option<DirScan<'a>>> {
        let Entry { name, stat, is_device, .. } = entry;
        let Some(dir) = scan.listed.as_ref().map(|listed| listed.dir.clone()) else { return Ok(None) };
        self.pass_gone(scan, Some(&name))?;
        let was = scan.cursor.entry().filter(|was| was.name == &*name);
        if stat.kind == NodeKind::File {
            progress::add(&self.progress.files, 1);
            progress::add(&self.progress.bytes, stat.size);
        }
        if stat.kind == NodeKind::Directory {
            return self.directory(scan, &dir, &name, &stat, task);
        }
        let has_record = was.is_some();
        let filesystem = self.filesystems.of_entry(&dir, dir.mount, &name, &stat);
        let is_linked = stat.links > 1;
        let mut kept_group = None;
        let is_kept = was
            .filter(|_| !is_device)
            .filter(|was| !self.trust.distrusts_all && !was.is_distrusted && was.stamp == stamp(&stat, &filesystem.id))
            .is_some_and(|was| {
                // The node is looked at only if something in it is in question.
                (scan.losses == Losses::None && !is_linked)
                    || was.decode().is_ok_and(|node| {
                        (scan.losses == Losses::None || self.is_stored(scan, &node))
                            && (!is_linked || self.links.keep(&stat, node.hard_link))
                            && {
                                kept_group = node.hard_link;
                                true
                            }
                    })
            });
        if is_kept {
            if is_linked {
                self.meet_link(&dir, &name, &stat, kept_group);
            }
            if let Some(entry) = scan.cursor.entry() {
                // A node is decoded only if it is taken into the sample.
                let number = &mut self.random;
                self.relied_on.offer_with(|| {
                    let chunks = chunks(&entry.decode().ok()?);
                    chunks.get((number.next() % chunks.len().max(1) as u64) as usize).copied()
                });
            }
            scan.cursor.advance();
            scan.kept += 1;
            self.unchanged += u64::from(stat.kind == NodeKind::File);
            return Ok(None);
        }
        self.send_kept(scan)?;
        scan.is_whole = false;
        if has_record {
            self.pass_link(&scan.cursor);
            scan.cursor.advance();
            self.send(Event::Replaced)?;
        }
        if stat.kind == NodeKind::File {
            self.file(ReadJob { number: 0, dir, name, stat, filesystem, hard_link: None, is_device })?;
        } else {
            match self.other(&dir, &name, &stat) {
                Ok(node) => {
                    let is_distrusted = is_distrusted(&stat, scan.looked_at) || filesystem.sizes == Sizes::Meaningless;
                    let filesystem = filesystem.id;
                    self.send(Event::New(Box::new(NewEntry {
                        node,
                        stat,
                        filesystem,
                        is_distrusted,
                        is_calm: false,
                    })))?;
                }
                Err(error) => self.problem(&dir.path, &name, error),
            }
        }
        Ok(None)
    }

    fn directory(
        &mut self,
        scan: &mut DirScan<'a>,
        dir: &Arc<SourceDir>,
        name: &[u8],
        stat: &Stat,
        task: Option<Arc<ListTask>>,
    ) -> Result<Option<DirScan<'a>>> {
        let path = task.as_ref().map_or_else(|| dir.path.child(name), |task| task.path().clone());
        let listed = match task.map(|task| self.take_dir(scan, &task, dir, name, stat)) {
            Some(None) => {
                scan.cursor.advance();
                scan.kept += 1;
                return Ok(None);
            }
            Some(Some(listed)) => Some(listed),
            None => None,
        };
        self.send_kept(scan)?;
        let listed = match listed {
            Some(Ok(listed)) => Some(listed),
            Some(Err(error)) => {
                self.problem(&dir.path, name, error);
                None
            }
            // It is on another file system, which is excluded.
            None => None,
        };
        let handle = listed.as_ref().map(|listed| listed.dir.clone());
        let has_record = scan.cursor.entry().is_some_and(|was| was.name == name);
        let attributes = || match &handle {
            Some(handle) => metadata::xattrs_of_handle(handle),
            None => metadata::xattrs_of_entry(dir, name),
        };
        let filesystem = match &handle {
            Some(handle) => self.filesystems.of_handle(handle, stat),
            None => self.filesystems.of_entry(dir, dir.mount, name, stat),
        };
        let state = DirState { stat, filesystem, looked_at: scan.looked_at };
        let entry = self.dir_entry(&mut scan.cursor, name, state, attributes, &dir.path);
        if matches!(entry, DirEntry::New(_)) {
            scan.is_whole = false;
            if has_record {
                self.send(Event::Replaced)?;
            }
        }
        self.enter(path, entry, listed).map(Some)
    }

    /// What is known of a directory, by its entry in the record if the cursor is at that entry. Passes the entry.
    fn dir_entry(
        &self,
        cursor: &mut Cursor<'a>,
        name: &[u8],
        state: DirState<'_>,
        attributes: impl FnOnce() -> io::Result<Option<Vec<Xattr>>>,
        parent: &DirPath,
    ) -> DirEntry {
        let DirState { stat, filesystem, looked_at } = state;
        let was = cursor.entry().filter(|was| was.name == name);
        let has_record = was.is_some();
        let kept = was
            .filter(|was| !self.trust.distrusts_all && !was.is_distrusted && was.stamp == stamp(stat, &filesystem.id))
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
        DirEntry::New(Box::new(NewEntry {
            node,
            stat: *stat,
            filesystem: filesystem.id,
            is_distrusted,
            is_calm: false,
        }))
    }

    /// Whether the contents of a remembered node are still stored, by the losses that were reported.
    fn is_stored(&self, scan: &DirScan<'a>, node: &Node) -> bool {
        // The chunks of a content tree are named by pages, and a push key cannot read pages.
        !matches!(node.content, Some(Content::Tree(_)))
            && data_chunks(node).all(|id| match scan.losses {
                Losses::None => true,
                Losses::Some { since } => !self.cache.is_lost(&id, since),
                Losses::All => !scan.missing.contains(&id),
            })
    }

    /// Sends a file to the readers and to the assembler, with its number and its group of names.
    fn file(&mut self, mut job: ReadJob) -> Result<()> {
        let assigned = (job.stat.links > 1).then(|| self.links.assign(&job.dir.mount_root, &job.stat));
        job.hard_link = assigned.map(|assigned| assigned.group);
        if assigned.is_some() {
            self.meet_link(&job.dir, &job.name, &job.stat, job.hard_link);
        }
        self.files += 1;
        job.number = self.files;
        let file = Arc::new(PendingFile::new(job));
        if assigned.is_some_and(|assigned| !assigned.is_first) {
            return self.send(Event::Link(file));
        }
        self.send(Event::File(file.clone()))?;
        self.output.readers.submit(file.clone()).map_err(|error| {
            // The assembler already waits for the file.
            file.pieces.abandon();
            match error {
                SubmitError::Ended => Error::Interrupted,
                SubmitError::NoThread(error) => Error::io("cannot start a thread", error),
            }
        })
    }

    /// The node of an entry that is neither a file nor a directory.
    fn other(&mut self, dir: &Arc<SourceDir>, name: &[u8], stat: &Stat) -> io::Result<Node> {
        let mut node = stat.node(name, self.owners);
        if stat.kind == NodeKind::Symlink {
            node.target = Some(metadata::link_target(dir, &metadata::c_name(name)?)?);
        }
        node.xattrs = metadata::xattrs_of_entry(dir, name).or_else(|error| match error.kind() {
            // Without /proc they cannot be read. Links and devices hardly ever have attributes.
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(None),
            _ => Err(error),
        })?;
        if stat.links > 1 {
            let assigned = self.links.assign(&dir.mount_root, stat);
            // If another link has replaced it since, its target must not be linked to the other names.
            let is_still_there = || Stat::of(dir, &metadata::c_name(name)?);
            node.hard_link = is_still_there().is_ok_and(|now| now.is_same(stat)).then_some(assigned.group);
            self.meet_link(dir, name, stat, node.hard_link);
        }
        Ok(node)
    }

    fn problem(&self, parent: &DirPath, name: &[u8], error: io::Error) {
        self.problems.problem(walk::join(self.base, &parent.entry(name)), error);
    }

    fn send(&self, event: Event) -> Result<()> {
        // The assembler ends first only if it has failed. Its error is the one to report.
        self.output.events.send(event).map_err(|_| Error::Interrupted)
    }
}
