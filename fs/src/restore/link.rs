//! Hard links: which names belong to one file, and which of them has been restored.
//!
//! The first name that a thread meets is restored like any file. The others wait, and are then linked to it. A group
//! is forgotten once all its names have been met.
//!
//! Names of one group that hold different contents are not one file: a file that changed during the push may be stored
//! so. Each of them is restored by itself, as the mount shows them.

use std::{collections::HashMap, sync::Arc};

use bkfs_store::{
    base::codec,
    format::tree::{Node, NodeKind},
};
use parking_lot::Mutex;
use rustix::{fs::AtFlags, io::Errno};

use super::{
    decide::{kind_name, kind_of, looks_same},
    destination::Destination,
    folder::Folder,
    handle::DestDir,
    report::Reason,
    restored::{Restored, identity},
    shared::Shared,
    temp::Temp,
};

/// An entry that waits for the first name of its group.
pub(super) struct Waiting {
    pub(super) folder: Arc<Folder>,
    pub(super) node: Node,
}

struct LinkGroup {
    /// How many names were met, not counting those that wait.
    met: u32,
    state: GroupState,
}

enum GroupState {
    /// The first name is being restored; these wait for it.
    InProgress(Vec<Waiting>),
    Restored(FirstName),
}

/// The first name of a group, after it was restored.
#[derive(Clone)]
pub(super) struct FirstName {
    dir: Arc<DestDir>,
    name: Vec<u8>,
    identity: (u64, u64),
}

/// What to do with a name of a group.
pub(super) enum Claim {
    /// It is the first: restore it, and report the result to [`HardLinks::settle`].
    First(Node),
    /// It waits. [`HardLinks::settle`] returns it when the first name is done.
    Wait,
    /// Link it.
    Link(Node, FirstName),
}

/// How linking ended.
pub(super) enum Linked {
    /// The name exists now.
    Done(Restored),
    /// The file system does not support the link, or no more links to this file, or nothing shows that the new name is
    /// of the same file.
    Impossible,
}

/// The groups that were met so far.
pub(super) struct HardLinks<'a> {
    shared: &'a Shared<'a>,
    destination: &'a Destination<'a>,
    groups: Mutex<HashMap<LinkKey, LinkGroup>>,
}

/// Names a file with several names: a hash of its group and contents.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LinkKey([u8; 16]);

impl LinkKey {
    /// The key of a node; none if it has no group.
    pub(super) fn of(node: &Node) -> Option<Self> {
        let group = node.hard_link?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&group.0).update(&node.size.to_le_bytes());
        match (&node.content, &node.target) {
            (Some(content), _) => hasher.update(&codec::encode(content)),
            (None, target) => hasher.update(target.as_deref().unwrap_or_default()),
        };
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Some(Self(key))
    }
}

impl<'a> HardLinks<'a> {
    /// Returns a set without groups.
    pub(super) fn new(shared: &'a Shared<'a>, destination: &'a Destination<'a>) -> Self {
        Self { shared, destination, groups: Mutex::default() }
    }

    /// Decides what to do with a name that belongs to a group.
    pub(super) fn claim(&self, group: LinkKey, folder: &Arc<Folder>, node: Node) -> Claim {
        let mut groups = self.groups.lock();
        let Some(entry) = groups.get_mut(&group) else {
            groups.insert(group, LinkGroup { met: 1, state: GroupState::InProgress(Vec::new()) });
            return Claim::First(node);
        };
        match &mut entry.state {
            GroupState::InProgress(waiting) => {
                waiting.push(Waiting { folder: folder.clone(), node });
                Claim::Wait
            }
            GroupState::Restored(first) => {
                entry.met = entry.met.saturating_add(1);
                let first = first.clone();
                if node.links.is_some_and(|links| entry.met >= links) {
                    groups.remove(&group);
                }
                Claim::Link(node, first)
            }
        }
    }

    /// Records that the first name was restored, or, without an identity, that it could not be. Returns the entries
    /// that wait for it.
    pub(super) fn settle(
        &self,
        group: LinkKey,
        dir: &Arc<DestDir>,
        name: &[u8],
        identity: Option<(u64, u64)>,
    ) -> Vec<Waiting> {
        let mut groups = self.groups.lock();
        let Some(entry) = groups.remove(&group) else { return Vec::new() };
        let GroupState::InProgress(waiting) = entry.state else { return Vec::new() };
        if let Some(identity) = identity {
            let first = FirstName { dir: dir.clone(), name: name.to_vec(), identity };
            groups.insert(group, LinkGroup { met: entry.met, state: GroupState::Restored(first) });
        }
        waiting
    }

    /// Links a node's name to the first name of its group.
    pub(super) fn link(&self, folder: &Folder, node: &Node, first: &FirstName) -> Result<Linked, Reason> {
        let handles = &self.destination.handles;
        let fd = handles.get(&folder.dir).map_err(Reason::system("open the folder"))?;
        let found = folder.find(&fd, &node.name)?;
        let replace = match &found {
            Some(stat) if identity(stat) == first.identity => return Ok(Linked::Done(Restored::kept(first.identity))),
            Some(stat) if kind_of(stat) == Some(NodeKind::Directory) => {
                return Err(Reason::IsFolder { stored: kind_name(node.kind) });
            }
            // It looks the same: an earlier run restored it, but met the names in another order. Nothing is lost.
            Some(stat)
                if self.shared.options.overwrite
                    || looks_same(node, stat, || self.destination.kept_time(&fd, node, stat)) =>
            {
                true
            }
            Some(_) => return Err(Reason::Differs),
            None => false,
        };
        // Only root can reopen a folder that was finished with a mode that denies access to its owner.
        let Ok(first_fd) = handles.get(&first.dir) else { return Ok(Linked::Impossible) };
        let failed = Reason::system("create a hard link");
        let name = self.destination.temps.next();
        match rustix::fs::linkat(&first_fd, first.name.as_slice(), &fd, name.as_slice(), AtFlags::empty()) {
            Ok(()) => {}
            Err(
                Errno::MLINK
                | Errno::XDEV
                | Errno::PERM
                | Errno::ACCESS
                | Errno::OPNOTSUPP
                | Errno::NOSYS
                | Errno::INVAL,
            ) => return Ok(Linked::Impossible),
            Err(error) => return Err(failed(error)),
        }
        let temp = Temp::new(fd.clone(), name);
        let stat = rustix::fs::statat(&fd, temp.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        // Some file systems, like sshfs, number the names and not the files. Or the first name was replaced during the
        // restore, and this is a link to what replaced it. Dropping the temporary name removes it.
        if identity(&stat) != first.identity {
            return Ok(Linked::Impossible);
        }
        temp.rename(&node.name, replace).map_err(Reason::cannot_rename)?;
        Ok(Linked::Done(Restored::linked(first.identity)))
    }
}
