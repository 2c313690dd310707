//! Which names belong to one inode, and the group that the snapshot stores for them.
//!
//! Within a push, two names belong together if everything that was seen of their inodes is the same, device number and
//! change time included. What is stored cannot contain device numbers, because they change at every boot. Therefore two
//! different inodes may ask for the same stored group, and a restore would make one file of them. The second one gets
//! the next ordinal. An unchanged entry keeps the group of its record, so groups stay the same from push to push. It
//! loses its group only to an entry that comes earlier, which happens once; then it counts as changed.

use std::collections::{HashMap, HashSet};

use bkfs_store::{base::id::HardLinkGroup, format::keys::IdKeys};

use crate::metadata::Stat;

/// The groups of one push.
pub struct LinkGroups<'a> {
    ids: &'a IdKeys,
    /// Inodes with names that have not come yet.
    open: HashMap<SeenInode, OpenGroup>,
    /// All groups that names of this push have.
    taken: HashSet<HardLinkGroup>,
    /// The next ordinal to try, for groups of ordinal 0 that several inodes asked for.
    next: HashMap<HardLinkGroup, u32>,
}

/// A digest of all that was seen of an inode.
type SeenInode = [u8; 16];

struct OpenGroup {
    group: HardLinkGroup,
    names_left: u32,
}

impl OpenGroup {
    fn new(group: HardLinkGroup, stat: &Stat) -> Self {
        Self { group, names_left: stat.links.saturating_sub(1) }
    }
}

/// What a name was assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssignedGroup {
    /// The group.
    pub group: HardLinkGroup,
    /// Whether it is the first name of its inode.
    pub is_first: bool,
}

impl<'a> LinkGroups<'a> {
    /// No groups yet.
    pub fn new(ids: &'a IdKeys) -> Self {
        Self { ids, open: HashMap::new(), taken: HashSet::new(), next: HashMap::new() }
    }

    /// No groups yet, but some that no inode of this push may get: they belong to entries that it does not look at.
    pub fn reserving(ids: &'a IdKeys, reserved: impl Iterator<Item = HardLinkGroup>) -> Self {
        Self { taken: reserved.collect(), ..Self::new(ids) }
    }

    /// Whether an unchanged entry may keep the group that is stored for it. If not, it must be assigned one.
    pub fn keep(&mut self, stat: &Stat, stored: Option<HardLinkGroup>) -> bool {
        let Some(stored) = stored else { return false };
        let seen = seen(stat);
        match self.open.get(&seen) {
            Some(open) if open.group != stored => return false,
            Some(_) => self.count(seen),
            None if self.taken.insert(stored) => self.begin(seen, stored, stat),
            None => return false,
        }
        true
    }

    /// Assigns a group to a name of an inode below `mount_root`.
    pub fn assign(&mut self, mount_root: &[u8], stat: &Stat) -> AssignedGroup {
        let seen = seen(stat);
        if let Some(open) = self.open.get(&seen) {
            let group = open.group;
            self.count(seen);
            return AssignedGroup { group, is_first: false };
        }
        let of = |ordinal| self.ids.hard_link(mount_root, stat.inode, stat.btime, ordinal);
        let mut group = of(0);
        if !self.taken.insert(group) {
            let next = self.next.entry(group).or_insert(1);
            // There are fewer inodes than ordinals, so the loop ends.
            loop {
                group = of(*next);
                *next = next.wrapping_add(1);
                if self.taken.insert(group) {
                    break;
                }
            }
        }
        self.begin(seen, group, stat);
        AssignedGroup { group, is_first: true }
    }

    fn begin(&mut self, seen: SeenInode, group: HardLinkGroup, stat: &Stat) {
        self.open.insert(seen, OpenGroup::new(group, stat));
    }

    /// Counts a further name. The last one ends the wait for others.
    fn count(&mut self, seen: SeenInode) {
        let Some(open) = self.open.get_mut(&seen) else { return };
        open.names_left = open.names_left.saturating_sub(1);
        if open.names_left == 0 {
            self.open.remove(&seen);
        }
    }
}

/// The digest of all that [`Stat::is_same`] compares.
fn seen(stat: &Stat) -> SeenInode {
    let mut hasher = blake3::Hasher::new();
    for number in [stat.device, stat.inode, stat.size] {
        hasher.update(&number.to_le_bytes());
    }
    for number in [stat.kind as u32, stat.mode, stat.uid, stat.gid] {
        hasher.update(&number.to_le_bytes());
    }
    for time in [stat.mtime, stat.ctime, stat.btime.unwrap_or_default()] {
        hasher.update(&time.secs.to_le_bytes()).update(&time.nanos.to_le_bytes());
    }
    hasher.update(&[u8::from(stat.btime.is_some())]);
    let mut seen = SeenInode::default();
    seen.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    seen
}

#[cfg(test)]
mod tests {
    use bkfs_store::{
        base::time::Time,
        crypto::Secret,
        format::tree::{Device, NodeKind},
    };

    use super::*;

    fn stat(device: u64, inode: u64, links: u32) -> Stat {
        Stat {
            kind: NodeKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 4,
            inode,
            links,
            device,
            mount: 0,
            rdev: Device { major: 0, minor: 0 },
            mtime: Time::default(),
            ctime: Time::default(),
            btime: None,
        }
    }

    fn ids() -> IdKeys {
        IdKeys::new(Secret::new([1; 32]))
    }

    #[test]
    fn names_of_one_inode_share_a_group_and_inodes_of_two_devices_do_not() {
        let ids = ids();
        let mut groups = LinkGroups::new(&ids);
        let base = ids.hard_link(b"/m", 7, None, 0);
        assert_eq!(groups.assign(b"/m", &stat(1, 7, 3)), AssignedGroup { group: base, is_first: true });
        let second = groups.assign(b"/m", &stat(2, 7, 3));
        assert_eq!(second, AssignedGroup { group: ids.hard_link(b"/m", 7, None, 1), is_first: true });
        // Also where the file system is mounted a second time.
        assert_eq!(groups.assign(b"/n", &stat(1, 7, 3)), AssignedGroup { group: base, is_first: false });
        assert_eq!(groups.assign(b"/m", &stat(2, 7, 3)), AssignedGroup { is_first: false, ..second });
        let third = groups.assign(b"/m", &stat(3, 7, 3));
        assert_eq!(third, AssignedGroup { group: ids.hard_link(b"/m", 7, None, 2), is_first: true });
    }

    #[test]
    fn whatever_differs_between_two_names_separates_them() {
        let ids = ids();
        let first = stat(1, 7, 2);
        let time = Time { secs: 0, nanos: 1 };
        let others = [
            Stat { size: 5, ..first },
            Stat { mtime: time, ..first },
            Stat { ctime: time, ..first },
            Stat { mode: 0o600, ..first },
            Stat { uid: 1, ..first },
            Stat { gid: 1, ..first },
            Stat { kind: NodeKind::Fifo, ..first },
        ];
        for other in others {
            let mut groups = LinkGroups::new(&ids);
            let one = groups.assign(b"/m", &first);
            let two = groups.assign(b"/m", &other);
            assert!(two.is_first && one.group != two.group && !first.is_same(&other), "{other:?}");
        }
    }

    #[test]
    fn an_unchanged_entry_keeps_its_group_unless_another_inode_took_it() {
        let ids = ids();
        let group = |ordinal| ids.hard_link(b"/m", 7, None, ordinal);
        let (a, b) = (stat(1, 7, 2), stat(2, 7, 2));
        // The first push gave `a` ordinal 0 and `b` 1. Device numbers are others now.
        let (a2, b2) = (Stat { device: 11, ..a }, Stat { device: 12, ..b });
        let mut groups = LinkGroups::new(&ids);
        assert!(groups.keep(&a2, Some(group(0))) && groups.keep(&b2, Some(group(1))));
        assert!(groups.keep(&a2, Some(group(0))) && groups.keep(&b2, Some(group(1))));
        // Only `b` is left: it stays what it is, and a new inode gets what is free.
        let mut groups = LinkGroups::new(&ids);
        assert!(groups.keep(&b2, Some(group(1))));
        assert_eq!(groups.assign(b"/m", &stat(3, 7, 2)).group, group(0));
        assert_eq!(groups.assign(b"/m", &stat(4, 7, 2)).group, group(2));
        // A new inode comes first and takes the group of an unchanged one. A new name of that one follows it.
        let mut groups = LinkGroups::new(&ids);
        assert_eq!(groups.assign(b"/m", &stat(3, 7, 2)).group, group(0));
        assert!(!groups.keep(&a2, Some(group(0))));
        assert_eq!(groups.assign(b"/m", &a2), AssignedGroup { group: group(1), is_first: true });
        assert!(!groups.keep(&a2, Some(group(0))), "its other name must not keep the old group");
        assert!(!groups.keep(&b2, Some(group(1))));
        // A record of a link without a group is no reason to trust it.
        assert!(!LinkGroups::new(&ids).keep(&a2, None));
    }

    #[test]
    fn very_many_inodes_with_one_number_cost_one_step_each() {
        let ids = ids();
        let mut groups = LinkGroups::new(&ids);
        let all: HashSet<_> = (0..20_000).map(|device| groups.assign(b"/m", &stat(device, 7, 2)).group).collect();
        assert_eq!((all.len(), groups.next[&ids.hard_link(b"/m", 7, None, 0)]), (20_000, 20_000));
    }

    #[test]
    fn an_inode_whose_names_were_all_met_is_forgotten() {
        let ids = ids();
        let mut groups = LinkGroups::new(&ids);
        for _ in 0..2 {
            groups.assign(b"/m", &stat(1, 7, 2));
            groups.keep(&stat(1, 8, 2), Some(ids.hard_link(b"/m", 8, None, 0)));
        }
        assert!(groups.open.is_empty() && groups.taken.len() == 2);
    }
}
