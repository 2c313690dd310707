//! Mounting: a repository's snapshots as a read-only file system of the kernel, through FUSE.
//!
//! [`mount`] checks the mountpoint and that FUSE is at hand, sets the kernel up, and returns a [`Mount`]. The file system
//! itself is [`crate::vfs`]; `fuse` translates between it and the kernel, and decides nothing else.
//!
//! The mount ends when the [`Mount`] is dropped or unmounted through an [`Unmounter`], from whichever thread (a signal's,
//! say), or from outside by umount(8). A mount that is in use is taken from its place at once and lives on, without a
//! name, until its last user has gone or the process ends.

mod breaker;
mod error;
mod fuse;
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

use crate::vfs::{self, Owner, Source, Version, Vfs};

/// What the kernel reads ahead of a sequential reader, in KiB. The default of 128 leaves most of a backend's latency
/// visible; more than this makes page faults of mapped files, which read around themselves, dear.
const READ_AHEAD_KIB: u32 = 1024;

/// How a repository is mounted.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// Show this snapshot at the root, instead of all of them below names.
    pub snapshot: Option<SnapshotId>,
    /// Let every user look, each according to owner, mode and ACL; else only the user who mounts.
    pub allow_other: bool,
    /// Threads that answer the kernel, at least 1.
    pub threads: usize,
    /// Devices can be opened (root only).
    pub dev: bool,
    /// setuid and setgid bits have effect (root only).
    pub suid: bool,
    /// Programs cannot be started from the mount.
    pub noexec: bool,
    /// The source that mount(8) and df(1) show.
    pub name: String,
}

impl Default for MountOptions {
    fn default() -> Self {
        // More threads than cores: most of them wait for the store.
        let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8) * 2;
        Self {
            snapshot: None,
            allow_other: false,
            threads,
            dev: false,
            suid: false,
            noexec: false,
            name: "bkfs".to_owned(),
        }
    }
}

/// Checks what can be checked before anybody is asked for a passphrase: the mountpoint, and that FUSE is at hand.
pub fn check(mountpoint: &Path) -> Result<()> {
    point::check(mountpoint)?;
    point::check_helper()?;
    point::check_fuse()
}

/// Mounts the repository that `reader` reads. The mountpoint must be an empty folder. When this returns, the mount can
/// be used.
pub fn mount(reader: &Arc<Reader>, mountpoint: &Path, options: &MountOptions) -> Result<Mount> {
    // First what costs nothing and is most often wrong.
    let mountpoint = point::check(mountpoint)?;
    point::check_fuse()?;
    let source: Arc<dyn Source> = reader.clone();
    let vfs_options = vfs::Options::new(owner());
    let vfs = match options.snapshot {
        None => Vfs::all(source, vfs_options)?,
        Some(id) => {
            let version = version(&*source, id)?;
            Vfs::one(source, version, vfs_options)?
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
        ended: AtomicBool::new(false),
    });
    let notifier = session.notifier();
    let ended = inner.clone();
    let run = move || {
        let result = session.run();
        ended.ended.store(true, Ordering::Release);
        result
    };
    let thread = std::thread::Builder::new().name("mount".into()).spawn(run).map_err(Error::Thread)?;
    let mount = Mount { unmounter: Unmounter(inner), thread: Some(thread) };
    point::raise_read_ahead(&mountpoint, READ_AHEAD_KIB);
    // The kernel is told from the thread that watches, never from one that answers the kernel: those could wait for
    // each other.
    let tell = move |tops: Vec<u64>| {
        for ino in tops {
            if let Err(error) = notifier.inval_inode(INodeNo(ino), 0, 0) {
                tracing::debug!(%error, ino, "the kernel did not take the news of a new snapshot");
            }
        }
    };
    vfs.watch(tell).map_err(Error::Thread)?;
    Ok(mount)
}

/// A mounted file system. Dropping it unmounts.
#[derive(Debug)]
pub struct Mount {
    unmounter: Unmounter,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Mount {
    /// Where it is mounted, as an absolute path.
    pub fn mountpoint(&self) -> &Path {
        &self.unmounter.0.mountpoint
    }

    /// What unmounts it from other threads.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// Waits until it has ended: unmounted from outside, or through an [`Unmounter`].
    pub fn wait(mut self) -> Result<()> {
        self.join()
    }

    /// Unmounts, and waits for the end if nobody uses the mount. In use, it is taken from its place all the same.
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

/// How an unmounting went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// The file system has ended.
    Ended,
    /// It is no longer at its place, and ends when the last who uses it (an open file, a working directory) has gone.
    InUse,
}

/// Unmounts from any thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Unmounter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mountpoint: PathBuf,
    session: Mutex<SessionUnmounter>,
    ended: AtomicBool,
}

impl Unmounter {
    /// Unmounts; does nothing if that has been done.
    pub fn unmount(&self) -> Result<Unmounted> {
        let mut session = self.0.session.lock();
        if self.0.ended.load(Ordering::Acquire) {
            return Ok(Unmounted::Ended);
        }
        match session.unmount() {
            // Also when it had been unmounted already.
            Ok(()) if point::is_root() => Ok(Unmounted::Ended),
            // Others go through fusermount3, which detaches what is in use without saying so.
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
    /// Whether the session ends within a second.
    fn ends_soon(&self) -> bool {
        (0..100).any(|_| {
            let ended = self.ended.load(Ordering::Acquire);
            if !ended {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            ended
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
        // As an option of the kernel's, it is understood by mount(2) and by fusermount3; fuser's own goes to the latter
        // alone.
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

fn owner() -> Owner {
    Owner { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() }
}

fn version(source: &dyn Source, id: SnapshotId) -> Result<Arc<Version>> {
    let found = source.versions()?.into_iter().find(|version| version.id == id);
    found.ok_or_else(|| bkfs_store::Error::SnapshotNotFound(format!("there is no snapshot {id}")).into())
}

#[cfg(test)]
mod tests;
