//! Why a repository could not be mounted or unmounted, and what to do about it.

use std::{io, path::PathBuf};

/// The result of mounting.
pub type Result<T> = std::result::Result<T, Error>;

/// What still works without FUSE, said wherever FUSE is the trouble.
const INSTEAD: &str = "without a mount, `bkfs restore` and `bkfs cat` get files back";

/// Why mounting or unmounting failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing at the mountpoint.
    #[error("{0}: there is no such folder; make it and mount again")]
    NoMountpoint(PathBuf),
    /// The mountpoint is no folder.
    #[error("{0} is not a folder")]
    NotAFolder(PathBuf),
    /// The mountpoint holds something, which the mount would hide.
    #[error("{0} is not empty; a mount would hide what is in it: give an empty folder")]
    NotEmpty(PathBuf),
    /// A file system whose process has died is still mounted there.
    #[error("{0} holds a mount whose program has ended; `umount -l` or `fusermount3 -u` removes it")]
    DeadMount(PathBuf),
    /// The mountpoint cannot be looked into.
    #[error("{mountpoint}: {source}")]
    Mountpoint {
        /// The mountpoint.
        mountpoint: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The kernel offers no FUSE.
    #[error(
        "there is no /dev/fuse: the kernel's fuse module is not loaded (`modprobe fuse`), or this container was \
         started without the device; the package fuse3 (Debian) sets FUSE up; {INSTEAD}"
    )]
    NoDevice,
    /// /dev/fuse cannot be opened.
    #[error("/dev/fuse cannot be opened ({0}): this user or container may not use FUSE; {INSTEAD}")]
    DeviceRefused(io::Error),
    /// The helper that mounts for ordinary users is missing.
    #[error(
        "mounting needs root, or fusermount3, which is not installed: it is in the package fuse3 (Debian); {INSTEAD}"
    )]
    NoFusermount,
    /// Ordinary users may not let others in.
    #[error("--allow-other is only for root, unless /etc/fuse.conf has a line `user_allow_other`")]
    AllowOtherRefused,
    /// The kernel or fusermount3 refused.
    #[error("cannot mount at {mountpoint}: {source}; {INSTEAD}")]
    Refused {
        /// The mountpoint.
        mountpoint: PathBuf,
        /// What was said.
        source: io::Error,
    },
    /// Unmounting failed.
    #[error("cannot unmount {mountpoint}: {source}")]
    Unmount {
        /// The mountpoint.
        mountpoint: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The connection to the kernel broke.
    #[error("the mount ended with an error: {source}")]
    Session {
        /// The operating system's error.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The repository could not be read.
    #[error(transparent)]
    Store(#[from] bkfs_store::Error),
}
