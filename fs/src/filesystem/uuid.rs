//! The UUID of a file system, from where the kernel in use shows it.

use std::{
    ffi::OsStr,
    os::{
        fd::BorrowedFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
};

use rustix::ioctl::{Getter, Opcode, ioctl, opcode};

use super::{
    id::{FilesystemId, digest},
    mounts::MountInfo,
};

/// Where udev lists block devices by the UUIDs of their file systems.
const BY_UUID: &str = "/dev/disk/by-uuid";

/// `struct fsuuid2` of the kernel.
#[repr(C)]
#[derive(Clone, Copy)]
struct FsUuid {
    len: u8,
    uuid: [u8; 16],
}

/// FS_IOC_GETFSUUID, since Linux 6.9.
const GET_UUID: Opcode = opcode::read::<FsUuid>(0x15, 0);

/// The identity of a file system by its UUID. Without one, its kind must do.
pub fn id(handle: BorrowedFd<'_>, info: &MountInfo) -> FilesystemId {
    let uuid = from_kernel(handle).or_else(|| from_statfs(handle, info)).or_else(|| from_udev(info));
    digest("written", |hasher| {
        match uuid {
            Some(uuid) => hasher.update(&uuid.to_le_bytes()),
            None => hasher.update(&info.kind),
        };
    })
}

fn from_kernel(handle: BorrowedFd<'_>) -> Option<u64> {
    // SAFETY: the kernel fills in no more than the size that is part of the operation's number.
    let found = unsafe { ioctl(handle, Getter::<GET_UUID, FsUuid>::new()) }.ok()?;
    fold(found.uuid.get(..usize::from(found.len))?)
}

/// The id that `statfs` returns. Most file systems make it from the device number; these make it from the UUID, by
/// folding it as [`fold`] does.
fn from_statfs(handle: BorrowedFd<'_>, info: &MountInfo) -> Option<u64> {
    if !matches!(&*info.kind, b"ext2" | b"ext3" | b"ext4" | b"tmpfs") {
        return None;
    }
    rustix::fs::fstatvfs(handle).ok().map(|found| found.f_fsid).filter(|id| *id != 0)
}

fn from_udev(info: &MountInfo) -> Option<u64> {
    let (major, minor) = info.block_device();
    let device = rustix::fs::makedev(major, minor);
    let entries = std::fs::read_dir(BY_UUID).ok()?.filter_map(Result::ok);
    let found = entries.into_iter().find(|entry| entry.path().metadata().is_ok_and(|found| found.rdev() == device))?;
    fold_name(&found.file_name())
}

/// Halves a UUID, as the kernel does for `statfs`. None if it is all zeros, as in a file system without one.
fn fold(uuid: &[u8]) -> Option<u64> {
    let mut halves = [[0; 8]; 2];
    halves.as_flattened_mut().get_mut(..uuid.len())?.copy_from_slice(uuid);
    let folded = u64::from_le_bytes(halves[0]) ^ u64::from_le_bytes(halves[1]);
    uuid.iter().any(|byte| *byte != 0).then_some(folded)
}

/// Folds a UUID that is written in hexadecimal digits, with hyphens.
pub(super) fn fold_name(name: &OsStr) -> Option<u64> {
    let digits: Vec<u8> = name.as_bytes().iter().copied().filter(|byte| *byte != b'-').collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    fold(&pairs.iter().map(byte).collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())?)
}
