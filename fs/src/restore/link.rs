//! Hard links: which names belong together, and which of them is made already.
//!
//! The first name that a thread meets is restored like any file, the others wait and are then linked to it. What is
//! remembered of a group is dropped once all its names were seen.

use std::{collections::HashMap, io, sync::Arc};

use bkfs_store::{
    id::HardLinkGroup,
    tree::{Node, NodeKind},
};
use parking_lot::Mutex;
use rustix::{
    fs::{AtFlags, Stat},
    io::Errno,
};

use super::{
    Reason,
    decide::{kind_name, kind_of, looks_same},
    entry::Made,
    folder::Folder,
    handle::Dir,
    run::Engine,
    temp::Temp,
};

/// The groups met so far.
#[derive(Default)]
pub(super) struct Links {
    groups: Mutex<HashMap<HardLinkGroup, Group>>,
}

struct Group {
    seen: u32,
    state: State,
}

enum State {
    Making(Vec<(Arc<Folder>, Node)>),
    Made(First),
}

/// The first name of a group.
#[derive(Clone)]
pub(super) struct First {
    dir: Arc<Dir>,
    name: Vec<u8>,
    identity: (u64, u64),
}

/// What to do with a name.
pub(super) enum Claim {
    /// It is the first: make it, and say how that went with [`Links::settle`].
    Lead(Node),
    /// It will be pushed again when the first is made.
    Wait,
    /// Link it.
    Follow(Node, First),
}

impl Links {
    /// Sorts a name that belongs to a group.
    pub(super) fn claim(&self, group: HardLinkGroup, folder: &Arc<Folder>, node: Node) -> Claim {
        let mut groups = self.groups.lock();
        let Some(entry) = groups.get_mut(&group) else {
            groups.insert(group, Group { seen: 1, state: State::Making(Vec::new()) });
            return Claim::Lead(node);
        };
        match &mut entry.state {
            State::Making(waiting) => {
                waiting.push((folder.clone(), node));
                Claim::Wait
            }
            State::Made(first) => {
                entry.seen = entry.seen.saturating_add(1);
                let first = first.clone();
                if node.links.is_some_and(|links| entry.seen >= links) {
                    groups.remove(&group);
                }
                Claim::Follow(node, first)
            }
        }
    }

    /// Notes that the first name was made, or (none) that it could not be, and hands back those that wait.
    pub(super) fn settle(
        &self,
        group: HardLinkGroup,
        dir: &Arc<Dir>,
        name: &[u8],
        identity: Option<(u64, u64)>,
    ) -> Vec<(Arc<Folder>, Node)> {
        let mut groups = self.groups.lock();
        let Some(entry) = groups.remove(&group) else { return Vec::new() };
        let State::Making(waiting) = entry.state else { return Vec::new() };
        if let Some(identity) = identity {
            let first = First { dir: dir.clone(), name: name.to_vec(), identity };
            groups.insert(group, Group { seen: entry.seen, state: State::Made(first) });
        }
        waiting
    }
}

/// How linking ended.
pub(super) enum Linked {
    /// Done.
    Done(Made),
    /// The file system has no such links, or no more of them for this file.
    Impossible(io::Error),
}

impl Engine<'_> {
    /// Makes a node's name one of the first's.
    pub(super) fn link(&self, folder: &Folder, node: &Node, first: &First) -> Result<Linked, Reason> {
        let what = |what| move |error| Reason::System { what, error };
        let fd = self.handles.get(&folder.dir).map_err(what("open the folder"))?;
        let found = self.find(folder, &fd, &node.name)?;
        let replace = match &found {
            Some(stat) if identity(stat) == first.identity => return Ok(Linked::Done(Made::kept(first.identity))),
            Some(stat) if kind_of(stat) == Some(NodeKind::Directory) => {
                return Err(Reason::IsFolder { stored: kind_name(node.kind) });
            }
            // The same by its looks, from an earlier run that met the names in another order: nothing is lost.
            Some(stat) if self.options.overwrite || looks_same(node, stat) => true,
            Some(_) => return Err(Reason::Differs),
            None => false,
        };
        // Somebody who is not root may have restored, and so closed, a folder that lets its owner not in.
        let from = match self.handles.get(&first.dir) {
            Ok(fd) => fd,
            Err(error) => return Ok(Linked::Impossible(error)),
        };
        let name = self.temps.name();
        match rustix::fs::linkat(&from, first.name.as_slice(), &fd, name.as_slice(), AtFlags::empty()) {
            Ok(()) => {}
            Err(error @ (Errno::MLINK | Errno::XDEV | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP)) => {
                return Ok(Linked::Impossible(error.into()));
            }
            Err(error) => return Err(Reason::System { what: "make a hard link", error: error.into() }),
        }
        let temp = Temp::new(fd.clone(), name);
        let stat = rustix::fs::statat(&fd, temp.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| Reason::System { what: "make a hard link", error: error.into() })?;
        if identity(&stat) != first.identity {
            let error = io::Error::other("the first name was replaced during the restore");
            return Err(Reason::System { what: "make a hard link", error });
        }
        temp.place(&node.name, replace).map_err(Reason::placing)?;
        Ok(Linked::Done(Made::linked(first.identity)))
    }
}

/// What tells one inode from another.
pub(super) fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}
