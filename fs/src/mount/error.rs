//! Why a repository could not be mounted or unmounted, and what to do about it.

use std::{io, path::PathBuf};

/// The result of mounting.
pub type Result<T> = std::result::Result<T, Error>;

/// What works without FUSE; part of every error that FUSE causes.
const INSTEAD: &str = "without a mount, `bkfs restore` and `bkfs cat` get files back";

/// Why mounting or unmounting failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The mountpoint does not exist.
    #[error("{0}: no such folder; create it and mount again")]
    NoMountpoint(PathBuf),
    /// The mountpoint is not a folder.
    #[error("{0} is not a folder; give an empty folder")]
    NotAFolder(PathBuf),
    /// The mountpoint is not empty; a mount would hide its contents.
    #[error("{0} is not empty, and a mount would hide its contents; give an empty folder")]
    NotEmpty(PathBuf),
    /// A file system whose process has died is still mounted there.
    #[error(
        "{0} is the mountpoint of a program that has ended; remove that mount with `umount -l` or `fusermount3 -u`"
    )]
    DeadMount(PathBuf),
    /// The mountpoint cannot be read.
    #[error("cannot read {mountpoint}: {source}")]
    Mountpoint {
        /// The mountpoint.
        mountpoint: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The kernel offers no FUSE.
    #[error(
        "/dev/fuse does not exist: the kernel's fuse module is not loaded (`modprobe fuse`), or this container was \
         started without the device; on Debian, the package fuse3 sets up FUSE; {INSTEAD}"
    )]
    NoDevice,
    /// /dev/fuse cannot be opened.
    #[error("cannot open /dev/fuse ({0}): this user or container may not use FUSE; {INSTEAD}")]
    DeviceRefused(io::Error),
    /// The helper that mounts for ordinary users is missing.
    #[error(
        "mounting needs root or fusermount3, which is not installed; on Debian, it is in the package fuse3; {INSTEAD}"
    )]
    NoFusermount,
    /// Ordinary users may not give other users access.
    #[error("only root may use --allow-other, unless /etc/fuse.conf has a line `user_allow_other`")]
    AllowOtherRefused,
    /// The kernel or fusermount3 refused.
    #[error("cannot mount at {mountpoint}: {source}; {INSTEAD}")]
    Refused {
        /// The mountpoint.
        mountpoint: PathBuf,
        /// Its message.
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
