//! Listing one directory: its names, the state of its entries, and which entries the snapshot includes.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use bkfs_store::format::tree::NodeKind;
use rustix::{
    fs::{Mode, OFlags, RawDir},
    io::Errno,
};

use super::{device, dir_path::DirPath, names::Names, roots::Plan};
use crate::{
    changes::{Changes, Scope},
    exclude::{CACHEDIR_SIGNATURE, Excludes},
    metadata::{self, Stat},
};

/// Buffer for the kernel's directory entries, in bytes: about 800 entries a call.
const READDIR_BYTES: usize = 32 * 1024;

/// Receives the entries that cannot be read.
pub trait Problems: Send + Sync {
    /// Reports an entry that the snapshot lacks, or holds only in part.
    fn problem(&self, path: PathBuf, error: io::Error);
}

/// Is told of each directory before it is listed, so that no change after that is missed.
pub trait Observer: Send + Sync {
    /// A directory is about to be listed as a whole.
    fn entering(&self, dir: &SourceDir);
}

/// An open directory of the source.
#[derive(Debug)]
pub struct SourceDir {
    pub(super) handle: OwnedFd,
    /// Its path in the snapshot.
    pub path: Arc<DirPath>,
    /// Path of the root of the file system that holds it.
    pub mount_root: Arc<[u8]>,
    pub(super) device: u64,
    /// The mount that it is in: see [`Stat::mount`].
    pub mount: u64,
    /// The device of the named path that the walk came from.
    pub(super) root_device: Option<u64>,
    pub(super) plan: Option<Arc<Plan>>,
    /// Whether the snapshot includes all entries, not only those that the plan names.
    pub(super) is_included: bool,
    /// What may have changed in it; none if everything may have.
    pub(super) changes: Option<Arc<Changes>>,
}

impl AsFd for SourceDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl SourceDir {
    /// The device of its file system.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Whether the user named the directory, or something in it.
    pub fn is_planned(&self) -> bool {
        self.plan.is_some()
    }

    /// What the snapshot includes, if the directory is only on the way to that.
    pub fn plan_on_the_way(&self) -> Option<Arc<Plan>> {
        self.plan.clone().filter(|_| !self.is_included)
    }

    /// The changes of the directory, if only the entries that they name were looked at.
    pub fn named_changes(&self) -> Option<&Changes> {
        self.changes.as_deref().filter(|changes| self.is_included && changes.scope() == Scope::Named)
    }

    /// What may have changed at an entry.
    pub(super) fn changes_of(&self, name: &[u8]) -> EntryChanges {
        let Some(changes) = &self.changes else { return EntryChanges::All };
        match changes.below(name) {
            Some(below) if below.scope() == Scope::All => EntryChanges::All,
            Some(below) => EntryChanges::Some(below.clone()),
            None => EntryChanges::None,
        }
    }

    /// What the user named at and below an entry; none if nothing is named there.
    pub(super) fn child_plan(&self, name: &[u8]) -> Option<&Plan> {
        self.plan.as_ref()?.children.get(name)
    }
}

/// What may have changed at and below an entry.
pub(super) enum EntryChanges {
    All,
    Some(Arc<Changes>),
    None,
}

/// An entry of a directory.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: Box<[u8]>,
    /// Its state.
    pub stat: Stat,
    /// Whether it is a block device, or a link to one, that is to be read as a file. Its state is that of the file.
    pub is_device: bool,
    /// See [`SourceDir::is_included`].
    pub(super) is_included: bool,
}

/// Opens a directory below another. Follows a link only if `follow` is set: where the user's own path leads through it.
///
/// A directory that `is_ancestor` is only on the way to what the snapshot includes. It may deny reading, as `/home` may
/// to its users; then the handle serves only to reach what is in it.
pub(super) fn open_dir(parent: BorrowedFd<'_>, name: &CStr, follow: bool, is_ancestor: bool) -> io::Result<OwnedFd> {
    let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    // Only owners may leave the access time unchanged.
    match rustix::fs::openat(parent, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?),
        Err(Errno::ACCESS) if is_ancestor => Ok(rustix::fs::openat(parent, name, flags | OFlags::PATH, Mode::empty())?),
        other => Ok(other?),
    }
}

/// Lists single directories by the rules of one walk.
pub(super) struct Lister {
    excludes: Excludes,
    problems: Arc<dyn Problems>,
    base: PathBuf,
    /// See [`Scouting::reads_devices`](super::Scouting::reads_devices).
    reads_devices: bool,
}

impl Lister {
    /// Lists below `base`. Reports what it cannot read to `problems`.
    pub fn new(excludes: Excludes, problems: Arc<dyn Problems>, base: &Path, reads_devices: bool) -> Self {
        Self { excludes, problems, base: base.to_path_buf(), reads_devices }
    }

    /// The path of a directory in the file system.
    pub fn absolute(&self, path: &DirPath) -> PathBuf {
        self.base.join(metadata::display(&path.to_bytes()))
    }

    /// See [`Excludes::unused_patterns`].
    pub fn unused_patterns(&self) -> Vec<String> {
        self.excludes.unused_patterns()
    }

    /// The names to look at, in the order of their inodes. If a tag excludes the directory's contents, marks the
    /// directory as not included.
    pub fn names(&self, dir: &mut SourceDir) -> io::Result<Names> {
        if !dir.is_included {
            let named = dir.plan.iter().flat_map(|plan| plan.children.keys());
            return Ok(named.map(|name| (0, name.as_slice())).collect());
        }
        if let Some(names) = self.changed_names(dir) {
            return Ok(names);
        }
        let mut names = read_names(dir.as_fd())?;
        if self.excludes.has_tags() {
            let sorted = {
                let mut all: Vec<&[u8]> = names.iter().collect();
                all.sort_unstable();
                all
            };
            let has_name = |name: &[u8]| sorted.binary_search(&name).is_ok();
            if let Some(tag) = self.excludes.find_tag(has_name, |name| read_start(dir.as_fd(), name)) {
                names.retain(|name| *name == *tag || dir.child_plan(name).is_some());
                dir.is_included = false;
            }
        }
        for (name, plan) in dir.plan.iter().flat_map(|plan| &plan.children) {
            if !names.iter().any(|n| *n == **name) {
                self.entry_problem(dir, name, Some(plan), Errno::NOENT.into());
            }
        }
        names.sort_by_inode();
        Ok(names)
    }

    /// The names that are among the directory's changes, if no others can have changed.
    ///
    /// A tag decides about all that is below its directory. If one came or went, everything there may have changed; if
    /// one is there, the directory is listed.
    fn changed_names(&self, dir: &mut SourceDir) -> Option<Names> {
        let changes = dir.changes.clone()?;
        if changes.names().any(|name| self.excludes.is_tag(name)) {
            dir.changes = None;
            return None;
        }
        let has_name = |name: &[u8]| metadata::c_name(name).is_ok_and(|name| Stat::of(&*dir, &name).is_ok());
        if changes.scope() != Scope::Named
            || self.excludes.has_tags()
                && self.excludes.find_tag(has_name, |name| read_start(dir.as_fd(), name)).is_some()
        {
            dir.changes = Some(Arc::new(changes.with_entries()));
            return None;
        }
        Some(changes.names().map(|name| (0, name)).collect())
    }

    /// Looks at the named entries. Returns those that the snapshot includes, sorted by name; reports those that it
    /// cannot look at.
    pub fn entries<'a>(&self, dir: &SourceDir, names: impl IntoIterator<Item = &'a [u8]>) -> Vec<Entry> {
        let path = if self.excludes.has_patterns() { dir.path.to_bytes() } else { Vec::new() };
        let mut entries = Vec::new();
        for name in names {
            let plan = dir.child_plan(name);
            let found = metadata::c_name(name).and_then(|c| match plan {
                Some(plan) if !plan.is_included && !dir.is_included || plan.follow => Stat::following(dir, &c),
                _ => Stat::of(dir, &c),
            });
            let stat = match found {
                Ok(stat) => stat,
                // It was reported as changed, and that is what happened to it.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && dir.named_changes().is_some() && plan.is_none() =>
                {
                    continue;
                }
                Err(error) => {
                    self.entry_problem(dir, name, plan, error);
                    continue;
                }
            };
            let is_named = plan.is_some_and(|plan| plan.is_included);
            let as_device = || device::as_file(dir, &metadata::c_name(name).ok()?, &stat);
            let device = if self.reads_devices && is_named { as_device() } else { None };
            let (is_device, stat) = (device.is_some(), device.unwrap_or(stat));
            let is_dir = stat.kind == NodeKind::Directory;
            if !is_dir {
                for (below, plan) in plan.iter().flat_map(|plan| &plan.children) {
                    let path = dir.path.display_entry(name).join(metadata::display(below));
                    for path in plan.named(path) {
                        self.problem(path, Errno::NOTDIR.into());
                    }
                }
            }
            let is_excluded = || {
                let mut whole = path.clone();
                if self.excludes.has_patterns() {
                    if !whole.is_empty() {
                        whole.push(b'/');
                    }
                    whole.extend_from_slice(name);
                }
                self.excludes.matches(&whole, is_dir)
                    || stat.kind == NodeKind::File && self.excludes.is_too_large(stat.size)
            };
            // A named entry is included, whatever the rules say. An entry on the way to a named one is included as a
            // whole only if it would be without that.
            let is_included = match plan {
                None if is_excluded() => continue,
                None => true,
                Some(plan) if plan.is_included => true,
                Some(_) => dir.is_included && !is_excluded() && !self.is_other_file_system(dir, &stat),
            };
            entries.push(Entry { name: name.into(), stat, is_device, is_included });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// Whether an entry is on a file system that the rules exclude. A named entry is included all the same.
    pub fn is_other_file_system(&self, dir: &SourceDir, stat: &Stat) -> bool {
        self.excludes.is_one_file_system() && dir.root_device.is_some_and(|device| device != stat.device)
    }

    /// Reports an entry that cannot be looked at: if it leads to named paths, by the paths that the user gave.
    fn entry_problem(&self, dir: &SourceDir, name: &[u8], plan: Option<&Plan>, error: io::Error) {
        let path = dir.path.display_entry(name);
        for path in plan.map_or_else(|| vec![path.clone()], |plan| plan.named(path.clone())) {
            self.problem(path, copy_of(&error));
        }
    }

    fn problem(&self, path: PathBuf, error: io::Error) {
        self.problems.problem(self.base.join(path), error);
    }
}

/// The names in a directory with their inode numbers, in the system's order.
fn read_names(dir: BorrowedFd<'_>) -> io::Result<Names> {
    let mut buffer = vec![MaybeUninit::<u8>::uninit(); READDIR_BYTES];
    let mut reader = RawDir::new(dir, &mut buffer);
    let mut names = Names::default();
    while let Some(entry) = reader.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(entry.ino(), name);
        }
    }
    Ok(names)
}

fn read_start(dir: BorrowedFd<'_>, name: &[u8]) -> Option<[u8; CACHEDIR_SIGNATURE.len()]> {
    let name = metadata::c_name(name).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::empty()).ok()?;
    let mut start = [0; CACHEDIR_SIGNATURE.len()];
    File::from(file).read_exact(&mut start).ok()?;
    Some(start)
}

/// A copy of an error; [`io::Error`] cannot be cloned.
fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}
