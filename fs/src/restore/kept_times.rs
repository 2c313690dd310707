//! Times that a file system keeps in its own way: rounded, or moved into its range.
//!
//! Which way that is, nobody says. So the file system is asked: a time is set on a probe, and read back. An existing
//! file whose time is what became of the stored one was restored earlier.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use bkfs_store::base::time::Time;
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};

use super::{
    attributes::EntryHandle,
    handle::open_beneath,
    temp::{Temp, TempNames},
    times::mtime,
};

/// Asks file systems what they make of times.
#[derive(Default)]
pub(super) struct KeptTimes {
    /// For each device, a file without a name; none if the file system has no such files.
    unnamed: Mutex<HashMap<u64, Option<File>>>,
}

impl KeptTimes {
    /// Returns what the file system of a folder, with the number `device`, makes of a time.
    pub(super) fn ask(&self, temps: &TempNames, folder: &Arc<OwnedFd>, device: u64, time: Time) -> io::Result<Time> {
        let mut unnamed = self.unnamed.lock();
        // A file with a name would change the folder's own time.
        let file = unnamed.entry(device).or_insert_with(|| {
            let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(folder, ".", flags, Mode::RUSR | Mode::WUSR).ok().map(File::from)
        });
        if let Some(file) = file {
            return set_and_read(file, time);
        }
        let name = temps.next();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let file = File::from(open_beneath(folder, &name, flags, Mode::RUSR | Mode::WUSR)?);
        let _temp = Temp::file(folder.clone(), name, &file);
        set_and_read(&file, time)
    }
}

fn set_and_read(file: &File, time: Time) -> io::Result<Time> {
    Ok(mtime(&EntryHandle::Open(file.as_fd()).set_mtime(time)?))
}
