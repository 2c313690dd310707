//! The destination of a restore: handles of its folders, temporary names, and the attributes of what is in it.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::atomic::Ordering,
};

use bkfs_store::format::tree::Node;
use rustix::fs::{Mode, OFlags, Stat};

use super::{
    attributes::{self, EntryHandle, Wanted},
    handle::{DestDir, DirHandles, open_beneath},
    owner::OwnerIds,
    report::Reason,
    restored::{Restored, identity},
    shared::Shared,
    temp::TempNames,
};

/// The destination.
pub(super) struct Destination<'a> {
    pub(super) handles: DirHandles,
    pub(super) temps: TempNames,
    /// The process is root.
    pub(super) is_root: bool,
    shared: &'a Shared<'a>,
    owners: OwnerIds,
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
        }
    }

    /// Sets an entry's stored attributes, and reports those that could not be set. With `strip_acl`, removes ACLs that
    /// are not stored.
    pub(super) fn set_attributes(
        &self,
        dir: &DestDir,
        name: &[u8],
        handle: EntryHandle<'_>,
        node: &Node,
        strip_acl: bool,
    ) {
        let owner = self.owners.of(node, self.shared.options.owners);
        let not_set = attributes::apply(handle, &Wanted { node, owner, strip_acl, is_root: self.is_root });
        let counts = &self.shared.counts;
        counts.owners_skipped.fetch_add(u64::from(not_set.owner_skipped), Ordering::Relaxed);
        counts.xattrs_skipped.fetch_add(not_set.xattrs_skipped, Ordering::Relaxed);
        for reason in not_set.refused {
            self.shared.problem(dir, name, reason);
        }
    }

    /// Leaves an existing entry in the folder `fd`. Sets its attributes if existing entries may be overwritten.
    pub(super) fn keep(&self, dir: &DestDir, fd: &OwnedFd, node: &Node, stat: &Stat) -> Result<Restored, Reason> {
        if self.shared.options.overwrite {
            let path = open_beneath(fd, &node.name, OFlags::PATH, Mode::empty())
                .map_err(Reason::system("open the existing entry"))?;
            self.set_attributes(dir, &node.name, EntryHandle::Path(path.as_fd()), node, false);
        }
        Ok(Restored::kept(identity(stat)))
    }
}
