//! Entries that are not folders: decides what to do with them, creates those without contents, and settles them all.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
};

use bkfs_store::format::tree::{Node, NodeKind};
use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};

use super::{
    attributes::EntryHandle,
    decide::{Decision, decide},
    destination::{Attributed, Destination},
    folder::Folder,
    handle::open_beneath,
    limits::Limit,
    link::{Claim, HardLinks, LinkKey, Linked, Waiting},
    plan::FilePlan,
    report::Reason,
    restored::{How, Restored, identity},
    shared::Shared,
    temp::Temp,
};

/// What is left to do after [`Entries::restore`].
#[derive(Default)]
pub(super) struct Next {
    /// The contents of this file. If there are none, the entry is settled, or waits for the first name of its group.
    pub(super) contents: Option<FilePlan>,
    /// Entries that waited for this one.
    pub(super) entries: Vec<Waiting>,
}

impl Next {
    fn contents(plan: FilePlan) -> Self {
        Self { contents: Some(plan), entries: Vec::new() }
    }

    fn entries(entries: Vec<Waiting>) -> Self {
        Self { contents: None, entries }
    }
}

/// What an entry needs.
enum Need {
    /// Nothing more.
    Nothing(Restored),
    /// Its contents are to be written.
    Write { replace: bool },
    /// Its contents are to be compared.
    Compare,
}

/// Restores entries that are not folders.
pub(super) struct Entries<'a> {
    shared: &'a Shared<'a>,
    destination: &'a Destination<'a>,
    links: HardLinks<'a>,
}

impl<'a> Entries<'a> {
    /// Returns the owner of the destination's entries.
    pub(super) fn new(shared: &'a Shared<'a>, destination: &'a Destination<'a>) -> Self {
        Self { shared, destination, links: HardLinks::new(shared, destination) }
    }

    /// Restores an entry that is not a folder, except for the contents of a file.
    pub(super) fn restore(&self, folder: &Arc<Folder>, node: Node) -> Next {
        let (node, is_first_name) = match LinkKey::of(&node) {
            None => (node, false),
            Some(group) => match self.links.claim(group, folder, node) {
                Claim::Wait => return Next::default(),
                Claim::First(node) => (node, true),
                Claim::Link(node, first) => match self.links.link(folder, &node, &first) {
                    Ok(Linked::Done(restored)) => {
                        return Next::entries(self.settle(folder, &node, false, 0, Ok(restored)));
                    }
                    // It becomes a file of its own.
                    Ok(Linked::Impossible) => {
                        self.shared.meet(Limit::HardLinks, true, &folder.dir, &node.name);
                        (node, false)
                    }
                    Err(reason) => return Next::entries(self.settle(folder, &node, false, 0, Err(reason))),
                },
            },
        };
        let result = match self.decide(folder, &node) {
            Ok(Need::Write { replace }) => return Next::contents(FilePlan::write(node, is_first_name, replace)),
            Ok(Need::Compare) => return Next::contents(FilePlan::compare(node, is_first_name)),
            Ok(Need::Nothing(restored)) => Ok(restored),
            Err(reason) => Err(reason),
        };
        Next::entries(self.settle(folder, &node, is_first_name, 0, result))
    }

    /// Counts an entry, and reports what went wrong. `counted` bytes of it are already in the progress. Returns the
    /// entries that waited for it.
    pub(super) fn settle(
        &self,
        folder: &Folder,
        node: &Node,
        is_first_name: bool,
        counted: u64,
        result: Result<Restored, Reason>,
    ) -> Vec<Waiting> {
        let (progress, counts) = (self.shared.progress, &self.shared.counts);
        progress.entries_done.fetch_add(1, Ordering::Relaxed);
        progress.bytes_done.fetch_add(node.size.saturating_sub(counted), Ordering::Relaxed);
        let identity = result.as_ref().ok().map(|restored| restored.identity);
        match result {
            Ok(restored) => {
                let counter = match restored.how {
                    How::Kept => &counts.kept,
                    How::Linked => &counts.links,
                    How::Created if node.kind == NodeKind::File => &counts.files,
                    How::Created => &counts.others,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Err(reason) => self.shared.problem(&folder.dir, &node.name, reason),
        }
        match LinkKey::of(node).filter(|_| is_first_name) {
            Some(group) => self.links.settle(group, &folder.dir, &node.name, identity),
            None => Vec::new(),
        }
    }

    fn decide(&self, folder: &Folder, node: &Node) -> Result<Need, Reason> {
        let name = node.name.as_slice();
        let fd = self.destination.handles.get(&folder.dir).map_err(Reason::system("open the folder"))?;
        let found = folder.find(&fd, name)?;
        let target = || Some(rustix::fs::readlinkat(&fd, name, Vec::new()).ok()?.into_bytes());
        let kept_time = || self.destination.kept_time(&fd, node, found.as_ref()?);
        match (decide(node, found.as_ref(), self.shared.options, target, kept_time), &found) {
            (Decision::Refuse(reason), _) => Err(reason),
            (Decision::Create { replace }, _) if node.kind == NodeKind::File => Ok(Need::Write { replace }),
            (Decision::Create { replace }, _) => self.create_special(folder, fd, node, replace).map(Need::Nothing),
            (Decision::Compare, _) => Ok(Need::Compare),
            (Decision::Keep, Some(stat)) => self.destination.keep(&folder.dir, &fd, node, stat).map(Need::Nothing),
            (Decision::Keep, None) => Err(Reason::Differs),
        }
    }

    /// Creates an entry without contents.
    fn create_special(
        &self,
        folder: &Folder,
        fd: Arc<OwnedFd>,
        node: &Node,
        replace: bool,
    ) -> Result<Restored, Reason> {
        let temp = self.destination.temps.next();
        let name = temp.as_slice();
        if node.device.is_some() && !self.shared.options.privileged {
            return Err(Reason::Untrusted);
        }
        // Only its owner has access until the attributes are set.
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
            Err(error) => return Err(Reason::System { what: "create it", error: error.into() }),
        }
        let temp = Temp::new(fd.clone(), temp);
        let path =
            open_beneath(&fd, &temp.name, OFlags::PATH, Mode::empty()).map_err(Reason::system("open the new entry"))?;
        let handle = EntryHandle::Path(path.as_fd());
        let how = Attributed::New { strip_acl: folder.hands_down_acl };
        let stat = self.destination.set_attributes(&folder.dir, &node.name, handle, node, how)?;
        temp.rename(&node.name, replace).map_err(Reason::cannot_rename)?;
        Ok(Restored::created(identity(&stat)))
    }
}
