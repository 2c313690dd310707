//! Block devices that are taken as files.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, OwnedFd},
};

use bkfs_store::format::tree::{Device, NodeKind};
use rustix::fs::{Mode, OFlags, SeekFrom};

use crate::metadata::Stat;

/// The state of an entry as a file that holds what the device holds; none if it is no block device, nor a link to one.
pub(super) fn as_file<F: AsFd>(dir: F, name: &CStr, stat: &Stat) -> Option<Stat> {
    let device = match stat.kind {
        NodeKind::BlockDevice => *stat,
        NodeKind::Symlink => Stat::following(&dir, name).ok().filter(|stat| stat.kind == NodeKind::BlockDevice)?,
        _ => return None,
    };
    // If it cannot be opened, the push reports that when it reads it.
    let size = open_device(&dir, name).and_then(|device| device_size(&device)).unwrap_or(0);
    Some(file_stat(&device, size))
}

/// The state of a file with the contents of a device: it belongs to the same user, and is no other name of anything.
pub fn file_stat(device: &Stat, size: u64) -> Stat {
    Stat { kind: NodeKind::File, size, links: 1, rdev: Device { major: 0, minor: 0 }, ..*device }
}

/// Opens a block device for reading. Follows links.
pub fn open_device<F: AsFd>(dir: F, name: &CStr) -> io::Result<OwnedFd> {
    // If a pipe has replaced it, opening it must not wait for the other end.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

/// The length of an open block device, in bytes.
pub fn device_size(device: &OwnedFd) -> io::Result<u64> {
    Ok(rustix::fs::seek(device, SeekFrom::End(0))?)
}
