//! The run of a restore: its threads and what they share.

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bkfs_store::{
    Error, ErrorKind, Result,
    tree::{Node, NodeKind},
};
use parking_lot::Mutex;
use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};

use super::{
    Problem, Progress, Reason, RestoreOptions, RestoreReport,
    ahead::{self, Filled},
    attributes::has_default_acl,
    content::{FileJob, FilePlan, create_mark},
    folder::Folder,
    handle::{Dir, Handles, is_file_name},
    link::Links,
    owner::OwnerMap,
    queue::Queue,
    source::Source,
    temp::{MARK, TempNames},
};

/// How many entries of a folder one task takes.
const STRETCH: usize = 256;

/// What can be done next.
pub(super) enum Task {
    /// Restore a folder's entries from this number on.
    Walk { folder: Arc<Folder>, from: u64 },
    /// Restore an entry.
    Entry { folder: Arc<Folder>, node: Box<Node> },
    /// Begin a large file.
    Start { folder: Arc<Folder>, plan: Box<FilePlan> },
    /// Take a step of a large file.
    File(Arc<FileJob>),
    /// Write small files whose contents have come.
    Files(Vec<Filled>),
}

/// Counters of the report.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) files: AtomicU64,
    pub(super) dirs: AtomicU64,
    pub(super) others: AtomicU64,
    pub(super) links: AtomicU64,
    pub(super) kept: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) owners_skipped: AtomicU64,
    pub(super) xattrs_skipped: AtomicU64,
}

/// What the threads share.
pub(super) struct Engine<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) options: &'a RestoreOptions,
    pub(super) progress: &'a Progress,
    pub(super) queue: Queue<Task>,
    pub(super) handles: Handles,
    pub(super) links: Links,
    pub(super) owners: OwnerMap,
    pub(super) temps: TempNames,
    pub(super) counts: Counts,
    /// The process is root.
    pub(super) root: bool,
    /// Bytes of contents that one thread holds at once.
    pub(super) window: u64,
    /// The mark is in the destination.
    pub(super) marked: AtomicBool,
    problems: Mutex<Vec<Problem>>,
    failed: Mutex<Option<Error>>,
    has_failed: AtomicBool,
}

/// Restores a node: a folder's contents into `dest`, or another entry under its name.
pub(super) fn run(
    source: &dyn Source,
    node: Node,
    dest: &Path,
    options: &RestoreOptions,
    progress: &Progress,
) -> Result<RestoreReport> {
    let threads = options.threads.max(1);
    let window = (options.memory_bytes / threads).max(1 << 20) as u64;
    let engine = Engine {
        source,
        options,
        progress,
        queue: Queue::new(),
        handles: Handles::by_limit(),
        links: Links::default(),
        owners: OwnerMap::default(),
        temps: TempNames::new(),
        counts: Counts::default(),
        root: rustix::process::geteuid().is_root(),
        window,
        marked: AtomicBool::new(false),
        problems: Mutex::default(),
        failed: Mutex::default(),
        has_failed: AtomicBool::new(false),
    };
    // Held to the end: one restore at a time has the destination.
    let Started { lock, in_order } = engine.start(node, dest)?;
    let shared = &engine;
    std::thread::scope(|scope| {
        if let Some(folder) = in_order {
            ahead::start(shared, folder, scope);
        }
        shared.work_all(threads);
    });
    // Not by closing alone: a child process that was just forked holds it, too, until it runs its program.
    let _ = rustix::fs::flock(&lock, FlockOperation::Unlock);
    engine.report()
}

/// What a restore begins with.
struct Started {
    /// Holds the lock of the destination.
    lock: OwnedFd,
    /// The folder to be restored in the order of the push: nothing was there before.
    in_order: Option<Arc<Folder>>,
}

/// Whether a folder is empty, and whether the mark of a restore that did not end is in it.
fn look_into(fd: &OwnedFd) -> io::Result<(bool, bool)> {
    let (mut is_empty, mut is_marked) = (true, false);
    for entry in rustix::fs::Dir::read_from(fd)? {
        match entry?.file_name().to_bytes() {
            b"." | b".." => {}
            MARK => (is_empty, is_marked) = (false, true),
            _ => is_empty = false,
        }
    }
    Ok((is_empty, is_marked))
}

impl Engine<'_> {
    /// Opens the destination and pushes the first task.
    fn start(&self, node: Node, dest: &Path) -> Result<Started> {
        let failed = |error: io::Error| Error::io(dest, error);
        std::fs::create_dir_all(dest).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::Invalid(format!("{} is not a folder; name a folder to restore into", dest.display()))
            }
            _ => failed(error),
        })?;
        let open = || -> io::Result<OwnedFd> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(rustix::fs::open(dest, flags, Mode::empty())?)
        };
        let (fd, lock) = (open().map_err(failed)?, open().map_err(failed)?);
        // Any other failure: a file system without locks.
        if let Err(Errno::WOULDBLOCK) = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            return Err(Error::Locked { what: dest.display().to_string() });
        }
        let totals = node.subtree.map(|s| s.totals).unwrap_or_default();
        let entries = [totals.files, totals.dirs, totals.others].into_iter().fold(0, u64::saturating_add);
        let is_dir = node.kind == NodeKind::Directory;
        self.progress.entries_total.store(if is_dir { entries } else { 1 }, Ordering::Relaxed);
        self.progress.bytes_total.store(if is_dir { totals.bytes } else { node.size }, Ordering::Relaxed);

        let (is_new, is_marked) = look_into(&fd).map_err(failed)?;
        let apply = is_dir && self.owns(&fd, &node, is_new, is_marked).map_err(failed)?;
        if is_dir {
            self.remove_leftovers(&fd, &node).map_err(failed)?;
        }
        let inherits = has_default_acl(&fd);
        let (stored, wrapped) = if is_dir { (node, None) } else { (Self::no_folder(&node), Some(node)) };
        let folder = Arc::new(Folder {
            dir: Dir::root(fd),
            node: stored,
            parent: None,
            fresh: false,
            inherits,
            strip: true,
            apply,
        });
        let task = match wrapped {
            None if is_new => return Ok(Started { lock, in_order: Some(folder) }),
            None => Task::Walk { folder, from: 0 },
            Some(node) => Task::Entry { folder, node: Box::new(node) },
        };
        self.queue.push(task);
        Ok(Started { lock, in_order: None })
    }

    /// Whether the destination gets the stored folder's attributes: if it is new or empty, if an earlier restore that
    /// found it so did not end, or if it may be overwritten. Leaves a mark for the case that this one does not end.
    fn owns(&self, fd: &OwnedFd, node: &Node, is_empty: bool, is_marked: bool) -> io::Result<bool> {
        // Something stored under the very name of the mark is an entry like any other, and then there is no mark.
        if let Some(subtree) = &node.subtree
            && self.source.lookup(subtree, MARK).is_ok_and(|found| found.is_some())
        {
            return Ok(is_empty || self.options.overwrite);
        }
        let owns = is_empty || is_marked;
        if owns {
            create_mark(fd, MARK)?;
            self.marked.store(true, Ordering::Relaxed);
        }
        Ok(owns || self.options.overwrite)
    }

    /// What stands for the destination when it takes a single entry: nothing is applied to it.
    fn no_folder(node: &Node) -> Node {
        Node { name: Vec::new(), xattrs: None, content: None, target: None, hard_link: None, ..node.clone() }
    }

    /// Does all tasks, with so many threads.
    fn work_all(&self, threads: usize) {
        std::thread::scope(|scope| {
            for number in 0..threads {
                let worker = || self.work();
                // Fewer threads do as well, as long as there is one.
                if std::thread::Builder::new().name(format!("restore-{number}")).spawn_scoped(scope, worker).is_err() {
                    self.work();
                    break;
                }
            }
        });
    }

    /// What each thread does.
    fn work(&self) {
        while let Some((task, _working)) = self.queue.pop(|| self.stopped()) {
            match task {
                Task::Walk { folder, from } => {
                    self.walk(&folder, from);
                    self.release(folder);
                }
                Task::Entry { folder, node } => {
                    self.nodes(&folder, vec![*node]);
                    self.release(folder);
                }
                Task::Start { folder, plan } => {
                    self.start_file(&folder, *plan);
                    self.release(folder);
                }
                Task::File(job) if self.stopped() => {
                    FileJob::abandon(job);
                }
                Task::File(job) => self.file_step(job),
                Task::Files(files) => self.filled(files),
            }
        }
        if self.stopped() {
            self.queue.close();
        }
    }

    fn walk(&self, folder: &Arc<Folder>, from: u64) {
        let Some(subtree) = &folder.node.subtree else { return };
        if from >= subtree.entries {
            return;
        }
        match self.source.nodes(subtree, from, STRETCH) {
            Ok(nodes) if nodes.is_empty() => {
                let error =
                    Error::damaged("a tree", format!("{} entries are stated, {from} are there", subtree.entries));
                self.problem(&folder.dir, b"", error.into());
            }
            Ok(nodes) => {
                let next = from.saturating_add(nodes.len() as u64);
                if next < subtree.entries {
                    self.queue.push(Task::Walk { folder: folder.clone(), from: next });
                }
                self.nodes(folder, nodes);
            }
            Err(error) => self.problem(&folder.dir, b"", error.into()),
        }
    }

    fn nodes(&self, folder: &Arc<Folder>, nodes: Vec<Node>) {
        let mut dirs = Vec::new();
        let mut plans = Vec::new();
        // A single folder is entered; several become tasks, so that other threads can take them.
        let single = nodes.len() == 1;
        for node in nodes {
            if self.stopped() {
                return;
            }
            if !is_file_name(&node.name) || node.validate(false).is_err() {
                self.bad_name(folder);
            } else if node.kind != NodeKind::Directory {
                plans.extend(self.entry(folder, node));
            } else if single {
                self.enter(folder, node);
            } else {
                dirs.push(Task::Entry { folder: folder.clone(), node: Box::new(node) });
            }
        }
        self.queue.push_all(dirs.into_iter());
        self.files(folder, plans);
    }

    /// Passes over an entry that cannot be made.
    pub(super) fn bad_name(&self, folder: &Folder) {
        self.progress.entries_done.fetch_add(1, Ordering::Relaxed);
        self.problem(&folder.dir, b"", Reason::BadName);
    }

    /// Whether to leave off.
    pub(super) fn stopped(&self) -> bool {
        self.progress.stopped() || self.has_failed.load(Ordering::Relaxed)
    }

    /// Notes what went wrong with an entry (the folder itself if the name is empty); ends the restore if going on
    /// makes no sense.
    pub(super) fn problem(&self, dir: &Dir, name: &[u8], reason: Reason) {
        use std::os::unix::ffi::OsStrExt;
        let mut path = dir.path();
        if !name.is_empty() {
            path.push(std::ffi::OsStr::from_bytes(name));
        }
        match reason {
            Reason::Store(error)
                if !matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Other) =>
            {
                self.fail(error);
            }
            Reason::System { error, .. }
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                self.fail(Error::io(path, error));
            }
            reason => {
                self.progress.problems.fetch_add(1, Ordering::Relaxed);
                let mut problems = self.problems.lock();
                if problems.len() < RestoreReport::PROBLEMS_MAX {
                    problems.push(Problem { path, reason });
                }
            }
        }
    }

    fn fail(&self, error: Error) {
        self.failed.lock().get_or_insert(error);
        self.has_failed.store(true, Ordering::Relaxed);
    }

    fn report(self) -> Result<RestoreReport> {
        if let Some(error) = self.failed.into_inner() {
            return Err(error);
        }
        if self.progress.stopped() {
            return Err(Error::Interrupted);
        }
        let Counts { files, dirs, others, links, kept, bytes, owners_skipped, xattrs_skipped } = self.counts;
        let mut problems = self.problems.into_inner();
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(RestoreReport {
            files: files.into_inner(),
            dirs: dirs.into_inner(),
            others: others.into_inner(),
            links: links.into_inner(),
            kept: kept.into_inner(),
            bytes: bytes.into_inner(),
            owners_skipped: owners_skipped.into_inner(),
            xattrs_skipped: xattrs_skipped.into_inner(),
            problems_total: self.progress.problems.load(Ordering::Relaxed),
            problems,
        })
    }
}
