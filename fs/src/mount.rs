//! Mounting: a repository's snapshots as a read-only file system of the kernel, through FUSE.
//!
//! [`mount`] checks the mountpoint and that FUSE is available, mounts, and returns a [`Mount`]. The file system itself
//! is [`crate::vfs`]; `fuse` only translates between it and the kernel.
//!
//! The mount ends when the [`Mount`] is dropped, when an [`Unmounter`] unmounts it from any thread (for example, that
//! of a signal handler), or when umount(8) does so from outside. A mount that is in use is detached from its mountpoint
//! immediately. It stays alive, without a path, until its last user is gone or the process ends.

mod breaker;
mod error;
mod fuse;
mod options;
mod point;
mod reads;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use bkfs_store::{base::id::SnapshotId, owner::reader::Reader};
use fuser::{Config, INodeNo, MountOption, Session, SessionACL, SessionUnmounter};
use parking_lot::Mutex;

pub use breaker::Breaker;
pub use error::{Error, Result};
pub use options::MountOptions;

use crate::vfs::{MountOwner, ShownSnapshot, Vfs, VfsOptions, VfsSource};

/// How far the kernel reads ahead of a sequential reader, in KiB. The default of 128 hides little of a backend's
/// latency. More than this makes page faults of mapped files expensive, because the kernel reads around each fault.
const READ_AHEAD_KIB: u32 = 1024;

/// Checks what can be checked before asking for a passphrase: the mountpoint, and that FUSE is available.
pub fn check(mountpoint: &Path) -> Result<()> {
    point::check(mountpoint)?;
    point::check_helper()?;
    point::check_fuse()
}

/// Mounts the repository that `reader` reads. The mountpoint must be an empty folder. The mount is usable when this
/// returns.
pub fn mount(reader: &Arc<Reader>, mountpoint: &Path, options: &MountOptions) -> Result<Mount> {
    // The cheap checks come first; they fail most often.
    let mountpoint = point::check(mountpoint)?;
    point::check_fuse()?;
    let source: Arc<dyn VfsSource> = reader.clone();
    let vfs_options = VfsOptions { filter: options.filter.clone(), ..VfsOptions::new(owner()) };
    let vfs = match options.snapshot {
        None => Vfs::all(source, vfs_options)?,
        Some(id) => {
            let snapshot = find_snapshot(&*source, id)?;
            Vfs::one(source, snapshot, vfs_options)?
        }
    };
    mount_vfs(Arc::new(vfs), &mountpoint, options)
}

/// Mounts a file system.
pub fn mount_vfs(vfs: Arc<Vfs>, mountpoint: &Path, options: &MountOptions) -> Result<Mount> {
    let mountpoint = point::check(mountpoint)?;
    point::check_fuse()?;
    let adapter = fuse::Adapter::new(vfs.clone(), options).map_err(Error::Thread)?;
    let mut session =
        Session::new(adapter, &mountpoint, &config(options)).map_err(|e| point::explain(&mountpoint, e))?;
    let inner = Arc::new(Inner {
        mountpoint: mountpoint.clone(),
        session: Mutex::new(session.unmount_callable()),
        has_ended: AtomicBool::new(false),
    });
    let notifier = session.notifier();
    let shared = inner.clone();
    let run = move || {
        let result = session.run();
        shared.has_ended.store(true, Ordering::Release);
        result
    };
    let thread = std::thread::Builder::new().name("mount".into()).spawn(run).map_err(Error::Thread)?;
    let mount = Mount { unmounter: Unmounter(inner), thread: Some(thread) };
    point::raise_read_ahead(&mountpoint, READ_AHEAD_KIB);
    // The watching thread notifies the kernel. A thread that answers the kernel must not: the two could deadlock.
    let notify = move |changed: Vec<u64>| {
        for ino in changed {
            if let Err(error) = notifier.inval_inode(INodeNo(ino), 0, 0) {
                tracing::debug!(%error, ino, "the kernel did not accept the notification of a new snapshot");
            }
        }
    };
    vfs.watch(notify).map_err(Error::Thread)?;
    Ok(mount)
}

/// A mounted file system. Dropping it unmounts.
#[derive(Debug)]
pub struct Mount {
    unmounter: Unmounter,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Mount {
    /// Returns the mountpoint, as an absolute path.
    pub fn mountpoint(&self) -> &Path {
        &self.unmounter.0.mountpoint
    }

    /// Returns a handle that unmounts it from other threads.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// Waits until it is unmounted, from outside or through an [`Unmounter`].
    pub fn wait(mut self) -> Result<()> {
        self.join()
    }

    /// Unmounts. If the mount is not in use, waits for its end; otherwise detaches it from its mountpoint.
    pub fn unmount(mut self) -> Result<Unmounted> {
        let unmounted = self.unmounter.unmount()?;
        if unmounted == Unmounted::Ended {
            self.join()?;
        }
        self.thread = None;
        Ok(unmounted)
    }

    fn join(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        match thread.join() {
            Ok(result) => result.map_err(|source| Error::Session { source }),
            Err(_) => Err(Error::Session { source: std::io::Error::other("its thread panicked") }),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.thread.is_none() {
            return;
        }
        match self.unmounter.unmount() {
            Ok(Unmounted::Ended) => drop(self.join()),
            Ok(Unmounted::InUse) => {}
            Err(error) => tracing::warn!(%error, "cannot unmount"),
        }
    }
}

/// The result of unmounting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// The file system has ended.
    Ended,
    /// It is detached from its mountpoint, and ends when it is no longer in use (by an open file or a working
    /// directory).
    InUse,
}

/// A handle that unmounts from any thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Unmounter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mountpoint: PathBuf,
    session: Mutex<SessionUnmounter>,
    has_ended: AtomicBool,
}

impl Unmounter {
    /// Unmounts. Does nothing if it is unmounted already.
    pub fn unmount(&self) -> Result<Unmounted> {
        let mut session = self.0.session.lock();
        if self.0.has_ended.load(Ordering::Acquire) {
            return Ok(Unmounted::Ended);
        }
        match session.unmount() {
            // This includes a mount that was unmounted before.
            Ok(()) if point::is_root() => Ok(Unmounted::Ended),
            // For other users fusermount3 unmounts. It detaches a mount that is in use, and does not tell us.
            Ok(()) => Ok(if self.0.ends_soon() { Unmounted::Ended } else { Unmounted::InUse }),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                point::detach(&self.0.mountpoint)?;
                Ok(Unmounted::InUse)
            }
            Err(source) => Err(Error::Unmount { mountpoint: self.0.mountpoint.clone(), source }),
        }
    }
}

impl Inner {
    /// Returns whether the session ends within a second.
    fn ends_soon(&self) -> bool {
        (0..100).any(|_| {
            let has_ended = self.has_ended.load(Ordering::Acquire);
            if !has_ended {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            has_ended
        })
    }
}

fn config(options: &MountOptions) -> Config {
    let mut config = Config::default();
    let name = options.name.replace([',', '\\'], "_");
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoAtime,
        MountOption::FSName(name),
        // Both mount(2) and fusermount3 understand this option of the kernel. fuser's own option reaches only the
        // latter.
        MountOption::CUSTOM("subtype=bkfs".into()),
        if options.dev { MountOption::Dev } else { MountOption::NoDev },
        if options.suid { MountOption::Suid } else { MountOption::NoSuid },
    ];
    if options.noexec {
        config.mount_options.push(MountOption::NoExec);
    }
    if options.allow_other {
        config.acl = SessionACL::All;
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    config.n_threads = Some(options.threads.max(1));
    config.clone_fd = true;
    config
}

fn owner() -> MountOwner {
    MountOwner { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() }
}

fn find_snapshot(source: &dyn VfsSource, id: SnapshotId) -> Result<Arc<ShownSnapshot>> {
    let find = |all: Vec<Arc<ShownSnapshot>>| all.into_iter().find(|snapshot| snapshot.id == id);
    let found = match source.newest()?.and_then(find) {
        None => find(source.snapshots()?),
        found => found,
    };
    found.ok_or_else(|| bkfs_store::Error::SnapshotNotFound(format!("there is no snapshot {id}")).into())
}

#[cfg(test)]
mod tests;
