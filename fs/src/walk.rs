//! Walking the source: directories are listed by a pool of threads, and handed out in depth-first order of their names.
//!
//! Whoever consumes the walk takes one directory after another ([`Walk::take`]). The threads list ahead of it, nearest
//! first, because a cold disk wants many requests at once; how much may lie listed and untaken is bounded. A directory that
//! no thread has come to is listed by the consumer itself, so there is nothing to wait for and no deadlock.
//!
//! Every call is relative to an open directory, so paths of any depth work and a name swapped for a link leads nowhere.
//! Of a directory of very many entries only the names are held; the entries come in batches. The walk looks and lists; it
//! reads no contents and decides nothing about them.

mod dir_path;
mod list;
mod names;
mod roots;

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    io,
    num::NonZero,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bkfs_store::tree::NodeKind;
use parking_lot::{Condvar, Mutex};
use rustix::fs::CWD;

use crate::{
    exclude::Excludes,
    metadata::{self, Stat},
};

use names::Names;

pub use dir_path::{Place, child_key};
pub use list::{Dir, Entry};
pub use roots::{Plan, Roots, mount_root};

/// Threads that list ahead: as many requests as a cold disk can use, whatever the number of cores.
const THREADS: usize = 16;
/// As long as an entry takes less than this to list, on average, it is the processor's work, and no more threads than cores
/// take part: waking one costs more than a directory. From a cache an entry takes about 3 µs, from a disk 50 and more.
const SLOW: Duration = Duration::from_micros(20);
/// The average is one of about so many directories.
const AVERAGED: u64 = 8;
/// Bytes of listings that may lie untaken.
const AHEAD_BYTES_MAX: usize = 8 << 20;
/// Directories that may lie listed and untaken, each an open file.
const AHEAD_DIRS_MAX: usize = 512;
/// Directories of more entries are looked at in batches of this many.
const BATCH: usize = 4096;

/// Where entries that cannot be looked at are reported.
pub trait Problems: Send + Sync {
    /// An entry is left out, or not whole.
    fn problem(&self, path: PathBuf, error: io::Error);
}

/// What all threads share.
struct Walked {
    excludes: Excludes,
    problems: Arc<dyn Problems>,
    base: PathBuf,
    ahead_dirs_max: usize,
    cores: usize,
    queue: Mutex<Queue>,
    /// Where as many threads wait as there are cores.
    changed: Condvar,
    /// Where the others do.
    slow: Condvar,
}

impl Walked {
    fn problem(&self, path: PathBuf, error: io::Error) {
        self.problems.problem(self.base.join(path), error);
    }
}

#[derive(Default)]
struct Queue {
    waiting: BinaryHeap<Waiting>,
    ahead_bytes: usize,
    ahead_dirs: usize,
    /// How long an entry takes to list, on average, in nanoseconds.
    entry_nanos: u64,
    closed: bool,
}

impl Queue {
    fn is_slow(&self) -> bool {
        self.entry_nanos > SLOW.as_nanos() as u64
    }
}

/// A directory in the queue; the greatest is the one that the consumer will want first.
struct Waiting(Arc<Task>);

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.0.order == other.0.order
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.order.cmp(&self.0.order)
    }
}

/// A directory that is to be listed.
pub struct Task {
    /// Numbers of the entries on the way from the root: sorts depth-first.
    order: Box<[u32]>,
    parent: Mutex<Option<Arc<Dir>>>,
    place: Arc<Place>,
    name: Box<[u8]>,
    device: u64,
    plan: Option<Arc<Plan>>,
    is_taken: bool,
    state: Mutex<State>,
    listed: Condvar,
}

impl Task {
    /// Where the directory stands.
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }
}

enum State {
    Waiting,
    Busy,
    Done(io::Result<Listed>),
    Taken,
}

/// A directory with what is in it.
pub struct Listed {
    /// The directory.
    pub dir: Arc<Dir>,
    /// When looking at its entries began.
    pub looked_at: Instant,
    order: Box<[u32]>,
    entries: std::vec::IntoIter<Entry>,
    /// Of a large directory, the names that were not looked at yet.
    names: Names,
    tasks: std::vec::IntoIter<Arc<Task>>,
    next: u32,
    bytes: usize,
}

/// A walk under way.
pub struct Walk {
    walked: Arc<Walked>,
    threads: Vec<JoinHandle<()>>,
}

impl Walk {
    /// Begins to walk. Returns the root too, as the first directory to take, and its state. `key` is the root's
    /// [`Place::key`].
    pub fn start(
        roots: &Roots,
        excludes: Excludes,
        problems: Arc<dyn Problems>,
        key: [u8; 16],
    ) -> io::Result<(Self, Arc<Task>, Stat)> {
        let ahead_dirs_max = AHEAD_DIRS_MAX.min(raise_file_limit() / 4);
        let base = metadata::c_name(roots.base.as_os_str().as_bytes())?;
        let handle = list::open_dir(CWD, &base, true, !roots.plan.taken)?;
        let stat = Stat::of_handle(&handle)?;
        let plan = Arc::new(roots.plan.clone());
        let dir = Dir {
            handle,
            place: Place::root(key),
            mount_root: mount_root(&roots.base)?.into(),
            device: stat.device,
            root_device: plan.taken.then_some(stat.device),
            plan: Some(plan.clone()),
            is_taken: plan.taken,
        };
        let walked = Arc::new(Walked {
            excludes,
            problems,
            base: roots.base.clone(),
            ahead_dirs_max,
            cores: std::thread::available_parallelism().map_or(2, NonZero::get),
            queue: Mutex::default(),
            changed: Condvar::new(),
            slow: Condvar::new(),
        });
        // The root is open already: it is listed here, which gives the threads something to begin with.
        let walk = Self { walked, threads: Vec::new() };
        let listed = walk.walked.list(dir, Box::default());
        let root = Arc::new(Task {
            order: Box::default(),
            parent: Mutex::new(None),
            place: Place::root(key),
            name: Box::default(),
            device: stat.device,
            is_taken: plan.taken,
            plan: Some(plan),
            state: Mutex::new(State::Done(listed)),
            listed: Condvar::new(),
        });
        Ok((walk, root, stat))
    }

    /// Takes a directory; waits for it or lists it here. Each can be taken once.
    pub fn take(&mut self, task: &Arc<Task>) -> io::Result<Listed> {
        let mut state = task.state.lock();
        while matches!(*state, State::Busy) {
            task.listed.wait(&mut state);
        }
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(listed) => {
                drop(state);
                if !task.order.is_empty() {
                    self.walked.give_back(&listed);
                }
                self.start_threads();
                listed
            }
            State::Waiting => {
                drop(state);
                let listed = self.walked.open_and_list(task);
                self.start_threads();
                listed
            }
            State::Busy | State::Taken => unreachable!("a directory is taken once, and not while it is being listed"),
        }
    }

    /// The next entry of a directory, in the order of names; with a directory comes the task to take it, unless it lies
    /// on a file system that is left out.
    pub fn next(&self, listed: &mut Listed) -> Option<(Entry, Option<Arc<Task>>)> {
        if listed.entries.len() == 0 && listed.names.len() > 0 {
            let names = listed.names.take(BATCH);
            let (entries, tasks) = self.walked.look(&listed.dir, names, &listed.order, listed.next);
            listed.entries = entries.into_iter();
            listed.tasks = tasks.into_iter();
            // A batch of which nothing is taken is no end.
            return self.next(listed);
        }
        let entry = listed.entries.next()?;
        listed.next += 1;
        let is_next = |task: &Arc<Task>| task.name == entry.name;
        let is_dir = entry.stat.kind == NodeKind::Directory;
        let task =
            if is_dir && listed.tasks.as_slice().first().is_some_and(is_next) { listed.tasks.next() } else { None };
        Some((entry, task))
    }

    /// The first threads start with the first subdirectory: a small walk needs none.
    fn start_threads(&mut self) {
        if self.threads.is_empty() && !self.walked.queue.lock().waiting.is_empty() {
            for number in 0..THREADS.max(self.walked.cores) {
                let walked = self.walked.clone();
                let is_first = number < walked.cores;
                let thread = std::thread::Builder::new().name("walk".to_owned()).spawn(move || walked.run(is_first));
                // Fewer threads than wanted, even none, still walk everything.
                self.threads.extend(thread);
            }
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.walked.queue.lock().closed = true;
        self.walked.changed.notify_all();
        self.walked.slow.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Walked {
    /// One thread's work: list what the consumer will want soonest. Those that are not among the first wait until listing is slow.
    fn run(&self, is_first: bool) {
        while let Some(task) = self.next_task(is_first) {
            let mut state = task.state.lock();
            if !matches!(*state, State::Waiting) {
                continue;
            }
            *state = State::Busy;
            drop(state);
            let since = Instant::now();
            let listed = self.open_and_list(&task);
            {
                let mut queue = self.queue.lock();
                queue.ahead_dirs += 1;
                queue.ahead_bytes += listed.as_ref().map_or(0, |l| l.bytes);
                // Opening it and asking for names counts like a few entries.
                let entries = 4 + listed.as_ref().map_or(0, |l| l.entries.len() + l.names.len()) as u64;
                let nanos = since.elapsed().as_nanos() as u64 / entries;
                queue.entry_nanos = (queue.entry_nanos * (AVERAGED - 1) + nanos) / AVERAGED;
                if queue.is_slow() && !queue.waiting.is_empty() {
                    self.slow.notify_all();
                }
            }
            *task.state.lock() = State::Done(listed);
            task.listed.notify_all();
        }
    }

    fn next_task(&self, is_first: bool) -> Option<Arc<Task>> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return None;
            }
            let has_room = queue.ahead_bytes < AHEAD_BYTES_MAX && queue.ahead_dirs < self.ahead_dirs_max;
            let may = is_first || queue.is_slow();
            if has_room
                && may
                && let Some(Waiting(task)) = queue.waiting.pop()
            {
                return Some(task);
            }
            if is_first { &self.changed } else { &self.slow }.wait(&mut queue);
        }
    }

    fn give_back(&self, listed: &io::Result<Listed>) {
        let mut queue = self.queue.lock();
        let was_full = queue.ahead_bytes >= AHEAD_BYTES_MAX || queue.ahead_dirs >= self.ahead_dirs_max;
        queue.ahead_dirs -= 1;
        queue.ahead_bytes -= listed.as_ref().map_or(0, |l| l.bytes);
        if was_full {
            self.changed.notify_all();
            if queue.is_slow() {
                self.slow.notify_all();
            }
        }
    }

    fn open_and_list(&self, task: &Arc<Task>) -> io::Result<Listed> {
        let parent = task.parent.lock().take().ok_or_else(|| io::Error::other("a directory was listed twice"))?;
        let is_passed = !task.is_taken && !parent.is_taken;
        let follow = is_passed || task.plan.as_ref().is_some_and(|plan| plan.follow);
        let name = metadata::c_name(&task.name)?;
        let handle: OwnedFd = list::open_dir(parent.as_fd(), &name, follow, !task.is_taken)?;
        let named = task.plan.as_ref().is_some_and(|p| p.taken);
        let mount_root = if task.device == parent.device {
            parent.mount_root.clone()
        } else {
            let path = self.base.join(metadata::display(&task.place.path()));
            path.as_os_str().as_bytes().into()
        };
        let dir = Dir {
            handle,
            place: task.place.clone(),
            mount_root,
            device: task.device,
            root_device: if named { Some(task.device) } else { parent.root_device },
            plan: task.plan.clone(),
            is_taken: task.is_taken,
        };
        drop(parent);
        self.list(dir, task.order.clone())
    }

    fn list(&self, mut dir: Dir, order: Box<[u32]>) -> io::Result<Listed> {
        let looked_at = Instant::now();
        let mut names = list::names(self, &mut dir)?;
        let dir = Arc::new(dir);
        let mut bytes = names.memory();
        let (entries, tasks) = if names.len() > BATCH {
            names.sort_by_name();
            (Vec::new(), Vec::new())
        } else {
            bytes = names.len() * (size_of::<Entry>() + 32);
            self.look(&dir, std::mem::take(&mut names).take(BATCH), &order, 0)
        };
        Ok(Listed {
            dir,
            looked_at,
            order,
            entries: entries.into_iter(),
            names,
            tasks: tasks.into_iter(),
            next: 0,
            bytes,
        })
    }

    /// Looks at names, and puts the directories among them into the queue.
    fn look<'a>(
        &self,
        dir: &Arc<Dir>,
        names: impl Iterator<Item = &'a [u8]>,
        order: &[u32],
        first: u32,
    ) -> (Vec<Entry>, Vec<Arc<Task>>) {
        let entries = list::look(self, dir, names);
        let mut tasks = Vec::new();
        for (number, entry) in (first..).zip(&entries) {
            if entry.stat.kind != NodeKind::Directory {
                continue;
            }
            let plan = list::child_plan(dir, &entry.name);
            if plan.is_none() && list::is_other_file_system(self, dir, &entry.stat) {
                continue;
            }
            tasks.push(Arc::new(Task {
                order: order.iter().copied().chain([number]).collect(),
                parent: Mutex::new(Some(dir.clone())),
                place: dir.place.child(&entry.name),
                name: entry.name.clone(),
                device: entry.stat.device,
                plan: plan.map(|plan| Arc::new(plan.clone())),
                is_taken: entry.is_taken,
                state: Mutex::new(State::Waiting),
                listed: Condvar::new(),
            }));
        }
        if !tasks.is_empty() {
            let mut queue = self.queue.lock();
            queue.waiting.extend(tasks.iter().cloned().map(Waiting));
            if queue.is_slow() {
                self.slow.notify_all();
            }
            drop(queue);
            for _ in 0..tasks.len().min(self.cores) {
                self.changed.notify_one();
            }
        }
        (entries, tasks)
    }
}

/// Directories on the way and files being read are open at once: the soft limit is raised to the hard one. Returns how
/// many files may be open.
pub fn raise_file_limit() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // If it cannot be raised, the walk lives with what there is.
        if setrlimit(Resource::Nofile, limit).is_err() {
            limit = getrlimit(Resource::Nofile);
        }
    }
    limit.current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// The path of a base folder and a path below it, for messages.
pub fn join(base: &Path, path: &[u8]) -> PathBuf {
    base.join(metadata::display(path))
}

#[cfg(test)]
mod tests;
