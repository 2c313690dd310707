//! Files in the destination: created under temporary names, written, and given their attributes and final names.

use std::{fs::File, io, os::fd::AsFd, sync::atomic::Ordering};

use bkfs_store::format::tree::Node;
use rustix::fs::{Mode, OFlags};

use super::{
    attributes::EntryHandle,
    content::{self, Part},
    destination::{Attributed, Destination},
    folder::Folder,
    handle::open_beneath,
    report::Reason,
    restored::{Restored, identity},
    shared::Shared,
    temp::Temp,
};

/// Creates and compares files.
pub(super) struct Files<'a> {
    pub(super) shared: &'a Shared<'a>,
    destination: &'a Destination<'a>,
    /// Bytes of contents that one thread holds at a time.
    pub(super) window: u64,
}

impl<'a> Files<'a> {
    /// Returns the owner of the destination's files.
    pub(super) fn new(shared: &'a Shared<'a>, destination: &'a Destination<'a>, window: u64) -> Self {
        Self { shared, destination, window }
    }

    /// Creates a temporary file in a folder.
    pub(super) fn create(&self, folder: &Folder) -> Result<(File, Temp), Reason> {
        let failed = Reason::system("create the file");
        let fd = self.destination.handles.get(&folder.dir).map_err(failed)?;
        let name = self.destination.temps.next();
        let access = if self.shared.options.verify { OFlags::RDWR } else { OFlags::WRONLY };
        let flags = OFlags::CREATE | OFlags::EXCL | access;
        let file = open_beneath(&fd, &name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?.into();
        let temp = Temp::file(fd, name, &file);
        Ok((file, temp))
    }

    /// Writes contents, and reads them back if the restore verifies.
    pub(super) fn write(&self, file: &File, parts: &[Part<'_>]) -> Result<(), Reason> {
        let written = content::write(file, parts).map_err(cannot_write)?;
        self.shared.counts.bytes.fetch_add(written, Ordering::Relaxed);
        if self.shared.options.verify && !self.is_same(file, parts)? {
            return Err(Reason::Verify);
        }
        Ok(())
    }

    /// Returns whether a file contains these parts.
    pub(super) fn is_same(&self, file: &File, parts: &[Part<'_>]) -> Result<bool, Reason> {
        content::is_same(file, parts).map_err(cannot_read)
    }

    /// Gives a written file its attributes and its final name.
    pub(super) fn complete(
        &self,
        folder: &Folder,
        node: &Node,
        file: File,
        temp: Temp,
        replace: bool,
    ) -> Result<Restored, Reason> {
        let handle = EntryHandle::Open(file.as_fd());
        let how = Attributed::New { strip_acl: folder.hands_down_acl };
        let stat = self.destination.set_attributes(&folder.dir, &node.name, handle, node, how)?;
        temp.rename(&node.name, replace).map_err(Reason::cannot_rename)?;
        Ok(Restored::created(identity(&stat)))
    }

    /// Opens the existing file.
    pub(super) fn open_existing(&self, folder: &Folder, node: &Node) -> Result<File, Reason> {
        let failed = Reason::system("open the existing file");
        let fd = self.destination.handles.get(&folder.dir).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        Ok(open_beneath(&fd, &node.name, flags, Mode::empty()).map_err(failed)?.into())
    }

    /// Leaves a file that was compared and is the same.
    pub(super) fn keep(&self, folder: &Folder, node: &Node, file: &File) -> Result<Restored, Reason> {
        let stat = rustix::fs::fstat(file).map_err(|error| cannot_read(error.into()))?;
        let fd = self.destination.handles.get(&folder.dir).map_err(Reason::system("open the folder"))?;
        self.destination.keep(&folder.dir, &fd, node, &stat)
    }
}

/// The reason if a file cannot be written.
pub(super) fn cannot_write(error: io::Error) -> Reason {
    Reason::System { what: "write the file", error }
}

fn cannot_read(error: io::Error) -> Reason {
    Reason::System { what: "read the file", error }
}
