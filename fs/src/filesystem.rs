//! Which file system an entry is on, and what its times and sizes prove there.
//!
//! A file counts as unchanged if its inode number and its times are those of the last push. That is a proof only on the
//! same file system, and only if the change time moves with each change. On an image it does not: it is what the image
//! holds, and another image at the same place may hold the same. So each file system has an [identity](FilesystemId)
//! that the file cache stores with each entry:
//!
//! - One that is written to keeps its change times by itself: the identity is its UUID, so it stays the same when the
//!   file system is mounted again, after a reboot, and in a block-level snapshot.
//! - An image is identified by the file that holds it.
//! - An overlay is identified by its layers.
//! - One that only has a name, as a server's, is identified by that name.
//! - For everything else, the identity is this mount.
//!
//! Nothing of this is stored in a repository. [`kind`] decides which rule is for which file system.

mod id;
mod image;
mod kind;
mod mounts;
mod uuid;

use std::{
    collections::HashMap,
    ffi::CStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::Path,
};

use bkfs_store::format::tree::NodeKind;
use rustix::fs::{Mode, OFlags};

use self::{id::digest, kind::Rule, mounts::MountInfo};
use crate::metadata::{self, Stat};

pub use id::FilesystemId;

/// How many file systems may lie below one another: an image in an image, an overlay of overlays.
const DEPTH_MAX: u32 = 6;
/// Mount ids above this are never used again. Others are.
const UNIQUE_IDS: u64 = 1 << 31;

/// What is known of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filesystem {
    /// Its identity.
    pub id: FilesystemId,
    /// What it says of lengths.
    pub sizes: Sizes,
}

/// What the length that a file system states for a regular file is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sizes {
    /// A file has as many bytes as it says.
    Exact,
    /// A file that says that it is empty may have contents, as on some FUSE file systems.
    ZeroMeansUnknown,
    /// Files are made when they are read, as in `/proc`: the length means nothing.
    Meaningless,
}

/// The file systems that a push has met.
#[derive(Default)]
pub struct Filesystems {
    known: HashMap<MountKey, Filesystem>,
    last: Option<(MountKey, Filesystem)>,
}

/// The mount that an entry is in; before Linux 5.8, its device.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct MountKey {
    mount: u64,
    device: u64,
}

impl MountKey {
    fn of(stat: &Stat) -> Self {
        Self { mount: stat.mount, device: if stat.mount == 0 { stat.device } else { 0 } }
    }
}

impl Filesystems {
    /// The file system of an open file or directory.
    pub fn of_handle<F: AsFd>(&mut self, handle: F, stat: &Stat) -> Filesystem {
        self.known(stat, || Ok(of_handle(handle, stat.mount, 0)))
    }

    /// The file system of an entry of a directory, which is in the mount `dir_mount`.
    pub fn of_entry<F: AsFd>(&mut self, dir: F, dir_mount: u64, name: &[u8], stat: &Stat) -> Filesystem {
        self.known(stat, || match stat.mount == dir_mount {
            true => Ok(of_handle(dir, stat.mount, 0)),
            false => Ok(of_handle(open_at(dir, &metadata::c_name(name)?, stat.kind)?, stat.mount, 0)),
        })
    }

    fn known(&mut self, stat: &Stat, find: impl FnOnce() -> io::Result<Filesystem>) -> Filesystem {
        let key = MountKey::of(stat);
        if let Some((last, filesystem)) = self.last
            && last == key
        {
            return filesystem;
        }
        let filesystem = *self.known.entry(key).or_insert_with(|| {
            let found = find().unwrap_or_else(|_| Filesystem::of_mount(stat.mount));
            tracing::debug!(mount = stat.mount, ?found, "a file system");
            found
        });
        self.last = Some((key, filesystem));
        filesystem
    }
}

impl Filesystem {
    /// One of which only the mount is known.
    fn of_mount(mount: u64) -> Self {
        Self { id: mount_id(mount), sizes: Sizes::ZeroMeansUnknown }
    }
}

/// The file system that holds an open file, in a mount with the id `mount`.
fn of_handle<F: AsFd>(handle: F, mount: u64, depth: u32) -> Filesystem {
    let handle = handle.as_fd();
    let found = if depth > DEPTH_MAX { None } else { MountInfo::of(handle) };
    let Some(info) = found else { return Filesystem::of_mount(mount) };
    let rule = Rule::of(&info);
    let layers = if rule == Rule::Overlay { overlay(&info, mount, depth) } else { None };
    let id = match rule {
        Rule::Uuid if info.is_read_only => image_id(&info, depth).or_else(|| Some(uuid::id(handle, &info))),
        Rule::Uuid => Some(uuid::id(handle, &info)),
        Rule::Image => image_id(&info, depth),
        Rule::Name => Some(digest("name", |hasher| {
            hasher.update(&info.kind).update(b"\0").update(kind::stable_name(&info));
        })),
        Rule::Overlay => layers.map(|layers| layers.id),
        Rule::Pseudo => Some(digest("pseudo", |hasher| {
            hasher.update(&info.kind);
        })),
        Rule::Fuse => fuse_id(&info),
        Rule::Unknown => None,
    };
    let sizes = match rule {
        Rule::Pseudo => Sizes::Meaningless,
        Rule::Fuse | Rule::Unknown => Sizes::ZeroMeansUnknown,
        Rule::Overlay => layers.map_or(Sizes::ZeroMeansUnknown, |layers| layers.sizes),
        Rule::Uuid | Rule::Image | Rule::Name => Sizes::Exact,
    };
    Filesystem { id: id.unwrap_or_else(|| mount_id(mount)), sizes }
}

/// The identity of a file system by the file that holds it: that file's inode, length, times and file system, and where
/// in the file it begins. None if it is not in a file, or the file cannot be found.
fn image_id(info: &MountInfo, depth: u32) -> Option<FilesystemId> {
    let found = image::find(info)?;
    let handle = open(&found.file).ok()?;
    let stat = Stat::of_handle(&handle).ok().filter(|stat| stat.kind == NodeKind::File)?;
    let below = of_handle(&handle, stat.mount, depth + 1);
    Some(digest("image", |hasher| {
        hasher.update(&below.id).update(&found.offset).update(b"\0");
        hasher.update(&stat.inode.to_le_bytes()).update(&stat.size.to_le_bytes());
        for time in [stat.mtime, stat.ctime] {
            hasher.update(&time.secs.to_le_bytes()).update(&time.nanos.to_le_bytes());
        }
    }))
}

/// An overlay, which is what its layers are; none if they cannot be found.
fn overlay(info: &MountInfo, mount: u64, depth: u32) -> Option<Filesystem> {
    let (mut layers, mut sizes) = (Vec::new(), Sizes::Exact);
    for path in info.layers()? {
        let handle = open(&path).ok()?;
        let stat = Stat::of_handle(&handle).ok()?;
        // What was mounted at the layer's path after the overlay is not the layer.
        if mount > UNIQUE_IDS && stat.mount > mount {
            return None;
        }
        let layer = of_handle(&handle, stat.mount, depth + 1);
        sizes = sizes.max(layer.sizes);
        layers.extend_from_slice(&layer.id);
        layers.extend_from_slice(&stat.inode.to_le_bytes());
    }
    let id = digest("overlay", |hasher| {
        hasher.update(&layers);
    });
    Some(Filesystem { id, sizes })
}

/// The identity of a FUSE file system by the moment at which it was connected; none if the kernel does not show it.
/// It is the same in every mount namespace, other than the mount id.
fn fuse_id(info: &MountInfo) -> Option<FilesystemId> {
    use std::os::unix::fs::MetadataExt;
    let shown = std::fs::metadata(format!("/sys/fs/fuse/connections/{}", info.minor)).ok()?;
    Some(digest("fuse", |hasher| {
        hasher.update(&shown.mtime().to_le_bytes()).update(&shown.mtime_nsec().to_le_bytes());
    }))
}

/// The identity of a mount of which nothing better is known.
fn mount_id(mount: u64) -> FilesystemId {
    digest("mount", |hasher| {
        hasher.update(&mount.to_le_bytes());
        // Mount ids start again at boot.
        hasher.update(&std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default());
    })
}

/// Opens an entry to ask what holds it. Opening a device or a pipe could have effects, so these are only located.
fn open_at<F: AsFd>(dir: F, name: &CStr, kind: NodeKind) -> io::Result<OwnedFd> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if matches!(kind, NodeKind::File | NodeKind::Directory)
        && let Ok(handle) = rustix::fs::openat(&dir, name, flags | OFlags::RDONLY, Mode::empty())
    {
        return Ok(handle);
    }
    Ok(rustix::fs::openat(dir, name, flags | OFlags::PATH, Mode::empty())?)
}

/// Opens a regular file or a directory to ask what holds it.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let kind = path.metadata()?.file_type();
    if !path.is_absolute() || !kind.is_file() && !kind.is_dir() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let handle = File::options().read(true).custom_flags(flags.bits() as i32).open(path);
    let locate = || rustix::fs::open(path.as_os_str().as_bytes(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    handle.map(OwnedFd::from).or_else(|_| Ok(locate()?))
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
