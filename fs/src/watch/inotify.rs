//! Watching folder by folder, with inotify.

use std::{
    collections::HashMap,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::report::Report;
use crate::{
    changes::Scope,
    walk::{DirPath, Plan, SourceDir},
};

/// Bytes of events that are read at a time.
const BUFFER: usize = 64 * 1024;

/// The watched folders.
pub struct Inotify {
    fd: OwnedFd,
    dirs: Mutex<HashMap<i32, Watched>>,
}

struct Watched {
    path: Arc<DirPath>,
    /// What is included, if the folder is only on the way to it.
    plan: Option<Arc<Plan>>,
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Inotify {
    /// No folder is watched yet.
    pub fn new() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { fd, dirs: Mutex::default() })
    }

    /// Watches an open folder. One that is watched already and was moved gets its new path.
    pub fn watch(&self, dir: &SourceDir) -> io::Result<()> {
        let mask = WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR
            | WatchFlags::EXCL_UNLINK;
        // The handle and not the path: whatever is at the path by now, this is the folder that is listed.
        let path = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
        // An event of a new watch must find the folder, so none is read between the two steps.
        let mut dirs = self.dirs.lock();
        let number = inotify::add_watch(&self.fd, path.as_str(), mask)?;
        dirs.insert(number, Watched { path: dir.path.clone(), plan: dir.plan_on_the_way() });
        Ok(())
    }

    /// How many folders are watched.
    pub fn len(&self) -> usize {
        self.dirs.lock().len()
    }

    /// Reads all events that wait.
    pub fn read(&self) -> Vec<Report> {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&self.fd, &mut buffer);
        let mut reports = Vec::new();
        let mut dirs = self.dirs.lock();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => return reports,
                Err(error) => {
                    tracing::warn!("cannot read events of files: {error}");
                    reports.push(Report::Lost);
                    return reports;
                }
            };
            let kind = event.events();
            if kind.contains(ReadFlags::QUEUE_OVERFLOW) {
                reports.push(Report::Lost);
                continue;
            }
            if kind.contains(ReadFlags::IGNORED) {
                // The folder is gone. Its parent has told that, too.
                dirs.remove(&event.wd());
                continue;
            }
            let Some(dir) = dirs.get(&event.wd()) else { continue };
            let is_dir = kind.contains(ReadFlags::ISDIR);
            // A folder that came may hold anything.
            let came = kind.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
            let scope = if is_dir && came { Scope::All } else { Scope::Named };
            match event.file_name() {
                Some(name) => {
                    let name = name.to_bytes();
                    if dir.plan.as_ref().is_none_or(|plan| plan.children.contains_key(name)) {
                        let scope = if dir.plan.is_some() && came { Scope::All } else { scope };
                        reports.push(Report::Entry { path: dir.path.entry(name), scope, is_dir: Some(is_dir) });
                    }
                }
                // The folder's own attributes.
                None => {
                    reports.push(Report::Entry { path: dir.path.to_bytes(), scope: Scope::Named, is_dir: Some(true) });
                }
            }
        }
    }
}
