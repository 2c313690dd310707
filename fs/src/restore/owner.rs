//! Which owner the restored entries get.

use std::{collections::HashMap, sync::Arc};

use bkfs_store::format::tree::Node;
use parking_lot::Mutex;

use crate::userdb::{group_id, user_id};

/// Which owner and group an entry gets. Only root can choose freely; other users can only give entries to groups that
/// they are members of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestoreOwners {
    /// The stored numbers: right for the same machine, for a machine with the same users, and for container images.
    #[default]
    Numeric,
    /// The users and groups with the stored names, where this machine knows them; otherwise the stored numbers.
    Names,
}

/// Ids by name, remembered after the first lookup.
type KnownIds = Mutex<HashMap<Arc<str>, Option<u32>>>;

/// Looks up the numeric ids of names, and remembers them.
#[derive(Default)]
pub(super) struct OwnerIds {
    users: KnownIds,
    groups: KnownIds,
}

impl OwnerIds {
    /// Returns the owner and group that a node gets.
    pub(super) fn of(&self, node: &Node, owners: RestoreOwners) -> (u32, u32) {
        match owners {
            RestoreOwners::Numeric => (node.uid, node.gid),
            RestoreOwners::Names => (
                find(&self.users, node.user.as_deref(), user_id).unwrap_or(node.uid),
                find(&self.groups, node.group.as_deref(), group_id).unwrap_or(node.gid),
            ),
        }
    }
}

fn find(known: &KnownIds, name: Option<&str>, look_up: fn(&str) -> Option<u32>) -> Option<u32> {
    let name = name?;
    let mut known = known.lock();
    if let Some(id) = known.get(name) {
        return *id;
    }
    let id = look_up(name);
    known.insert(name.into(), id);
    id
}
