//! Listing one directory: its names, what they are, and which of them are to be taken.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use bkfs_store::format::tree::NodeKind;
use rustix::{
    fs::{Mode, OFlags, RawDir},
    io::Errno,
};

use super::{Place, Plan, Walked, names::Names};
use crate::{
    exclude::CACHEDIR_SIGNATURE,
    metadata::{self, Stat},
};

/// Buffer for the kernel's directory entries, in bytes: some 800 entries a call.
const READDIR_BYTES: usize = 32 * 1024;

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    pub(super) handle: OwnedFd,
    /// Where it stands.
    pub place: Arc<Place>,
    /// Path of the root of the file system that holds it.
    pub mount_root: Arc<[u8]>,
    pub(super) device: u64,
    /// The device of the named path that this was reached from.
    pub(super) root_device: Option<u64>,
    pub(super) plan: Option<Arc<Plan>>,
    /// Whether all that lies in it is taken, not only what the plan names.
    pub(super) is_taken: bool,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// An entry of a directory.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: Box<[u8]>,
    /// What it is.
    pub stat: Stat,
    /// See [`Dir::is_taken`].
    pub(super) is_taken: bool,
}

/// Opens a directory below another. Links are followed only where the user's own path leads through them. One that
/// `is_passed` is only on the way to what is taken: it may be closed to reading, as `/home` is to the people in it.
pub(super) fn open_dir(parent: BorrowedFd<'_>, name: &CStr, follow: bool, is_passed: bool) -> io::Result<OwnedFd> {
    let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    // Leaving the access time alone is allowed to owners only.
    match rustix::fs::openat(parent, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?),
        Err(Errno::ACCESS) if is_passed => Ok(rustix::fs::openat(parent, name, flags | OFlags::PATH, Mode::empty())?),
        other => Ok(other?),
    }
}

/// The names in a directory with their inode numbers, as the system gives them.
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

/// The names that are to be looked at, in the order of the inodes. A directory whose contents a tag leaves out is not
/// taken any more.
pub(super) fn names(walked: &Walked, dir: &mut Dir) -> io::Result<Names> {
    if !dir.is_taken {
        let named = dir.plan.iter().flat_map(|plan| plan.children.keys());
        return Ok(named.map(|name| (0, name.as_slice())).collect());
    }
    let mut names = read_names(dir.as_fd())?;
    if walked.excludes.has_tags() {
        let sorted = {
            let mut all: Vec<&[u8]> = names.iter().collect();
            all.sort_unstable();
            all
        };
        let has_name = |name: &[u8]| sorted.binary_search(&name).is_ok();
        if let Some(tag) = walked.excludes.tag(has_name, |name| read_start(dir.as_fd(), name)) {
            names.retain(|name| *name == *tag || child_plan(dir, name).is_some());
            dir.is_taken = false;
        }
    }
    for (name, plan) in dir.plan.iter().flat_map(|plan| &plan.children) {
        if !names.iter().any(|n| *n == **name) {
            named_problem(walked, dir, name, Some(plan), Errno::NOENT.into());
        }
    }
    names.sort_by_inode();
    Ok(names)
}

/// Looks at some names and keeps what is to be taken, sorted by name. Entries that cannot be looked at are reported.
pub(super) fn look<'a>(walked: &Walked, dir: &Dir, names: impl IntoIterator<Item = &'a [u8]>) -> Vec<Entry> {
    let path = if walked.excludes.has_patterns() { dir.place.path() } else { Vec::new() };
    let mut entries = Vec::new();
    for name in names {
        let plan = child_plan(dir, name);
        let found = metadata::c_name(name).and_then(|c| match plan {
            Some(plan) if !plan.taken && !dir.is_taken || plan.follow => Stat::following(dir, &c),
            _ => Stat::of(dir, &c),
        });
        let stat = match found {
            Ok(stat) => stat,
            Err(error) => {
                named_problem(walked, dir, name, plan, error);
                continue;
            }
        };
        let is_dir = stat.kind == NodeKind::Directory;
        if !is_dir {
            for (below, plan) in plan.iter().flat_map(|plan| &plan.children) {
                let path = dir.place.display(name).join(metadata::display(below));
                for path in plan.named(path) {
                    walked.problem(path, Errno::NOTDIR.into());
                }
            }
        }
        let is_left_out = || {
            let mut whole = path.clone();
            if walked.excludes.has_patterns() {
                if !whole.is_empty() {
                    whole.push(b'/');
                }
                whole.extend_from_slice(name);
            }
            walked.excludes.matches(&whole, is_dir)
                || stat.kind == NodeKind::File && walked.excludes.too_large(stat.size)
        };
        // What is named is taken, whatever is excluded. What lies on the way to it is taken as a whole only if it would
        // be without that.
        let is_taken = match plan {
            None if is_left_out() => continue,
            None => true,
            Some(plan) if plan.taken => true,
            Some(_) => dir.is_taken && !is_left_out() && !is_other_file_system(walked, dir, &stat),
        };
        entries.push(Entry { name: name.into(), stat, is_taken });
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    entries
}

/// Reports an entry that cannot be looked at, by the paths that the user gave if it is on the way to some.
fn named_problem(walked: &Walked, dir: &Dir, name: &[u8], plan: Option<&Plan>, error: io::Error) {
    let path = dir.place.display(name);
    for path in plan.map_or_else(|| vec![path.clone()], |plan| plan.named(path.clone())) {
        walked.problem(path, again(&error));
    }
}

/// The same error once more, which the type cannot copy.
fn again(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

pub(super) fn child_plan<'a>(dir: &'a Dir, name: &[u8]) -> Option<&'a Plan> {
    dir.plan.as_ref()?.children.get(name)
}

/// Whether an entry lies on a file system that is left out, unless it is named.
pub(super) fn is_other_file_system(walked: &Walked, dir: &Dir, stat: &Stat) -> bool {
    walked.excludes.one_file_system() && dir.root_device.is_some_and(|device| device != stat.device)
}

fn read_start(dir: BorrowedFd<'_>, name: &[u8]) -> Option<[u8; CACHEDIR_SIGNATURE.len()]> {
    let name = metadata::c_name(name).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::empty()).ok()?;
    let mut start = [0; CACHEDIR_SIGNATURE.len()];
    File::from(file).read_exact(&mut start).ok()?;
    Some(start)
}
