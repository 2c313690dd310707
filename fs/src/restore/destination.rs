//! The destination of a restore: handles of its folders, temporary names, and the attributes of what is in it.

use std::{
    collections::HashMap,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
};

use bkfs_store::{
    base::time::Time,
    format::tree::{Node, NodeKind},
};
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, Stat};

use super::{
    attributes::{self, EntryHandle, Wanted},
    handle::{DestDir, DirHandles, open_beneath},
    kept_times::KeptTimes,
    limits::Limit,
    owner::OwnerIds,
    report::Reason,
    restored::{Restored, identity},
    shared::Shared,
    temp::TempNames,
    times::mtime,
};

/// The destination.
pub(super) struct Destination<'a> {
    pub(super) handles: DirHandles,
    pub(super) temps: TempNames,
    /// The process is root.
    pub(super) is_root: bool,
    shared: &'a Shared<'a>,
    owners: OwnerIds,
    times: KeptTimes,
    /// By device.
    follows_links: Mutex<HashMap<u64, bool>>,
}

/// Whose attributes are set.
#[derive(Clone, Copy)]
pub(super) enum Attributed {
    /// Those of an entry that this restore created. With `strip_acl`, ACLs that are not stored are removed.
    New { strip_acl: bool },
    /// Those of an entry that was there.
    Existing { strip_acl: bool },
}

impl<'a> Destination<'a> {
    /// Returns a destination without open handles.
    pub(super) fn new(shared: &'a Shared<'a>) -> Self {
        Self {
            handles: DirHandles::by_limit(),
            temps: TempNames::new(),
            is_root: rustix::process::geteuid().is_root(),
            shared,
            owners: OwnerIds::default(),
            times: KeptTimes::default(),
            follows_links: Mutex::default(),
        }
    }

    /// Sets those of an entry's stored attributes that it does not have yet, and reports those that could not be set.
    /// Returns the state of the entry.
    pub(super) fn set_attributes(
        &self,
        dir: &DestDir,
        name: &[u8],
        handle: EntryHandle<'_>,
        node: &Node,
        how: Attributed,
    ) -> Result<Stat, Reason> {
        let owner = self.owners.of(node, self.shared.options.owners);
        if node.kind == NodeKind::Symlink {
            let stat = handle.stat().map_err(Reason::system("inspect it"))?;
            if self.follows_links(stat.st_dev) {
                self.shared.meet(Limit::Symlinks, false, dir, name);
                return Ok(stat);
            }
        }
        let (is_new, strip_acl) = match how {
            Attributed::New { strip_acl } => (true, strip_acl),
            Attributed::Existing { strip_acl } => (false, strip_acl),
        };
        let privileged = self.shared.options.privileged;
        let wanted = Wanted { node, owner, strip_acl, is_root: self.is_root, privileged };
        let (stat, not_set) = attributes::apply(handle, &wanted).map_err(Reason::system("inspect it"))?;
        let counts = &self.shared.counts;
        counts.owners_skipped.fetch_add(u64::from(not_set.owner_skipped), Ordering::Relaxed);
        counts.xattrs_skipped.fetch_add(not_set.xattrs_skipped, Ordering::Relaxed);
        for limit in not_set.limits {
            self.shared.meet(limit, is_new, dir, name);
        }
        for reason in not_set.refused {
            self.shared.problem(dir, name, reason);
        }
        Ok(stat)
    }

    /// Returns whether a change of a symbolic link's owner or time would change the entry to which it leads, which may
    /// be outside the destination. The protocol of sshfs cannot say otherwise.
    fn follows_links(&self, device: u64) -> bool {
        *self.follows_links.lock().entry(device).or_insert_with(|| {
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
            // "36 35 0:52 / /mnt rw,relatime shared:1 - fuse.sshfs host:/folder rw"
            mounts.lines().any(|line| {
                line.split(' ').nth(2) == Some(&number)
                    && line.split_once(" - ").is_some_and(|(_, rest)| rest.starts_with("fuse.sshfs "))
            })
        })
    }

    /// Returns what the file system makes of a node's time. `stat` is an existing entry in the folder `fd`.
    pub(super) fn kept_time(&self, fd: &Arc<OwnedFd>, node: &Node, stat: &Stat) -> Option<Time> {
        // An error means that nothing can be compared, and that the times are different.
        self.times.ask(&self.temps, fd, stat.st_dev, node.mtime).ok()
    }

    /// Leaves an existing entry in the folder `fd`. Sets its attributes if existing entries may be overwritten.
    pub(super) fn keep(&self, dir: &DestDir, fd: &OwnedFd, node: &Node, stat: &Stat) -> Result<Restored, Reason> {
        if self.shared.options.overwrite {
            let path = open_beneath(fd, &node.name, OFlags::PATH, Mode::empty())
                .map_err(Reason::system("open the existing entry"))?;
            let how = Attributed::Existing { strip_acl: false };
            self.set_attributes(dir, &node.name, EntryHandle::Path(path.as_fd()), node, how)?;
        } else if node.kind == NodeKind::File && mtime(stat) != node.mtime {
            self.shared.meet(Limit::of_time(node.mtime, mtime(stat)), false, dir, &node.name);
        }
        Ok(Restored::kept(identity(stat)))
    }
}
