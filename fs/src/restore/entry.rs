//! Entries that are not folders: sorting them, making those without contents, and settling all of them.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
};

use bkfs_store::tree::{Node, NodeKind};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::{
    Reason,
    attributes::{self, Handle, Wanted},
    content::FilePlan,
    decide::{Decision, decide},
    folder::Folder,
    handle::{Dir, open_beneath},
    link::{Claim, Linked, identity},
    run::{Engine, Task},
    temp::Temp,
};

/// What became of an entry.
pub(super) struct Made {
    /// Device and inode.
    pub(super) identity: (u64, u64),
    how: How,
}

enum How {
    Kept,
    Linked,
    Made,
}

impl Made {
    /// It was there.
    pub(super) fn kept(identity: (u64, u64)) -> Self {
        Self { identity, how: How::Kept }
    }

    /// It was linked.
    pub(super) fn linked(identity: (u64, u64)) -> Self {
        Self { identity, how: How::Linked }
    }

    /// It was made.
    pub(super) fn new(identity: (u64, u64)) -> Self {
        Self { identity, how: How::Made }
    }
}

impl Reason {
    /// Why a finished entry could not get its name.
    pub(super) fn placing(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => Reason::Differs,
            _ => Reason::System { what: "give it its name", error },
        }
    }
}

impl Engine<'_> {
    /// Takes an entry that is not a folder as far as it goes without contents; files that need some are returned.
    pub(super) fn entry(&self, folder: &Arc<Folder>, node: Node) -> Option<FilePlan> {
        let (node, lead) = match node.hard_link {
            None => (node, false),
            Some(group) => match self.links.claim(group, folder, node) {
                Claim::Wait => return None,
                Claim::Lead(node) => (node, true),
                Claim::Follow(node, first) => match self.link(folder, &node, &first) {
                    Ok(Linked::Done(made)) => {
                        self.settle(folder, &node, false, 0, Ok(made));
                        return None;
                    }
                    Ok(Linked::Impossible(error)) => {
                        self.problem(&folder.dir, &node.name, Reason::NotLinked(error));
                        (node, false)
                    }
                    Err(reason) => {
                        self.settle(folder, &node, false, 0, Err(reason));
                        return None;
                    }
                },
            },
        };
        match self.sort(folder, &node) {
            Ok(Sorted::Done(made)) => self.settle(folder, &node, lead, 0, Ok(made)),
            Ok(Sorted::Write { replace }) => return Some(FilePlan::write(node, lead, replace)),
            Ok(Sorted::Compare) => return Some(FilePlan::compare(node, lead)),
            Err(reason) => self.settle(folder, &node, lead, 0, Err(reason)),
        }
        None
    }

    /// Counts an entry, reports what went wrong, and sends those on their way that wait for it. `counted` bytes of it
    /// are already in the progress.
    pub(super) fn settle(
        &self,
        folder: &Arc<Folder>,
        node: &Node,
        lead: bool,
        counted: u64,
        result: Result<Made, Reason>,
    ) {
        self.progress.entries_done.fetch_add(1, Ordering::Relaxed);
        self.progress.bytes_done.fetch_add(node.size.saturating_sub(counted), Ordering::Relaxed);
        let identity = result.as_ref().ok().map(|made| made.identity);
        match result {
            Ok(made) => {
                let counter = match made.how {
                    How::Kept => &self.counts.kept,
                    How::Linked => &self.counts.links,
                    How::Made if node.kind == NodeKind::File => &self.counts.files,
                    How::Made => &self.counts.others,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Err(reason) => self.problem(&folder.dir, &node.name, reason),
        }
        if let (true, Some(group)) = (lead, node.hard_link) {
            let waiting = self.links.settle(group, &folder.dir, &node.name, identity);
            self.queue.push_all(waiting.into_iter().map(|(folder, node)| Task::Entry { folder, node: Box::new(node) }));
        }
    }

    /// What has the name now; not asked in a folder that this run made.
    pub(super) fn find(&self, folder: &Folder, fd: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Reason> {
        if folder.fresh {
            return Ok(None);
        }
        match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Reason::System { what: "look at what is there", error: error.into() }),
        }
    }

    fn sort(&self, folder: &Folder, node: &Node) -> Result<Sorted, Reason> {
        let name = node.name.as_slice();
        let fd = self.handles.get(&folder.dir).map_err(|error| Reason::System { what: "open the folder", error })?;
        let found = self.find(folder, &fd, name)?;
        let target = || Some(rustix::fs::readlinkat(&fd, name, Vec::new()).ok()?.into_bytes());
        match (decide(node, found.as_ref(), self.options, target), &found) {
            (Decision::Refuse(reason), _) => Err(reason),
            (Decision::Make { replace }, _) if node.kind == NodeKind::File => Ok(Sorted::Write { replace }),
            (Decision::Make { replace }, _) => self.make_special(folder, fd, node, replace).map(Sorted::Done),
            (Decision::Compare, _) => Ok(Sorted::Compare),
            (Decision::Keep, Some(stat)) => self.keep(folder, &fd, node, stat).map(Sorted::Done),
            (Decision::Keep, None) => Err(Reason::Differs),
        }
    }

    /// Leaves what is there, but for its attributes if it may be overwritten.
    pub(super) fn keep(&self, folder: &Folder, fd: &OwnedFd, node: &Node, stat: &Stat) -> Result<Made, Reason> {
        if self.options.overwrite {
            let path = open_beneath(fd, &node.name, OFlags::PATH, Mode::empty())
                .map_err(|error| Reason::System { what: "open what is there", error })?;
            self.attributes(&folder.dir, &node.name, Handle::Path(path.as_fd()), node, false);
        }
        Ok(Made::kept(identity(stat)))
    }

    /// Makes an entry without contents.
    fn make_special(&self, folder: &Folder, fd: Arc<OwnedFd>, node: &Node, replace: bool) -> Result<Made, Reason> {
        let temp = self.temps.name();
        let name = temp.as_slice();
        // Nobody but the owner until the attributes are set.
        let mode = Mode::RUSR | Mode::WUSR;
        let make = |kind, device| rustix::fs::mknodat(&fd, name, kind, mode, device);
        let device = node.device.map_or(0, |d| rustix::fs::makedev(d.major, d.minor));
        let made = match node.kind {
            NodeKind::Symlink => rustix::fs::symlinkat(node.target.as_deref().unwrap_or_default(), &fd, name),
            NodeKind::Fifo => make(FileType::Fifo, 0),
            NodeKind::Socket => make(FileType::Socket, 0),
            NodeKind::CharDevice => make(FileType::CharacterDevice, device),
            NodeKind::BlockDevice => make(FileType::BlockDevice, device),
            NodeKind::File | NodeKind::Directory => Err(Errno::INVAL),
        };
        match made {
            Ok(()) => {}
            Err(Errno::PERM) if node.device.is_some() => return Err(Reason::Device),
            Err(error) => return Err(Reason::System { what: "make it", error: error.into() }),
        }
        let temp = Temp::new(fd.clone(), temp);
        let path = open_beneath(&fd, &temp.name, OFlags::PATH, Mode::empty())
            .map_err(|error| Reason::System { what: "open what was made", error })?;
        let handle = Handle::Path(path.as_fd());
        let stat = handle.stat().map_err(|error| Reason::System { what: "open what was made", error })?;
        self.attributes(&folder.dir, &node.name, handle, node, folder.inherits);
        temp.place(&node.name, replace).map_err(Reason::placing)?;
        Ok(Made::new(identity(&stat)))
    }

    /// Sets a node's attributes and reports what could not be set.
    pub(super) fn attributes(&self, dir: &Dir, name: &[u8], handle: Handle<'_>, node: &Node, strip_acl: bool) {
        let owner = self.owners.of(node, self.options.owners);
        let outcome = attributes::apply(handle, &Wanted { node, owner, strip_acl, root: self.root });
        self.counts.owners_skipped.fetch_add(u64::from(outcome.owner_skipped), Ordering::Relaxed);
        self.counts.xattrs_skipped.fetch_add(outcome.xattrs_skipped, Ordering::Relaxed);
        for reason in outcome.refused {
            self.problem(dir, name, reason);
        }
    }
}

/// What an entry needs.
enum Sorted {
    /// Nothing more.
    Done(Made),
    /// Its contents written.
    Write { replace: bool },
    /// Its contents compared.
    Compare,
}
