//! Keeping entries that were not reported as changed, without looking at them.

use std::{io, sync::Arc};

use bkfs_store::{Result, base::id::HardLinkGroup};

use super::{DirScan, Scanner};
use crate::{
    cache::{Cursor, Losses, record::stamp},
    changes::Changes,
    filesystem::Filesystem,
    metadata::Stat,
    walk::{DirPath, ListTask, Listed, SourceDir},
};

/// How a directory compares with its entry in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It is another one, or its record is not there.
    Not,
    /// It is the same directory, and its own attributes may have changed.
    Inode,
    /// It is as it was.
    Same,
}

impl DirScan<'_> {
    /// Whether entries that were not reported are kept unseen.
    pub(super) fn is_named(&self) -> bool {
        self.changes().is_some()
    }

    fn changes(&self) -> Option<&Changes> {
        self.listed.as_ref().and_then(|listed| listed.dir.named_changes())
    }
}

impl<'a> Scanner<'a> {
    /// Takes a directory: lists as much of it as may have changed. What is not as the record says is listed as a whole,
    /// whatever was reported. Returns none if it is kept unseen, as its record says.
    pub(super) fn take_dir(
        &mut self,
        scan: &DirScan<'a>,
        task: &Arc<ListTask>,
        parent: &SourceDir,
        name: &[u8],
        stat: &Stat,
    ) -> Option<io::Result<Listed>> {
        if task.is_whole() {
            return Some(self.walk.take(task));
        }
        let filesystem = self.filesystems.of_entry(parent, parent.mount, name, stat);
        match (self.known(scan, task.path(), name, stat, filesystem), task.is_unmarked()) {
            (Known::Not, _) => Some(self.walk.take_with(task, None)),
            (Known::Same, true) => None,
            (Known::Inode, true) => Some(self.walk.take_with(task, Some(Arc::default()))),
            (_, false) => Some(self.walk.take(task)),
        }
    }

    fn known(&self, scan: &DirScan<'a>, path: &DirPath, name: &[u8], stat: &Stat, filesystem: Filesystem) -> Known {
        let now = stamp(stat, &filesystem.id);
        let was = scan.cursor.entry().filter(|was| was.name == name);
        // Kind, inode and file system.
        let is_same_inode = was.is_some_and(|was| was.stamp[..9] == now[..9] && was.stamp[41..] == now[41..]);
        let record = Cursor::new(self.cache, path.key());
        if !is_same_inode || record.is_absent() || self.cache.losses(record.epoch()) != Losses::None {
            return Known::Not;
        }
        match was.is_some_and(|was| was.stamp == now && !was.is_distrusted) {
            true => Known::Same,
            false => Known::Inode,
        }
    }

    /// Passes the record's entries before `name`, or all that are left. Those that were reported do not exist any more;
    /// the others are kept.
    pub(super) fn pass_unseen(&mut self, scan: &mut DirScan<'a>, name: Option<&[u8]>) -> Result<()> {
        loop {
            let Some(was) = scan.cursor.entry().filter(|was| name.is_none_or(|name| was.name < name)) else {
                return Ok(());
            };
            let is_reported = scan.changes().is_none_or(|changes| changes.below(was.name).is_some());
            if is_reported {
                self.pass_link(&scan.cursor);
                scan.cursor.advance();
                self.send_gone(scan, 1)?;
            } else {
                scan.cursor.advance();
                scan.kept += 1;
            }
        }
    }

    /// Notes a name of an inode that has several.
    pub(super) fn meet_link(&self, dir: &SourceDir, name: &[u8], stat: &Stat, group: Option<HardLinkGroup>) {
        if let Some(following) = self.link_names {
            following.lock().links.meet(&dir.path, name, stat, group);
        }
    }

    /// Notes that the entry at a cursor is gone or another one now, in case it was a name of an inode with several and
    /// the others are not known.
    pub(super) fn pass_link(&self, record: &Cursor<'a>) {
        let Some(following) = self.link_names else { return };
        let mut following = following.lock();
        let was_linked =
            || record.entry().and_then(|was| was.decode().ok()).is_some_and(|node| node.hard_link.is_some());
        if following.links.is_blind() && was_linked() {
            following.links.lose();
        }
    }
}
