//! Watching the source: the kernel tells what changes, and pushes that follow one another look only at that.
//!
//! ```text
//! walk of a push -- enters a folder --> Watch (an Observer): marks its file system, or watches it
//! kernel -- events --> thread -- changes --> Watch -- take --> push -- fails --> put back
//! ```
//!
//! With the right to do so (root, CAP_SYS_ADMIN), one *fanotify* mark covers a whole file system. Everywhere else each
//! folder gets an *inotify* watch when a push lists it, just before it does, so nothing that happens later is missed.
//! What the kernel cannot watch is remembered with the reason, and is looked at as a whole at an interval.
//!
//! A report may come too often or say too much, never too little. When events were lost, when something is mounted or
//! unmounted at the source, and after the machine slept, everything counts as changed.

mod fanotify;
mod inotify;
mod mounts;
mod priority;
mod report;
mod sources;
mod timing;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Instant, SystemTime},
};

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, poll};

pub use priority::lower_priority;
pub use timing::{Pace, Timing};

use self::{fanotify::Fanotify, inotify::Inotify, mounts::Mounts, report::Report, sources::Sources};
use crate::{
    changes::{ChangeSet, Scope},
    exclude::{ExcludeError, ExcludeOptions, Excludes},
    walk::{Observer, SourceDir},
};

/// Parts of the source that are remembered as not watched. More count as one: the whole source.
const UNWATCHED_MAX: usize = 1000;

/// A part of the source that the kernel does not watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwatched {
    /// Its path below the snapshot's root.
    pub path: Vec<u8>,
    /// Why.
    pub reason: String,
}

/// Changes, and since when they wait.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    /// What changed.
    pub changes: ChangeSet,
    /// When the first of them was noted, and the last.
    pub noted: Option<Noted>,
}

/// When changes were noted.
#[derive(Debug, Clone, Copy)]
pub struct Noted {
    /// The first of them.
    pub first: Instant,
    /// The first of them, by the wall clock.
    pub first_time: SystemTime,
    /// The last of them.
    pub last: Instant,
}

#[derive(Default)]
struct Pending {
    waiting: Waiting,
    is_woken: bool,
}

struct Shared {
    pending: Mutex<Pending>,
    changed: Condvar,
    /// Held while events are read and noted.
    reading: Mutex<()>,
    fanotify: Option<Fanotify>,
    inotify: Inotify,
    sources: Sources,
    excludes: Excludes,
    unwatched: Mutex<Vec<Unwatched>>,
    overflows: AtomicU64,
}

/// A watch over a source.
pub struct Watch {
    shared: Arc<Shared>,
    /// Ends the thread when it is closed.
    end: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// Why a watch cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The rules of exclusion cannot be read.
    #[error(transparent)]
    Excludes(#[from] ExcludeError),
    /// The kernel refuses.
    #[error("cannot watch files: {0}")]
    Kernel(#[from] io::Error),
}

impl Watch {
    /// Begins to watch. Nothing is watched until a push enters its folders with this watch as its [observer].
    ///
    /// What the rules exclude is not reported, and neither is what happens in the folders `own`: what the pushes
    /// themselves write would be pushed, and so on without end. Without `whole_file_systems` the program watches folder
    /// by folder, even if it could do better.
    ///
    /// [observer]: Watch::observer
    pub fn start(excludes: &ExcludeOptions, own: &[PathBuf], whole_file_systems: bool) -> Result<Self, WatchError> {
        let shared = Arc::new(Shared {
            pending: Mutex::default(),
            changed: Condvar::new(),
            reading: Mutex::default(),
            fanotify: if whole_file_systems { Fanotify::new() } else { None },
            inotify: Inotify::new()?,
            sources: Sources::new(own),
            excludes: Excludes::new(excludes)?,
            unwatched: Mutex::default(),
            overflows: AtomicU64::new(0),
        });
        let (ended, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        let mounts = Mounts::open()?;
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn({
            let shared = shared.clone();
            move || shared.follow(&ended, mounts)
        })?;
        Ok(Self { shared, end: Some(end), thread: Some(thread) })
    }

    /// Who must be told of each folder that a push lists.
    pub fn observer(&self) -> Arc<dyn Observer> {
        self.shared.clone()
    }

    /// Whether whole file systems are watched where possible.
    #[cfg(test)]
    pub fn watches_file_systems(&self) -> bool {
        self.shared.fanotify.is_some()
    }

    /// How many folders are watched one by one.
    pub fn folders(&self) -> usize {
        self.shared.inotify.len()
    }

    /// How many whole file systems are watched.
    pub fn file_systems(&self) -> usize {
        self.shared.fanotify.as_ref().map_or(0, Fanotify::len)
    }

    /// Notes all changes that happened before the call.
    pub fn catch_up(&self) {
        self.shared.read();
    }

    /// When the changes that wait were noted; none if none wait.
    pub fn noted(&self) -> Option<Noted> {
        self.shared.pending.lock().waiting.noted
    }

    /// Whether a change of the entry at a path waits.
    #[cfg(test)]
    pub fn has_noted(&self, path: &[u8]) -> bool {
        let pending = self.shared.pending.lock();
        let waiting = &pending.waiting;
        waiting.noted.is_some()
            && waiting.changes.root().covers(path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()))
    }

    /// Takes the changes that wait.
    pub fn take(&self) -> Waiting {
        std::mem::take(&mut self.shared.pending.lock().waiting)
    }

    /// Puts changes back after a push with them failed.
    pub fn put_back(&self, waiting: &Waiting) {
        let mut pending = self.shared.pending.lock();
        pending.waiting.changes.merge(&waiting.changes);
        let noted = [waiting.noted, pending.waiting.noted].into_iter().flatten();
        pending.waiting.noted = noted.reduce(|a, b| Noted { last: a.last.max(b.last), ..a });
    }

    /// Notes a change that no event told.
    pub fn note(&self, path: &[u8], scope: Scope) {
        self.shared.note([Report::Entry { path: path.to_vec(), scope, is_dir: None }]);
    }

    /// Notes that everything may have changed.
    pub fn note_all(&self) {
        self.shared.note([Report::Entry { path: Vec::new(), scope: Scope::All, is_dir: Some(true) }]);
    }

    /// Notes that everything that is not watched may have changed.
    pub fn note_unwatched(&self) {
        for part in self.unwatched() {
            self.note(&part.path, Scope::All);
        }
    }

    /// The parts of the source that the kernel does not watch.
    pub fn unwatched(&self) -> Vec<Unwatched> {
        self.shared.unwatched.lock().clone()
    }

    /// How many times the kernel lost events.
    pub fn overflows(&self) -> u64 {
        self.shared.overflows.load(Relaxed)
    }

    /// Waits until something new is noted, until [`Watch::wake`] is called, or until `deadline`.
    pub fn wait(&self, deadline: Option<Instant>) {
        let mut pending = self.shared.pending.lock();
        while !std::mem::take(&mut pending.is_woken) {
            match deadline {
                Some(deadline) => {
                    if self.shared.changed.wait_until(&mut pending, deadline).timed_out() {
                        return;
                    }
                }
                None => self.shared.changed.wait(&mut pending),
            }
        }
    }

    /// Ends a wait.
    pub fn wake(&self) {
        self.shared.pending.lock().is_woken = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed. There is nothing left to save.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The work of the thread: reads events as soon as they come, so that the kernel's queue stays short.
    fn follow(&self, ended: &OwnedFd, mut mounts: Mounts) {
        loop {
            let is_ended = {
                let mut fds = vec![
                    PollFd::new(ended, PollFlags::IN),
                    PollFd::new(&mounts, PollFlags::PRI),
                    PollFd::new(&self.inotify, PollFlags::IN),
                ];
                fds.extend(self.fanotify.as_ref().map(|fanotify| PollFd::new(fanotify, PollFlags::IN)));
                match poll(&mut fds, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => {
                        tracing::error!("cannot wait for changes of files: {error}");
                        return;
                    }
                }
                !fds[0].revents().is_empty()
            };
            if is_ended {
                return;
            }
            self.read();
            if mounts.have_changed(&self.sources) {
                tracing::debug!("something was mounted or unmounted at the source");
                if let Some(fanotify) = &self.fanotify {
                    fanotify.forget_mounts();
                }
                self.note([Report::Entry { path: Vec::new(), scope: Scope::All, is_dir: Some(true) }]);
            }
        }
    }

    /// Reads and notes all events that wait. When it returns, so is whatever another thread has read.
    fn read(&self) {
        let _reading = self.reading.lock();
        self.note(self.inotify.read());
        if let Some(fanotify) = &self.fanotify {
            self.note(fanotify.read(&self.sources));
        }
    }

    fn note(&self, reports: impl IntoIterator<Item = Report>) {
        let mut reports = reports.into_iter().filter(|report| !self.is_excluded(report)).peekable();
        if reports.peek().is_none() {
            return;
        }
        let mut pending = self.pending.lock();
        for report in reports {
            match report {
                Report::Entry { path, scope, .. } => pending.waiting.changes.note(&path, scope),
                Report::Lost => {
                    tracing::debug!("the kernel lost events");
                    self.overflows.fetch_add(1, Relaxed);
                    pending.waiting.changes = ChangeSet::all();
                }
            }
        }
        let now = Instant::now();
        let noted = pending.waiting.noted.unwrap_or(Noted { first: now, first_time: SystemTime::now(), last: now });
        pending.waiting.noted = Some(Noted { last: now, ..noted });
        pending.is_woken = true;
        self.changed.notify_all();
    }

    /// Whether patterns exclude an entry, or a folder that it is in: then its changes are nobody's concern.
    fn is_excluded(&self, report: &Report) -> bool {
        let Report::Entry { path, scope, is_dir } = report else { return false };
        if self.sources.is_own(path) {
            return true;
        }
        if !self.excludes.has_patterns() || path.is_empty() || *scope == Scope::All && is_dir.is_none() {
            return false;
        }
        let own = match is_dir {
            Some(is_dir) => self.excludes.matches(path, *is_dir),
            None => self.excludes.matches(path, false) && self.excludes.matches(path, true),
        };
        let is_named = |path: &[u8]| self.sources.is_named(path);
        if own && !is_named(path) {
            return true;
        }
        let slashes = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in slashes {
            if is_named(&path[..end]) {
                return false;
            }
            if self.excludes.matches(&path[..end], true) {
                return true;
            }
        }
        false
    }

    fn add_unwatched(&self, path: Vec<u8>, reason: String) {
        let mut unwatched = self.unwatched.lock();
        let is_below = |path: &[u8], part: &[u8]| {
            part.is_empty() || path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        if unwatched.iter().any(|part| is_below(&path, &part.path)) {
            return;
        }
        unwatched.retain(|part| !is_below(&part.path, &path));
        if unwatched.len() >= UNWATCHED_MAX {
            unwatched.clear();
            unwatched.push(Unwatched { path: Vec::new(), reason });
            return;
        }
        tracing::info!("{} is not watched: {reason}", crate::metadata::display(&path).display());
        unwatched.push(Unwatched { path, reason });
    }
}

impl Observer for Shared {
    fn entering(&self, dir: &SourceDir) {
        self.sources.entering(dir);
        if let Some(reason) = sources::why_silent(dir.as_fd()) {
            return self.add_unwatched(dir.path.to_bytes(), reason);
        }
        if self.fanotify.as_ref().is_some_and(|fanotify| fanotify.covers(dir, &self.sources)) {
            return;
        }
        if let Err(error) = self.inotify.watch(dir) {
            let reason = match error.raw_os_error() {
                Some(libc::ENOSPC) => "the user has no more watches (sysctl fs.inotify.max_user_watches)".to_owned(),
                _ => error.to_string(),
            };
            self.add_unwatched(dir.path.to_bytes(), reason);
        }
    }
}
